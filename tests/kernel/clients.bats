#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Clients of the control socket that stall or flood: readers do not notice, and others are served.

load lake

MIB=32

setup() {
	lake_setup
	mkdir "$RIG/x.dir"
	head -c ${MIB}M /dev/urandom >"$RIG/x.dir/big"
	tar -C "$RIG/x.dir" --format=gnu -cf "$RIG/x.tar" .
	"$RIG_FIXTURES/mkimage.py" --fresh "$RIG/x.layout" "$RIG/x.tar"
	start_tarnd
	lake "$RIG/x.layout" x
	ENGINE=$(tarnd_pid engine)
	OPEN=$(descriptors)
}

teardown() { lake_teardown; }

descriptors() { find "/proc/$ENGINE/fd" -type l | wc -l; }
no_more_than_before() { [ "$(descriptors)" -le "$OPEN" ]; }

# Says how many requests it has made, one number a line, until it is killed.
# Those who stall are silent in larger numbers than are served at once, until they are dropped.
start_clients() { # stall|flood [uid]
	local how=$1
	python3 - "$TARN_SOCKET" "$how" "${2:-0}" >"$RIG/clients.$how" 3>&- <<-'END' &
		import itertools, os, signal, socket, sys
		path, how, uid = sys.argv[1:]
		os.setgroups([])
		os.setgid(int(uid))
		os.setuid(int(uid))
		signal.signal(signal.SIGPIPE, signal.SIG_IGN)
		kinds = [b"", b"{", b"\0" * 4096, b"[" * 100000, b"x" * 140000,
		         b'{"verb":"status"}', b'{"verb":"layers"}', b'{"verb":"no such"}', None]

		def client(data):
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.connect(path)
		    try:
		        if data is not None:
		            s.send(data)
		    except OSError:
		        pass  # refused, or gone already
		    return s

		stalled = []
		for n in itertools.count(1):
		    if how == "stall" and n > 350:
		        break
		    # Most of the stalled say nothing, some ask and never read.
		    s = client(kinds[n % len(kinds)] if how == "flood" else None if n % 4 else kinds[5])
		    if how == "stall":
		        stalled.append(s)
		    else:
		        s.close()
		    if n % 50 == 0:
		        print(n, flush=True)
		signal.pause()
	END
	CLIENTS=$!
	LAKE_JOBS+=("$CLIENTS")
	rig_wait 60 "clients that $how" clients_made "$how" 349
}

clients_made() { [ "$(tail -n 1 "$RIG/clients.$1")" -gt "$2" ] 2>/dev/null; }

# Every byte is brought in, and right, while they are there.
readers_see_nothing() {
	readers "$RIG/x.dir" "$RIG/m"
	kill -0 "$CLIENTS"
	[ "$(tarnd_pid engine)" = "$ENGINE" ]
	timeout 60 "$B/tarn" status --json >"$RIG/status"
	jq -e '.daemon.events | .failed == 0 and .misses > 0' "$RIG/status"
}

nothing_is_left() {
	kill "$CLIENTS"
	rig_wait 30 "the end of their connections" no_more_than_before
	[ "$(tarnd_pid engine)" = "$ENGINE" ]
	lake_umount
}

@test "clients that say nothing, and clients that never read" {
	start_clients stall
	[ "$(descriptors)" -gt "$OPEN" ]
	readers_see_nothing
	nothing_is_left
}

@test "clients that flood, with what is no request and what is one" {
	local made
	start_clients flood
	made=$(tail -n 1 "$RIG/clients.flood")
	readers_see_nothing
	rig_wait 60 "more of them" clients_made flood "$made"
	nothing_is_left
}

@test "a flood of users who may not use it" {
	chmod 666 "$TARN_SOCKET"
	start_clients flood 4242
	readers_see_nothing
	nothing_is_left
	grep -q 'control: uid 4242 (pid [0-9]*) is not allowed' "$RIG/tarnd.log"
}
