#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Content goes and comes back under processes that use it. What they see is right, always.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

LOOP_S=${TARN_LONG:+60} LOOP_S=${LOOP_S:-15}

begin() { # tarnd's options
	TREE=$(debian_tree)
	start_tarnd "$@"
	lake "$(image_debian gzip)" debian
}

# Evicts everything over and over while 8 processes read; the page cache is dropped now and then, or
# they would only read what is in memory.
evict_under_readers() { # seconds reader-options evict-options...
	local n=0 before
	read -ra flags <<<"$2"
	before=$(counted bytes.evicted)
	start_readers "$TREE/usr" "$RIG/m/usr" -s "$1" -m rpdmx -d "${flags[@]}"
	while readers_run; do
		tarn -q evict --all "${@:3}"
		[ $((++n % 3)) != 0 ] || echo 3 >/proc/sys/vm/drop_caches
	done
	EVICTED=$(($(counted bytes.evicted) - before))
	echo "$n evictions, $EVICTED bytes"
	wait_readers
}

@test "evict --all under 8 readers: no wrong byte, no error but EBUSY" {
	begin
	evict_under_readers "$LOOP_S" -b
	[ "$EVICTED" -gt $((200 << 20)) ]
	[ "$(counted bytes.filled)" -gt "$EVICTED" ]
	[ "$(found execs)" -gt 100 ]
	[ "$(counted events.failed)" = 0 ]
}

@test "evict --all --wait under 8 readers: no error at all" {
	begin
	evict_under_readers "$LOOP_S" "" --wait
	[ "$EVICTED" -gt $((200 << 20)) ]
	[ "$(found busy)" = 0 ]
	[ "$(counted events.denied_busy)" = 0 ]
}

# The control. A daemon that does not ask whether somebody reads makes pages of zeros, and the
# readers above would have seen them.
@test "without the proof wrong bytes are seen" {
	mkdir "$RIG/B"
	ln -s "$B"/* "$RIG/B"
	ln -sfn "$B/test/tarnd-noproof" "$RIG/B/tarnd"
	B=$RIG/B begin
	for _ in 1 2 3 4; do
		run evict_under_readers 8 -b
		[ "$(found wrong)" = 0 ] || break
	done
	[ "$(found wrong)" -gt 0 ]
}

hold() { # how file
	local fd
	mkfifo "$RIG/hold-$1"
	(
		# Another holder's end of a pipe would keep that one from ending.
		for fd in "${HOLDERS[@]}"; do exec {fd}>&-; done
		exec "$B/test/probe" "$1" "$2" <"$RIG/hold-$1" >"$RIG/held-$1" 3>&-
	) &
	LAKE_JOBS+=($!)
	exec {holder}>"$RIG/hold-$1"
	rig_wait 10 "a holder" grep -qs holding "$RIG/held-$1"
	HOLDERS+=("$holder")
}

@test "what is open, mapped or executing stays" {
	begin
	HOLDERS=()
	tarn -q fill debian --wait
	all=$(resident)
	# First: it would hold the other ends of the pipes below.
	"$RIG/m/usr/bin/tail" -f /dev/null 3>&- &
	LAKE_JOBS+=($!)
	rig_wait 10 "an exec" sh -c "readlink /proc/$!/exe | grep -q tail"
	hold hold "$RIG/m/usr/bin/perl"
	hold map-hold "$RIG/m/usr/bin/bash"
	tarn evict --all --json >"$RIG/evicted.json"
	kept=$(jq .kept_in_use "$RIG/evicted.json")
	[ "$kept" -gt 0 ]
	[ "$kept" -le $((24 << 20)) ]
	[ "$(jq .freed "$RIG/evicted.json")" -gt $((all - kept - (1 << 20))) ]
	[ "$(jq '[.layers[].freed] | add' "$RIG/evicted.json")" = "$(jq .freed "$RIG/evicted.json")" ]
	# Each on its own keeps its spans: nothing has to be brought in for them.
	drop_caches
	misses=$(counted events.misses)
	for fd in "${HOLDERS[@]}"; do exec {fd}>&-; done
	wait "${LAKE_JOBS[1]}" "${LAKE_JOBS[2]}"
	[ "$(counted events.misses)" = "$misses" ]
	for f in perl bash tail; do
		cmp "$TREE/usr/bin/$f" "$RIG/m/usr/bin/$f"
	done
	kill "${LAKE_JOBS[0]}"
	wait "${LAKE_JOBS[0]}" || [ $? = 143 ]
	# Then they go as well.
	rig_wait 10 "the rest" sh -c "[ \$('$B/tarn' evict --all --json | jq .kept_in_use) = 0 ]"
	[ "$(resident)" -lt $((1 << 20)) ]
	readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 2
}

@test "layers that are complete, being filled, and not mounted" {
	begin
	tarn -q fill debian --wait
	rig_wait 20 "complete layers" sh -c \
		"'$B/tarn' layers --json | jq -e 'all(.[]; .state == \"complete\")'"
	freed=$(tarn evict --all --json | jq .freed)
	[ "$freed" -ge "$(whole)" ]
	tarn layers --json | jq -e 'all(.[]; .state == "lazy" and .resident == 0)'
	# While it comes in.
	tarn -q fill debian
	for _ in 1 2 3 4 5; do
		tarn -q evict --all
		sleep 0.2
	done
	tarn -q fill debian --wait
	readers "$TREE/usr" "$RIG/m/usr" -j 2 -m rm
	lake_umount
	[ "$(resident)" -ge "$(whole)" ]
	tarn -q evict --all
	[ "$(resident)" = 0 ]
	lake_mount debian
	readers "$TREE/usr" "$RIG/m/usr" -j 2 -m rm
}

@test "one image, one layer, so many bytes, so long unused" {
	begin
	lake "$(image_tiny gzip)" tiny "$RIG/m-tiny"
	tarn -q fill debian --wait
	tarn -q fill tiny --wait
	tarn -q evict tiny
	[ "$(tarn layers tiny --json | jq 'map(.resident) | add')" = 0 ]
	[ "$(tarn layers debian --json | jq 'map(.resident) | add')" -ge $((300 << 20)) ]
	before=$(resident)
	freed=$(tarn evict --all --free 20M --json | jq .freed)
	[ "$freed" -ge $((20 << 20)) ]
	[ "$freed" -lt $((80 << 20)) ]
	[ "$(resident)" -le $((before - freed + (1 << 20))) ]
	[ "$(tarn evict --all --cold-for 1h --json | jq .freed)" = 0 ]
	tarn umount "$RIG/m-tiny"
	tarn -q fill tiny --wait
	[ "$(tarn evict tiny --cold-for 1h --json | jq .freed)" = 0 ]
	sleep 1
	[ "$(tarn evict tiny --cold-for 1s --json | jq .freed)" -gt 0 ]
	id=$(tarn layers debian --json | jq -r '.[1].diff_id')
	tarn -q evict "${id:0:23}"
	[ "$(tarn layers debian --json | jq '.[1].resident')" = 0 ]
	[ "$(tarn layers debian --json | jq '.[0].resident')" -gt $((100 << 20)) ]
}

@test "what is pinned stays" {
	# A reader of what is here may bring in what is behind it.
	echo 'fill.readahead = 0' >"$RIG/tarn.conf"
	begin --config "$RIG/tarn.conf"
	tarn -q pin debian /usr/bin/bash
	rig_wait 20 "the pinned content" sh -c \
		"[ \$('$B/tarn' layers --json | jq 'map(.resident) | add') -ge 1200000 ]"
	tarn -q fill debian --wait
	tarn -q evict --all
	left=$(resident)
	[ "$left" -ge 1200000 ]
	[ "$left" -le $((6 << 20)) ]
	drop_caches
	filled=$(counted bytes.filled)
	cmp "$TREE/usr/bin/bash" "$RIG/m/usr/bin/bash"
	[ "$(counted bytes.filled)" = "$filled" ]
	lake_umount
	tarn -q evict --all
	[ "$(resident)" -ge 1200000 ]
	tarn -q unpin debian /usr/bin/bash
	tarn -q evict --all
	[ "$(resident)" = 0 ]
}

@test "evictions of the same layer take turns, and none fails over it" {
	start_tarnd
	lake "$(image_debian gzip)" debian
	evict_often() { # file
		local i
		for i in {1..5}; do
			cat "$RIG/m/usr/bin/"[a-m]* >/dev/null 2>&1 || : # EBUSY is no concern here
			tarn -q evict debian || echo "$i" >>"$1"
		done
	}
	evict_often "$RIG/failed" &
	other=$!
	evict_often "$RIG/failed"
	wait "$other"
	[ ! -e "$RIG/failed" ]
}

@test "a layer that is removed while all are being evicted is no error" {
	start_tarnd
	tarn -q pull "oci:$(image_tiny gzip):latest" --name tiny
	# What rm does to a layer that has just been listed.
	rm "$TARN_STORE"/layers/*/tar
	tarn -q evict --all
}
