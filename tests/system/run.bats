#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The runner itself: whatever goes wrong in a suite has to show in its last line and its status.

setup() {
	cd "$BATS_TEST_DIRNAME/../.." || return
	T=$BATS_TEST_TMPDIR
}

# Without the variables of the bats we are in, and without CI's.
runner() { # [name=value...] arguments
	run env -i PATH="${PATH//$BATS_LIBEXEC:/}" HOME="$HOME" B="$B" "$@"
}

program() { # lines of sh
	printf '#!/bin/sh\n%s\n' "$1" >"$T/program"
	chmod +x "$T/program"
}

last() { # status line
	echo "$output"
	[ "$status" = "$1" ]
	[ "${lines[-1]}" = "$2" ]
}

@test "all passed" {
	program 'echo 1..2; echo ok 1 - a; echo ok 2 - b'
	runner tests/run "$T/program"
	last 0 "2 passed, 0 failed, 0 skipped"
}

@test "one failed: its output is shown" {
	program 'echo 1..2; echo ok 1 - a; echo not ok 2 - b; echo "# because"; exit 1'
	runner tests/run "$T/program"
	last 1 "1 passed, 1 failed, 0 skipped"
	[[ $output == *"# because"* ]]
}

@test "a program that dies half way, with or without a status" {
	for end in 'kill -SEGV $$' 'exit 0'; do
		program "echo 1..3; echo ok 1 - a; $end"
		runner tests/run "$T/program"
		last 1 "1 passed, 1 failed, 0 skipped"
	done
}

@test "a program that dies behind its last test" {
	program 'echo 1..1; echo ok 1 - a; exit 3'
	runner tests/run "$T/program"
	last 1 "1 passed, 1 failed, 0 skipped"
}

@test "a program that runs no test, and one that is missing" {
	program 'echo 1..0'
	runner tests/run "$T/program" "$T/none"
	last 1 "0 passed, 2 failed, 0 skipped"
}

@test "a program that does not end" {
	program 'echo 1..1; echo ok 1 - a; sleep 100'
	runner UNIT_TIME=1 tests/run "$T/program"
	last 1 "1 passed, 1 failed, 0 skipped"
}

@test "a skip is counted, and is a failure for CI" {
	program 'echo 1..2; echo ok 1 - a; echo "not ok 2 # SKIP b"; exit 1'
	runner tests/run "$T/program"
	last 0 "1 passed, 0 failed, 1 skipped"
	runner CI=true tests/run "$T/program"
	last 1 "1 passed, 0 failed, 1 skipped"
}

@test "a bats file: passed, failed, skipped" {
	# bats would take a line that begins with @test for one of this file's.
	printf '@test "%s" { %s; }\n' good true bad false "not here" 'skip "no moon"' \
		>"$T/some.bats"
	runner tests/run "$T/some.bats"
	last 1 "1 passed, 1 failed, 1 skipped"
}

@test "a bats file that leaves a process behind" {
	printf '@test "good" { %s; }\n' 'setsid sleep 1000 3>&- >/dev/null 2>&1 & true' \
		>"$T/left.bats"
	runner tests/run "$T/left.bats"
	last 1 "1 passed, 1 failed, 0 skipped"
	pid=$(sed -n 's/.*left process \([0-9]*\): sleep.*/\1/p' <<<"$output" | head -n 1)
	[ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status"
}
