#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Disks that lose what was written. Power cuts are in tests/torture/power.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

# An image of 24 MB that does not compress, and a store on a disk that promises 600 MB and has what
# the file system below it has.
thin_store() { # type [mkfs options...]
	local i type=$1
	shift
	mkdir "$RIG"/{outer,thin,want}
	for i in {1..24}; do
		head -c 1M /dev/urandom >"$RIG/want/$i"
	done
	tar -C "$RIG/want" -cf "$RIG/want.tar" .
	"$RIG_FIXTURES/mkimage.py" --compression tar "$RIG/img" "$RIG/want.tar"
	mount -t tmpfs -o size=900M tmpfs "$RIG/outer"
	RIG_MOUNTS+=("$RIG/outer" "$RIG/thin")
	truncate -s 600M "$RIG/outer/thin.img"
	"mkfs.$type" -q "$@" "$RIG/outer/thin.img"
	mount -t "$type" -o loop "$RIG/outer/thin.img" "$RIG/thin"
	export TARN_STORE=$RIG/thin/store
	start_tarnd
	lake "$RIG/img" x
	sync -f "$TARN_STORE"
}

fill_outer() {
	head -c 2G /dev/zero >"$RIG/outer/other" 2>"$RIG/full" && return 1
	grep -q 'No space' "$RIG/full"
}

# Right bytes or an error, and an end.
no_lie() {
	local rc=0
	readers "$RIG/want" "$RIG/m" -j 2 -w 120 "$@" || rc=$?
	[ "$(found wrong)" = 0 ]
	[ "$(found stuck)" = 0 ]
	return $rc
}

all_right() { no_lie -m rm; }

# What was written fails on its way to the disk, and again.
lose_pages() {
	fill_outer
	for _ in 1 2 3; do
		no_lie -m rm || [ "$(found wrong) $(found stuck)" = "0 0" ]
		# What can be written back is, and then only the disk knows.
		timeout 60 sync -f "$TARN_STORE" || echo "sync: $?"
		echo 3 >/proc/sys/vm/drop_caches
	done
	tarn status --json | jq -e .daemon.engine_pid
}

reboot() { # type
	lake_umount || tarn umount "$RIG/m"
	stop_tarnd || echo "it could not close all it had"
	rig_wait 60 "the store" umount "$RIG/thin"
	[ "$1" != ext4 ] || e2fsck -p "$RIG/outer/thin.img" || [ $? = 1 ]
	mount -t "$1" -o loop "$RIG/outer/thin.img" "$RIG/thin"
	start_tarnd
	lake_mount x
}

thin() { # type [mkfs options...]
	thin_store "$@"
	lose_pages
	rig_wait 60 "an error" grep -qE 'fdatasync: |No space|Input/output|Read-only' "$RIG/tarnd.log"
	rm "$RIG/outer/other"
	if touch "$RIG/thin/alive" && sync -f "$RIG/thin"; then
		rig_wait 60 "the lost pages" all_right
	else
		echo "$1 is down: $(findmnt -no OPTIONS "$RIG/thin")"
		# Without a journal there is nothing that could not be gone on without.
		[ "$1" != ext4 ]
		no_lie -m rm || [ "$(found wrong) $(found stuck)" = "0 0" ]
	fi
	reboot "$1"
	all_right
	lake_umount
	stop_tarnd
	umount "$RIG/thin"
}

@test "lost pages on ext4: no zeros, and right again with room, without a restart" {
	thin ext4 -O ^has_journal
}

@test "lost pages on xfs" { thin xfs; }

@test "lost pages on btrfs" { thin btrfs; }
