#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# How containers come and go: exec, kill, failure, the second time, and what is left of them.

load ../fixtures/rig
load attach

setup() {
	attach_setup
	make_usual_image
}
teardown() { rig_teardown; }

upper() { echo "$TARN_STORE/containers/$1/upper"; }

@test "exec and kill of a running container, and the kind tarnd lists" {
	for way in $WAYS; do
		start $way x-$way true
		[ "$(by $way exec x-$way cat /top)" = top ]
		[ "$(by $way exec -u 1000 -t x-$way id -u </dev/null 2>/dev/null || by $way exec --user 1000 x-$way id -u)" = 1000 ]
		case $way in
		hook-crun) [ "$(attached_as x-$way)" = graft ] ;;
		hook-*) [[ $(attached_as x-$way) == @(graft|overmount) ]] ;;
		*) [ "$(attached_as x-$way)" = runtime ] ;;
		esac
		pid=$(by $way state x-$way | jq .pid)
		kill -KILL "$pid"
		rig_wait 10 "its end" rig_gone "$pid"
		by $way delete x-$way
	done
	nothing_left
}

@test "nothing of a container is mounted on the host" {
	for way in $WAYS; do
		start $way h-$way true
		! rig_mounts | grep -F "$RIG/" | grep overlay
		! rig_mounts | grep -F "$TARN_RUNDIR/"
		by $way delete --force h-$way
	done
}

@test "delete removes what a container wrote" {
	for way in hook-runc hook-crun; do
		start $way d-$way 'echo x >/etc/new'
		[ -e "$(upper d-$way)/etc/new" ]
		by $way kill d-$way KILL
		rig_wait 10 "its end" nothing_attached
		[ -e "$(upper d-$way)/etc/new" ]
		rig_wait 10 "the runtime" by $way delete d-$way
		[ ! -e "$TARN_STORE/containers/d-$way" ]
	done
}

@test "delete keeps it for podman and where it was asked to" {
	n=0
	for key in io.container.manager=libpod org.tarn.keep=true; do
		n=$((n + 1))
		start hook-runc k$n 'echo x >/etc/new' ".annotations += {\"${key%=*}\": \"${key#*=}\"}"
		by hook-runc delete --force k$n
		rig_wait 10 "its end" nothing_attached
		[ -e "$(upper k$n)/etc/new" ]
	done
}

@test "a bundle is used again, by the hook and by the front" {
	for way in $WAYS; do
		COMMAND='cat /top' make_bundle "$RIG/again-$way" usual
		for _ in 1 2 3; do
			[ "$(by $way run -b "$RIG/again-$way" again-$way)" = top ]
			nothing_left
		done
	done
	[ "$(by front-runc run -b "$RIG/again-front-runc" other)" = top ]
	# A runtime alone does not have the root the front mounts, and the hook says so.
	run by hook-runc run -b "$RIG/again-front-runc" alone
	[ "$status" != 0 ]
	[[ $output == *"started with it again"* ]]
	# The front takes a bundle that only the hook knew.
	[ "$(by front-runc run -b "$RIG/again-hook-runc" other)" = top ]
	nothing_left
}

@test "two containers of one bundle have a root each" {
	start front-runc two-a 'echo a >/etc/which'
	by front-runc run -d -b "$RIG/two-a" two-b </dev/null >"$RIG/two-b.out" 2>&1 3>&-
	by front-runc exec two-b sh -c 'echo b >/etc/which'
	[ "$(by front-runc exec two-a cat /etc/which)" = a ]
	[ "$(<"$(upper two-b)/etc/which")" = b ]
	run by front-runc run -b "$RIG/two-a" two-a
	[ "$status" != 0 ]
	[ "$(by front-runc exec two-a cat /etc/which)" = a ]
}

@test "a create that fails leaves nothing" {
	for way in $WAYS; do
		COMMAND=true make_bundle "$RIG/f-$way" usual '.process.args = ["/no/such"]'
		run by $way run -b "$RIG/f-$way" f-$way
		[ "$status" != 0 ]
		nothing_left
		# A volume that is not there: the runtime fails before or after us.
		edit_bundle "$RIG/f-$way" '.mounts += [{type: "bind", source: "/no/such",
			destination: "/data", options: ["bind"]}]'
		run by $way run -b "$RIG/f-$way" f-$way
		[ "$status" != 0 ]
		nothing_left
	done
}

@test "without tarnd a container does not start, and the reason is told" {
	for way in $WAYS; do
		COMMAND=true make_bundle "$RIG/n-$way" usual \
			".annotations[\"run.oci.hooks.stderr\"] = \"$RIG/n-$way.log\""
	done
	stop_tarnd
	for way in $WAYS; do
		run by $way run -b "$RIG/n-$way" n-$way
		[ "$status" != 0 ]
		[[ "$output $(cat "$RIG/n-$way.log" 2>/dev/null)" == *"tarnd is not running"* ]]
	done
	start_tarnd
}

@test "an image nobody knows, and text that is no image" {
	for way in $WAYS; do
		COMMAND=true make_bundle "$RIG/u-$way" usual \
			".annotations[\"run.oci.hooks.stderr\"] = \"$RIG/u-$way.log\" |
			.annotations[\"org.tarn.image\"] = \"sha256:$(printf '%064d' 0)\""
		run by $way run -b "$RIG/u-$way" u-$way
		[ "$status" != 0 ]
		[[ "$output $(cat "$RIG/u-$way.log" 2>/dev/null)" == *"is not known"* ]]
		for bad in usual ../usual sha256:abc ''; do
			edit_bundle "$RIG/u-$way" ".annotations[\"org.tarn.image\"] = \"$bad\""
			run by $way run -b "$RIG/u-$way" u-$way
			[ "$status" != 0 ]
		done
	done
	nothing_left
}

@test "a bundle without our annotation is none of our business" {
	plain_bundle "$RIG/plain" env
	sum=$(sha256sum <"$RIG/plain/config.json")
	stop_tarnd
	[[ $(by front-runc run -b "$RIG/plain" plain) == *"uid=0 gid=0 cwd=/"* ]]
	[ "$(sha256sum <"$RIG/plain/config.json")" = "$sum" ]
	edit_bundle "$RIG/plain" ".hooks = {createRuntime: [{path: \"$B/tarn-hook\",
		args: [\"tarn-hook\", \"createRuntime\"]}]}"
	[[ $(by hook-runc run -b "$RIG/plain" plain) == *"uid=0 gid=0 cwd=/"* ]]
	start_tarnd
}

@test "ids that could be paths are refused" {
	COMMAND=true make_bundle "$RIG/id" usual
	for id in ../up a/b .. .hidden -x; do
		run by front-runc run -b "$RIG/id" -- "$id"
		[ "$status" = 1 ]
		[[ $output == *"is no container id"* ]]
		run "$B/tarn-hook" createRuntime <<<"{\"id\":\"$id\",\"pid\":$$,\"bundle\":\"$RIG/id\"}"
		[ "$status" = 1 ]
		[[ $output == *"is no container id"* ]]
	done
	nothing_left
}

@test "the hook refuses a container in the host's mount namespace" {
	COMMAND=true make_bundle "$RIG/ns" usual
	run "$B/tarn-hook" createRuntime <<<"{\"id\":\"ns\",\"pid\":$$,\"bundle\":\"$RIG/ns\"}"
	[ "$status" = 1 ]
	[[ $output == *"no mount namespace of its own"* ]]
	edit_bundle "$RIG/ns" '.linux.namespaces |= map(select(.type != "mount"))'
	run "$B/tarn-hook" createRuntime <<<"{\"id\":\"ns\",\"pid\":1,\"bundle\":\"$RIG/ns\"}"
	[ "$status" = 1 ]
	[[ $output == *"no mount namespace of its own"* ]]
	nothing_left
}

@test "the hook ends with the container's process, and in time" {
	COMMAND=true make_bundle "$RIG/dead" usual
	unshare --mount sleep 1000 3>&- &
	pid=$!
	rig_wait 5 "its namespace" sh -c "[ \$(readlink /proc/$pid/ns/mnt) != \$(readlink /proc/$$/ns/mnt) ]"
	# A server that takes the request and never answers.
	python3 - "$RIG/mute.sock" 3>&- <<-'EOF' &
		import socket, sys, time
		s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		s.bind(sys.argv[1])
		s.listen()
		c = s.accept()
		time.sleep(1000)
	EOF
	mute=$!
	rig_wait 5 "the mute server" test -S "$RIG/mute.sock"
	# No root is mounted there yet: told before anybody is asked.
	run "$B/tarn-hook" createRuntime <<<"{\"id\":\"dead\",\"pid\":$pid,\"bundle\":\"$RIG/dead\"}"
	[ "$status" = 1 ]
	[[ $output == *"has mounted nothing at"* ]]
	nsenter -t "$pid" -m mount --make-rprivate /
	nsenter -t "$pid" -m mount --bind "$RIG/dead/rootfs" "$RIG/dead/rootfs"
	TARN_SOCKET=$RIG/mute.sock "$B/tarn-hook" createRuntime 2>"$RIG/dead.err" 3>&- \
		<<<"{\"id\":\"dead\",\"pid\":$pid,\"bundle\":\"$RIG/dead\"}" &
	hook=$!
	sleep 1
	kill -0 $hook
	kill -KILL "$pid"
	rig_wait 3 "the hook's end" rig_gone $hook
	grep -q 'has ended' "$RIG/dead.err"
	kill -KILL $mute
}

@test "errors of the front reach the engine's log" {
	COMMAND=true make_bundle "$RIG/log" usual '.annotations["org.tarn.image"] = "x"'
	run by front-runc --log "$RIG/engine.json" --log-format=json run -b "$RIG/log" log
	[ "$status" = 1 ]
	[ "$(jq -r .level "$RIG/engine.json")" = error ]
	[[ $(jq -r .msg "$RIG/engine.json") == tarn-runtime:* ]]
}

@test "the front finds the runtime by option, environment, name and PATH" {
	mkdir "$RIG/names"
	for n in runc crun other; do ln -s "$B/tarn-runtime" "$RIG/names/$n"; done
	[[ $("$RIG/names/crun" --version) == crun* ]]
	[[ $("$RIG/names/runc" --version) == runc* ]]
	[[ $(PATH=$RIG/names:$PATH "$RIG/names/other" --version) == runc* ]]
	[[ $(TARN_RUNTIME=crun "$RIG/names/other" --version) == crun* ]]
	[[ $(TARN_RUNTIME=crun "$RIG/names/other" --tarn-runtime "$(command -v runc)" --version) == runc* ]]
	run env TARN_RUNTIME="$RIG/names/other" "$RIG/names/other" --version
	[ "$status" = 1 ]
	run "$RIG/names/other" --tarn-runtime=/no/such --version
	[ "$status" = 1 ]
	[[ $output == *"no OCI runtime at /no/such"* ]]
}
