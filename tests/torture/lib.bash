# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the parts of `make torture` have in common. A part is an executable tests/torture/NAME:
#
#	#!/bin/bash
#	set -uo pipefail
#	. "${0%/*}/lib.bash"
#	torture_begin            # a rig ($RIG, TARN_STORE, TARN_SOCKET); all of it goes at the end
#	part_end() { ... }       # if there is more to take away; however the part ends
#	...                      # start_tarnd, lake, load_begin ..., whatever rig.bash and lake.bash have
#	row FAULT TIMES WRONG ERRORS STUCK PAUSE_MS [NOTE]
#
# It runs in a mount namespace of its own, and its exit status says whether it could do its work;
# whether that came out right is told by its rows: wrong bytes, stuck readers, and errors whose note
# does not say which are expected (`EIO expected ...`) are failures.

TORTURE_TOP=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
# bats has these.
# shellcheck source=/dev/null
load() { . "$TORTURE_TOP/tests/kernel/$1.bash"; }
skip() {
	echo "torture: $*" >&2
	exit 3
}
# shellcheck source=tests/kernel/lake.bash
load lake
# The runtimes' fixture keeps what it has found out there.
BATS_RUN_TMPDIR=

# Few enough to be part of `make check`, or as many as the issue asks for.
is_short() { [ "${TORTURE-}" = short ]; }
short_or() { if is_short; then echo "$1"; else echo "$2"; fi; }

torture_begin() {
	lake_setup
	export BATS_RUN_TMPDIR=$RIG
	ulimit -c 0
	trap torture_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

torture_end() {
	local rc=$?
	trap - EXIT
	trap '' INT TERM
	[ $rc != 0 ] || export BATS_TEST_COMPLETED=1 # the logs are of no interest
	[ "$(type -t part_end)" != function ] || part_end || rc=1
	lake_teardown || rc=1
	exit $rc
}

fail() {
	echo "torture: $*" >&2
	exit 1
}

# What is left for others to see of what was done.
row() { # fault times wrong errors stuck pause_ms [note]
	local IFS=$'\t'
	echo "$*" >>"${TORTURE_ROWS:-/dev/stdout}"
	printf '  %s: %s times, longest pause %s ms\n' "$1" "$2" "$6" >&2
}

# The sum of what readers found, as `wrong errors stuck pause_ms`; those that died are errors.
sum_readers() { # json...
	cat "$@" | jq -rs '[(map(.wrong) | add), (map(.errors + .died) | add), (map(.stuck) | add),
		(map(.pause_ms) | max)] | map(. // 0) | join(" ")'
}

# What `run` holds against each other at the end: it may have grown by so many percent, and in any
# case by the last.
state() { # what before after percent [more]
	printf '%s\t%s\t%s\t%s\t%s\n' "${0##*/}: $1" "$2" "$3" "$4" "${5-0}" \
		>>"${TORTURE_STATES:-/dev/stdout}"
}
