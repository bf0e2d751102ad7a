# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Processes of tarnd as targets: who is who, ways to end one, and the load meanwhile. For kills and
# pairs.

ROLES=(guardian keeper anchor engine fetcher)

# --- who is who -------------------------------------------------------------------------------------

# As tarnd says, which is the first that it is well: one pid each, of fetchers any one. Status 1
# while one of them is missing.
know() {
	local st pid
	st=$(timeout 60 "$B/tarn" status --json 2>/dev/null |
		jq -r '.daemon | "\(.supervised) \(.guardian_pid) \(.keeper_pid) \(.anchor_pid) \(
			.engine_pid) \(.fetcher_pids | join(" "))"') || return
	read -r SUPERVISED "${ROLES[@]:0:4}" st <<<"$st"
	[ -n "$st" ] || return
	fetcher=$(shuf -n 1 <<<"${st// /$'\n'}")
	for pid in "$guardian" "$keeper" "$anchor" "$engine"; do
		! rig_gone "$pid" || return
	done
}

settle() { rig_wait 100 "all processes of tarnd" know || fail "no recovery from $1"; }

# Who they run as tells who they are when tarnd is in no state to be asked.
know_users() {
	settle "nothing"
	ENGINE_UID=$(stat -c %u "/proc/$engine") FETCH_UID=$(stat -c %u "/proc/$fetcher")
}

# The pid in a role, of whatever has our tarnd's command line. Nothing while it is between two.
prey() { # role
	ps -eo pid=,ppid=,uid=,nlwp=,stat=,args= | awk -v role="$1" -v guardian="$guardian" \
		-v engine="$ENGINE_UID" -v fetch="$FETCH_UID" -v store=" $TARN_STORE" '
		index($0, "tarnd --store") && index($0, store) && $5 !~ /^Z/ {
			ppid[$1] = $2; uid[$1] = $3; threads[$1] = $4
		}
		function is(p) {
			if (uid[p] == fetch) return "fetcher"
			if (uid[p] == engine) return uid[ppid[p]] == engine ? "engine" : "anchor"
			if (p == guardian) return "guardian"
			return threads[p] > 1 ? "keeper" : ""
		}
		END {
			for (p in uid)
				if (is(p) == role)
					print p
		}' | shuf -n 1
}

# Sets `role` to the next one that is seen to be there.
find_prey() { # role
	local end=$((SECONDS + 60)) pid
	while [ $SECONDS -lt $end ]; do
		# Its successor differs from it in nothing but that tarnd says so.
		[ "$1" != guardian ] || know || continue
		pid=$(prey "$1")
		[ -z "$pid" ] || { printf -v "$1" %s "$pid"; return; }
		sleep 0.02
	done
	fail "waited in vain for a process that is the $1"
}

# --- ways to die ------------------------------------------------------------------------------------

# A random part of so many milliseconds, but less than a second.
nap() { # ms
	local never
	exec {never}<> <(:)
	read -rt "$(printf '0.%03d' $((RANDOM % $1)))" -u "$never"
	exec {never}>&-
}

# A keeper that does not live for half a second has crashed at its start, and the next is waited with
# (guard.c): that is a row's of its own.
come_of_age() { # role...
	[[ " $* " != *" keeper "* ]] || sleep 0.5
}

# What was there a moment ago may have ended by itself: status 1, and no kill.
kill_by() { # way pid
	case $1 in
	stop)
		kill -STOP "$2" && nap 600
		kill -KILL "$2"
		;;
	oom) kill_by_memory "$2" ;;
	*) kill -"$1" "$2" ;;
	esac 2>/dev/null
}

# A memory group in which the kernel has to kill: the target is put into it, beside one that asks
# for more than there is and that must not be killed for it. Sets OOM_DIR; status 1 where this
# machine lets us have none.
oom_prepare() {
	local top
	for top in /sys/fs/cgroup/memory /sys/fs/cgroup; do
		OOM_DIR=$top/tarn-torture-$$
		mkdir "$OOM_DIR" 2>/dev/null || continue
		if [ -e "$OOM_DIR/memory.limit_in_bytes" ]; then
			echo $((8 << 20)) >"$OOM_DIR/memory.limit_in_bytes" && return
		elif [ -e "$OOM_DIR/memory.max" ]; then
			echo $((8 << 20)) >"$OOM_DIR/memory.max" && return
		fi
		rmdir "$OOM_DIR"
	done
	OOM_DIR=''
	return 1
}

oom_remove() {
	[ -z "${OOM_DIR-}" ] || rig_wait 10 "an empty memory group" rmdir "$OOM_DIR"
	OOM_DIR=''
}

oom_kills() {
	cat "$OOM_DIR"/memory.{oom_control,events} 2>/dev/null | awk '$1 == "oom_kill" { print $2 }'
}

# True if it was the kernel that killed it, for want of memory.
kill_by_memory() { # pid
	local before end=$((SECONDS + 20))
	before=$(oom_kills)
	echo 1000 >"/proc/$1/oom_score_adj" && echo "$1" >"$OOM_DIR/cgroup.procs" || return
	until rig_gone "$1" || [ $SECONDS -ge $end ]; do
		(
			echo -1000 >"/proc/$BASHPID/oom_score_adj"
			echo "$BASHPID" >"$OOM_DIR/cgroup.procs"
			exec timeout 5 dd if=/dev/zero of=/dev/null bs=64M count=1 status=none
		)
	done
	[ "$(oom_kills)" -gt "$before" ]
}

# --- load -------------------------------------------------------------------------------------------

# An image that is read in every way, from the source again and again.
load_prepare() {
	start_tarnd
	TREE=$(debian_tree) || fail "no tree to compare with"
	lake "$(image_debian gzip)" debian || fail "the image cannot be mounted"
	know_users
	LOADS=0
}

evict_for_ever() {
	local never
	exec {never}<> <(:)
	while :; do
		# Cached pages are dropped by readers themselves, every other time.
		timeout 100 "$B/tarn" -q evict --all --wait
		read -rt 0.5 -u "$never"
	done >/dev/null 2>&1
}

# Readers start, or go on from the beginning; what they find is one row's.
load_begin() {
	LOAD=$RIG/load.$((LOADS += 1))
	"$B/test/reader" -j 4 -s 9999 -m rpdmx -d -w 100 "$TREE" "$RIG/m" \
		>"$LOAD" 2>>"$RIG/readers.log" &
	READERS=$!
	rig_wait 100 "readers" pgrep -P "$READERS" >/dev/null || fail "readers do not start"
	evict_for_ever &
	EVICTOR=$!
	LAKE_JOBS+=("$READERS" "$EVICTOR")
}

load_stop() {
	kill -TERM "$READERS" # at the end of a file
	wait "$READERS" || :
	kill -KILL "$EVICTOR" && wait "$EVICTOR" 2>/dev/null
	LAKE_JOBS=()
	[ -s "$LOAD" ] || fail "readers came to no end"
}

load_row() { # fault times note report...
	local files
	files=$(cat "${@:4}" | jq -s 'map(.files) | add')
	# shellcheck disable=SC2046  # four numbers
	row "$1" "$2" $(sum_readers "${@:4}") "${3:+$3; }$files files read"
	[ "$files" -gt 0 ] || fail "$1: nobody read anything"
}

# Stops them and leaves a row of what they saw.
load_end() { # fault times [note]
	local reports=("$LOAD")
	load_stop
	if [ -n "${INSIDE_PID-}" ]; then
		inside_report >"$LOAD.inside"
		reports+=("$LOAD.inside")
	fi
	load_row "$1" "$2" "${3-}" "${reports[@]}"
}

# --- seen from inside a container --------------------------------------------------------------------

# It goes on for ever, through whatever is done to tarnd: programs that it starts read programs and
# what they are linked with, and say what they found.
INSIDE='find usr/sbin -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum'

inside_begin() {
	local WAYS # attach.bash's are other ones
	load attach
	need runc
	INSIDE_SEEN=0
	INSIDE_WANT=$(cd "$TREE" && eval "$INSIDE") || fail "no sums to compare with"
	COMMAND="cd /; while :; do $INSIDE; sleep 0.1; done" make_bundle "$RIG/inside" debian ||
		fail "no bundle"
	INSIDE_ID=inside-$$
	by front-runc run -d -b "$RIG/inside" "$INSIDE_ID" </dev/null >"$RIG/inside.out" \
		2>"$RIG/inside.err" || fail "no container: $(tail -n 2 "$RIG/inside.err")"
	INSIDE_PID=$(by front-runc state "$INSIDE_ID" | jq .pid)
	INSIDE_ERRORS=$(wc -l <"$RIG/inside.err") # what the runtime had to say
	rig_wait 100 "a container that reads" inside_more 0 || fail "a container reads nothing"
}

inside_more() { [ "$(wc -l <"$RIG/inside.out")" -gt "$1" ]; }

# What it saw since it was asked last, in a reader's words: each time is one file. It must go on. A
# sum that has not come out right because of a file that could not be read is that file's.
inside_report() {
	local n errors stuck=0 died=0
	n=$(wc -l <"$RIG/inside.out")
	rig_gone "$INSIDE_PID" && died=1
	[ $died = 1 ] || rig_wait 100 "a container that goes on" inside_more "$n" || stuck=1
	n=$(wc -l <"$RIG/inside.out") errors=$(wc -l <"$RIG/inside.err")
	head -n "$n" "$RIG/inside.out" | tail -n +$((INSIDE_SEEN + 1)) | jq -Rs \
		--arg want "$INSIDE_WANT" --argjson stuck $stuck --argjson died $died \
		--argjson errors $((errors - INSIDE_ERRORS)) '
		split("\n")[:-1] | {files: length, wrong: ([(map(select(. != $want)) | length) - $errors, 0] | max),
			errors: $errors, stuck: $stuck, died: $died}'
	tail -n +$((INSIDE_ERRORS + 1)) "$RIG/inside.err" >&2
	INSIDE_SEEN=$n INSIDE_ERRORS=$errors
}

inside_remove() {
	[ -z "${INSIDE_ID-}" ] || by front-runc delete --force "$INSIDE_ID"
	INSIDE_ID=''
}

# Its own row: what it saw is in those of the faults, too.
inside_end() {
	inside_remove
	# shellcheck disable=SC2046  # four numbers
	row 'a container, through all of it' 0 $(sum_readers "$RIG"/load.*.inside) \
		"$(cat "$RIG"/load.*.inside | jq -s 'map(.files) | add') sums of its programs; ${1-}"
}

# --- memory, descriptors, events and mounts ----------------------------------------------------------

# All of it is used once, by processes that are none of the first: that is how it will look later.
use_everything() {
	local role part
	for role in keeper anchor guardian; do
		settle "$role"
		kill_by KILL "${!role}"
	done
	settle "all of them"
	part=$(short_or usr/sbin .)
	"$B/test/reader" -j 4 -m rpdmx -w 100 "$TREE/$part" "$RIG/m/$part" >/dev/null \
		2>>"$RIG/readers.log" ||
		fail "a reader failed in peace"
	rig_wait 100 "an eviction" tarn -q evict --all --wait
	sleep 3 # workers that have had nothing to do for a second give memory back
}

# `name value` of what a leak shows in; of fetchers, the largest.
take_states() {
	tarn status --json | jq -r '.daemon | ["events waiting", .slots], ["mounts of layers", .mounts],
		(.processes | group_by(.role)[] |
		 ["\(.[0].role): descriptors", (map(.fds) | max)],
		 ["\(.[0].role): memory of its own (KiB)", (map(.rss) | max / 1024)]) | @tsv'
	# The runtime's directory is made once a boot.
	printf 'mounts\t%d\n' "$(rig_mounts | grep -vc "^$TARN_RUNDIR ")"
}

states_begin() {
	use_everything
	take_states >"$RIG/states"
}

states_end() {
	use_everything
	join -t $'\t' <(sort "$RIG/states") <(take_states | sort) |
		while IFS=$'\t' read -r what before after; do
			case $what in
			# Memory needs more use than the short form can make of it to be steady.
			*memory*) state "$what" "$before" "$after" "$(short_or 1000 10)" 1024 ;;
			*descriptors) state "$what" "$before" "$after" 10 ;;
			*) state "$what" "$before" "$after" 0 ;;
			esac
		done
}

# --- and back ---------------------------------------------------------------------------------------

# tarnd is some other process's child by now.
prey_stop() {
	local pid
	lake_umount
	settle "it all"
	pid=$guardian
	[ "$pid" = "$TARND_PID" ] || TARND_PID=''
	[ -z "$TARND_PID" ] || { stop_tarnd; return; }
	kill -TERM "$pid"
	rig_wait 60 "the end of tarnd" rig_gone "$pid"
}
