#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Registries that break under readers: what is over before a reader's deadline costs time and nothing
# else; what is not ends in EIO; and what is well again needs nobody's help.

load lake
load network

setup() {
	lake_setup
	net_image
}
teardown() { lake_teardown; }

# Those that have something new to say; `make torture` goes through all of them.
QUICK='untold|"reset"\}|garbage|"401"|ignore|"short"|"flip"\}|"503", "fault_on"|redirect_valid'

@test "an outage shorter than the deadline costs time and nothing else, of whatever kind" {
	net_registry
	net_tarnd 'fault.deadline = 60s' 'http.stall_timeout = 1s' 'fill.readahead = 0'
	net_lake
	while read -r fault; do
		echo "$fault"
		net_short "$fault" 2
	done < <(grep -E "$QUICK" <<<"$NET_FAULTS")
	[ "$(counted events.failed)" = 0 ]
}

@test "a longer one ends in EIO after the deadline, and recovery needs no restart" {
	net_registry
	net_tarnd 'fault.deadline = 2s' 'http.stall_timeout = 1s' 'fill.readahead = 0' 'fault.warn = 1s'
	net_lake
	for fault in 500 flip; do
		echo "$fault"
		net_long "{\"fault\": \"$fault\"}"
		# Not before it: nobody is denied what may still come.
		[ "$NET_WAITED" -ge 1900 ]
	done
	grep -q '(cat) has waited for .*the server failed' "$RIG/tarnd.log"
	# One read, one deadline: the kernel asks a second time before the reader is told.
	net_cold
	net_down
	failed=$(counted events.failed)
	run dd if="$RIG/m/a/1" of=/dev/null bs=4096 count=1
	[[ $output == *"Input/output error"* ]]
	rig_wait 20 "both to be counted" net_has_failed $((failed + 2))
	[ "$(grep -c '(dd) has waited' "$RIG/tarnd.log")" = 1 ]
	rig_wait 20 "the log to say why" \
		grep -q 'not had before the deadline; .*Failed to connect' "$RIG/tarnd.log"
	# So it does where it reads ahead in pieces.
	net_cold
	said=$(grep -c '(cat) has waited' "$RIG/tarnd.log")
	run cat "$RIG/m/a/2"
	[[ $output == *"Input/output error"* ]]
	[ "$(grep -c '(cat) has waited' "$RIG/tarnd.log")" = $((said + 1)) ]
}

net_has_failed() { [ "$(counted events.failed)" = "$1" ]; }

# Each read of the same page that fails is a line: errno, and how many seconds it took.
reader_of_a_page() { # file
	python3 -uc '
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
while True:
    began = time.monotonic()
    try:
        sys.exit(0 if os.pread(fd, 4096, 65536) else 2)
    except OSError as e:
        print(e.errno, time.monotonic() - began)
' "$1" >"$RIG/failed" 2>&1 3>&- &
	LAKE_JOBS+=($!)
}

has_failed() { [ "$(wc -l <"$RIG/failed")" -ge "$1" ]; }

@test "who reads again at once after an EIO is waited for as long as before" {
	net_registry
	net_tarnd 'fault.deadline = 3s' 'http.stall_timeout = 1s' 'fill.readahead = 0'
	net_lake
	net_cold
	net_down
	reader_of_a_page "$RIG/m/a/1"
	rig_wait 60 "a reader that was denied four times" has_failed 4
	net_up
	wait "${LAKE_JOBS[-1]}"
	awk '$1 != 5 || $2 < 2.5 { exit 1 }' "$RIG/failed"
}

@test "a registry that is gone, and comes back: connections refused" {
	net_registry
	net_tarnd 'fault.deadline = 2s' 'fill.readahead = 0'
	net_lake
	net_cold
	net_down
	net_refused
	net_up
	net_recovers
	# And within the deadline nobody sees it.
	sed -i 's/2s/60s/' "$RIG/tarn.conf"
	kill -HUP "$TARND_PID"
	rig_wait 20 "the new settings" grep -q 'settings were read again' "$RIG/tarnd.log"
	net_cold
	net_down
	start_readers "$RIG/tree" "$RIG/m" -j 2 -m rm
	rig_wait 20 "a reader that waits" net_waits
	net_up
	wait_readers
}

net_waits() { [ "$(tarn status --waiting --json | jq '.waiting | length')" -gt 0 ]; }

@test "TLS that is cut off without a word is no end of a body" {
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$RIG/key" -out "$RIG/cert" -days 2 \
		-subj /CN=registry.test 2>/dev/null
	# To an address tarn speaks plain HTTP. The name is known to this mount namespace alone.
	printf '127.0.0.1 localhost registry.test\n' >"$RIG/hosts"
	mount --bind "$RIG/hosts" /etc/hosts
	RIG_MOUNTS+=(/etc/hosts)
	net_registry --cert "$RIG/cert" --key "$RIG/key"
	net_tarnd 'fault.deadline = 60s' 'http.stall_timeout = 1s' 'fill.readahead = 0'
	net_lake "registry.test:${REGISTRY#*:}/x" --tls-verify=false
	for fault in early untold; do
		net_short "{\"fault\": \"$fault\"}" 2
	done
	[ "$(counted events.failed)" = 0 ]
	umount /etc/hosts
	RIG_MOUNTS=("$TARN_RUNDIR")
}

@test "names that are not found for a while" {
	address=127.53.$((RANDOM % 200 + 1)).$((RANDOM % 200 + 1))
	echo ok >"$RIG/dns"
	python3 "$RIG_FIXTURES/dns.py" "$address" "$RIG/dns" >"$RIG/dns.log" 2>&1 </dev/null 3>&- &
	REGISTRY_PIDS+=($!)
	rig_wait 20 "the name server" grep -q listening "$RIG/dns.log"
	echo "nameserver $address" >"$RIG/resolv.conf"
	mount --bind "$RIG/resolv.conf" "$(realpath /etc/resolv.conf)"
	RIG_MOUNTS+=("$(realpath /etc/resolv.conf)")
	net_registry
	net_tarnd 'fault.deadline = 60s' 'http.stall_timeout = 1s' 'http.connect_timeout = 2s' \
		'fill.readahead = 0'
	net_lake "tarn-registry.test:${REGISTRY#*:}/x" --tls-verify=false
	for mood in servfail mute; do
		echo "$mood"
		# Nothing of it here, and no fetcher that knows the address or has a connection.
		lake_umount
		tarn -q evict --all
		stop_tarnd
		echo $mood >"$RIG/dns"
		start_tarnd --config "$RIG/tarn.conf"
		lake_mount x
		start_readers "$RIG/tree" "$RIG/m" -j 2 -m rm
		rig_wait 30 "trouble with the name" net_waits_for 'resolve|resolving'
		echo ok >"$RIG/dns"
		wait_readers
		[ "$(counted events.failed)" = 0 ]
	done
	umount "$(realpath /etc/resolv.conf)"
	RIG_MOUNTS=("$TARN_RUNDIR")
}

net_waits_for() { # pattern
	tarn status --waiting --json | jq -r '.waiting[].why' | grep -qiE "$1"
}

@test "Retry-After is honoured, in seconds and as a date" {
	net_registry
	net_tarnd 'fault.deadline = 60s' 'fill.readahead = 0'
	net_lake
	for after in 3 '"+4"'; do
		net_cold
		: >"$RIG/requests"
		registry_control "{\"fault\": \"429\", \"retry_after\": $after, \"fault_count\": 1}"
		dd if="$RIG/m/a/1" bs=4096 count=1 status=none | cmp -n 4096 - "$RIG/tree/a/1"
		jq -es '.[0].fault == "429" and .[1].time - .[0].time >= 2.9' "$RIG/requests"
	done
}

@test "one dead registry does not slow what another has" {
	net_registry
	net_tarnd 'fault.deadline = 100s' 'http.stall_timeout = 60s' 'fill.fetchers = 4' \
		'fill.readahead = 0'
	net_lake
	dead=$RIG/control first=${REGISTRY_PIDS[0]}
	start_other
	tarn -q pull --keep=none "docker://$REGISTRY/y" --name y
	mkdir "$RIG/n"
	lake_mount y "$RIG/n"
	# Readers of all its files, more of them than there are fetchers: each begins with one drawn
	# of eight, and of those with the same file one waits in the event, the others for a page.
	echo '{"fault": "mute"}' >"$dead"
	start_readers "$RIG/tree" "$RIG/m" -j 32 -m r -w 300
	rig_wait 30 "its readers" net_waiters 4
	# The other's are through before the first of these has even been given up.
	timeout 50 "$B/test/reader" -j 2 -m rm "$RIG/other" "$RIG/n"
	run grep 'no byte from the server' "$RIG/tarnd.log"
	[ "$status" = 1 ]
	net_waiters 4
	# It comes back, and its readers get what they waited for.
	kill -TERM "$first"
	rig_wait 20 "its end" rig_gone "$first"
	echo '{}' >"$dead"
	net_up
	wait_readers
}

net_waiters() { [ "$(tarn status --waiting --json | jq '.waiting | length')" -ge "$1" ]; }

# Another registry, with another image.
start_other() {
	mkdir "$RIG/other" "$RIG/second"
	head -c 1500000 /dev/urandom >"$RIG/other/file"
	tar -C "$RIG/other" -cf "$RIG/o.tar" .
	images_make_layout gzip '{}' "$RIG/o.tar" "$RIG/second/layout" >/dev/null
	python3 "$RIG_FIXTURES/registry.py" --layout "$RIG/second/layout" --ports "$RIG/second/ports" \
		>"$RIG/second.log" 2>&1 </dev/null 3>&- &
	REGISTRY_PIDS+=($!)
	rig_wait 20 "the other registry" test -s "$RIG/second/ports"
	REGISTRY=127.0.0.1:$(cut -d ' ' -f 1 "$RIG/second/ports")
}

@test "deadline = never: readers wait, are told of, can be killed, and get it in the end" {
	net_registry
	net_tarnd 'fault.deadline = never' 'fault.warn = 1s' 'fill.readahead = 0'
	net_lake
	net_cold
	net_down
	cat "$RIG/m/a/1" >"$RIG/got.1" 3>&- &
	first=$!
	cat "$RIG/m/a/3" >"$RIG/got.3" 3>&- &
	second=$!
	LAKE_JOBS+=("$first" "$second")
	rig_wait 30 "lines about both" net_told 2
	grep -qE "process $first \(cat\) has waited for [0-9]+ s for layer [0-9a-f]{12} span [0-9]+: 127.0.0.1:[0-9]+/x: " \
		"$RIG/tarnd.log"
	tarn status --waiting --json | jq -e --argjson pid "$first" '.waiting[] | select(.pid == $pid)
		| .since_ms >= 1000 and (.why | test("127.0.0.1:[0-9]+/x: .*onnect"))'
	tarn status --waiting | grep -E "^ *$first +cat .*onnect"
	# Killed, a reader is gone at once; what it had is given back by itself.
	kill -KILL "$second"
	rig_wait 20 "the end of the killed reader" rig_gone "$second"
	wait "$second" || [ $? = 137 ]
	rig_wait 60 "its slot" net_is_not_waited_for "$second"
	# The daemon can be stopped and started.
	net_restart
	sleep 3
	kill -0 "$first"
	[ "$(counted events.failed)" = 0 ]
	net_up
	wait "$first"
	cmp "$RIG/got.1" "$RIG/tree/a/1"
	# A blob that is gone is waited for, too.
	registry_control '{"fault": "404"}'
	cat "$RIG/m/b/1" >"$RIG/got.2" 3>&- &
	first=$!
	LAKE_JOBS+=("$first")
	rig_wait 30 "the word of it" net_waits_for 'not found'
	registry_control '{}'
	wait "$first"
	cmp "$RIG/got.2" "$RIG/tree/b/1"
}

net_told() { [ "$(grep -c 'has waited for' "$RIG/tarnd.log")" -ge "$1" ]; }

net_is_not_waited_for() { # pid
	tarn status --waiting --json | jq -e --argjson pid "$1" '[.waiting[] | select(.pid == $pid)] == []'
}

# As a service manager does it; what is mounted keeps the guardian.
net_restart() {
	kill -TERM "$TARND_PID"
	rig_wait 60 "the stop" grep -q 'tarnd.*stopped\|stays\|guardian' "$RIG/tarnd.log"
	sleep 2
	start_tarnd --config "$RIG/tarn.conf"
}

@test "a blob that has vanished is told of before anybody wants it, and is not evicted" {
	net_registry
	net_tarnd 'fault.deadline = 60s' 'http.check = 1s' 'fill.readahead = 0'
	net_lake
	cmp "$RIG/m/b/1" "$RIG/tree/b/1"
	[ "$(lost)" = 0 ]
	blob=$(tarn layers --json | jq -r 'map(select(.resident > 0))[0].blob')
	registry_control "{\"deleted\": [\"$blob\"]}"
	rig_wait 60 "a warning" has_lost 1
	grep -q 'warning: .*its blob has gone from where it came from (127.0.0.1:[0-9]*/x: .*not found' \
		"$RIG/tarnd.log"
	tarn status | grep -E '^warning +layer sha256:[0-9a-f]{12}: its blob has gone'
	[ "$(counted events.failed)" = 0 ]
	# What is here is served, the rest is EIO.
	cmp "$RIG/m/b/1" "$RIG/tree/b/1"
	run cat "$RIG/m/b/4"
	[ "$status" = 1 ]
	registry_control '{}'
	rig_wait 60 "the end of the warning" has_lost 0
	grep -q 'its blob can be had again' "$RIG/tarnd.log"
	cmp "$RIG/m/b/4" "$RIG/tree/b/4"
	# Not asked for: 0.
	sed -i 's/http.check.*/http.check = 0/' "$RIG/tarn.conf"
	kill -HUP "$TARND_PID"
	rig_wait 20 "the new settings" grep -q 'settings were read again' "$RIG/tarnd.log"
	sleep 2
	: >"$RIG/requests"
	sleep 3
	[ ! -s "$RIG/requests" ]
}

lost() { tarn status --json | jq '[.layers[] | select(.warning)] | length'; }
has_lost() { [ "$(lost)" = "$1" ]; }
