#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Parts of the daemon die under 8 readers of a cold image, once a second. A reader may wait; it never
# fails, never sees a wrong byte and is never forgotten.

load lake

setup() {
	lake_setup
	start_tarnd
	TREE=$(debian_tree)
	lake "$(image_debian gzip)" debian
}
teardown() { lake_teardown; }

# One of the named parts, each second in turn; what was killed goes to $RIG/killed.
killer() { # part...
	local i=0 parts=("$@") pid never
	# Waits for what never comes: a sleep of its own would outlive this process.
	exec {never}<> <(:)
	while :; do
		read -rt 1 -u "$never" || :
		pid=$(tarnd_pid "${parts[i++ % ${#parts[@]}]}" 2>/dev/null | shuf -n 1)
		[ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null && echo "$pid" >>"$RIG/killed"
	done
}

# Cold reads go on, from the start after each eviction, until there were so many kills.
read_under_fire() { # kills part...
	local kills=$1 rounds=0
	shift
	: >"$RIG/killed"
	killer "$@" 3>&- &
	LAKE_JOBS+=($!)
	until [ "$(wc -l <"$RIG/killed")" -ge "$kills" ]; do
		[ $((rounds += 1)) -le 20 ] || { echo "too few kills"; return 1; }
		readers "$TREE" "$RIG/m" -w 45
		rig_wait 30 "an eviction" tarn -q evict --all --wait
		drop_caches
	done
	kill "${LAKE_JOBS[-1]}"
	wait "${LAKE_JOBS[-1]}" || true
	unset 'LAKE_JOBS[-1]'
	# It is as good as new.
	readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 2
	[ "$(counted events.failed)" = 0 ]
}

@test "the engine" { read_under_fire 5 engine; }

@test "a fetcher" { read_under_fire 5 fetcher; }

@test "the keeper" { read_under_fire 5 keeper; }

pool_is() { [ "$(tarn status --json | jq '.daemon.fetcher_pids | length')" = "$1" ]; }

# The keeper replaces what died some moments later; it does not always live to.
@test "a fetcher, and the keeper before it has replaced it" {
	local size fetcher keeper
	size=$(tarn status --json | jq '.daemon.fetcher_pids | length')
	for _ in 1 2 3 4; do
		fetcher=$(tarnd_pid fetcher | head -n 1)
		keeper=$(tarnd_pid keeper)
		kill -KILL "$fetcher"
		sleep 0.03
		kill -KILL "$keeper"
		rig_wait 30 "a new keeper" rig_replaced keeper "$keeper"
		rig_wait 10 "a pool of $size" pool_is "$size"
	done
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	[ "$(counted events.failed)" = 0 ]
}

# Then nobody fetches anything, until the next keeper sees to it.
@test "all fetchers, and the keeper before it has replaced one" {
	local fetchers keeper
	mapfile -t fetchers < <(tarnd_pid fetcher)
	keeper=$(tarnd_pid keeper)
	kill -KILL "${fetchers[@]}"
	sleep 0.03
	kill -KILL "$keeper"
	start_readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	rig_wait 10 "a pool of ${#fetchers[@]}" pool_is "${#fetchers[@]}"
	wait_readers
	[ "$(counted events.failed)" = 0 ]
}

@test "engine, fetcher and keeper in turn" { read_under_fire 7 engine fetcher keeper; }

@test "the anchor and the guardian, once each" {
	start_readers "$TREE" "$RIG/m" -w 45
	sleep 0.5
	kill_tarnd anchor
	sleep 0.5
	kill_tarnd guardian
	wait_readers
	TARND_PID=$(tarnd_pid guardian)
	readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 2
	lake_umount
	kill -TERM "$TARND_PID"
	rig_wait 30 "the end of tarnd" rig_gone "$TARND_PID"
	TARND_PID=''
}

@test "readers that are killed while they wait" {
	local killed=0
	for _ in 1 2 3 4 5 6; do
		start_readers "$TREE" "$RIG/m"
		sleep 0.7
		# Its children die with it.
		if kill -KILL "$READERS"; then killed=$((killed + 1)); fi
		wait "$READERS" || true
		rig_wait 30 "an eviction" tarn -q evict --all --wait
		drop_caches
	done
	[ $killed -gt 0 ]
	readers "$TREE" "$RIG/m" -m rm
	[ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" = 0 ]
}

# An engine writes down what is there some seconds after the first of it; this one has none of them.
@test "what the engine that is killed had written, and not written down" {
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	kill_tarnd engine
	drop_caches
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	[ "$(counted bytes.fetched)" = 0 ]
	# Where nobody asks for it again, as it is in the page cache, it can be given back all the same.
	kill_tarnd engine
	tarn -q evict --all --wait
	[ "$(resident)" = 0 ]
	drop_caches
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
}

# What it is that kills the engine, nobody knows beforehand: the third of them is the last.
@test "an event that every engine dies of" {
	local offset ino starts
	mkdir "$RIG/tree" "$RIG/B"
	for f in one deadly two; do
		head -c 8M /dev/urandom >"$RIG/tree/$f"
	done
	tar -C "$RIG/tree" --sort=name -cf "$RIG/deadly.tar" .
	"$RIG_FIXTURES/mkimage.py" "$RIG/img" "$RIG/deadly.tar"
	offset=$(python3 -c 'import sys, tarfile
print(tarfile.open(sys.argv[1]).getmember("./deadly").offset_data + (4 << 20))' "$RIG/deadly.tar")
	tarn -q pull --keep=none "oci:$RIG/img:latest" --name deadly
	ino=$(find "$TARN_STORE" -name tar -size "$(stat -c %s "$RIG/deadly.tar")c" -printf '%i\n')
	lake_umount
	stop_tarnd
	ln -s "$B"/* "$RIG/B"
	ln -sfn "$B/test/tarnd-deadly" "$RIG/B/tarnd"
	# So that it is not the deadline that ends it.
	echo 'fault.deadline = 10m' >"$RIG/tarn.conf"
	TARN_DEADLY="$ino $offset" B=$RIG/B start_tarnd --config "$RIG/tarn.conf"
	lake_mount deadly "$RIG/d"
	lake_mount debian
	start_readers "$TREE" "$RIG/m" -w 120
	starts=$(counted engine_restarts)
	run timeout 120 dd if="$RIG/d/deadly" bs=4K skip=1024 count=1 status=none
	[ "$status" = 1 ]
	[[ $output == *"Input/output error"* ]]
	rig_wait 60 "an engine" counted engine_restarts
	[ $(($(counted engine_restarts) - starts)) -ge 3 ]
	# Nobody else noticed, and what is beside it can be had.
	wait_readers
	cmp "$RIG/tree/one" "$RIG/d/one"
	cmp "$RIG/tree/two" "$RIG/d/two"
	cmp -n 1M "$RIG/tree/deadly" "$RIG/d/deadly"
	[ "$(found errors)" = 0 ]
	[ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" = 0 ]
}
