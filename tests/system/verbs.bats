#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The verbs that look at, fill, check, keep and remove: what they say, and what is so afterwards.

load ../fixtures/rig

BIG=3000000

# Two images, `a:1` of a large and a small layer and `b:1` of the same large one alone.
setup() {
	need_root
	rig_setup
	cd "$RIG" || return
	mkdir big small
	head -c $BIG /dev/urandom >big/data
	mkdir big/dir
	head -c 100000 /dev/urandom >big/dir/one
	ln big/dir/one big/link
	echo hello >small/hello
	tar -C big -cf big.tar .
	tar -C small -cf small.tar .
	"$RIG_FIXTURES/mkimage.py" --tag 1 a big.tar small.tar >/dev/null
	"$RIG_FIXTURES/mkimage.py" --tag 1 b big.tar >/dev/null
	BIG_ID=$(sha256sum big.tar | cut -d ' ' -f 1)
	SMALL_ID=$(sha256sum small.tar | cut -d ' ' -f 1)
	need_tarn_kernel
	start_tarnd
}

teardown() { rig_teardown; }

# --- helpers ------------------------------------------------------------------------------------

status() { tarn status --json | jq -e "$1"; }
layer() { status ".layers[] | select(.diff_id == \"sha256:$1\") | $2"; }
resident() { layer "$1" .resident; }
tar_of() { echo "$TARN_STORE/layers/$1/tar"; }

# Damage on the disk: nobody has the file mounted, so writing to it waits for nobody.
scribble() { # diff_id offset
	printf 'WRONG' | dd of="$(tar_of "$1")" bs=1 seek="$2" conv=notrunc status=none
}

refused() { # status text
	echo "$output"
	[ "$status" = "$1" ]
	[[ $output == "tarn: "*"$2"* ]]
	[ "${#lines[@]}" = 1 ]
}

# --- pull and listings --------------------------------------------------------------------------

@test "pull of a local layout keeps an index and no content" {
	run tarn pull oci:a:1
	[ "$status" = 0 ]
	[[ $output == *"a:1 sha256:"*": 2 layers, "*", 0 of it here"* ]]
	[ "$(resident "$BIG_ID")" = 0 ]
	[ "$(stat -c %s "$(tar_of "$BIG_ID")")" = "$(stat -c %s big.tar)" ]
}

@test "an image cannot have a name that is a digest" {
	run tarn pull --name sha256:abc oci:a:1
	refused 2 "--name sha256:abc: that would be a digest"
	run tarn pull --name "sha256:$BIG_ID" oci:a:1
	refused 2 "that would be a digest"
	tarn images --json | jq -e '. == []'
}

@test "images --json and layers --json have the promised fields" {
	tarn pull -q --name first oci:a:1
	tarn pull -q --name second oci:a:1
	run tarn images --json
	[ "$status" = 0 ]
	jq -e 'length == 2 and all(.[]; .layers == 2 and .size > 0 and .resident == 0 and
		(.digest | startswith("sha256:")))' <<<"$output"
	jq -e '[.[].name] | sort == ["first", "second"]' <<<"$output"
	run tarn layers first --json
	jq -e 'length == 2 and all(.[]; .state == "lazy" and .mounts == 0 and (.blob |
		startswith("sha256:")) and (.media_type | contains("layer")))' <<<"$output"
}

# One is of the client that asks. What a pull has left comes and goes.
counts_as_proc() {
	[ "$(status '.daemon.processes[] | select(.role == "engine").fds')" = \
		$(($(find "/proc/$(tarnd_pid engine)/fd" -mindepth 1 | wc -l) + 1)) ]
}

@test "status --json has the promised fields" {
	tarn pull -q oci:a:1
	status '.daemon | .version and .guardian_pid > 0 and .keeper_pid > 0 and
		.anchor_pid > 0 and .engine_pid > 0 and (.fetcher_pids | length > 0) and
		.uptime_s >= 0'
	status '.daemon.events | [.pre_access, .open_exec, .denied_busy, .hits, .misses, .failed] |
		all(. >= 0)'
	status '.daemon | .bytes.fetched >= 0 and .bytes.filled >= 0 and .bytes.evicted >= 0 and
		.fill_latency_us.p50 >= 0 and .fill_latency_us.max >= 0'
	status '.daemon | .slots >= 0 and .mounts == 0 and (.processes |
		length >= 5 and all(.pid > 0 and .fds > 2 and .rss > 100000))'
	rig_wait 20 "the engine's descriptors" counts_as_proc
	status '.layers | length == 2'
	status '.containers == []'
	for p in guardian keeper anchor engine; do
		kill -0 "$(tarnd_pid $p)"
	done
}

# --- fill and verify ----------------------------------------------------------------------------

@test "fill --wait ends when the tar is whole" {
	tarn pull -q oci:a:1
	run tarn fill --wait a:1
	[ "$status" = 0 ]
	cmp "$(tar_of "$BIG_ID")" big.tar
	cmp "$(tar_of "$SMALL_ID")" small.tar
	layer "$BIG_ID" '.state == "complete"'
}

@test "fill without --wait goes on in the background, by a prefix of a layer" {
	tarn pull -q oci:a:1
	run tarn fill "${BIG_ID:0:12}"
	[ "$status" = 0 ]
	rig_wait 20 "the layer" layer "$BIG_ID" '.state == "complete"'
	cmp "$(tar_of "$BIG_ID")" big.tar
	[ "$(resident "$SMALL_ID")" = 0 ]
}

@test "verify finds nothing wrong in what is right" {
	tarn pull -q oci:a:1
	tarn fill -q --wait a:1
	tarn verify -q --json a:1 | jq -e '.bad == 0 and .checked > 3000000 and
		(.layers | length == 2 and all(.[]; .whole == "ok"))'
}

@test "verify drops what is bad, and it is fetched again" {
	tarn pull -q oci:a:1
	tarn fill -q --wait a:1
	scribble "$BIG_ID" 2000000
	run tarn verify -q a:1
	refused 1 "were bad and have been dropped"
	layer "$BIG_ID" '.state == "lazy"'
	tarn fill -q --wait a:1
	cmp "$(tar_of "$BIG_ID")" big.tar
	tarn verify -q a:1
}

@test "verify repairs under a mount, and its readers see the right bytes" {
	tarn pull -q oci:a:1
	mkdir mnt
	tarn mount a:1 mnt
	tarn fill -q --wait a:1
	rig_wait 20 "the layer" layer "$BIG_ID" '.state == "complete"'
	scribble "$BIG_ID" 2000000
	run tarn verify -q a:1
	refused 1 "were bad"
	rig_wait 20 "the repair" layer "$BIG_ID" '.state == "complete"'
	cmp mnt/data big/data
	tarn umount mnt
}

# --- pins ---------------------------------------------------------------------------------------

@test "what is pinned is filled and survives eviction" {
	tarn pull -q oci:a:1
	tarn pin -q a:1 /dir
	rig_wait 20 "the pinned part" resident_over "$BIG_ID" 0
	tarn fill -q --wait a:1
	tarn evict -q --all
	[ "$(resident "$BIG_ID")" -gt 0 ]
	[ "$(resident "$BIG_ID")" -lt $BIG ]
	[ "$(resident "$SMALL_ID")" = 0 ]
	tarn unpin -q a:1 /dir
	tarn evict -q --all
	[ "$(resident "$BIG_ID")" = 0 ]
}

resident_over() { [ "$(resident "$1")" -gt "$2" ]; }

@test "a pinned image is brought back by a new daemon" {
	tarn pull -q oci:a:1
	tarn pin -q a:1
	stop_tarnd
	rm -f "$TARN_STORE/layers/$SMALL_ID/present"
	truncate -s 0 "$(tar_of "$SMALL_ID")"
	truncate -s "$(stat -c %s small.tar)" "$(tar_of "$SMALL_ID")"
	start_tarnd
	rig_wait 20 "the small layer" layer "$SMALL_ID" '.state == "complete"'
	rig_wait 20 "the large layer" layer "$BIG_ID" '.state == "complete"'
	run tarn evict --json --all
	jq -e '.freed == 0' <<<"$output"
}

@test "pins of what is not there are refused" {
	tarn pull -q oci:a:1
	run tarn pin a:1 /nowhere
	refused 1 "nowhere is not in the image"
	run tarn pin a:1 ../x
	refused 2 "is no path"
	run tarn unpin a:1
	refused 1 "is not pinned"
	run tarn pin c:1
	refused 1 "c:1 is not known"
}

# --- rm and gc ----------------------------------------------------------------------------------

@test "rm takes layers that no other image has" {
	tarn pull -q oci:a:1
	tarn pull -q oci:b:1
	tarn fill -q --wait a:1
	run tarn rm a:1 --json
	[ "$status" = 0 ]
	jq -e '.gone and .freed > 0' <<<"$output"
	[ ! -e "$TARN_STORE/layers/$SMALL_ID" ]
	[ -e "$(tar_of "$BIG_ID")" ]
	tarn rm -q b:1
	[ -z "$(find "$TARN_STORE/layers" "$TARN_STORE/blobs/sha256" -mindepth 1)" ]
	run tarn rm b:1
	refused 1 "b:1 is not known"
}

@test "rm of one of two names leaves the image" {
	tarn pull -q --name x oci:a:1
	tarn pull -q --name y oci:a:1
	run tarn rm x
	[[ $output == *"the image has others"* ]]
	tarn images --json | jq -e 'length == 1 and .[0].name == "y"'
	[ -e "$(tar_of "$BIG_ID")" ]
}

@test "rm leaves a running root file system alone, gc takes it later" {
	tarn pull -q oci:a:1
	mkdir mnt
	tarn mount a:1 mnt
	tarn rm -q a:1
	cmp mnt/data big/data
	tarn gc -q
	cmp mnt/dir/one big/dir/one
	tarn umount mnt
	rig_wait 20 "the unmount" status '[.layers[] | select(.mounted)] == []'
	tarn gc --json >gc.json
	jq -e '[.removed[] | select(.kind == "layer")] | length == 2' gc.json
	[ -z "$(ls "$TARN_STORE/layers")" ]
}

@test "gc takes what nobody needs and leaves the rest" {
	local junk
	tarn pull -q oci:a:1
	junk=$(printf %064d 7)
	mkdir -p "$TARN_STORE/layers/$junk" "$TARN_STORE/unproven/$junk/$junk" \
		"$TARN_STORE/containers/long-gone/upper"
	echo x >"$TARN_STORE/layers/$junk/tar"
	echo x >"$TARN_STORE/blobs/sha256/$junk"
	tarn gc --json >gc.json
	jq -e '[.removed[].kind] | sort == ["blob", "container", "layer", "layer"]' gc.json
	[ ! -e "$TARN_STORE/layers/$junk" ]
	[ ! -e "$TARN_STORE/unproven/$junk/$junk" ]
	[ ! -e "$TARN_STORE/blobs/sha256/$junk" ]
	[ ! -e "$TARN_STORE/containers/long-gone" ]
	tarn fill -q --wait a:1
	cmp "$(tar_of "$BIG_ID")" big.tar
	tarn gc --json | jq -e '.removed == [] and .freed == 0'
}

@test "gc leaves a container that its runtime still knows" {
	mkdir -p "$TARN_STORE/containers/rig-known/upper" /run/runc/rig-known
	tarn gc -q
	rmdir /run/runc/rig-known
	[ -e "$TARN_STORE/containers/rig-known/upper" ]
}

@test "gc removes nothing when a record cannot be read" {
	tarn pull -q oci:a:1
	echo '{' >"$(echo "$TARN_STORE"/images/*.json)"
	run tarn gc
	refused 1 "cannot be read"
	[ -e "$(tar_of "$BIG_ID")" ]
}

# --- who waits ----------------------------------------------------------------------------------

@test "status --waiting names the reader, the range and the source" {
	local pid=0
	tarn pull -q oci:a:1
	mkdir mnt
	tarn mount a:1 mnt
	mapfile -t fetchers < <(tarnd_pid fetcher)
	kill -STOP "${fetchers[@]}"
	cat mnt/data >got 3>&- &
	pid=$!
	rig_wait 10 "the reader" waits "$pid"
	tarn status --waiting | grep -E "^ *$pid +cat .*oci:$RIG/a"
	kill -CONT "${fetchers[@]}"
	wait "$pid"
	cmp got big/data
	tarn status --waiting --json | jq -e '.waiting == []'
	tarn umount mnt
}

waits() {
	tarn status --waiting --json | jq -e --argjson pid "$1" --arg id "sha256:$BIG_ID" \
		'.waiting[] | select(.pid == $pid) | .comm == "cat" and .layer == $id and
		.count >= 4096 and .since_ms >= 0'
}

# --- refusals -----------------------------------------------------------------------------------

@test "what is not known fails with 1, what is worded wrongly with 2" {
	tarn pull -q oci:a:1
	run tarn fill nothing
	refused 1 "neither an image nor a layer"
	run tarn layers nothing
	refused 1 "nothing is not known"
	run tarn fill "${BIG_ID:0:6}"
	refused 2 "at least 12 hex digits"
	run tarn evict
	refused 2 "give an IMAGE or a LAYER"
	run tarn evict --free 12X a:1
	refused 2 "--free 12X"
	run tarn pull docker://
	refused 2 "names no registry host"
	run tarn pull "oci:$RIG/nowhere"
	refused 1 "No such file"
}

@test "without a daemon every verb says how to start it" {
	stop_tarnd
	for verb in images layers status gc "fill x" "verify x" "rm x" "evict x" "pin x"; do
		# shellcheck disable=SC2086  # verb and argument
		run tarn $verb
		refused 1 "start it with systemctl start tarnd"
	done
}

@test "users who are not root are turned away" {
	chmod 666 "$TARN_SOCKET"
	run setpriv --reuid 4242 --regid 4242 --clear-groups "$B/tarn" status
	refused 1 "uid 4242 may not use tarnd"
}

# --- doctor -------------------------------------------------------------------------------------

@test "doctor finds this machine fit, and leaves nothing behind" {
	tarn doctor --json >doctor.json
	jq -e '.ok and (.checks | length > 8) and
		([.checks[] | select(.check == "tarnd")][0].state == "ok")' doctor.json
	[ -z "$(find "$TARN_STORE" -name '*doctor*')" ]
	! grep -q doctor /proc/self/mountinfo
}

@test "doctor names the file system that cannot do it, with 3" {
	mkfs_store tmpfs 16M
	mkdir "$TARN_STORE"
	run tarn doctor -q
	refused 3 "is on tmpfs, which cannot raise pre-content events"
}
