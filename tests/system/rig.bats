#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The ground the other tests stand on: that it holds, and that it notices what it should.

load ../fixtures/rig

setup() { rig_setup; }
teardown() { rig_teardown; }

@test "runc runs a plain bundle" {
	need_root
	plain_bundle "$RIG/b" env
	run run_runc run -b "$RIG/b" plain
	[ "$status" = 0 ]
	[[ $output == *"uid=0 gid=0 cwd=/"* ]]
}

@test "crun runs a plain bundle" {
	need_root
	plain_bundle "$RIG/b" env
	run run_crun run -b "$RIG/b" plain
	[ "$status" = 0 ]
	[[ $output == *"uid=0 gid=0 cwd=/"* ]]
}

@test "podman runs a root directory with runc and with crun" {
	need_root
	plain_bundle "$RIG/b" env
	for rt in runc crun; do
		run run_podman $rt run --rm --rootfs "$RIG/b/rootfs" /bin/probe env
		echo "$output"
		[ "$status" = 0 ]
		[[ $output == *"uid=0 gid=0 cwd=/"* ]]
	done
}

@test "containers left running are ended" {
	need_root
	plain_bundle "$RIG/b" sleep 0
	run_runc run -d -b "$RIG/b" stays </dev/null >"$RIG/out" 2>&1 3>&-
	pid=$(run_runc state stays | jq .pid)
	rig_stop_containers
	rig_wait 10 "the end of $pid" rig_gone "$pid"
}

@test "stores on ext4, xfs and btrfs, and their loop devices" {
	for type in ext4 xfs btrfs; do
		mkfs_store $type 400M
		[ "$(stat -f -c %T "$RIG/$type")" = "$(sed s/ext4/ext2\\/ext3/ <<<$type)" ]
	done
	[ "$(rig_loops | wc -l)" = 3 ]
}

@test "docker's registry takes and gives an image" {
	need_root
	need skopeo umoci
	start_registry
	layout=$(image_odd gzip)
	registry_push "$layout" odd:one
	skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY/odd:one" \
		"oci:$RIG/back:latest"
	same_tree "$(umoci_unpack "$layout")" "$(umoci_unpack "$RIG/back")"
}

@test "our registry gives an image, and breaks on demand" {
	need_root
	need skopeo umoci
	layout=$(image_tiny gzip)
	start_pyregistry "$layout"
	skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY/any:latest" \
		"oci:$RIG/back:latest"
	same_tree "$(umoci_unpack "$layout")" "$(umoci_unpack "$RIG/back")"
	[ "$(grep -c '"path": "/v2/any/blobs/' "$RIG/requests")" -ge 2 ]
	registry_control '{"fault": "flip"}'
	run skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY/any:latest" \
		"oci:$RIG/broken:latest"
	[ "$status" != 0 ]
}

@test "images hold the same tree in every compression umoci knows" {
	need_root
	need umoci
	expected=$(umoci_unpack "$(image_odd tar)")
	for how in gzip gzip-multi; do
		same_tree "$expected" "$(umoci_unpack "$(image_odd $how)")"
	done
}

@test "images are the same bytes every time" {
	need_root
	for how in tar gzip gzip-multi zstd zstd-multi; do
		one=$("$RIG_FIXTURES/mkimage.py" --compression $how "$RIG/one-$how" "$(image_tar)")
		two=$("$RIG_FIXTURES/mkimage.py" --compression $how "$RIG/two-$how" "$(image_tar)")
		[ "$one" = "$two" ]
	done
	diff -r "$RIG/one-zstd-multi" "$RIG/two-zstd-multi"
}

image_tar() {
	[ -e "$RIG/upper.tar" ] || "$RIG_FIXTURES/oddtar.py" "$RIG/lower.tar" "$RIG/upper.tar"
	echo "$RIG/upper.tar"
}

@test "trees that differ in one thing are told apart" {
	need_root
	one=$(umoci_unpack "$(image_odd tar)")
	two=$(umoci_unpack "$(image_odd tar)")
	same_tree "$one" "$two"
	setfattr -n user.one -v 2 "$two/odd/attr/user"
	run same_tree "$one" "$two"
	[ "$status" = 1 ]
	[ "$output" = "'/odd/attr/user': xattr user.one: b'1' != b'2'" ]
	cp -a "$one/odd/attr/user" "$two/odd/attr/user"
	same_tree "$one" "$two"
	touch -d @5 "$two/odd/sizes/511"
	run same_tree "$one" "$two"
	[ "$status" = 1 ]
	[[ $output == "'/odd/sizes/511': mtime: "* ]]
}

@test "a mount, a process and a loop device left over are found" {
	need_root
	leak_check
	mkdir "$RIG/left"
	mount -t tmpfs tmpfs "$RIG/left"
	run leak_check
	[ "$status" = 1 ]
	[[ $output == *"left mounted:"*"$RIG/left tmpfs"* ]]
	umount "$RIG/left"

	sleep 1000 3>&- &
	run leak_check
	[ "$status" = 1 ]
	[[ $output == *"left running: $! sleep"* ]]
	kill $!
	rig_wait 5 "its end" rig_gone $!

	truncate -s 1M "$RIG/file"
	loop=$(losetup --show -f "$RIG/file")
	run leak_check
	losetup -d "$loop"
	[ "$status" = 1 ]
	[[ $output == *"left loop devices:"* ]]
	leak_check
}

# A daemon that does only what the contract says of starting and stopping.
stand_in() { # lines of bash before it is ready
	mkdir -p "$RIG/build"
	printf '#!/bin/bash\n%s\n%s\n' "$1" 'trap "exit 0" TERM; echo "tarnd: ready"
		while :; do sleep 0.05; done' >"$RIG/build/tarnd"
	chmod +x "$RIG/build/tarnd"
	# shellcheck disable=SC2034  # the rig reads it
	B=$RIG/build
}

@test "a daemon is started and stopped; its store is made private" {
	stand_in 'echo "$*" >"$TARN_RIG/args"'
	start_tarnd --config none
	[ "$(cat "$RIG/args")" = "--store $RIG/store --socket $RIG/tarnd.sock --config none" ]
	[ "$(stat -c %a "$RIG/store")" = 700 ]
	pid=$TARND_PID
	stop_tarnd
	rig_gone "$pid"
	leak_check
}

@test "a daemon that dies at its start, or ends badly, fails the test" {
	stand_in 'exit 3'
	run start_tarnd
	[ "$status" != 0 ]

	stand_in ''
	sed -i 's/exit 0/exit 5/' "$RIG/build/tarnd"
	start_tarnd
	rc=0
	stop_tarnd || rc=$?
	[ $rc = 5 ]
}

@test "a process that a daemon leaves behind is found and ended" {
	stand_in 'setsid sleep 1000 &'
	start_tarnd
	stop_tarnd
	run leak_check
	[ "$status" = 1 ]
	[[ $output == *"left running: "*"sleep 1000"* ]]
	kill "$(rig_pids)"
	rig_wait 5 "its end" leak_check
}
