#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Who may have an image, and for how long: a pull with each kind of credentials, and readers long
# after it. Passwords and tokens are in memory, and nowhere else.

load lake
load network

SECRET=hunter2-0123456789

setup() {
	lake_setup
	net_image
	export DOCKER_CONFIG=$RIG REGISTRY_AUTH_FILE='' XDG_RUNTIME_DIR='' HOME=$RIG
	mkdir "$RIG/bin"
	cat >"$RIG/bin/docker-credential-vault" <<-EOF
		#!/bin/sh
		[ "\$1" = get ] && echo '{"Username":"me","Secret":"$SECRET"}'
	EOF
	chmod +x "$RIG/bin/docker-credential-vault"
	PATH=$RIG/bin:$PATH
}
teardown() { lake_teardown; }

password() { printf '{"auths":{"%s":{"auth":"%s"}}}' "$REGISTRY" "$(printf 'me:%s' "$SECRET" | base64 -w 0)"; }
identity() { printf '{"auths":{"%s":{"identitytoken":"%s"}}}' "$REGISTRY" "$SECRET"; }
helper() { printf '{"credHelpers":{"%s":"vault"}}' "$REGISTRY"; }
nobody() { echo '{}'; }

# Reads it all, cold, now and once more when tokens of a second's life have ended.
reads_for_long() {
	for _ in 1 2; do
		sleep 1.2
		net_cold || return
		readers "$RIG/tree" "$RIG/m" -j 2 -m rm >/dev/null || return
	done
}

# Neither as it is nor as Basic authentication has it.
no_secret_left() { # user
	! grep -rlF -e "$SECRET" -e "$(printf '%s:%s' "$1" "$SECRET" | base64 -w 0)" \
		"$TARN_STORE" "$RIG/tarnd.log" "$RIG/tarnd.out"
}

# Each as: the registry's control, who we are.
KINDS='
{} nobody
{"auth":"basic"} password
{"auth":"basic"} helper
{"auth":"bearer"} password
{"auth":"bearer"} helper
{"auth":"both"} password
{"auth":"bearer","identity":"@"} identity
{"auth":"bearer","token_expires":1,"token_valid":1} password
{"auth":"bearer","token_valid":1} helper
{"auth":"bearer","token_valid":1,"denied":403} password
{"auth":"bearer","identity":"@","token_expires":1,"token_valid":1} identity
{"auth":"bearer","token_valid":1,"realm_again":"http://127.0.0.1:1/token"} password
'

@test "every kind of credentials, at the pull and for readers after it" {
	local control who n=0
	net_registry
	net_tarnd 'fault.deadline = 20s' 'fill.readahead = 0'
	while read -r control who; do
		[ -n "$control" ] || continue
		echo "$control $who"
		n=$((n + 1))
		registry_control "$(jq -c --arg s "$SECRET" \
			'if .auth then . + {user: "me", password: $s} else . end
			| if .identity then .identity = $s else . end' <<<"$control")"
		$who >"$RIG/config.json"
		net_lake "$REGISTRY/x$n"
		reads_for_long
		lake_umount
		tarn rm x
		[ "$who" != nobody ] || continue
		# It is not open to everybody.
		nobody >"$RIG/config.json"
		run tarn -q pull "docker://$REGISTRY/no$n"
		[ "$status" = 1 ]
		[[ $output == *"wants a user name and password"* || $output == *"not authorised"* ]]
	done <<<"$KINDS"
	[ $n = 12 ]
	[ "$(counted events.failed)" = 0 ]
	no_secret_left me
}

@test "a file by name: it alone, and it must be there" {
	net_registry
	start_tarnd
	registry_control '{"auth":"basic","user":"me","password":"'$SECRET'"}'
	password >"$RIG/own.json"
	tarn -q pull --keep=none --authfile "$RIG/own.json" "docker://$REGISTRY/a"
	mv "$RIG/own.json" "$RIG/config.json"
	echo '{}' >"$RIG/own.json"
	run tarn -q pull --keep=none --authfile "$RIG/own.json" "docker://$REGISTRY/b"
	[ "$status" = 1 ]
	[[ $output == *"wants a user name and password"* ]]
	run tarn -q pull --keep=none --authfile "$RIG/none.json" "docker://$REGISTRY/b"
	[ "$status" = 1 ]
	[[ $output == *"none.json: No such file"* ]]
}

@test "docker-registry: a password, over TLS" {
	local port
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$RIG/key" -out "$RIG/cert" -days 2 \
		-subj /CN=registry.test -addext subjectAltName=DNS:registry.test 2>/dev/null
	# bcrypt of "open sesame", cost 5; docker-registry reads no other kind.
	# shellcheck disable=SC2016
	echo 'ali:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW' >"$RIG/htpasswd"
	cat >"$RIG/registry.yml" <<-EOF
		version: 0.1
		log: {level: info, formatter: text}
		storage: {filesystem: {rootdirectory: "$RIG/registry"}}
		auth: {htpasswd: {realm: test, path: "$RIG/htpasswd"}}
		http: {addr: "127.0.0.1:0", secret: tarn, tls: {certificate: "$RIG/cert", key: "$RIG/key"}}
	EOF
	docker-registry serve "$RIG/registry.yml" >"$RIG/registry.log" 2>&1 </dev/null 3>&- &
	rig_registry_up $! "$RIG/registry.log"
	registry_push "$RIG/layout" x --dest-creds 'ali:open sesame'
	port=${REGISTRY#*:}
	# Name and authority are known to this test's own mount namespace alone.
	printf '127.0.0.1 localhost registry.test\n' >"$RIG/hosts"
	mount --bind "$RIG/hosts" /etc/hosts
	mount --bind "$RIG/cert" /etc/ssl/certs/ca-certificates.crt
	RIG_MOUNTS+=(/etc/hosts /etc/ssl/certs/ca-certificates.crt)
	net_tarnd 'fill.readahead = 0'
	printf '{"auths":{"registry.test:%s":{"auth":"%s"}}}' "$port" \
		"$(printf 'ali:open sesame' | base64)" >"$RIG/config.json"
	net_lake "registry.test:$port/x"
	reads_for_long
	SECRET='open sesame' no_secret_left ali
	lake_umount
	nobody >"$RIG/config.json"
	run tarn -q pull "docker://registry.test:$port/x" --name no
	[ "$status" = 1 ]
	umount /etc/hosts /etc/ssl/certs/ca-certificates.crt
	RIG_MOUNTS=("$TARN_RUNDIR")
}

# Engine and fetchers leave no core: what is said of them in /proc is root's, though they are not.
@test "no core file has a password" {
	local part pid
	net_registry
	net_tarnd 'fill.readahead = 0'
	registry_control '{"auth":"basic","user":"me","password":"'$SECRET'"}'
	password >"$RIG/config.json"
	net_lake
	readers "$RIG/tree" "$RIG/m" -j 2 >/dev/null
	for part in anchor engine fetcher; do
		pid=$(tarnd_pid $part | head -n 1)
		[ "$(stat -c %u "/proc/$pid/mem")" = 0 ]
		[ "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" != 0 ]
	done
	for part in guardian keeper; do
		pid=$(tarnd_pid $part)
		# Each shared memory's line, and the flags that belong to it: "dd" is "do not dump".
		awk '/^[0-9a-f]+-[0-9a-f]+ / { shared = /memfd:tarn-/; seen += shared }
			/^VmFlags:/ && shared && !/ dd/ { bad++ }
			END { exit !(seen > 0 && !bad) }' "/proc/$pid/smaps"
	done
}
