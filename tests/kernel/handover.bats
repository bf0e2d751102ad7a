#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# One tarnd follows another on a store whose layers are in use: what the first holds goes over to the
# second, and readers of cold content notice nothing but that it takes longer.

load lake

setup() {
	lake_setup
	start_tarnd
	TREE=$(debian_tree)
	lake "$(image_debian gzip)" debian
}
teardown() {
	[ -z "${NOTIFIED-}" ] || { kill "$NOTIFIED" && wait "$NOTIFIED"; } || true
	lake_teardown
}

# What a service manager sees as the end of tarnd.
kill_guardian() {
	kill -KILL "$TARND_PID"
	wait "$TARND_PID" || true
	TARND_PID=''
}

all_is_right() {
	end_readers
	[ "$(found wrong)" = 0 ]
	[ "$(found errors)" = 0 ]
	[ "$(found stuck)" = 0 ]
	tarn -q evict --all --wait
	drop_caches
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	[ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" = 0 ]
}

# Of each kind of process there is one again.
one_of_each() {
	local keeper
	keeper=$(tarnd_pid keeper)
	[ "$(tarnd_pid guardian)" = "$TARND_PID" ]
	[ "$(pgrep -c -P "$keeper")" -ge 2 ]
	[ "$(lake_tarnd_pids | wc -l)" = $((4 + $(tarnd_pid fetcher | wc -l))) ]
}

@test "stopped while layers are in use, and started again" {
	start_readers "$TREE" "$RIG/m" -t -w 45
	sleep 0.7
	stop_tarnd
	rig_wait 10 "the end of all but the guardian" tarnd_processes 1
	readers_run
	sleep 1
	start_tarnd
	rig_wait 20 "the end of what held the layers" one_of_each
	all_is_right
}

@test "upgraded in place while layers are in use" {
	start_readers "$TREE" "$RIG/m" -t -w 45
	sleep 0.7
	stop_tarnd
	mkdir "$RIG/B"
	ln -s "$B"/* "$RIG/B"
	ln -sfn "$B/test/tarnd-next" "$RIG/B/tarnd"
	# It would make these otherwise; those that are mounted are other files from here on.
	for image in "$TARN_STORE"/layers/*/image.erofs; do
		cp "$image" "$image.new"
		mv "$image.new" "$image"
	done
	B=$RIG/B start_tarnd
	[ "$(tarn status --json | jq -r .daemon.version)" = next ]
	all_is_right
	lake_umount
	# A store of a format that it does not know is left alone, by whichever is older.
	stop_tarnd
	sed -i 's/[0-9][0-9]*/999/' "$TARN_STORE/format"
	run "$B/tarnd" --store "$TARN_STORE" --socket "$TARN_SOCKET"
	[ "$status" = 1 ]
	[[ $output == *"made by a newer tarn"* ]]
}

@test "the guardian alone is killed, and tarnd started again" {
	for _ in 1 2 3; do
		start_readers "$TREE" "$RIG/m" -t -w 45
		sleep 0.7
		kill_guardian
		readers_run
		start_tarnd
		rig_wait 20 "the end of the earlier tarnd" one_of_each
		all_is_right
	done
	grep -q 'hands over' "$RIG/tarnd.log"
	grep -q 'took over' "$RIG/tarnd.log"
	lake_umount
}

@test "the guardian alone is killed with nothing in use" {
	lake_umount
	kill_guardian
	start_tarnd
	rig_wait 20 "the end of the earlier tarnd" one_of_each
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}

@test "the guardian alone is killed, under a service manager" {
	stop_tarnd || true
	python3 - "$RIG/notify" >"$RIG/notified" 3>&- <<-'EOF' &
		import socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		while True:
		    print(s.recv(4096).decode(), flush=True)
	EOF
	NOTIFIED=$!
	rig_wait 10 "the manager's socket" test -S "$RIG/notify"
	export NOTIFY_SOCKET=$RIG/notify
	start_tarnd
	start_readers "$TREE" "$RIG/m" -t -w 45
	sleep 0.5
	kill_guardian
	start_tarnd
	all_is_right
	[ "$(grep -c READY=1 "$RIG/notified")" = 2 ]
	lake_umount
	stop_tarnd
	grep -q STOPPING=1 "$RIG/notified"
}

@test "a second tarnd that cannot start leaves things as they are" {
	readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 2
	tarn -q evict --all --wait
	drop_caches
	# Of one that lives and of one that has stopped: what was taken over is left behind again.
	kill_guardian
	for _ in 1 2; do
		run "$B/tarnd" --store "$TARN_STORE" --socket "$RIG/no/such/x.sock"
		[ "$status" = 1 ]
		[[ $output == *"$RIG/no/such/x.sock"* ]]
		run "$B/test/without" chroot 38 "$B/tarnd" --store "$TARN_STORE" \
			--socket "$RIG/other.sock"
		[ "$status" = 3 ]
	done
	start_readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -t -w 45
	sleep 0.5
	start_tarnd
	rig_wait 20 "the end of what held the layers" one_of_each
	TREE=$TREE all_is_right
}

# The keeper must not see the guardian's end: it would make another.
kill_guardian_and_keeper() {
	local keeper
	keeper=$(tarnd_pid keeper)
	kill -STOP "$keeper"
	kill -KILL "$TARND_PID" "$keeper"
	wait "$TARND_PID" || true
	TARND_PID=''
	rig_wait 20 "the end of the keeper" rig_gone "$keeper"
}

@test "guardian and keeper are killed at once: nobody serves beside what they leave" {
	start_readers "$TREE" "$RIG/m" -t -w 45
	sleep 0.7
	anchor=$(tarnd_pid anchor)
	kill_guardian_and_keeper
	readers_run
	for _ in 1 2; do
		run "$B/tarnd" --store "$TARN_STORE" --socket "$TARN_SOCKET"
		[ "$status" = 1 ]
		[ ${#lines[@]} = 1 ]
		[[ $output == *"see that process $anchor ends, and start tarnd again"* ]]
	done
	end_readers
	tarn status --json >"$RIG/status"
	jq -e ".daemon | .supervised == false and .guardian_pid == 0" "$RIG/status"
	tarn status | grep "guardian and keeper are gone"
	grep -q 'keeper and guardian are gone' "$RIG/tarnd.log"
	umount "$RIG/m"
	rig_wait 10 "the end of the anchor" rig_gone "$anchor"
	start_tarnd
	tarn status --json | jq -e '.daemon.supervised == true'
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}

@test "guardian and keeper are killed before anybody has read: the engine has what it needs" {
	kill_tarnd engine
	tarn status >/dev/null
	anchor=$(tarnd_pid anchor)
	kill_guardian_and_keeper
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	umount "$RIG/m"
	rig_wait 10 "the end of the anchor" rig_gone "$anchor"
	start_tarnd
}

@test "all but the anchor are killed at once: readers get EIO in time, and it ends" {
	stop_tarnd
	echo 'fault.deadline = 4s' >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
	anchor=$(tarnd_pid anchor)
	mapfile -t three < <(tarnd_pid guardian; tarnd_pid keeper; tarnd_pid engine)
	kill -STOP "${three[@]}"
	kill -KILL "${three[@]}"
	wait "$TARND_PID" || true
	TARND_PID=''
	# What nobody has can not be had; nobody waits for ever, and nobody sees zeros.
	run timeout 100 cat "$RIG/m/usr/bin/perl"
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	run timeout 30 "$RIG/m/usr/bin/true"
	[ "$status" != 124 ]
	run "$B/tarnd" --store "$TARN_STORE" --socket "$TARN_SOCKET"
	[ "$status" = 1 ]
	[[ $output == *"see that process $anchor ends"* ]]
	umount "$RIG/m"
	rig_wait 10 "the end of the anchor" rig_gone "$anchor"
	[ "$(grep -c 'what is missing cannot be had' "$RIG/tarnd.log")" = 1 ]
	start_tarnd
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}

# A tarnd that is held up before it is ready: the index of a layer that is mounted comes from a pipe.
start_tarnd_slowly() { # [tarnd options...]
	local index
	# Of the largest layer, which is the one that most is in: those before it may be served.
	index=$(find "$TARN_STORE/layers" -name index -printf '%s %p\n' | sort -rn | head -n 1)
	index=${index#* }
	mv "$index" "$RIG/index"
	mkfifo "$index"
	exec {PIPE}<>"$index"
	: >"$RIG/tarnd.out"
	"$B/tarnd" --store "$TARN_STORE" --socket "$TARN_SOCKET" "$@" \
		>>"$RIG/tarnd.out" 2>>"$RIG/tarnd.log" </dev/null 3>&- {PIPE}>&- &
	TARND_PID=$!
	rig_wait 30 "an engine that reads the index" reads_index "$index"
	mv "$RIG/index" "$index"
}

# The device numbers of what was unmounted go to what is mounted next, by whomever.
reuse_devices() {
	local i
	for i in {1..12}; do
		mkdir -p "$RIG/other/$i"
		mount -t tmpfs none "$RIG/other/$i"
	done
}

reads_index() { # path
	KEEPER=$(pgrep -P "$TARND_PID") && ANCHOR=$(pgrep -P "$KEEPER" | head -n 1) &&
		[ -n "$ANCHOR" ] && ENGINE=$(pgrep -P "$ANCHOR") &&
		find "/proc/$ENGINE/fd" -lname "$1" | grep -q .
}

@test "guardian and keeper are killed at once before a tarnd that took over is ready" {
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	stop_tarnd
	echo 'fault.deadline = 4s' >"$RIG/tarn.conf"
	start_tarnd_slowly --config "$RIG/tarn.conf"
	kill -STOP "$KEEPER"
	kill -KILL "$TARND_PID" "$KEEPER"
	wait "$TARND_PID" || true
	TARND_PID=''
	# Its engine goes by what is mounted, not by how far it had come: nobody sees zeros.
	run timeout 100 cat "$RIG/m/usr/bin/perl"
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	run "$B/tarnd" --store "$TARN_STORE" --socket "$TARN_SOCKET"
	[ "$status" = 1 ]
	[[ $output == *"see that process $ANCHOR ends"* ]]
	umount "$RIG/m"
	reuse_devices
	rig_wait 10 "the end of the anchor" rig_gone "$ANCHOR"
	umount "$RIG"/other/*
	exec {PIPE}>&-
	start_tarnd
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}

@test "guardian and keeper are killed at once with nothing mounted" {
	lake_umount
	kill_guardian_and_keeper
	start_tarnd
	rig_wait 20 "the end of what they left" one_of_each
	lake_mount debian
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}
