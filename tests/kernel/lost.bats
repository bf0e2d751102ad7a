#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Every process of tarnd is killed in the same instant while layers are in use. Until the next one is
# there readers may see zeros; from then on nobody does, not even through the mounts of before.

load lake

setup() {
	lake_setup
	start_tarnd
	TREE=$(debian_tree)
	lake "$(image_debian gzip)" debian
}
teardown() { lake_teardown; }

zeros() { ! cmp -s "$TREE/$1" "$RIG/m/$1"; }

lost() { tarn status --json | jq -r ".lost[].layer"; }

# All bytes of everything, by reading, mapping and executing.
all_reads_right() { # directory
	readers "$TREE" "$1" -j 4
	readers "$TREE/usr/lib" "$1/usr/lib" -m m -j 2
}

@test "all at once: what was mounted is found, served, kept and shown" {
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	mapfile -t mounted < <(tarn status --json | jq -r '.layers[] | select(.mounts > 0).diff_id' | sort)
	crash_tarnd
	# It is so: nobody is there to ask.
	zeros usr/bin/perl
	zeros usr/bin/bash
	start_tarnd
	[ "$(lost | sort)" = "$(printf '%s\n' "${mounted[@]}")" ]
	grep -q "were in use when every process of tarnd was killed" "$RIG/tarnd.log"
	tarn status | grep -c '^LOST' | grep -qx ${#mounted[@]}
	cmp "$TREE/usr/bin/perl" "$RIG/m/usr/bin/perl"
	cmp "$TREE/usr/bin/bash" "$RIG/m/usr/bin/bash"
	all_reads_right "$RIG/m"

	# A new one of the same image, beside the old one.
	lake_mount debian "$RIG/n"
	cmp "$TREE/usr/bin/perl" "$RIG/n/usr/bin/perl"

	# Nothing is proved idle as long as the old one is there, and evict says so.
	before=$(resident)
	tarn evict --all >"$RIG/evicted"
	grep -q 'outlived a tarnd' "$RIG/evicted"
	[ "$(tarn evict --all --json | jq '[.layers[] | select(.kept_by_others)] | length')" -gt 0 ]
	[ "$(resident)" = "$before" ]

	# It is shown until somebody says that he has seen it; also by the tarnd after this one.
	[ -n "$(lost)" ]
	stop_tarnd
	start_tarnd
	[ -n "$(lost)" ]
	tarn status --acknowledge | grep -q '^LOST'
	[ -z "$(lost)" ]
	[ "$(tarn evict --all --json | jq '[.layers[] | select(.kept_by_others)] | length')" -gt 0 ]

	umount "$RIG/m"
	rig_wait 60 "the end of what the killed one left" nobody_else
	[ "$(resident)" -lt "$before" ]
	drop_caches
	cmp "$TREE/usr/bin/perl" "$RIG/n/usr/bin/perl"
	all_reads_right "$RIG/n"
	tarn umount "$RIG/n"
	rig_wait 60 "the unmounting of layers" lake_is_dry
	[ -z "$(ls "$TARN_STORE/mounted")" ]
}

nobody_else() {
	tarn evict --all --json | jq -e '[.layers[] | select(.kept_by_others)] == []' >/dev/null
}

@test "all at once, twice, and the tarnd after it stops: who reads waits" {
	crash_tarnd
	start_tarnd
	lake_mount debian "$RIG/n"
	crash_tarnd
	zeros usr/bin/perl
	start_tarnd
	cmp "$TREE/usr/bin/perl" "$RIG/m/usr/bin/perl"
	umount "$RIG/n"
	# It has no mount of its own by now, and yet leaves somebody behind.
	stop_tarnd
	[ "$(lake_tarnd_pids | wc -l)" = 1 ]
	start_readers "$TREE/usr/bin" "$RIG/m/usr/bin" -w 45
	sleep 1
	readers_run
	start_tarnd
	wait_readers
	umount "$RIG/m"
	rig_wait 60 "the unmounting of layers" lake_is_dry
	stop_tarnd
	[ -z "$(lake_tarnd_pids)" ]
}

@test "all at once with nothing in use: there is nothing to tell" {
	lake_umount
	crash_tarnd
	start_tarnd
	[ -z "$(lost)" ]
	[ ! -e "$TARN_STORE/lost" ]
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}
