# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of the daemon at work have in common: an image mounted at $RIG/m, readers that
# compare every byte, counters. A .bats file says
#
#	load lake
#	setup() { lake_setup; start_tarnd; }
#	teardown() { lake_teardown; }

load ../fixtures/rig

lake_setup() {
	rig_setup
	need_tarn_kernel
	LAKE_JOBS=()
}

lake_teardown() {
	local dir job rc=0
	for job in "${LAKE_JOBS[@]}"; do
		kill -KILL "$job" 2>/dev/null && wait "$job" 2>/dev/null
	done
	while read -r dir; do
		umount "$dir" || rc=1
	done < <(findmnt -rnt overlay -o TARGET | grep -F "$RIG/")
	rig_teardown && return $rc
}

# Pulls an image from a layout, or from another source, and mounts it.
lake() { # layout|source name [directory]
	local from=$1
	[[ $from == *:* ]] || from=oci:$from:latest
	tarn -q pull --keep=none "$from" --name "$2"
	lake_mount "$2" "${3:-$RIG/m}"
}

lake_mount() { # name [directory]
	mkdir -p "${2:-$RIG/m}"
	tarn mount "$1" "${2:-$RIG/m}"
}

lake_umount() { # [directory]
	tarn umount "${1:-$RIG/m}"
	rig_wait 20 "the unmounting of layers" lake_is_dry
}

lake_is_dry() {
	tarn status --json | jq -e '[.layers[] | select(.mounted)] == []' >/dev/null
}

# The tree the debian image is made of, for comparison; what lies in /odd there is not in it.
debian_tree() { images_once "$TARN_TEST_CACHE/tree" images_make_tree; }

# Runs a reader and shows what it found; further arguments go to it before the two directories.
readers() { # expected found [reader options...]
	local expected=$1 found=$2
	shift 2
	"$B/test/reader" "$@" "$expected" "$found" >"$RIG/readers.json" 2>"$RIG/readers.log"
	local rc=$?
	cat "$RIG/readers.json"
	return $rc
}

# The same behind our back; wait_readers gives what it ended with, end_readers of one with -t.
start_readers() { # expected found [reader options...]
	"$B/test/reader" "${@:3}" "$1" "$2" >"$RIG/readers.json" 2>"$RIG/readers.log" 3>&- &
	READERS=$!
	LAKE_JOBS+=("$READERS")
}

wait_readers() {
	local rc=0
	wait "$READERS" || rc=$?
	cat "$RIG/readers.json"
	return $rc
}

end_readers() {
	kill -TERM "$READERS"
	wait_readers
}

readers_run() { kill -0 "$READERS" 2>/dev/null; }

found() { jq -e ".$1" "$RIG/readers.json"; }

# What the daemon has counted: events.pre_access, bytes.filled ...
counted() { tarn status --json | jq -er ".daemon.$1"; }

# Each layer as `diff_id-in-hex state size resident`.
layers() { tarn layers --json | jq -r '.[] | "\(.diff_id[7:]) \(.state) \(.size) \(.resident)"'; }

resident() { tarn layers --json | jq 'map(.resident) | add'; }
whole() { tarn layers --json | jq 'map(.size) | add'; }

drop_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# Every process of the daemon at once, as a machine's end would.
crash_tarnd() {
	local pids
	# What dies last may have made another of its kind.
	while mapfile -t pids < <(lake_tarnd_pids) && [ ${#pids[@]} -gt 0 ]; do
		kill -KILL "${pids[@]}" 2>/dev/null || true
		sleep 0.02
	done
	wait "$TARND_PID" 2>/dev/null || true
	TARND_PID=''
}

tarnd_processes() { [ "$(lake_tarnd_pids | wc -l)" = "$1" ]; } # how many

lake_tarnd_pids() {
	local pid exe
	for pid in $(rig_pids); do
		exe=$(readlink "/proc/$pid/exe")
		[[ ${exe##*/} != tarnd* ]] || echo "$pid"
	done
}
