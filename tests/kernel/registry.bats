#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# An image that comes from a registry as it is touched: by fetchers locked away without files.

load ../fixtures/rig

setup() {
	rig_setup
	need_tarn_kernel
	need runc
	layout=$(image_odd gzip)
}
teardown() { rig_teardown; }

settings() { # line...
	printf '%s\n' "$@" >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
}

hello() { # image
	timeout 60 "$B/tarn" run --rm -e GREETING=hello "$1" /bin/probe env | grep -o 'hello$'
}

fetched() { tarn status --json | jq .daemon.bytes.fetched; }

@test "docker-registry: nothing is kept by the pull, a run brings what it touches" {
	start_registry
	registry_push "$layout" odd
	start_tarnd
	tarn -q pull --keep none "docker://$REGISTRY/odd"
	[ "$(tarn images --json | jq '.[0].resident')" = 0 ]
	[ "$(hello "$REGISTRY/odd:latest")" = hello ]
	[ "$(fetched)" -gt 0 ]
}

@test "what crossed the network for the index is kept, and nothing is fetched again" {
	start_registry
	registry_push "$layout" odd
	start_tarnd
	tarn -q pull "docker://$REGISTRY/odd"
	[ "$(tarn images --json | jq '.[0].resident')" -gt 0 ]
	rig_stop_registries
	[ "$(hello "$REGISTRY/odd:latest")" = hello ]
	[ "$(fetched)" = 0 ]
}

@test "by name over TLS: an unknown certificate is refused, unless it is said not to look" {
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$RIG/key" -out "$RIG/cert" -days 2 \
		-subj /CN=registry.test -addext subjectAltName=DNS:registry.test 2>/dev/null
	start_pyregistry "$layout" --cert "$RIG/cert" --key "$RIG/key"
	# The name is known to this test's own mount namespace alone.
	printf '127.0.0.1 localhost registry.test\n' >"$RIG/hosts"
	mount --bind "$RIG/hosts" /etc/hosts
	RIG_MOUNTS+=(/etc/hosts)
	start_tarnd
	port=${REGISTRY#*:}
	run tarn -q pull --keep none "docker://registry.test:$port/x"
	[ "$status" = 1 ]
	[[ $output == *"registry.test:$port/x:latest"*certificate* ]]
	tarn -q pull --keep none --tls-verify=false --name x "docker://registry.test:$port/x"
	[ "$(hello x)" = hello ]
	umount /etc/hosts
	RIG_MOUNTS=("$TARN_RUNDIR")
}

@test "a token that ends is fetched anew under a running container" {
	start_pyregistry "$layout"
	registry_control '{"auth":"bearer","token_expires":2,"token_valid":1}'
	start_tarnd
	tarn -q pull --keep none --name x "docker://$REGISTRY/x"
	sleep 1.5
	[ "$(hello x)" = hello ]
	grep -q '"auth": "Bearer"' "$RIG/requests"
}

# What tarn may not leave anywhere but in memory.
secret_is_nowhere() { # secret
	! grep -rqF "$1" "$TARN_STORE" "$RIG/tarnd.log" "$RIG/tarnd.out"
}

start_proxy() {
	python3 "$RIG_FIXTURES/proxy.py" --port "$RIG/proxy" --log "$RIG/proxied" 3>&- &
	REGISTRY_PIDS+=($!)
	rig_wait 20 "the proxy" test -s "$RIG/proxy"
	PROXY=127.0.0.1:$(cat "$RIG/proxy")
}

@test "through proxies: HTTPS by a tunnel, plain HTTP, and hosts that are asked directly" {
	local port
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$RIG/key" -out "$RIG/cert" -days 2 \
		-subj /CN=registry.test -addext subjectAltName=DNS:registry.test 2>/dev/null
	start_proxy
	export HTTPS_PROXY=http://$PROXY HTTP_PROXY=http://me:hunter2@$PROXY NO_PROXY=.direct.test
	start_tarnd
	unset HTTPS_PROXY HTTP_PROXY NO_PROXY
	start_pyregistry "$layout" --cert "$RIG/cert" --key "$RIG/key"
	registry_control '{"auth":"bearer"}'
	port=${REGISTRY#*:}
	tarn -q pull --keep none --tls-verify=false --name x "docker://registry.test:$port/x"
	[ "$(hello x)" = hello ]
	# It saw where, and nothing of what was said there.
	jq -se 'length > 0 and all(.method == "CONNECT" and .target == "registry.test:'"$port"'"
		and (.headers | has("authorization") | not))' "$RIG/proxied"
	run tarn -q pull --tls-verify=false "docker://x.direct.test:$port/x"
	[ "$status" = 1 ]
	[[ $output == *"resolve host: x.direct.test"* ]]
	[ "$(grep -c direct "$RIG/proxied")" = 0 ]

	# Plain HTTP, where HTTPS does not work.
	start_pyregistry "$layout"
	port=${REGISTRY#*:}
	tarn -q evict --all --wait
	tarn -q pull --keep none --tls-verify=false --name y "docker://plain.test:$port/y"
	[ "$(hello y)" = hello ]
	jq -se '[.[] | select(.method == "GET")] | length > 0 and all(.headers."proxy-authorization")' \
		"$RIG/proxied"
	# Our own machine is not asked for at another.
	: >"$RIG/proxied"
	tarn -q pull --keep none --name z "docker://$REGISTRY/z"
	[ ! -s "$RIG/proxied" ]
	secret_is_nowhere hunter2
}

@test "a registry that is silent for less than the deadline is a slow read, no more" {
	start_pyregistry "$layout"
	settings 'fault.deadline = 30s' 'http.stall_timeout = 1s'
	tarn -q pull --keep none --name x "docker://$REGISTRY/x"
	registry_control '{"fault":"mute","fault_count":2}'
	[ "$(hello x)" = hello ]
}

@test "past the deadline the reader gets an error, and recovery needs no restart" {
	start_pyregistry "$layout"
	settings 'fault.deadline = 2s' 'http.stall_timeout = 1s'
	tarn -q pull --keep none --name x "docker://$REGISTRY/x"
	mkdir "$RIG/m"
	tarn mount x "$RIG/m"
	registry_control '{"fault":"500"}'
	run timeout 30 cat "$RIG/m/bin/probe"
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	rig_wait 20 "the log to say why" grep -q 'not had before the deadline' "$RIG/tarnd.log"
	registry_control '{}'
	sleep 3
	timeout 30 cat "$RIG/m/bin/probe" | cmp - "$RIG/m/bin/probe"
	tarn umount "$RIG/m"
}

@test "wrong bytes from the registry are an error, never content" {
	start_pyregistry "$layout"
	settings 'fault.deadline = 4s'
	tarn -q pull --keep none --name x "docker://$REGISTRY/x"
	mkdir "$RIG/m"
	tarn mount x "$RIG/m"
	registry_control '{"fault":"flip"}'
	run timeout 60 cat "$RIG/m/bin/probe"
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	grep -q 'wrong digest' "$RIG/tarnd.log"
	tarn umount "$RIG/m"
}
