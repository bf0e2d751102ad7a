#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Where a store can be and where not, and a store or a kernel that is not what it should be.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

# tarnd as start_tarnd would call it, but one that ends at once.
refused() { # status what-it-says [command...]
	local want=$1 says=$2
	shift 2
	install -d -m 700 "$TARN_STORE"
	run timeout -k 5 20 "$@" "$B/tarnd" --store "$TARN_STORE" --socket "$RIG/refused.sock"
	echo "$output"
	[ "$status" = "$want" ]
	[ ${#lines[@]} = 1 ]
	[[ ${lines[0]} == "tarnd: "*$says* ]]
}

@test "a store on tmpfs, and one on overlayfs" {
	mkfs_store tmpfs 64M
	refused 3 "pre-content"
	[[ $output == *ext4*xfs*btrfs* ]]
	mkdir "$RIG"/{lower,upper,work,over}
	mount -t overlay -o "lowerdir=$RIG/lower,upperdir=$RIG/upper,workdir=$RIG/work" none \
		"$RIG/over"
	TARN_STORE=$RIG/over/store
	refused 3 "pre-content"
	umount "$RIG/over"
}

@test "a kernel without pre-content events" {
	refused 3 "pre-content" "$B/test/without" fanotify_init 22
	refused 3 "pre-content" "$B/test/without" fanotify_mark 22
	run "$B/test/without" fanotify_init 22 "$B/tarn" doctor --store "$TARN_STORE"
	[ "$status" = 3 ]
}

@test "two tarnd on one store" {
	start_tarnd
	refused 1 "in use"
	# The first goes on as if nothing had been.
	lake "$(image_tiny gzip)" tiny
	"$RIG/m/bin/probe" env
	# Also by another path, and while only a guardian is left.
	ln -s "$TARN_STORE" "$RIG/same"
	TARN_STORE=$RIG/same refused 1 "in use"
}

@test "a store of a newer tarn, and a directory that is none" {
	start_tarnd
	stop_tarnd
	cat "$TARN_STORE/format"
	sed -i 's/[0-9][0-9]*/999/' "$TARN_STORE/format"
	refused 1 "newer"
	grep -q 999 "$TARN_STORE/format"
	echo nonsense >"$TARN_STORE/format"
	refused 1 "format"
	TARN_STORE=$RIG/other
	mkdir "$TARN_STORE"
	echo mine >"$TARN_STORE/file"
	refused 1 "neither empty nor"
	[ "$(ls "$TARN_STORE")" = file ]
}

@test "no space left: EIO, the log says why, and nothing is wrong later" {
	tree=$(debian_tree)
	image=$(image_debian gzip)
	mkfs_store ext4 160M
	start_tarnd
	lake "$image" debian
	run readers "$tree" "$RIG/m" -j 4 -m rm -s 10 -w 60
	cat "$RIG/readers.json"
	[ "$(found wrong)" = 0 ]
	[ "$(found stuck)" = 0 ]
	if [ "$(found errors)" = 0 ]; then
		# It made room for itself by evicting what was idle.
		[ "$(counted bytes.evicted)" -gt 0 ]
	else
		grep -qE 'ENOSPC|No space' "$RIG/tarnd.log"
	fi
	tarn -q evict --all --wait
	drop_caches
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2 -m rm
	lake_umount
	stop_tarnd
	start_tarnd
	lake_mount debian
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2 -m rm
}

# Memory is short: what of the tars is not dirty leaves the page cache at any moment.
drop_tars_for_ever() {
	local tar
	while :; do
		for tar in "$TARN_STORE"/layers/*/tar; do
			dd if="$tar" iflag=nocache count=0 status=none
		done
	done
}

# A disk that promises 1 GB and has 150 MB: writes fail when they are written back.
read_from_thin_volume() { # mkfs.ext4 options...
	TREE=$(debian_tree)
	mkfs_store tmpfs 150M
	truncate -s 1G "$RIG/tmpfs/thin.img"
	mkfs.ext4 -q "$@" "$RIG/tmpfs/thin.img"
	mkdir "$RIG/thin"
	mount -o loop,errors=continue "$RIG/tmpfs/thin.img" "$RIG/thin"
	export TARN_STORE=$RIG/thin/store
	start_tarnd
	lake "$(image_debian gzip)" debian
	drop_tars_for_ever 2>/dev/null 3>&- &
	LAKE_JOBS+=($!)
	run readers "$TREE" "$RIG/m" -j 4 -m rm -w 60
	cat "$RIG/readers.json"
	[ "$(found wrong)" = 0 ]
	[ "$(found stuck)" = 0 ]
	grep -qE 'ENOSPC|EIO|No space|Input/output' "$RIG/tarnd.log"
}

leave_thin_volume() {
	umount "$RIG/m"
	stop_tarnd || true
	rig_wait 20 "the store" umount "$RIG/thin"
}

@test "no space left on a thin volume: failed write-back shows no zeros" {
	read_from_thin_volume -O ^has_journal
	echo 3 >/proc/sys/vm/drop_caches
	run readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 4 -m rm -w 60
	[ "$(found wrong)" = 0 ]
	[ "$(found stuck)" = 0 ]
	leave_thin_volume
}

# ext4 gives up its journal in the end, and with it what it had said was durable: no later look.
@test "no space left on a thin volume with a journal: failed write-back shows no zeros" {
	read_from_thin_volume
	leave_thin_volume
}
