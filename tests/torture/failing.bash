# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Something fails once, in one process, at another place each time. Needs tests/kernel/lake.bash.
#
# A place is a call, of malloc(3), open(2) and so on, and the functions of tarn that led to it; those
# there are get written down while nothing fails (failing.h). A reader may wait, and sees nothing; a
# command may fail, and does not the second time; a tarnd that cannot start says why, and the next
# one starts.

failctl() { "$B/test/failctl" "$TARN_FAILING" "$@"; }
ftarn() { timeout 100 "$B/test/tarn-failing" -q "$@"; }

# A daemon in which nothing fails yet, an image at a registry and what it looks like.
failing_begin() {
	export TARN_FAILING=$RIG/failing TARND=$B/test/tarnd-failing
	failctl new
	chmod 666 "$TARN_FAILING"
	FAILING_TREE=$(umoci_unpack "$(image_tiny gzip)")
	start_pyregistry "$(image_tiny gzip)"
	printf 'fault.deadline = 20s\n' >"$RIG/conf"
	mkdir -p "$RIG/m"
	: >"$RIG/problems"
	FAILING_TRIED=0 FAILING_FIRED=0 FAILING_WRONG=0 FAILING_ERRORS=0 FAILING_STUCK=0 FAILING_PAUSE=0
	failing_start
}

failing_start() { start_tarnd --config "$RIG/conf"; }

# --- what is done over and over -----------------------------------------------------------------

problem() {
	echo "${FAILING_POINT-nothing fails}: $*" >>"$RIG/problems"
}

# A command may fail once. What is true already need not be done again.
once_more() { # condition command...
	local done=$1 rc=0
	shift
	"$@" >"$RIG/said" 2>&1 && return
	rc=$?
	cat "$RIG/said" >>"$RIG/refused"
	[ $rc -lt 124 ] || problem "$*: status $rc: $(tail -n 3 "$RIG/said")"
	[ -s "$RIG/said" ] || problem "$*: status $rc, and not a word"
	rig_wait 60 "an answer" tarn status >/dev/null 2>&1
	"$done" || "$@" >"$RIG/said" 2>&1 || "$done" ||
		problem "$* fails again: $(tail -n 3 "$RIG/said")"
}

never() { false; }
is_mounted() { mountpoint -q "$RIG/m"; }
is_not_mounted() { ! is_mounted; }
is_forgotten() { ! tarn images --json | jq -e 'any(.[]; .name == "f")' >/dev/null; }

read_all() {
	local found
	readers "$FAILING_TREE" "$RIG/m" -j 2 -w 60 "$@" >"$RIG/found" ||
		problem "readers: $(tail -n 2 "$RIG/readers.log")"
	found=$(cat "$RIG/found")
	FAILING_WRONG=$((FAILING_WRONG + $(jq '.wrong // 0' <<<"$found")))
	FAILING_ERRORS=$((FAILING_ERRORS + $(jq '(.errors // 0) + (.died // 0)' <<<"$found")))
	FAILING_STUCK=$((FAILING_STUCK + $(jq '.stuck // 0' <<<"$found")))
	FAILING_PAUSE=$(jq --argjson most "$FAILING_PAUSE" '[.pause_ms // .max_ms // 0, $most] | max' \
		<<<"$found")
}

# The life of an image, from nothing to nothing.
failing_life() {
	once_more never ftarn pull --tls-verify=false "$REGISTRY/f:latest" --name f
	once_more is_mounted ftarn mount f "$RIG/m"
	read_all
	once_more never ftarn evict --all --wait
	read_all -d
	once_more is_not_mounted ftarn umount "$RIG/m"
	rig_wait 20 "the unmounting of layers" lake_is_dry || problem "layers stay mounted"
	once_more is_forgotten ftarn rm f
	once_more never ftarn gc
}

# tarnd stops under a reader and is started again.
failing_restart() {
	local pid tries=0
	once_more never ftarn evict --all --wait
	pid=$(tarnd_pid guardian)
	[ -n "$pid" ] || pid=$(tarnd_pid guardian) # to ask that may be what failed
	kill -TERM "$pid"
	rig_wait 60 "the end of tarnd" rig_gone "$pid" || { problem "does not stop"; return; }
	if [ "$pid" = "$TARND_PID" ]; then wait "$pid" || problem "stops with status $?"; fi
	start_readers "$FAILING_TREE" "$RIG/m" -j 2 -w 100 -d
	until failing_start >"$RIG/said" 2>&1; do
		wait "$TARND_PID" || : # it has said why
		[ -s "$RIG/tarnd.log" ] || problem "does not start, and says nothing"
		[ $((tries += 1)) -lt 2 ] || { problem "does not start: $(tail -n 2 "$RIG/tarnd.log")"; return; }
	done
	wait_readers >/dev/null || problem "readers over a restart: $(tail -n 2 "$RIG/readers.log")"
}

# --- what must be as before -----------------------------------------------------------------------

failing_fds() { # pid
	find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l
}

# Called once nothing has failed: what there is now is what there should be.
failing_settled() {
	local role
	declare -gA FAILING_FDS
	for role in guardian keeper engine; do
		FAILING_FDS[$role]=$(failing_fds "$(tarnd_pid "$role")")
	done
}

failing_is_settled() {
	local role pid
	for role in guardian keeper engine; do
		pid=$(tarnd_pid "$role" 2>/dev/null) || return
		[ "$(failing_fds "$pid")" -le "${FAILING_FDS[$role]}" ] || return
	done
	[ "$(tarn status --json | jq '.daemon.waiting // 0')" = 0 ]
}

failing_compare() {
	local role
	rig_wait 15 "things to be as before" failing_is_settled 2>/dev/null && return
	for role in guardian keeper engine; do
		problem "$role has $(failing_fds "$(tarnd_pid "$role")") descriptors, before ${FAILING_FDS[$role]}"
	done
	failing_settled
}

# --- points ---------------------------------------------------------------------------------------

# Which call it was, in words.
failing_where() { # call address...
	local prog=$TARND
	[ "$1" != cli ] || prog=$B/test/tarn-failing
	echo "$1: $2 in $(addr2line -fse "$prog" "${@:3}" | paste -sd ' \n' | awk '{ printf "%s(%s) ", $1, $2 }')"
}

# $1 draws of the places of each of the roles that were written down: `ROLE SITE SKIP`.
failing_draw() { # n role...
	local n=$1 role
	shift
	for role; do
		awk -v r="$role" '$1 == r' "$RIG/sites" | sort | shuf -n "$n" --random-source="$RIG/seed"
	done | awk -v seed="${FAILING_SEED:-1}" 'BEGIN { srand(seed) }
		{ print $1, $2, rand() < 0.5 ? 0 : int(rand() * $3) }'
}

# One place fails while something is done.
failing_point() { # what role site skip
	local before fired
	before=$(wc -l <"$RIG/problems")
	FAILING_POINT="$2 $3 $4"
	failctl arm "$2" "$3" "$4"
	"$1"
	FAILING_TRIED=$((FAILING_TRIED + 1))
	if fired=$(failctl fired); then
		FAILING_FIRED=$((FAILING_FIRED + 1))
		# shellcheck disable=SC2086  # words
		FAILING_POINT=$(failing_where "$2" $fired)
	fi
	failing_compare
	if [ "$(wc -l <"$RIG/problems")" != "$before" ]; then
		echo "== $FAILING_POINT"
		tail -n +$((before + 1)) "$RIG/problems" | sed 's/^/	/'
		[ -z "${FAILING_LOGS-}" ] || tail -n 25 "$RIG/tarnd.log" | sed 's/^/		/'
	fi
	unset FAILING_POINT
}

# Draws so many places of each role and lets each fail in turn, as long as there is time; says how
# many there were.
failing_run() { # seconds what n role...
	local seconds=$1 what=$2 end role site skip
	shift
	yes "${FAILING_SEED:-1}" | head -c 1000000 >"$RIG/seed"
	failctl new
	failctl record "${@:3}"
	"$what"
	"$what"
	failctl record
	sleep 1
	failing_settled
	failctl sites >"$RIG/sites"
	FAILING_TRIED=0 FAILING_FIRED=0
	failing_draw "${@:2}" | shuf --random-source="$RIG/seed" >"$RIG/points"
	end=$((SECONDS + seconds))
	while read -r role site skip && [ $SECONDS -lt $end ]; do
		failing_point "$what" "$role" "$site" "$skip" </dev/null
	done <"$RIG/points"
	echo "$what: $FAILING_TRIED of $(wc -l <"$RIG/sites") places tried, $FAILING_FIRED failed," \
		"$(wc -l <"$RIG/problems") problems; places:" \
		"$(cut -d ' ' -f 1 "$RIG/sites" | sort | uniq -c | awk '{ printf "%s %s  ", $2, $1 }')"
}
