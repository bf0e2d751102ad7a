#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A full disk, and a store that is told how much it may hold: what is idle goes, oldest first.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

settings() { printf '%s\n' "$@" >"$RIG/tarn.conf"; }
cache() { tarn status --json | jq ".daemon.cache.$1"; }

@test "a disk smaller than the image: readers see all of it, and no error" {
	tree=$(debian_tree)
	image=$(image_debian gzip)
	mkfs_store ext4 200M
	start_tarnd
	lake "$image" debian
	[ "$(whole)" -gt $((300 << 20)) ]
	readers "$tree" "$RIG/m" -j 2 -m rm
	[ "$(counted bytes.evicted)" -gt 0 ]
	[ "$(counted events.failed)" = 0 ]
	[ "$(counted events.denied_busy)" = 0 ]
	drop_caches
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2 -m rmx
}

@test "a disk full of what is in use: EIO, and the log and status say why" {
	tree=$(debian_tree)
	image=$(image_debian gzip)
	mkfs_store ext4 100M
	start_tarnd
	lake "$image" debian
	# Somebody else has what is left but some spans' room, and nothing of ours is idle.
	tarn -q pin debian /usr/bin
	avail=$(($(df --output=avail -B1 "$TARN_STORE" | tail -n 1)))
	fallocate -l $((avail - (4 << 20))) "$RIG/ext4/other"
	run bash -c 'cat "$0"/*.so* >/dev/null' "$RIG/m/usr/lib/x86_64-linux-gnu"
	[ "$status" != 0 ]
	[[ $output == *"Input/output error"* ]]
	grep -q 'the store is full (No space left on device)' "$RIG/tarnd.log"
	[ "$(cache full)" = '"ENOSPC"' ]
	# With room again all is well by itself.
	rm "$RIG/ext4/other"
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2 -m rm
	[ "$(cache full)" = null ]
}

@test "cache.max holds, also while 8 readers want everything" {
	tree=$(debian_tree)
	settings 'cache.max = 96M' 'cache.low = 48M'
	start_tarnd --config "$RIG/tarn.conf"
	lake "$(image_debian gzip)" debian
	most=0
	readers "$tree" "$RIG/m" -j 8 -m rm &
	reading=$!
	while kill -0 "$reading" 2>/dev/null; do
		now=$(resident)
		[ "$now" -le "$most" ] || most=$now
		sleep 0.1
	done
	wait "$reading"
	echo "most: $((most >> 20)) MiB"
	[ "$most" -le $((96 << 20)) ]
	[ "$most" -gt $((48 << 20)) ]
	[ "$(counted events.failed)" = 0 ]
	[ "$(counted events.denied_busy)" = 0 ]
	# With nobody there it comes down to what was said.
	rig_wait 30 "the low mark" low_reached
}
low_reached() { [ "$(resident)" -le $((72 << 20)) ]; }

@test "what was used last stays, what is pinned stays, and fill stops at the mark" {
	settings
	start_tarnd --config "$RIG/tarn.conf"
	lake "$(image_debian gzip)" debian
	tarn -q pin debian /usr/sbin
	# Not all of it: a complete layer raises no events, so nobody knows when it was used.
	find "$RIG/m/usr/lib" -type f -exec cat {} + >/dev/null
	sleep 1
	drop_caches
	cat "$RIG/m/usr/bin/bash" "$RIG/m/usr/bin/perl" >/dev/null
	settings 'cache.max = 96M'
	kill -HUP "$TARND_PID"
	rig_wait 30 "what was said" below 88
	[ "$(resident)" -gt $((48 << 20)) ]
	before=$(counted events.misses)
	drop_caches
	cat "$RIG/m/usr/bin/bash" "$RIG/m/usr/bin/perl" >/dev/null
	find "$RIG/m/usr/sbin" -type f -exec cat {} + >/dev/null
	[ "$(counted events.misses)" = "$before" ]
	# The control: the rest is gone.
	find "$RIG/m/usr/lib" -type f -exec cat {} + >/dev/null
	[ "$(counted events.misses)" -gt "$before" ]
	run tarn fill debian --wait
	[ "$status" = 1 ]
	[[ $output == *cache.max* ]]
	[ "$(resident)" -le $((96 << 20)) ]
}
below() { [ "$(resident)" -le $(($1 << 20)) ]; }

@test "a pull into a full store makes room, and keeps what fits" {
	settings 'cache.max = 64M'
	start_tarnd --config "$RIG/tarn.conf"
	start_registry
	skopeo copy -q --dest-tls-verify=false "oci:$(image_debian gzip):latest" "docker://$REGISTRY/debian:1"
	tarn -q pull "$REGISTRY/debian:1" --name debian
	[ "$(resident)" -le $((64 << 20)) ]
	lake_mount debian
	cmp "$(debian_tree)/usr/bin/bash" "$RIG/m/usr/bin/bash"
}

@test "pull --keep=all is done when every layer is local, not only the last ones" {
	settings 'cache.max = 100M'
	start_tarnd --config "$RIG/tarn.conf"
	for layer in 1 2 3; do
		mkdir "$RIG/$layer"
		yes $layer | head -c 40M >"$RIG/$layer/of$layer"
		tar -C "$RIG/$layer" -cf "$RIG/$layer.tar" .
	done
	"$RIG_FIXTURES/mkimage.py" "$RIG/img" "$RIG"/[123].tar
	start_pyregistry "$RIG/img"
	# The third finds room, as the first is old enough by then to make it.
	registry_control '{"fault":"slow"}'
	run tarn -q pull --keep=all "$REGISTRY/img" --name img
	[ "$status" = 1 ]
	[[ $output == *cache.max* ]]
	registry_control '{}'
	settings 'cache.max = 200M'
	kill -HUP "$TARND_PID"
	sleep 1
	tarn -q pull --keep=all "$REGISTRY/img" --name img
	[ "$(resident)" -ge $((120 << 20)) ]
}

@test "fill begins at once under cache.max, before anything has been counted" {
	settings 'cache.max = 2G'
	start_tarnd --config "$RIG/tarn.conf"
	tarn -q pull --keep=none "oci:$(image_debian gzip):latest" --name debian
	stop_tarnd
	start_tarnd --config "$RIG/tarn.conf"
	tarn -q fill debian --wait
	[ "$(resident)" -ge "$(whole)" ]
}

@test "pull --keep=all of what is larger than cache.max says so, and leaves nothing" {
	settings 'cache.max = 32M'
	start_tarnd --config "$RIG/tarn.conf"
	layout_of big 60
	start_pyregistry "$RIG/big.oci"
	run tarn -q pull --keep=all "$REGISTRY/big" --name big
	[ "$status" = 1 ]
	[[ $output == "tarn: "*"cache.max"*"Disk quota exceeded"* ]]
	nothing_half_done
	tarn -q pull "$REGISTRY/big" --name big
}

@test "a pull into a full file system: what is cold goes, then it says what is full, leaving nothing" {
	mkfs_store ext4 200M -m 0
	start_tarnd
	layout_of cold 100
	layout_of new 60
	tarn -q pull --keep=all "oci:$RIG/cold.oci:latest" --name cold
	leave $((20 << 20))
	sleep 2 # what was used within a second is not cold
	tarn -q pull --keep=all "oci:$RIG/new.oci:latest" --name new
	[ "$(counted bytes.evicted)" -gt 0 ]
	tarn -q rm new
	tarn -q gc
	tarn -q evict --all --wait
	leave 0
	run tarn -q pull --keep=all "oci:$RIG/new.oci:latest" --name new
	echo "$output"
	[ "$status" = 1 ]
	[ ${#lines[@]} = 1 ]
	[[ $output == "tarn: "*"store's file system is full"*"No space left on device"* ]]
	nothing_half_done cold
	rm "$RIG"/ext4/other.*
	tarn -q pull --keep=all "oci:$RIG/new.oci:latest" --name new
	lake_mount new
	cmp "$RIG/new/file" "$RIG/m/file"
}

layout_of() { # name megabytes
	mkdir "$RIG/$1"
	yes "$1" | head -c "$2M" >"$RIG/$1/file"
	tar -C "$RIG/$1" -cf "$RIG/$1.tar" .
	"$RIG_FIXTURES/mkimage.py" --compression tar "$RIG/$1.oci" "$RIG/$1.tar"
}

# Somebody else has the rest of the disk.
leave() { # bytes
	local avail n=0
	while avail=$(($(df --output=avail -B1 "$TARN_STORE" | tail -n 1))) && [ $avail -gt $(($1 + 65536)) ]; do
		[ $((n += 1)) -lt 20 ]
		fallocate -l $((avail - $1)) "$(mktemp "$RIG/ext4/other.XXXXXX")" || head -c $((avail - $1)) /dev/zero >"$(mktemp "$RIG/ext4/other.XXXXXX")" || sleep 0.2
	done
}

nothing_half_done() { # image...
	local found
	found=$(find "$TARN_STORE" -name '*.tmp' -o -name '.tmp-*'
		find "$TARN_STORE/layers" -mindepth 1 -maxdepth 1 ! -exec test -e {}/index \; -print)
	echo "$found"
	[ -z "$found" ]
	[ "$(tarn images --json | jq -r 'map(.name) | join(" ")')" = "$*" ]
}
