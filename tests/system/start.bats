#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A tarnd that cannot start says why, in one line, and ends (law 12). One that was ready goes on.

load ../fixtures/rig

setup() {
	rig_setup
	need_tarn_kernel
	install -d -m 700 "$TARN_STORE"
	W=$B/test/without
}
teardown() { rig_teardown; }

# tarnd by way of a command that takes something away from it, with options of its own behind `--`.
refused() { # status what-it-says [command...] [-- options...]
	local want=$1 says=$2 with=()
	shift 2
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		with+=("$1")
		shift
	done
	shift $(($# > 0))
	run timeout -k 5 20 "${with[@]}" "$B/tarnd" --store "$TARN_STORE" \
		--socket "$RIG/refused.sock" "$@"
	echo "want $want ($says), got $status: $output"
	[ "$status" = "$want" ]
	[ ${#lines[@]} = 1 ]
	[[ $output == "tarnd: "*$says* ]]
	[ ! -e "$RIG/refused.sock" ]
	left=$(pgrep -f "^$B/tarnd --store $TARN_STORE") || true
	[ -z "$left" ]
}

@test "capabilities that a keeper works with" {
	for cap in sys_admin dac_read_search lease kill setuid setgid sys_chroot setpcap chown dac_override \
		fowner fsetid setfcap; do
		refused 1 "capabilities are missing: cap_$cap;" setpriv --bounding-set "-$cap"
	done
	refused 1 "missing: cap_lease cap_chown;" setpriv --bounding-set -lease,-chown
	run setpriv --bounding-set -lease "$B/tarn" doctor --store "$TARN_STORE"
	[ "$status" = 3 ]
	[[ $output == *"missing: cap_lease"* ]]
}

@test "system calls that this kernel has not: of guardian, keeper, anchor, engine, fetcher" {
	refused 3 "starting a keeper" "$W" clone3 38
	refused 3 "shared memory" "$W" memfd_create 38
	refused 3 "keeper: " "$W" epoll_create1 38
	refused 3 "keeper: " "$W" epoll_wait 38
	refused 3 "keeper: starting the engine's anchor" "$W" pidfd_open 38
	refused 3 "engine: " "$W" sendmsg 38
	refused 3 "fetcher: this kernel has no system call filters" "$W" seccomp 38
	refused 3 "fetcher: changing the root directory" "$W" chroot 38
}

@test "limits" {
	refused 1 "descriptors" prlimit --nofile=100:100
	refused 1 "engine: it cannot be started" prlimit --nproc=1:1
	refused 1 "max_user_instances" "$W" inotify_init1 24
}

@test "settings" {
	echo 'deadline = soon' >"$RIG/bad.conf"
	refused 1 "bad.conf" -- --config "$RIG/bad.conf"
	refused 1 "none.conf" -- --config "$RIG/none.conf"
	echo 'socket.group = no-such-group' >"$RIG/group.conf"
	refused 1 "no-such-group" -- --config "$RIG/group.conf"
	run "$B/tarnd" --no-such-option
	[ "$status" = 2 ]
	run "$B/tarnd" more
	[ "$status" = 2 ]
}

@test "store and socket" {
	TARN_STORE=/proc/none refused 1 "/proc/none"
	touch "$RIG/file"
	TARN_STORE=$RIG/file refused 1 "$RIG/file"
	refused 1 "$RIG/no/such/dir/x.sock" -- --socket "$RIG/no/such/dir/x.sock"
	refused 1 "$RIG/file/x.sock" -- --socket "$RIG/file/x.sock"
	refused 1 "too long" -- --socket "$RIG/$(printf '%0200d' 0)"
	mkdir "$RIG/dir"
	refused 1 "socket $RIG/dir" -- --socket "$RIG/dir"
	chmod 755 "$RIG"
	refused 1 "only root" setpriv --reuid 65534 --clear-groups
}

@test "once it was ready, a keeper that dies is followed by another, however often" {
	start_tarnd
	for _ in 1 2 3 4 5 6 7 8; do kill_tarnd keeper; done
	tarn status >/dev/null
	[ "$(grep -c 'the keeper ended; the next one is started' "$RIG/tarnd.log")" = 8 ]
	! grep -q 'cannot\|missing' "$RIG/tarnd.log"
}
