#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Any allocation or system call fails, once, in any of tarnd's processes and in tarn; see
# tests/torture/failing.bash. This is a sample; FAILING=N draws more, TARN_LONG=1 all there are.

load lake
load ../torture/failing

BATS_TEST_TIMEOUT=${TARN_LONG:+14400}
BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-600}

setup() { lake_setup; failing_begin; }
teardown() {
	[ -n "${BATS_TEST_COMPLETED-}" ] || tail -n 20 "$RIG/problems"
	lake_teardown
}

# At most so long: on a slow machine it is fewer places.
sample() { # seconds what n role...
	local most=$1 n=${FAILING:-$3}
	[ -z "${TARN_LONG-}" ] || most=7000 n=100000
	failing_run "$most" "$2" "$n" "${@:4}" >"$RIG/said.run"
	cat "$RIG/said.run"
	tail -n 1 "$RIG/said.run" | sed 's/^/# /' >&3
	[ ! -s "$RIG/problems" ]
	grep -qE ' [1-9][0-9]* failed,' "$RIG/said.run"
}

@test "in the life of an image" {
	sample 20 failing_life 8 guardian keeper anchor engine fetcher cli
}

@test "while tarnd stops and starts under a reader" {
	once_more never ftarn pull --tls-verify=false "$REGISTRY/f:latest" --name f
	tarn mount f "$RIG/m"
	sample 10 failing_restart 3 start guardian keeper anchor engine
	umount "$RIG/m"
	rig_wait 60 "the unmounting of layers" lake_is_dry
}

# Else there were two, of which the older hands on numbers that are not its own, and holds layers.
@test "a holder that is not told that all was taken over is ended" {
	local old
	once_more never ftarn pull --tls-verify=false "$REGISTRY/f:latest" --name f
	tarn mount f "$RIG/m"
	kill -TERM "$TARND_PID"
	wait "$TARND_PID"
	failctl call guardian recv 0 5
	failing_start
	failctl fired | grep -q recv
	grep -F "the earlier tarnd does not end; it is killed" "$RIG/tarnd.log"
	old=$(sed -n 's/.*: process \([0-9]*\) holds them.*/\1/p' "$RIG/tarnd.log")
	rig_gone "$old"
	umount "$RIG/m"
	rig_wait 20 "the unmounting of layers" lake_is_dry
}

# What is short may not be so for long; a guardian that stays is killed in the end, with all it has.
@test "a stop leaves a holder behind, where there can be no process at first" {
	once_more never ftarn pull --tls-verify=false "$REGISTRY/f:latest" --name f
	tarn mount f "$RIG/m"
	failctl call guardian fork 0 11
	kill -TERM "$TARND_PID"
	rig_wait 30 "the end of tarnd" rig_gone "$TARND_PID"
	wait "$TARND_PID"
	failctl fired | grep -q fork
	failing_start
	umount "$RIG/m"
	rig_wait 20 "the unmounting of layers" lake_is_dry
}

# From nothing to nothing, with every kind of file that the store has.
publishing_life() {
	once_more never ftarn pull --tls-verify=false "$REGISTRY/f:latest" --name f
	once_more is_mounted ftarn mount f "$RIG/m"
	read_all -d
	once_more never ftarn pin f
	once_more is_not_mounted ftarn umount "$RIG/m"
	rig_wait 20 "the unmounting of layers" lake_is_dry || problem "layers stay mounted"
	# What is claimed to be here is.
	once_more never ftarn verify f
	once_more never ftarn evict --all --wait
	once_more is_mounted ftarn mount f "$RIG/m"
	read_all
	once_more is_not_mounted ftarn umount "$RIG/m"
	rig_wait 20 "the unmounting of layers" lake_is_dry || problem "layers stay mounted"
	once_more never ftarn unpin f
	once_more is_forgotten ftarn rm f
	once_more never ftarn gc
}

# The n-th such call of the keeper fails, for n = 0, 1, ... until there is none, as far as there is
# time; for each number in turn. Everything is right all the same, or the second time, and somebody
# says why it was not the first.
# shellcheck disable=SC2034  # FAILING_POINT is for problem()
each_publishing() { # seconds call errno words [errno words]...
	local end=$((SECONDS + $1)) call=$2 n=0 fired
	shift 2
	while [ $SECONDS -lt $end ]; do
		: >"$RIG/refused"
		: >"$RIG/tarnd.log"
		FAILING_POINT="$call $n: $2"
		failctl call keeper "$call" $n "$1"
		publishing_life
		fired=$(failctl fired) || break
		# shellcheck disable=SC2086  # words
		FAILING_POINT="$(failing_where keeper $fired): $2"
		grep -qF "$2" "$RIG/refused" "$RIG/tarnd.log" || problem "nobody says why"
		n=$((n + 1))
		set -- "${@:3}" "$1" "$2"
	done
	unset FAILING_POINT
	echo "# $call: $n failed" >&3
	cat "$RIG/problems"
	[ ! -s "$RIG/problems" ]
	[ $n -gt 0 ]
	[ "$FAILING_WRONG $FAILING_ERRORS $FAILING_STUCK" = "0 0 0" ]
}

publishing_s() { if [ -n "${TARN_LONG-}" ]; then echo 1200; else echo 30; fi; }

@test "a new name that cannot be given: no space, no quota, a disk that is read-only" {
	each_publishing "$(publishing_s)" renameat 28 'No space left' 122 'Disk quota exceeded' \
		30 'Read-only file system'
}

@test "a directory that cannot be written down" {
	each_publishing "$(publishing_s)" fsync-dir 5 'Input/output error'
}

@test "a file that cannot be written down before it gets its name" {
	each_publishing "$(publishing_s)" fsync 5 'Input/output error' 28 'No space left'
}
