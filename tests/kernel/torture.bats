#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The short form of `make torture`, part by part; and that it tells what has gone wrong.

load ../fixtures/rig

setup() { rig_setup; }
teardown() { rig_teardown; }

torture() { # part...
	TORTURE=short run "$RIG_TOP/tests/torture/run" "$@"
	printf '%s\n' "$output"
}

@test "kills" {
	torture kills
	[ "$status" = 0 ]
}

@test "pairs" {
	torture pairs
	[ "$status" = 0 ]
}

@test "net" {
	torture net
	[ "$status" = 0 ]
	[[ $output == *"network faults"* ]]
}

@test "soak" {
	torture soak
	[ "$status" = 0 ]
}

@test "power cuts" {
	torture power
	[ "$status" = 0 ]
}

# A part of our own, from what it does after it has begun.
planted() { # commands
	mkdir -p "$RIG/parts"
	printf '%s\n' '#!/bin/bash' 'set -uo pipefail' ". '$RIG_TOP/tests/torture/lib.bash'" \
		torture_begin "$1" >"$RIG/parts/planted"
	chmod +x "$RIG/parts/planted"
	TORTURE_PARTS=$RIG/parts torture planted
}

@test "a table, and status 0 when all went well" {
	planted "row 'a fault' 3 0 0 0 17 a note; row 'a listed one' 1 0 2 0 5 'EIO expected here'"
	[ "$status" = 0 ]
	[[ $output == *"a listed one      1      0       2      0           5  EIO expected here"* ]]
}

@test "what readers must not see is a failure" {
	local seen
	for seen in '1 0 0' '0 1 0' '0 0 1'; do
		planted "row 'a fault' 3 $seen 17"
		[ "$status" = 1 ]
		[[ $output == *"planted: a fault: "* ]]
	done
}

@test "what has grown is a failure, by more than the least that counts; what is less is told" {
	local row="row x 1 0 0 0 0"
	planted "$row; state memory 10000 10900 10; state small 100 900 10 1024; state less 1000 500 10"
	[ "$status" = 0 ]
	grep -qE '^planted: memory +10000 +10900 +\+9 %$' <<<"$output"
	grep -qE '^planted: less +1000 +500 +-50 %$' <<<"$output"
	for grown in 'memory 10000 11100 10' 'memory 5000 6100 10 1024' 'mounts 20 21 0' 'events 0 1 0'; do
		planted "$row; state $grown"
		[ "$status" = 1 ]
		[[ $output == *"planted: ${grown%% *}: "*" at the end, and "* ]]
	done
}

@test "a part that fails, shows nothing or leaves something is a failure, and nothing is left" {
	planted "row x 1 0 0 0 0; exit 7"
	[ "$status" = 1 ]
	[[ $output == *"did not come to its end (status 7)"* ]]
	planted ":"
	[ "$status" = 1 ]
	[[ $output == *"has nothing to show"* ]]
	# Not even what has forgotten where it is from.
	planted "row x 1 0 0 0 0; setsid env -u TARN_RIG sleep 1000 & echo \$! >'$RIG/pid'; sleep 0.3"
	[ "$status" = 1 ]
	[[ $output == *"left process $(<"$RIG/pid"): sleep 1000"* ]]
	rig_wait 10 "its end" rig_gone "$(<"$RIG/pid")"
}

@test "interrupted, it takes everything away" {
	local pid before
	before=$(rig_mounts)
	mkdir "$RIG/parts" "$RIG/dir"
	printf '%s\n' '#!/bin/bash' ". '$RIG_TOP/tests/torture/lib.bash'" torture_begin start_tarnd \
		"mount -t tmpfs x '$RIG/dir'" "sleep 1000 & echo \$! >'$RIG/pid'; wait" \
		>"$RIG/parts/planted"
	chmod +x "$RIG/parts/planted"
	TORTURE_PARTS=$RIG/parts "$RIG_TOP/tests/torture/run" planted >"$RIG/out" 2>&1 3>&- &
	pid=$!
	rig_wait 60 "the part to be at work" test -s "$RIG/pid"
	kill -TERM "$pid"
	wait "$pid" || status=$?
	[ "${status-0}" = 143 ]
	rig_gone "$(<"$RIG/pid")"
	[ "$(rig_mounts)" = "$before" ]
	[ -z "$(find "$TARN_TEST_TMPDIR" -maxdepth 1 -type d -name 'torture.*')" ]
}
