#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# podman with our hook, with our runtime front, and with a root directory mounted before.

load ../fixtures/rig
load attach

setup() {
	attach_setup
	need podman
	make_usual_image
	DIGEST=$(tarn images --json | jq -r '.[0].digest')
	mkdir "$RIG/empty" "$RIG/hooks" "$RIG/names"
	for f in create poststop; do
		jq --arg hook "$B/tarn-hook" --arg socket "TARN_SOCKET=$TARN_SOCKET" \
			'.hook.path = $hook | .hook.env = [$socket]' \
			"$RIG_TOP/hooks/tarn-$f.json" >"$RIG/hooks/tarn-$f.json"
	done
}
teardown() { rig_teardown; }

# podman names what its runtime can do by the runtime's name.
use_front() { # runc|crun
	local real
	real=$(runtime "$1")
	cat >"$RIG/names/$1" <<-EOF
		#!/bin/sh
		TARN_RUNDIR=$TARN_RUNDIR TARN_SOCKET=$TARN_SOCKET TARN_RUNTIME=$real \\
			exec "$B/tarn-runtime" "\$@"
	EOF
	chmod +x "$RIG/names/$1"
	runtime() { [ -e "$RIG/names/$1" ] && echo "$RIG/names/$1" || command -v "$1"; }
}

life() { # runc|crun
	local id
	id=$(run_podman "$1" run -d --annotation "org.tarn.image=$DIGEST" --rootfs "$RIG/empty" \
		/bin/sh -c 'echo new >/etc/new; cat /top; while :; do sleep 0.1; done')
	rig_wait 20 "the container" test -s "$TARN_STORE/containers/$id/upper/etc/new"
	[ "$(run_podman "$1" exec "$id" cat /top)" = top ]
	[ "$(run_podman "$1" exec --user 1000 "$id" id -u)" = 1000 ]
	run_podman "$1" exec "$id" grep -q ' /etc/hosts ' /proc/self/mountinfo
	run run_podman "$1" exec "$id" sh -c 'echo x >/proc/sys/kernel/domainname'
	[ "$status" != 0 ]
	run_podman "$1" cp "$id":/etc/new "$RIG/copied"
	[ "$(<"$RIG/copied")" = new ]
	run_podman "$1" stop --time 0 "$id" >/dev/null
	rig_wait 10 "the end" nothing_attached
	# Stopped is not removed: what it wrote is there after the next start.
	[ "$(<"$TARN_STORE/containers/$id/upper/etc/new")" = new ]
	run_podman "$1" start "$id" >/dev/null
	[ "$(run_podman "$1" exec "$id" cat /etc/new)" = new ]
	run_podman "$1" rm --force --time 0 "$id" >/dev/null
	nothing_left
}

@test "podman with the hook, by runc" {
	RIG_PODMAN=(--hooks-dir "$RIG/hooks")
	life runc
}
@test "podman with the hook, by crun" {
	RIG_PODMAN=(--hooks-dir "$RIG/hooks")
	life crun
}
@test "podman with the front, by runc" {
	use_front runc
	life runc
}
@test "podman with the front, by crun" {
	use_front crun
	life crun
}

@test "podman with a mounted root, user and working directory by name" {
	mkdir "$RIG/root"
	tarn mount usual "$RIG/root"
	for rt in runc crun; do
		[ "$(run_podman $rt run --rm --user app -w /home/app --rootfs "$RIG/root" \
			/bin/sh -c 'id -u; pwd')" = $'1000\n/home/app' ]
	done
	tarn umount "$RIG/root"
	nothing_left
}

@test "podman tells why a container does not start" {
	RIG_PODMAN=(--hooks-dir "$RIG/hooks")
	run run_podman runc run --rm --annotation "org.tarn.image=usual" --rootfs "$RIG/empty" true
	[ "$status" != 0 ]
	[[ $output == *tarn-hook:*org.tarn.image* ]]
	use_front runc
	# shellcheck disable=SC2034  # run_podman reads it
	RIG_PODMAN=()
	run run_podman runc run --rm --annotation "org.tarn.image=usual" --rootfs "$RIG/empty" true
	[ "$status" != 0 ]
	[[ $output == *tarn-runtime:*org.tarn.image* ]]
	nothing_left
}
