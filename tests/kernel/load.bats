#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Much at once: readers, containers, layers. TARN_LONG=1 makes it much more.

load lake

setup() {
	lake_setup
	QUEUE=/proc/sys/fs/fanotify/max_queued_events
	QUEUED=$(cat "$QUEUE")
}

teardown() {
	echo "$QUEUED" >"$QUEUE"
	lake_teardown
}

settings() { # line...
	printf '%s\n' "$@" >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
}

# A layout with one file of random bytes, which also lies in $RIG/NAME.dir.
big_layout() { # name MiB
	mkdir "$RIG/$1.dir"
	head -c "$2M" /dev/urandom >"$RIG/$1.dir/big"
	layout_of "$1" "$RIG/$1.dir"
}

layout_of() { # name directory
	tar -C "$2" --format=gnu -cf "$RIG/$1.tar" .
	"$RIG_FIXTURES/mkimage.py" --fresh --compression tar "$RIG/$1.layout" "$RIG/$1.tar"
}

# An image whose content is all at the registry, mounted at $RIG/m.
lake_at_registry() { # layout
	start_pyregistry "$1"
	tarn -q pull --keep=none --name x "docker://$REGISTRY/x"
	lake_mount x
	: >"$RIG/requests"
}

start_crowd() { # N
	"$B/test/crowd" "$1" "$RIG/x.dir/big" "$RIG/m/big" >"$RIG/crowd.json" \
		2>"$RIG/crowd.log" 3>&- &
	CROWD=$!
	LAKE_JOBS+=("$CROWD")
}

wait_crowd() {
	local rc=0
	wait "$CROWD" || rc=$?
	cat "$RIG/crowd.json"
	head -n 5 "$RIG/crowd.log"
	return $rc
}

waiting() { tarn status --waiting --json | jq '.waiting | length'; }
none_waits() { [ "$(waiting)" = 0 ]; }
some_wait() { [ "$(waiting)" -ge "$1" ]; }

# How many threads of the crowd the kernel has put to sleep over a page.
blocked() { cat "/proc/$CROWD/task"/*/wchan 2>/dev/null | grep -o fanotify_handle_event | wc -l; }
some_blocked() { [ "$(blocked)" -ge "$1" ]; }

# No byte of a blob crossed the network twice.
fetched_once() {
	python3 - "$RIG/requests" <<-'END'
		import json, re, sys
		seen = {}
		for line in open(sys.argv[1]):
		    r = json.loads(line)
		    m = re.fullmatch(r"bytes=(\d+)-(\d+)", r["range"])
		    if "/blobs/" in r["path"] and m and r["sent"]:
		        blob = r["path"].rsplit("/", 1)[1].split("?")[0]
		        seen.setdefault(blob, []).append((int(m[1]), int(m[2])))
		if not seen:
		    sys.exit("nothing was fetched")
		for blob, ranges in seen.items():
		    ranges.sort()
		    for a, b in zip(ranges, ranges[1:]):
		        if b[0] <= a[1]:
		            sys.exit(f"{blob}: {a} and {b} were both fetched")
		print(sum(map(len, seen.values())), "ranges, each once")
	END
}

@test "1,000 readers that wait at once" {
	big_layout x 32
	settings 'fault.deadline = 200s' 'http.stall_timeout = 1s'
	lake_at_registry "$RIG/x.layout"
	registry_control '{"fault":"mute"}'
	start_crowd 1000
	rig_wait 60 "1,000 that wait" some_wait 1000
	registry_control '{}'
	wait_crowd
	none_waits
	fetched_once
	[ "$(counted events.failed)" = 0 ]
	lake_umount
}

# Clients that say nothing; those who are not accepted wait in the socket's backlog.
start_idlers() { # N
	python3 - "$TARN_SOCKET" "$1" "$RIG/idle" 3>&- <<-'END' &
		import socket, sys, time
		socks = []
		for i in range(int(sys.argv[2])):
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.setblocking(False)
		    try:
		        s.connect(sys.argv[1])
		    except BlockingIOError:
		        break
		    socks.append(s)
		open(sys.argv[3], "w").close()
		time.sleep(100)
	END
	IDLERS=$!
	LAKE_JOBS+=("$IDLERS")
	rig_wait 60 "idle clients" test -e "$RIG/idle"
}

# 256 descriptors are 64 events, 16 clients and 32 layers.
@test "more readers than descriptors, and clients that want the rest" {
	ulimit -n 256
	big_layout x 16
	settings 'fault.deadline = 200s' 'http.stall_timeout = 1s'
	grep -q 'at most 256 descriptors may be open: 64 readers' "$RIG/tarnd.log"
	lake_at_registry "$RIG/x.layout"
	registry_control '{"fault":"mute"}'
	start_idlers 150
	start_crowd 400
	rig_wait 60 "400 readers in the kernel" some_blocked 400
	sleep 1
	kill "$IDLERS"
	# Those in the queue are not lost sight of for the ones in the slots.
	rig_wait 60 "full slots" some_wait 64
	[ "$(waiting)" = 64 ]
	grep -q 'wait for content, and no more can be looked at now' "$RIG/tarnd.log"
	engine=$(tarnd_pid engine)
	[ "$(find "/proc/$engine/fd" -type l | wc -l)" -lt 240 ]
	# Descriptors are left for another image, and its content where it is.
	mkdir "$RIG/y.dir"
	echo hello >"$RIG/y.dir/file"
	layout_of y "$RIG/y.dir"
	tarn -q pull --keep=all --name y "oci:$RIG/y.layout:latest"
	lake_mount y "$RIG/y"
	[ "$(timeout 60 cat "$RIG/y/file")" = hello ]
	tarn umount "$RIG/y"
	registry_control '{}'
	wait_crowd
	none_waits
	fetched_once
	[ "$(counted events.failed)" = 0 ]
	[ "$(tarnd_pid engine)" = "$engine" ]
	lake_umount
}

@test "more events than the kernel queues by default" {
	big_layout x 16
	echo 4 >"$QUEUE"
	start_tarnd
	echo "$QUEUED" >"$QUEUE"
	lake "$RIG/x.layout" x
	engine=$(tarnd_pid engine)
	kill -STOP "$engine"
	start_crowd 200
	rig_wait 60 "200 readers in the kernel" some_blocked 200
	kill -CONT "$engine"
	wait_crowd
	[ "$(counted events.failed)" = 0 ]
	lake_umount
}

run_one() { # image number
	timeout 200 "$B/tarn" run --rm --name "load-$2-${RIG##*.}" -e GREETING=hello "$1" /bin/probe env \
		>"$RIG/run.$2" 2>&1 && grep -q 'GREETING=hello$' "$RIG/run.$2"
}

@test "many containers at once from one cold image" {
	need runc
	local n=${TARN_LONG:+200} pids=() i bad=0
	n=${n:-30}
	settings 'fault.deadline = 200s'
	start_pyregistry "$(image_tiny tar)"
	tarn -q pull --keep=none --name x "docker://$REGISTRY/x"
	: >"$RIG/requests"
	for ((i = 0; i < n; i++)); do
		run_one x "$i" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || bad=$((bad + 1))
	done
	[ $bad = 0 ] || { tail -n 2 "$RIG"/run.*; false; } >&2
	fetched_once
	[ "$(counted events.failed)" = 0 ]
	rig_wait 60 "the unmounting of layers" lake_is_dry
}

start_time() { # image number
	local t0=${EPOCHREALTIME/./}
	run_one "$1" "$2" || { cat "$RIG/run.$2"; return 1; }
	echo $(((${EPOCHREALTIME/./} - t0) / 1000))
}

# Of the first image's requests, how many were begun between the first and the last of the second's?
# The two lines of the log that matter are at most so far apart as these took turns.
overtaken() { # digests-of-a digests-of-b
	python3 - "$RIG/requests" "$1" "$2" <<-'END'
		import json, sys
		log = [json.loads(line) for line in open(sys.argv[1])]
		who = [("a" if any(d in r["path"] for d in sys.argv[2].split()) else
		        "b" if any(d in r["path"] for d in sys.argv[3].split()) else "")
		       for r in log if r["range"]]
		bs = [i for i, w in enumerate(who) if w == "b"]
		print(len(bs), who[bs[0]:bs[-1]].count("a") if bs else 0, who.count("a"))
	END
}

grep_for_ever() { # image
	while [ ! -e "$RIG/enough" ]; do
		find "$RIG/m" -type f -print0 | xargs -0 -P 8 -n 10 grep -c xyzzy ||
			[ $? = 123 ] # nothing matched
		tarn -q evict "$1" --wait
	done >/dev/null 2>&1
}

# Digests of the blobs of a tag of the layout.
layer_blobs() { # tag
	local m
	m=$(jq -r --arg t "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $t) | .digest' \
		"$RIG/a.layout/index.json")
	jq -r '.layers[].digest' "$RIG/a.layout/blobs/sha256/${m#sha256:}" | tr '\n' ' '
}

@test "a cold start beside those who read all of another image, and beside a pull" {
	need runc
	local alone beside b between all tiny readers pull i
	tiny=$(images_once "$TARN_TEST_CACHE/tiny.tar" images_make_tiny_tar)
	mkdir "$RIG/a.dir"
	for i in {1..80}; do
		head -c 300K /dev/urandom >"$RIG/a.dir/$i"
	done
	layout_of a "$RIG/a.dir"
	mkdir "$RIG/c.dir"
	head -c 1M /dev/urandom >"$RIG/c.dir/file"
	layout_of c "$RIG/c.dir"
	"$RIG_FIXTURES/mkimage.py" --tag b --compression gzip "$RIG/a.layout" "$tiny"
	settings 'fault.deadline = 200s' 'fill.readahead = 0'
	start_pyregistry "$RIG/a.layout"
	tarn -q pull --keep=none --name a "docker://$REGISTRY/x:latest"
	tarn -q pull --keep=none --name b "docker://$REGISTRY/x:b"
	registry_control '{"delay":0.1}'
	alone=$(start_time b 0)
	tarn -q evict b
	lake_mount a
	# A pull that does not come to its end meanwhile, of yet another image.
	echo '{"fault":"stall"}' >"$RIG/control.c"
	python3 "$RIG_FIXTURES/registry.py" --layout "$RIG/c.layout" --ports "$RIG/ports.c" \
		--control "$RIG/control.c" --log "$RIG/requests.c" >/dev/null 2>&1 </dev/null 3>&- &
	REGISTRY_PIDS+=($!)
	rig_wait 20 "a registry" test -s "$RIG/ports.c"
	tarn -q pull "docker://127.0.0.1:$(cut -d ' ' -f 1 "$RIG/ports.c")/c" >/dev/null 2>&1 3>&- &
	pull=$!
	: >"$RIG/requests"
	grep_for_ever a 3>&- &
	readers=$!
	LAKE_JOBS+=("$pull" "$readers")
	rig_wait 60 "what the readers ask for" grep -q '"range": "bytes' "$RIG/requests"
	beside=$(start_time b 1)
	read -r b between all < <(overtaken "$(layer_blobs latest)" "$(layer_blobs b)")
	echo "# a cold start: $alone ms alone, $beside ms beside 8 greps ($b requests, and $between of the others' $all meanwhile)" >&3
	[ "$b" -gt 0 ]
	# Layers take turns: whoever asks for one span at a time waits for one of the others' each time,
	# in each of the fetchers.
	[ "$between" -le $((b * 2 * ($(tarnd_pid fetcher | wc -l) + 1) + 8)) ]
	kill -0 "$pull"
	kill "$pull"
	registry_control '{}'
	touch "$RIG/enough"
	wait "$readers"
	lake_umount
}

# Images of 125 layers with a file each, pulled as 0, 1, ...
pull_many() { # images
	local i
	python3 - "$RIG" "$1" <<-'END'
		import io, sys, tarfile
		for i in range(int(sys.argv[2]) * 125):
		    with tarfile.open(f"{sys.argv[1]}/layer.{i // 125}.{i % 125}.tar", "w") as t:
		        data = b"%d" % i * 100
		        info = tarfile.TarInfo(f"file.{i % 125}")
		        info.size = len(data)
		        t.addfile(info, io.BytesIO(data))
	END
	for ((i = 0; i < $1; i++)); do
		"$RIG_FIXTURES/mkimage.py" --tag "$i" --compression tar "$RIG/many" \
			"$RIG/layer.$i".*.tar
		tarn -q pull --keep=none --name "$i" "oci:$RIG/many:$i"
	done
}

@test "a store with very many layers starts, serves and lists them" {
	local images=${TARN_LONG:+80} before after
	images=${images:-4}
	start_tarnd
	pull_many "$images" >/dev/null
	stop_tarnd
	start_tarnd
	before=$(memory)
	[ "$(tarn layers --json | jq length)" = $((images * 125)) ]
	[ "$(tarn images --json | jq length)" = "$images" ]
	lake_mount 1
	[ "$(head -c 4 "$RIG/m/file.7")" = 1321 ]
	lake_umount
	after=$(memory)
	echo "# $((images * 125)) layers: $before KiB after the start, $after KiB after use" >&3
	# What is not mounted costs nothing that stays.
	[ "$after" -lt $((before + 16384)) ]
}

# Of the engine, in KiB.
memory() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$(tarnd_pid engine)/status"; }
