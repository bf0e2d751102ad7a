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

# Fetchers are killed, and not waited for.

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
	rig_wait 30 "the end of what was read ahead" at_rest
	before=$(resident)
	tarn evict --all >"$RIG/evicted"
	grep -q 'outlived a tarnd' "$RIG/evicted"
	[ "$(tarn evict --all --json | jq '[.layers[] | select(.kept_by_others)] | length')" -gt 0 ]
	after=$(resident)
	echo "resident: $before, then $after"
	[ "$after" = "$before" ]

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

# Nothing comes any more, and what came has its blocks for good.
at_rest() {
	local now
	sync
	now=$(resident)
	sleep 1.5
	[ "$(resident)" = "$now" ]
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
	rig_wait 10 "the end of all but the guardian" tarnd_processes 1
	start_readers "$TREE/usr/bin" "$RIG/m/usr/bin" -w 45
	sleep 1
	readers_run
	start_tarnd
	wait_readers
	umount "$RIG/m"
	rig_wait 60 "the unmounting of layers" lake_is_dry
	stop_tarnd
	rig_wait 10 "the end of all of them" tarnd_processes 0
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

mapfile_mounted() {
	mapfile -t MOUNTED < <(tarn status --json |
		jq -r '.layers[] | select(.mounted).diff_id[7:]')
	[ ${#MOUNTED[@]} -gt 1 ]
}

# Not a byte, but the words for EIO.
is_eio() { # file
	run cat "$1"
	[ "$status" = 1 ]
	[[ $output == *"Input/output error" ]]
}

served() { cmp "$TREE/usr/bin/perl" "$RIG/m/usr/bin/perl"; }

# What is mounted keeps the file it has. Missing, or one that the kernel does not take, or one that
# only we do not: its superblock is good.
replace_image() { # image how
	cp "$1" "$RIG/image"
	rm "$1"
	case $2 in
	0) return ;;
	1) : >"$RIG/image" ;;
	2) dd if=/dev/zero of="$RIG/image" bs=512 seek=4 conv=notrunc status=none \
		count=$(($(stat -c %s "$RIG/image") / 512 - 4)) ;;
	esac
	mv "$RIG/image" "$1"
}

@test "all at once, and image.erofs is missing or damaged: it is made anew, and its readers served" {
	local layer n=0
	mapfile_mounted
	crash_tarnd
	zeros usr/bin/perl
	for layer in "${MOUNTED[@]}"; do
		replace_image "$TARN_STORE/layers/$layer/image.erofs" $((n++ % 3))
	done
	start_tarnd
	all_reads_right "$RIG/m"
	lake_mount debian "$RIG/n"
	all_reads_right "$RIG/n"
	umount "$RIG/m" "$RIG/n"
	rig_wait 60 "the unmounting of layers" lake_is_dry
}

@test "all at once, and a layer cannot be mounted again: EIO until it can, and never zeros" {
	local layer
	mapfile_mounted
	crash_tarnd
	zeros usr/bin/perl
	for layer in "${MOUNTED[@]}"; do
		rm "$TARN_STORE/layers/$layer/image.erofs"
		mv "$TARN_STORE/layers/$layer/index" "$RIG/index.$layer"
	done
	start_tarnd
	grep -q "cannot be mounted as it is, its readers get EIO" "$RIG/tarnd.log"
	[ "$(lost | wc -l)" = ${#MOUNTED[@]} ]
	is_eio "$RIG/m/usr/bin/perl"
	kill_tarnd keeper
	kill_tarnd engine
	is_eio "$RIG/m/usr/bin/perl"

	# Nobody but that container uses anything, and it is not left alone.
	stop_tarnd
	rig_wait 10 "the end of all but the guardian" tarnd_processes 1
	drop_caches
	start_readers "$TREE/usr/bin" "$RIG/m/usr/bin" -w 45
	sleep 1
	readers_run

	for layer in "${MOUNTED[@]}"; do
		mv "$RIG/index.$layer" "$TARN_STORE/layers/$layer/index"
	done
	start_tarnd
	wait_readers
	all_reads_right "$RIG/m"
	umount "$RIG/m"
	rig_wait 60 "the unmounting of layers" lake_is_dry
	stop_tarnd
	rig_wait 10 "the end of all of them" tarnd_processes 0
}

@test "all at once, and a layer cannot be mounted again: another container's start tries it once more" {
	local layer
	mapfile_mounted
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	crash_tarnd
	for layer in "${MOUNTED[@]}"; do
		rm "$TARN_STORE/layers/$layer/image.erofs"
		mv "$TARN_STORE/layers/$layer/index" "$RIG/index.$layer"
	done
	start_tarnd
	mkdir "$RIG/n"
	run tarn mount debian "$RIG/n"
	[ "$status" = 1 ]
	is_eio "$RIG/m/usr/bin/perl"
	# As long as it is in use nothing of it is thrown away.
	run tarn evict --all
	[ "$status" = 1 ]
	[[ $output == *"mounted"* ]]
	is_eio "$RIG/m/usr/bin/perl"
	for layer in "${MOUNTED[@]}"; do
		mv "$RIG/index.$layer" "$TARN_STORE/layers/$layer/index"
	done
	lake_mount debian "$RIG/n"
	served
	all_reads_right "$RIG/n"
	all_reads_right "$RIG/m"
	umount "$RIG/m" "$RIG/n"
	rig_wait 60 "the unmounting of layers" lake_is_dry
}

@test "all at once, and a layer is never mounted again: it goes with its last container" {
	local layer
	mapfile_mounted
	crash_tarnd
	for layer in "${MOUNTED[@]}"; do
		rm "$TARN_STORE/layers/$layer/"{image.erofs,index}
	done
	start_tarnd
	is_eio "$RIG/m/usr/bin/perl"
	umount "$RIG/m"
	rig_wait 60 "the end of what nobody uses" nothing_mounted
	stop_tarnd
	rig_wait 10 "the end of all of them" tarnd_processes 0
	# With nothing left of it, the image comes from its source again.
	start_tarnd
	lake "$(image_debian gzip)" debian
	all_reads_right "$RIG/m"
}

nothing_mounted() { [ -z "$(ls "$TARN_STORE/mounted")" ]; }
