# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Processes of tarnd as targets: who is who, ways to end one, and the load meanwhile. For kills and
# pairs.

ROLES='guardian keeper anchor engine fetcher'

# --- who is who -------------------------------------------------------------------------------------

# Of this tarnd, `pid ppid user threads` of each process; all have the command line of the first.
prey_all() {
	ps -eo pid=,ppid=,uid=,nlwp=,stat=,args= |
		awk -v s=" $TARN_STORE" 'index($0, "tarnd --store") && index($0, s) && $5 !~ /^Z/ {
			print $1, $2, $3, $4 }'
}

# The pids in a role, without asking tarnd: it may be dying. Nothing while it is between two.
prey() { # role
	prey_all | awk -v role="$1" -v guardian="$GUARDIAN" -v engine="$ENGINE_UID" -v fetch="$FETCH_UID" '
		{ ppid[$1] = $2; uid[$1] = $3; threads[$1] = $4 }
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

# One that was seen to be there.
find_prey() { # role
	local end=$((SECONDS + 60)) pid
	while [ $SECONDS -lt $end ]; do
		[ "$1" != guardian ] || know_guardian
		pid=$(prey "$1")
		[ -z "$pid" ] || { echo "$pid"; return; }
		sleep 0.02
	done
	echo "waited in vain for a process that is the $1" >&2
	return 1
}

know_guardian() { GUARDIAN=$(timeout 60 "$B/tarn" status --json | jq -er .daemon.guardian_pid); }

know_users() {
	local st
	st=$(timeout 60 "$B/tarn" status --json) || return
	GUARDIAN=$(jq -er .daemon.guardian_pid <<<"$st")
	ENGINE_UID=$(stat -c %u "/proc/$(jq -er .daemon.engine_pid <<<"$st")")
	FETCH_UID=$(stat -c %u "/proc/$(jq -er '.daemon.fetcher_pids[0]' <<<"$st")")
}

# --- ways to die ------------------------------------------------------------------------------------

# A random part of so many milliseconds, but less than a second.
nap() { # ms
	local never
	exec {never}<> <(:)
	read -rt "$(printf '0.%03d' $((RANDOM % $1)))" -u "$never"
	exec {never}>&-
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
	know_users || fail "tarnd does not answer"
	LOADS=0
}

evict_for_ever() {
	local never
	exec {never}<> <(:)
	while :; do
		# Of what is not mapped, every other page or so is dropped by readers themselves.
		timeout 100 "$B/tarn" -q evict --all --wait
		read -rt 0.5 -u "$never"
	done >/dev/null 2>&1
}

# Readers start, or go on from the beginning; what they find is one row's.
load_begin() {
	LOAD=$RIG/load.$((LOADS += 1))
	"$B/test/reader" -j "$(short_or 4 6)" -s 9999 -m rpdmx -d -w 100 "$TREE" "$RIG/m" \
		>"$LOAD" 2>>"$RIG/readers.log" &
	READERS=$!
	evict_for_ever &
	EVICTOR=$!
	LAKE_JOBS+=("$READERS" "$EVICTOR")
}

# Stops them and leaves a row of what they saw.
load_end() { # fault times [note]
	kill -TERM "$READERS" # at the end of a file
	wait "$READERS" || :
	kill -KILL "$EVICTOR" && wait "$EVICTOR" 2>/dev/null
	LAKE_JOBS=()
	[ -s "$LOAD" ] || fail "readers came to no end"
	# shellcheck disable=SC2046  # four numbers
	row "$1" "$2" $(sum_readers "$LOAD") "${3-}$(jq -r '" \(.files) files read"' "$LOAD")"
	[ "$(jq .files "$LOAD")" -gt 0 ] || fail "$1: nobody read anything"
}

# --- and back ---------------------------------------------------------------------------------------

# Everything is there again, and tarnd answers.
all_there() {
	local role
	know_guardian || return
	for role in $ROLES; do
		[ -n "$(prey "$role")" ] || return
	done
}

settle() { rig_wait 100 "all processes of tarnd" all_there; }

# tarnd is some other process's child by now.
prey_stop() {
	local pid
	lake_umount
	know_guardian || fail "tarnd does not answer at the end"
	pid=$GUARDIAN
	[ "$pid" = "$TARND_PID" ] || TARND_PID=''
	[ -z "$TARND_PID" ] || { stop_tarnd; return; }
	kill -TERM "$pid"
	rig_wait 60 "the end of tarnd" rig_gone "$pid"
}
