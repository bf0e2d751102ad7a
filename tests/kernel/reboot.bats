#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is there after the machine was started again: the store, and nothing else.

load lake
load attach

setup() {
	lake_setup
	need busybox runc
	BOOT_ID=/proc/sys/kernel/random/boot_id
	RIG_MOUNTS+=("$BOOT_ID" /sys/class/bdi)
}

teardown() {
	! mountpoint -q "$BOOT_ID" || umount "$BOOT_ID"
	! mountpoint -q /sys/class/bdi || umount /sys/class/bdi
	lake_teardown
}

# Everything of now ends at once and leaves no memory of itself: processes, mounts, page cache, what
# is below /run.
go_down() { # container...
	local id pid dir groups=()
	for id; do
		pid=$(by front-runc state "$id" | jq .pid)
		mapfile -t -O ${#groups[@]} groups < <(cgroups_of "$pid")
		kill -STOP "$pid" # it does nothing any more that nobody answers for
	done
	sync -f "$TARN_STORE"
	crash_tarnd
	for id; do
		pid=$(by front-runc state "$id" | jq .pid)
		kill -KILL "$pid"
		rig_wait 20 "the end of container $id" rig_gone "$pid"
	done
	for dir in "${groups[@]}"; do
		rig_wait 20 "the end of $dir" cgroup_gone "$dir"
	done
	umount "$RIG/m"
	rm -rf "$RIG/runc" "${@/#/$RIG/}" "$TARN_SOCKET"
	! mountpoint -q "$TARN_RUNDIR" || umount -l "$TARN_RUNDIR"
	rm -rf "$TARN_RUNDIR"
	rig_wait 60 "the end of all mounts" nobody_reads_layers
	drop_caches
}

cgroups_of() { # pid
	local path
	while IFS=: read -r _ _ path; do
		[[ $path != */c[12] ]] || find /sys/fs/cgroup -depth -type d -path "*$path" -print
	done <"/proc/$1/cgroup"
}

cgroup_gone() { [ ! -d "$1" ] || rmdir "$1" 2>/dev/null; }

# EROFS keeps the tar open as long as a superblock lives.
nobody_reads_layers() {
	local n
	for n in $(superblocks); do
		[ ! -e "/sys/class/bdi/erofs-$n" ] || return
	done
}

superblocks() { cat "$TARN_STORE"/mounted/* | cut -d ' ' -f 2; }

# The next boot is another one, in which the kernel gives the same numbers to other file systems.
come_up() {
	local n
	cat /proc/sys/kernel/random/uuid >"$RIG/boot_id"
	mount --bind "$RIG/boot_id" "$BOOT_ID"
	mkdir "$RIG/bdi"
	for n in $(superblocks); do
		mkdir "$RIG/bdi/erofs-$n"
	done
	mount --bind "$RIG/bdi" /sys/class/bdi
	: >"$RIG/tarnd.log"
	start_tarnd
}

# Of a layer that is mounted: what is here was written down (plugin/store/present.h).
is_noted() {
	python3 -c '
import os, sys
store = sys.argv[1]
for layer in os.listdir(store + "/mounted"):
    with open(f"{store}/layers/{layer}/present", "rb") as f:
        if any(f.read()[56:-32]):
            sys.exit(0)
sys.exit(1)' "$TARN_STORE"
}

# What the power's end finds half-done: files that are written, a layer that is built, a blob that no
# image has yet, links and sockets of who is no more.
leave_half() {
	local none=0123456789abcdef layer
	none=$none$none$none$none
	layer=$(find "$TARN_STORE/layers" -mindepth 1 -maxdepth 1 -print -quit)
	mkdir "$TARN_STORE/layers/$none" "$TARN_STORE/unproven/$none" \
		"$TARN_STORE/unproven/$none/$none"
	head -c 100000 /dev/urandom >"$TARN_STORE/layers/$none/tar.tmp"
	head -c 100 /dev/urandom >"$TARN_STORE/unproven/$none/$none/index"
	for half in "$layer/"{index,present,image.erofs}.tmp "$TARN_STORE/images/$none.json.tmp" \
		"$TARN_STORE/"{.tmp-format,.tmp-index.json,index.json.tmp,pins.json.tmp} \
		"$TARN_STORE/blobs/sha256/"{.tmp-$none,$none.tmp} "$TARN_STORE/resolver/etc/.tmp-hosts"; do
		echo half >"$half"
	done
	cp "$TARN_STORE/blobs/sha256/"*0* "$TARN_STORE/images/$none.erofs" 2>/dev/null ||
		echo x >"$TARN_STORE/images/$none.erofs"
	echo '{}' >"$TARN_STORE/blobs/sha256/$none"
	echo "a line that no tarnd has written" >"$TARN_STORE/mounted/$none"
	[ -S "$TARN_STORE/guardian.sock" ]
}

removed() { jq -r '.removed[].kind' "$RIG/gc" | sort | paste -sd ' '; }

@test "a reboot: the containers are gone, the store is whole, and leftovers are collected" {
	tree=$(debian_tree)
	start_tarnd
	lake "$(image_debian gzip)" debian
	make_usual_image
	tarn -q fill usual
	readers "$tree/usr/sbin" "$RIG/m/usr/sbin" -j 2
	rig_wait 60 "what is here to be written down" is_noted
	start front-runc c1 'echo x >/etc/new'
	start front-runc c2 true
	had=$(resident)
	images=$(tarn images --json | jq -c 'map(del(.last_used?))')

	go_down c1 c2
	leave_half
	come_up

	# Nobody was robbed of anything.
	tarn status --json | jq -e '.lost == [] and .containers == []'
	run tarn status
	[[ $output != *LOST* ]]
	run grep -E 'in use|error:' "$RIG/tarnd.log"
	[ "$status" = 1 ]
	[ -z "$(ls "$TARN_STORE/mounted")" ]
	[ -z "$(find "$TARN_STORE" -name '*.tmp' -o -name '.tmp*')" ]
	[ "$(tarn images --json | jq -c 'map(del(.last_used?))')" = "$images" ]

	# What is said to be there is there, and right.
	[ "$(resident)" -ge $((had * 9 / 10)) ]
	for image in debian usual; do
		tarn verify -q "$image" --json >"$RIG/verified"
		jq -e ".checked > 0 and .bad == 0 and all(.layers[]; .lost == 0)" "$RIG/verified"
	done

	# The rest goes, once; the third is of the mount at $RIG/m.
	tarn gc --json >"$RIG/gc"
	[ "$(removed)" = "blob container container container index image layer layer" ]
	tarn gc --json | jq -e '.removed == []'
	[ -z "$(find "$TARN_STORE/containers" "$TARN_STORE/unproven" -mindepth 1)" ]

	# And all begins anew, with the names of before.
	lake_mount debian
	readers "$tree" "$RIG/m" -j 4
	start front-runc c1 '[ ! -e /etc/new ] && echo y >/etc/new'
	[ "$(by front-runc exec c1 cat /top)" = top ]
	[ "$(<"$TARN_STORE/containers/c1/upper/etc/new")" = y ]
	by front-runc delete --force c1
	lake_umount
	tarn gc -q
	stop_tarnd
	[ -z "$(ls "$TARN_STORE/mounted")" ]
}
