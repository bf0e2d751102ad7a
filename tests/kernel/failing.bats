#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Any allocation or system call fails, once, in any of tarnd's processes and in tarn; see
# tests/torture/failing.bash. This is a sample; FAILING=N draws more, TARN_LONG=1 all there are.

load lake
load ../torture/failing

BATS_TEST_TIMEOUT=${TARN_LONG:+14400}
BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-600}

setup() { lake_setup; failing_begin; }
teardown() { lake_teardown; }

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
