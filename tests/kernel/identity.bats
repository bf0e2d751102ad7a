#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The root file system seen through tarn is what another tool unpacks from the same image: names,
# types, modes, owners, sizes, times, links, attributes, devices and contents.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

# Times are compared wherever both sides have them from the image: directories in which umoci made
# something after it had set their times, or that have no entry, are named by the caller.
same_rootfs() { # expected found [pattern of paths whose time is not compared]
	local found left rc=0
	found=$("$RIG_FIXTURES/treediff.py" --lookups "$1" "$2" 2>"$RIG/treediff.err") || rc=$?
	# 0: the same, 1: differences on stdout; whatever is on stderr means that it did not compare.
	if [ $rc -gt 1 ] || [ -s "$RIG/treediff.err" ] || { [ $rc = 1 ] && [ -z "$found" ]; }; then
		echo "treediff.py ended with $rc" && cat "$RIG/treediff.err"
		return 1
	fi
	left=$(grep -vE "^'(${3:-none})': mtime: " <<<"$found") || [ $? = 1 ] # 1: no line is left
	[ -z "$left" ] || { echo "$left"; return 1; }
}

odd_times='/odd/names(/d{60})*'

@test "plain, gzip and zstd layers, in one piece and in many" {
	expected=$(umoci_unpack "$(image_odd gzip)")
	start_tarnd
	for how in tar gzip gzip-multi zstd zstd-multi; do
		lake "$(image_odd $how)" odd-$how
		same_rootfs "$expected" "$RIG/m" "$odd_times"
		# The layers are the same whatever holds them: the next one is to be filled again.
		lake_umount
		tarn -q evict --all
		[ "$(resident)" = 0 ]
	done
	[ "$(tarn layers --json | jq length)" = 3 ]
}

@test "stores on ext4, xfs and btrfs" {
	expected=$(umoci_unpack "$(image_odd gzip)")
	for type in ext4 xfs btrfs; do
		mkfs_store $type 1G
		start_tarnd
		lake "$(image_odd gzip)" odd "$RIG/m-$type"
		same_rootfs "$expected" "$RIG/m-$type" "$odd_times"
		tarn umount "$RIG/m-$type"
		stop_tarnd
	done
}

@test "stores with small blocks" {
	expected=$(umoci_unpack "$(image_odd gzip)")
	mkfs_store ext4 1G -b 1024
	start_tarnd
	lake "$(image_odd gzip)" odd
	same_rootfs "$expected" "$RIG/m" "$odd_times"
}

@test "images that skopeo copied" {
	need skopeo
	expected=$(umoci_unpack "$(image_copy skopeo)")
	start_tarnd
	for how in skopeo skopeo-zstd; do
		lake "$(image_copy $how)" $how "$RIG/m-$how"
		same_rootfs "$expected" "$RIG/m-$how" "$odd_times"
	done
}

@test "an image that umoci wrote a layer of" {
	layout=$(image_copy umoci)
	expected=$(umoci_unpack "$layout")
	start_tarnd
	lake "$layout" umoci
	same_rootfs "$expected" "$RIG/m" "$odd_times|/odd/sizes"
	[ "$(cat "$RIG/m/odd/names/by-umoci")" = added ]
	[ ! -e "$RIG/m/odd/sizes/many" ]
}

@test "an image that buildah made" {
	need buildah
	layout=$(image_copy buildah)
	expected=$(umoci_unpack "$layout")
	start_tarnd
	lake "$layout" buildah
	same_rootfs "$expected" "$RIG/m"
}

@test "a whole Debian" {
	expected=$(umoci_unpack "$(image_debian gzip)")
	start_tarnd
	lake "$(image_debian gzip)" debian
	same_rootfs "$expected" "$RIG/m" "$odd_times|/usr(/.*)?"
}

@test "what is written goes to the upper layer and leaves the image alone" {
	start_tarnd
	lake "$(image_odd gzip)" odd
	before=$(sha256sum "$RIG/m/odd/sizes/noise" | cut -d ' ' -f 1)
	printf x | dd of="$RIG/m/odd/sizes/noise" bs=1 conv=notrunc status=none
	[ "$(head -c 1 "$RIG/m/odd/sizes/noise")" = x ]
	rm -r "$RIG/m/odd/names"
	mv "$RIG/m/odd/attr" "$RIG/m/moved"
	lake "$(image_odd gzip)" odd "$RIG/m2"
	[ "$(sha256sum "$RIG/m2/odd/sizes/noise" | cut -d ' ' -f 1)" = "$before" ]
	[ -e "$RIG/m2/odd/names/-dash" ]
	[ "$(tail -c +2 "$RIG/m/odd/sizes/noise" | sha256sum)" = \
		"$(tail -c +2 "$RIG/m2/odd/sizes/noise" | sha256sum)" ]
}
