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
		if pkill -KILL -P "$READERS"; then killed=$((killed + 1)); fi
		wait "$READERS" || true
		rig_wait 30 "an eviction" tarn -q evict --all --wait
		drop_caches
	done
	[ $killed -gt 0 ]
	readers "$TREE" "$RIG/m" -m rm
	[ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" = 0 ]
}
