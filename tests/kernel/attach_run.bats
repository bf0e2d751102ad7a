#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# tarn run, bundle, mount and umount, as people use them.

load ../fixtures/rig
load attach

setup() {
	attach_setup
	CRUN=$(runtime crun)
}
teardown() {
	local dir
	# `tarn run` has the runtime keep its state in the usual place: what a failed test left there.
	for dir in /run/runc/*-"${RIG##*.}"; do
		[ ! -d "$dir" ] || runc delete --force "${dir##*/}"
	done
	rig_teardown
}

image() { # config
	make_image app "" "$1"
}

@test "run: output, input, status, environment, volumes" {
	image '{"Entrypoint":["/bin/sh","-c"],"Cmd":["echo default"],"Env":["A=image","B=image"]}'
	for rt in runc "$CRUN"; do
		[ "$(tarn run --runtime "$rt" app)" = default ]
		[ "$(tarn run --runtime "$rt" --rm app 'echo given')" = given ]
		[ "$(echo text | tarn run --runtime "$rt" --rm app 'cat; echo end')" = $'text\nend' ]
		[ "$(echo text | tarn run -i --runtime "$rt" --rm app cat)" = text ]
		run tarn run --runtime "$rt" --rm app 'exit 42'
		[ "$status" = 42 ]
		[ "$(tarn run --runtime "$rt" --rm -e A=mine app 'echo $A $B')" = 'mine image' ]
		mkdir -p "$RIG/vol"
		echo host >"$RIG/vol/file"
		[ "$(tarn run --runtime "$rt" --rm -v "$RIG/vol:/vol" app \
			'cat /vol/file; echo x >/vol/new')" = host ]
		[ -e "$RIG/vol/new" ]
		run tarn run --runtime "$rt" --rm -v "$RIG/vol:/vol:ro" app 'echo x >/vol/ro'
		[ "$status" != 0 ]
		run tarn run --runtime "$rt" --rm --read-only app 'echo x >/etc/new'
		[ "$status" != 0 ]
		rm -r "$RIG/vol"
	done
	nothing_left
	[ -z "$(find "$TARN_RUNDIR" -mindepth 1 -maxdepth 1 ! -name rootfs)" ]
}

@test "run: net is none, or the host's" {
	image '{"Entrypoint":["/bin/sh","-c"]}'
	[ "$(tarn run --rm app 'ls /sys/class/net')" = lo ]
	[ "$(tarn run --rm --net host app 'readlink /proc/self/ns/net')" = "$(readlink /proc/self/ns/net)" ]
}

@test "run: --rm takes the writable layer away, a name keeps it" {
	image '{"Entrypoint":["/bin/sh","-c"]}'
	tarn run --rm app 'echo x >/etc/new'
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
	tarn run --name keeps app 'echo kept >/etc/new'
	[ "$(tarn run --name keeps app 'cat /etc/new')" = kept ]
	[ "$(tarn run --name keeps --rm app 'cat /etc/new')" = kept ]
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
	# Also after one that does not start.
	run tarn run --rm app 'exec /etc/passwd'
	[ "$status" = 126 ]
	run tarn run --runtime runc --rm --name bad -- app 'exit 3'
	[ "$status" = 3 ]
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
}

@test "status: the pid of a container, of tarn-runtime's too" {
	make_image app
	for way in front-runc front-crun hook-runc; do
		IMAGE=app start "$way" "c-$way" true
		pid=$(by "$way" state "c-$way" | jq .pid)
		[ "$pid" -gt 0 ]
		[ "$(tarn status --json | jq --arg id "c-$way" \
			'.containers[] | select(.id == $id).pid')" = "$pid" ]
		tarn status | grep -E "^c-$way .* $pid +(runtime|graft|overmount)$"
		by "$way" delete -f "c-$way"
	done
	nothing_left
}

# Its name, while `tarn run` has it.
run_dir() { (cd "$TARN_RUNDIR" && echo run-"$1"-??????); }

@test "gc: takes the bundle of a killed run, when its container is gone" {
	local id=lost-${RIG##*.}
	image '{"Entrypoint":["/bin/sh","-c"]}'
	"$B/tarn" run --name "$id" app 'echo ready; sleep 1000' \
		>"$RIG/lost.out" 2>&1 3>&- &
	pid=$!
	rig_wait 20 "the container" grep -qx ready "$RIG/lost.out"
	dir=$(run_dir "$id")
	[ -d "$TARN_RUNDIR/$dir" ]
	touch -d '5 minutes ago' "$TARN_RUNDIR/$dir"
	tarn gc --json | jq -e '.removed == []'
	kill -KILL $pid
	wait $pid || [ $? = 137 ]
	tarn gc --json | jq -e '.removed == []'
	runc kill "$id" KILL
	rig_wait 20 "the end of its runtime" container_gone "$id"
	# One that is young may be about to be used.
	touch "$TARN_RUNDIR/$dir"
	tarn gc --json | jq -e '[.removed[].kind] == ["container"]'
	touch -d '5 minutes ago' "$TARN_RUNDIR/$dir"
	run tarn gc
	[ "$status" = 0 ]
	[[ $output == *"bundle "*"$dir "* ]]
	[ ! -e "$TARN_RUNDIR/$dir" ]
	nothing_left
}

@test "gc: leaves a bundle that is locked, or whose container a runtime or tarnd knows" {
	local dir=$TARN_RUNDIR/run-rig-known-aB3xyz attached
	need flock
	make_image app
	mkdir -p "$TARN_RUNDIR" "$RIG/m"
	tarn mount app "$RIG/m"
	attached=$TARN_RUNDIR/run-$(tarn status --json | jq -r '.containers[0].id')-aB3xyz
	mkdir "$attached"
	mkdir -p "$dir/rootfs" "$TARN_RUNDIR/run-other" "$TARN_RUNDIR/run-.x-aB3xyz"
	touch -d '5 minutes ago' "$TARN_RUNDIR"/*
	flock "$dir" "$B/tarn" gc -q
	[ -d "$dir/rootfs" ]
	mkdir -p /run/runc/rig-known
	tarn gc -q
	rmdir /run/runc/rig-known
	[ -d "$dir/rootfs" ]
	tarn gc -q
	[ ! -e "$dir" ]
	[ -d "$attached" ]
	tarn umount "$RIG/m"
	rig_wait 10 "the unmount" nothing_attached
	tarn gc -q
	[ ! -e "$attached" ]
	# Not ours by their names.
	[ -d "$TARN_RUNDIR/run-other" ]
	[ -d "$TARN_RUNDIR/run-.x-aB3xyz" ]
	# A directory that others can write to is none of ours.
	mkdir "$dir"
	touch -d '5 minutes ago' "$dir"
	chmod 777 "$TARN_RUNDIR"
	tarn gc -q
	[ -d "$dir" ]
}

container_gone() { ! runc state "$1" 2>/dev/null && nothing_attached; }

@test "run: a container of that name is left alone" {
	local id=one-${RIG##*.}
	image '{"Entrypoint":["/bin/sh","-c"]}'
	"$B/tarn" run --rm --name "$id" app 'echo ready; sleep 1000' >"$RIG/one.out" 2>&1 3>&- &
	pid=$!
	rig_wait 20 "the container" grep -qx ready "$RIG/one.out"
	run tarn run --rm --name "$id" app true
	echo "$output"
	[ "$status" = 1 ]
	[[ $output == "tarn: there is a container $id already: "* ]]
	[ "${#lines[@]}" = 1 ]
	[ -d "$TARN_STORE/containers/$id" ]
	# Where its runtime is not known to run, tarnd knows.
	tarn bundle app "$RIG/two"
	run "$B/tarn-runtime" --root "$RIG/elsewhere" run -b "$RIG/two" "$id"
	[ "$output" = "tarn-runtime: container $id: its root file system is mounted already" ]
	runc kill "$id" KILL
	wait $pid || [ $? = 137 ]
	nothing_left
}

@test "run: signals reach the container" {
	image '{"Entrypoint":["/bin/sh","-c"]}'
	for rt in runc "$CRUN"; do
		"$B/tarn" run --rm --runtime "$rt" app 'trap "echo got; exit 9" TERM; echo ready
			while :; do sleep 0.1; done' >"$RIG/sig.out" 2>&1 3>&- &
		pid=$!
		rig_wait 20 "the container" grep -qx ready "$RIG/sig.out"
		kill -TERM $pid
		rc=0
		wait $pid || rc=$?
		cat "$RIG/sig.out"
		echo "status $rc"
		[ $rc = 9 ]
		grep -qx got "$RIG/sig.out"
	done
	nothing_left
}

@test "run: a terminal" {
	need script
	image '{"Entrypoint":["/bin/sh","-c"]}'
	out=$(script -qec "$B/tarn run --rm -t -i app 'tty; exit 5'" /dev/null </dev/null; echo "rc $?")
	[[ $out == *dev/*rc\ 5 ]]
	run tarn run --rm -t app true </dev/null
	[ "$status" = 2 ]
}

@test "run: what is wrong is told before anything is done" {
	image '{"Entrypoint":["/bin/sh","-c"]}'
	for id in ../x a/b .x ''; do
		run tarn run --name "$id" app true
		[ "$status" = 2 ]
		[[ $output == *"is no container id"* ]]
	done
	run tarn run --net other app true
	[ "$status" = 2 ]
	run tarn run -e novalue app true
	[ "$status" = 2 ]
	run tarn run -v onlyone app true
	[ "$status" = 2 ]
	run tarn run -v /no/such:/x app true
	[ "$status" = 1 ]
	run tarn run --runtime /no/such app true
	[ "$status" = 1 ]
	run tarn run unknown true
	[ "$status" = 1 ]
	[[ $output == *"not known"* ]]
	nothing_left
	[ ! -e "$TARN_RUNDIR" ] || [ -z "$(find "$TARN_RUNDIR" -mindepth 1 -maxdepth 1 ! -name rootfs)" ]
}

@test "run: -v before it shows the chain of what tarn-runtime met, too" {
	image '{"Entrypoint":["/bin/sh","-c"]}'
	mkdir -p "$TARN_RUNDIR"
	touch "$TARN_RUNDIR/rootfs"
	run tarn run --rm app true
	echo "$output"
	[ "$status" = 1 ]
	[ "${#lines[@]}" = 1 ]
	run tarn -v run --rm app true
	echo "$output"
	[ "$status" = 1 ]
	[ "${lines[0]}" = "tarn-runtime: mounting the image at $TARN_RUNDIR/rootfs: Not a directory" ]
	[ "${lines[1]}" = "  mounting the image at $TARN_RUNDIR/rootfs" ]
	[ "${lines[2]}" = "  Not a directory (ENOTDIR)" ]
	rm "$TARN_RUNDIR/rootfs"
}

@test "run: the user of the image, by name and by number" {
	image '{"Entrypoint":["/bin/sh","-c"],"User":"app","WorkingDir":"/home/app"}'
	[ "$(tarn run --rm app 'id -u; id -g; id -G; echo $HOME; pwd')" = \
		$'1000\n1000\n1000 50\n/home/app\n/home/app' ]
	image '{"Entrypoint":["/bin/sh","-c"],"User":"1234:50"}'
	[ "$(tarn run --rm app 'id -u; id -g')" = $'1234\n50' ]
	image '{"Entrypoint":["/bin/sh","-c"],"User":"nobody-here"}'
	run tarn run --rm app true
	[ "$status" = 1 ]
	[[ $output == *"nobody-here"* ]]
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
}

@test "bundle: needs a directory of its own and leaves none half done" {
	image '{"Cmd":["/bin/sh"]}'
	tarn bundle app "$RIG/one"
	[ "$(ls "$RIG/one")" = $'config.json\nrootfs' ]
	[ -z "$(ls -A "$RIG/one/rootfs")" ]
	sum=$(sha256sum <"$RIG/one/config.json")
	run tarn bundle app "$RIG/one"
	[ "$status" = 1 ]
	[[ $output == *"not empty"* ]]
	[ "$(sha256sum <"$RIG/one/config.json")" = "$sum" ]
	mkdir "$RIG/empty"
	tarn bundle app "$RIG/empty" -- /bin/echo hello
	[ "$(jq -c .process.args "$RIG/empty/config.json")" = '["/bin/echo","hello"]' ]
	[ "$(jq -r '.annotations["org.tarn.image"]' "$RIG/empty/config.json")" = \
		"$(tarn images --json | jq -r '.[0].digest')" ]
	run tarn bundle unknown "$RIG/none"
	[ "$status" = 1 ]
	[ ! -e "$RIG/none" ]
	run tarn bundle app "$RIG/no/parent"
	[ "$status" = 1 ]
	image '{"Env":["X=1"]}'
	run tarn bundle app "$RIG/none"
	[ "$status" = 1 ]
	[[ $output == *"no command"* ]]
	[ ! -e "$RIG/none" ]
}

@test "bundle: passwd and group of an image cannot lead to the host" {
	mkdir -p "$RIG/t/etc"
	echo 'app:x:77:77::/:' >"$RIG/passwd"
	ln -s "$RIG/passwd" "$RIG/t/etc/passwd"
	mkfifo "$RIG/t/etc/group"
	make_image users "$RIG/t" '{"Cmd":["/bin/sh"],"User":"app"}'
	run timeout 20 "$B/tarn" bundle users "$RIG/b"
	[ "$status" = 1 ]
	[ ! -e "$RIG/b" ]
}

@test "mount and umount" {
	image '{"Cmd":["/bin/sh"]}'
	mkdir "$RIG/m" "$RIG/m/has" "$RIG/other"
	tarn mount app "$RIG/m"
	[ "$(stat -f -c %T "$RIG/m")" = overlayfs ]
	[ -x "$RIG/m/bin/probe" ]
	[ "$(findmnt -no PROPAGATION "$RIG/m")" = private ]
	[[ $(attached_as "mount-$(printf %s "$RIG/m" | sha256sum | cut -c 1-16)") == mount ]]
	run tarn mount app "$RIG/m"
	[ "$status" = 1 ]
	[[ $output == *"already"* ]]
	echo x >"$RIG/m/etc/new"
	exec 9<"$RIG/m/etc/new"
	run tarn umount "$RIG/m"
	exec 9<&-
	[ "$status" = 1 ]
	[[ $output == *"in use"* ]]
	tarn umount "$RIG/m/"
	[ -d "$RIG/m/has" ]
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
	for dir in "$RIG/m" "$RIG/other" "$RIG/none"; do
		run tarn umount "$dir"
		[ "$status" = 1 ]
	done
	# Somebody else's is left alone.
	mount -t tmpfs tmpfs "$RIG/other"
	run tarn umount "$RIG/other"
	[ "$status" = 1 ]
	umount "$RIG/other"
	run tarn mount app "$RIG/none"
	[ "$status" = 1 ]
	nothing_left
}
