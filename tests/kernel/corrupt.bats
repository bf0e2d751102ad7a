#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Bits that flip in a source or in the store: an error where nothing right can be had, never a wrong
# byte.

load lake

setup() { lake_setup; start_tarnd; }
teardown() { lake_teardown; }

flip() { # file offset
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\x$(printf %02x $((byte ^ 0x40)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# A copy of a layout, and in BLOB the path of the blob of its layer from behind.
copy_layout() { # layout [layer from the end]
	local manifest
	cp -a "$1" "$RIG/layout"
	manifest=$(jq -r '.manifests[0].digest[7:]' "$RIG/layout/index.json")
	BLOB=$RIG/layout/blobs/sha256/$(jq -r ".layers[-${2:-1}].digest[7:]" \
		"$RIG/layout/blobs/sha256/$manifest")
}

failures_are_counted() { [ "$(counted events.failed)" -gt 0 ]; }

@test "a blob with a flipped bit: EIO for what it spoils, and all else is right" {
	tree=$(umoci_unpack "$(image_odd gzip)")
	for how in tar gzip zstd-multi; do
		copy_layout "$(image_odd $how)"
		lake "$RIG/layout" odd-$how
		# In the middle of 5 MiB of noise.
		flip "$BLOB" $(($(stat -c %s "$BLOB") / 2))
		run readers "$tree" "$RIG/m" -j 2 -m r
		[ "$(found wrong)" = 0 ]
		[ "$(found errors)" -gt 0 ]
		[ "$(found stuck)" = 0 ]
		# At most the files of one piece of blob: none of the others.
		cut -d : -f 2 "$RIG/readers.log" | sort -u >"$RIG/spoilt"
		cat "$RIG/spoilt"
		[ "$(wc -l <"$RIG/spoilt")" -lt 40 ]
		run cp "$(sed 's/^ //;q' "$RIG/spoilt")" "$RIG/copy"
		[ "$status" = 1 ]
		[[ $output == *"Input/output error"* ]]
		rig_wait 20 "the failure to be counted" failures_are_counted
		grep -qE 'digest|bad|damaged|sha256|corrupt' "$RIG/tarnd.log"
		lake_umount
		tarn -q rm odd-$how
		tarn -q gc
		rm -rf "$RIG/layout"
		: >"$RIG/tarnd.log"
	done
}

@test "a blob that is bad when it is pulled: no image" {
	copy_layout "$(image_odd gzip)"
	flip "$BLOB" $(($(stat -c %s "$BLOB") / 2))
	run tarn pull "oci:$RIG/layout:latest" --name odd
	[ "$status" = 1 ]
	[[ ${lines[-1]} == "tarn: "* ]]
	[ "$(tarn images --json | jq length)" = 0 ]
}

@test "a blob that is cut short, or gone: EIO after the deadline, and not for ever" {
	copy_layout "$(image_odd gzip)"
	stop_tarnd
	echo 'fault.deadline = 2s' >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
	lake "$RIG/layout" odd
	cp "$BLOB" "$RIG/kept"
	# The noise in sizes/noise is most of the blob: before and behind it are other files.
	truncate -s $(($(stat -c %s "$BLOB") / 2)) "$BLOB"
	copy_odd 65536
	run copy_odd many/400
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	# Who has it open reads on: only the next tarnd misses it.
	lake_umount
	tarn -q evict --all
	stop_tarnd
	rm "$BLOB"
	start_tarnd --config "$RIG/tarn.conf"
	lake_mount odd
	run copy_odd 65536
	[ "$status" = 1 ]
	grep -q "$RIG/layout" "$RIG/tarnd.log"
	cp "$RIG/kept" "$BLOB"
	rig_wait 20 "the blob to be found again" copy_odd 65536
	rig_wait 20 "the blob to be found again" copy_odd many/400
}

# Copies a file below odd/sizes.
copy_odd() { # name
	timeout 20 cp "$RIG/m/odd/sizes/$1" "$RIG/copy"
}

# Flips a bit every 3 MiB of the largest tar. Reading and writing it raises events as any access to a
# marked file does; what is there is let through.
spoil_store() {
	python3 - "$(stat -c '%s %n' "$TARN_STORE"/layers/*/tar | sort -rn | head -n 1 | cut -d ' ' -f 2)" <<-'END'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDWR)
		size = os.fstat(fd).st_size
		for at in range(1 << 19, size, 3 << 20):
		    byte = os.pread(fd, 1, at)
		    os.pwrite(fd, bytes([byte[0] ^ 1]), at)
		os.fsync(fd)
	END
}

verify_finds() { # what
	run tarn verify "$1" --json
	[ "$status" = 1 ]
	run tarn verify "$1" --json
	[ "$status" = 0 ]
}

@test "verify finds and drops what is bad in a layer that is not mounted" {
	tree=$(umoci_unpack "$(image_odd gzip)")
	lake "$(image_odd gzip)" odd
	tarn -q fill odd --wait
	lake_umount
	tarn verify odd
	spoil_store
	drop_caches
	verify_finds odd
	lake_mount odd
	readers "$tree" "$RIG/m" -j 2 -m r
	[ "$(counted bytes.filled)" -gt "$(whole)" ]
}

@test "verify finds and drops what is bad in a mounted layer, complete or not" {
	tree=$(umoci_unpack "$(image_odd gzip)")
	lake "$(image_odd gzip)" odd
	tarn -q fill odd --wait
	spoil_store
	drop_caches
	verify_finds odd
	readers "$tree" "$RIG/m" -j 2 -m rm
	# Not complete: one small layer is whole, of the other a part is here.
	tarn -q evict --all
	drop_caches
	cat "$RIG/m/odd/sizes/noise" >/dev/null
	spoil_store
	drop_caches
	verify_finds odd
	readers "$tree" "$RIG/m" -j 2 -m rm
}

@test "an index that is damaged is not believed" {
	lake "$(image_odd gzip)" odd
	lake_umount
	stop_tarnd
	for f in "$TARN_STORE"/layers/*/index; do
		flip "$f" $(($(stat -c %s "$f") / 2))
	done
	start_tarnd
	mkdir -p "$RIG/m"
	run tarn mount odd "$RIG/m"
	[ "$status" = 1 ]
	[[ ${lines[-1]} == "tarn: "* ]]
	tarn -q pull "oci:$(image_odd gzip):latest" --name odd
	lake_mount odd
	readers "$(umoci_unpack "$(image_odd gzip)")" "$RIG/m" -j 2 -m r
}
