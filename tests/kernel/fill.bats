#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Content comes when it is read, once, and stays; a layer that is all there costs nothing any more.

load lake

setup() { lake_setup; start_tarnd; }
teardown() { lake_teardown; }

all_complete() { tarn layers --json | jq -e 'all(.[]; .state == "complete")'; }

tars_are_layers() {
	local id
	while read -r id _; do
		[ "$(sha256sum "$TARN_STORE/layers/$id/tar" | cut -d ' ' -f 1)" = "$id" ]
	done < <(layers)
}

# What must not move while nothing has to be brought in.
counters() { tarn status --json | jq -c '.daemon | [.events, .bytes]'; }

@test "8 readers of a cold image: read, mmap, random pages, SEEK_DATA" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	[ "$(resident)" = 0 ]
	readers "$tree" "$RIG/m"
	[ "$(found files)" -gt 50000 ]
	# Each span was brought in once, however many asked for it.
	[ "$(counted bytes.filled)" -le "$(whole)" ]
	[ "$(counted events.failed)" = 0 ]
	[ "$(counted events.misses)" -gt 0 ]
}

@test "a small read brings in little" {
	lake "$(image_debian gzip)" debian
	cmp -n 4096 "$(debian_tree)/usr/bin/bash" "$RIG/m/usr/bin/bash"
	[ "$(counted bytes.filled)" -gt 0 ]
	[ "$(resident)" -le $((8 << 20)) ]
}

@test "a layer that is all there is its tar, and raises no events" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	tarn -q fill debian --wait
	rig_wait 20 "complete layers" all_complete
	tars_are_layers
	drop_caches
	before=$(counters)
	readers "$tree" "$RIG/m" -j 2 -m rpdmx -d
	[ "$(found execs)" -gt 100 ]
	[ "$(counters)" = "$before" ]
	# The control: it does raise them once something is gone.
	tarn -q evict --all
	drop_caches
	cat "$RIG/m/usr/bin/ls" >/dev/null
	[ "$(counters)" != "$before" ]
}

@test "layers that readers have filled become complete" {
	tree=$(umoci_unpack "$(image_odd gzip-multi)")
	lake "$(image_odd gzip-multi)" odd
	readers "$tree" "$RIG/m" -j 2 -m rdm
	# The ends of tars hold nothing that can be read.
	tarn -q fill odd --wait
	rig_wait 20 "complete layers" all_complete
	tars_are_layers
}

@test "pull --keep=all leaves nothing to bring in" {
	tree=$(umoci_unpack "$(image_odd gzip)")
	tarn -q pull --keep=all "oci:$(image_odd gzip)" --name odd
	[ "$(resident)" -ge "$(whole)" ]
	fetched=$(counted bytes.fetched)
	lake_mount odd
	all_complete
	readers "$tree" "$RIG/m" -j 2
	[ "$(counted bytes.fetched)" = "$fetched" ]
	[ "$(counted events.pre_access)" = 0 ]
}

# The first layer of the debian image, which has all of /usr/sbin; the others stay as they are.
fill_first() {
	tarn -q fill "$(tarn layers debian --json | jq -r '.[0].diff_id')" --wait
}

@test "a clean stop and start keeps what is there" {
	tree=$(debian_tree)
	# What is read ahead for nobody is given up when tarnd stops.
	stop_tarnd
	echo 'fill.readahead = 0' >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
	lake "$(image_debian gzip)" debian
	fill_first
	readers "$tree/usr/lib/gcc" "$RIG/m/usr/lib/gcc" -j 2 -m r
	kept=$(resident)
	[ "$kept" -gt $((200 << 20)) ]
	lake_umount
	stop_tarnd
	drop_caches
	start_tarnd --config "$RIG/tarn.conf"
	[ "$(resident)" = "$kept" ]
	lake_mount debian
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2
	readers "$tree/usr/lib/gcc" "$RIG/m/usr/lib/gcc" -j 2 -m r
	[ "$(counted bytes.fetched)" = 0 ]
	[ "$(counted bytes.filled)" = 0 ]
}

# The end of a machine: everything dies at once, and some of what was written never got to the disk.
@test "after an unclean stop everything is checked before it is believed" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	readers "$tree" "$RIG/m" -j 4 -m rm
	sleep 3.5 # it writes down what it believes to be there
	crash_tarnd
	umount "$RIG/m"
	largest=$(stat -c '%s %n' "$TARN_STORE"/layers/*/tar | sort -rn | head -n 1 | cut -d ' ' -f 2)
	for at in 5 60 150; do
		fallocate --punch-hole --keep-size -o $((at << 20)) -l 1M "$largest"
	done
	drop_caches
	start_tarnd
	lake_mount debian
	readers "$tree" "$RIG/m" -j 4 -m rm
	# Only what is missing was brought in again.
	[ "$(counted bytes.filled)" -ge $((3 << 20)) ]
	[ "$(counted bytes.filled)" -le $((32 << 20)) ]
}

@test "what is not mounted survives the end of everything" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	fill_first
	lake_umount
	kept=$(resident)
	crash_tarnd
	drop_caches
	start_tarnd
	[ "$(resident)" = "$kept" ]
	lake_mount debian
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2
	[ "$(counted bytes.fetched)" = 0 ]
}

@test "stopped while mounted: readers wait for the next tarnd" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	start_readers "$tree" "$RIG/m" -t
	sleep 0.5
	stop_tarnd
	# Somebody holds the layers, and nobody is let through.
	[ -n "$(lake_tarnd_pids)" ]
	sleep 2
	readers_run
	[ "$(cat "$RIG/m/usr/bin/python3" & sleep 0.5; kill $! && echo waits)" = waits ]
	start_tarnd
	end_readers
	[ "$(counted events.failed)" = 0 ]
	lake_umount
	stop_tarnd
	[ -z "$(lake_tarnd_pids)" ]
}
