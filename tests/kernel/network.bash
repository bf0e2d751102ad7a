# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Readers of an image whose registry breaks under them; for network.bats and `make torture`. After
# lake.bash:
#
#	net_image                     an image of two layers in $RIG/layout, its tree in $RIG/tree
#	net_registry [OPTION]...      registry.py with it; $REGISTRY; may be stopped and started again
#	net_tarnd LINE...             tarnd with these settings
#	net_lake [REFERENCE]          the image at $RIG/m, nothing of it here
#	net_short / net_long ...      one fault under a cold reader, shorter or longer than the deadline

# Each of these must be seen by nobody, when it is shorter than a reader's deadline: what the control
# file says (registry.py), without fault_count.
# shellcheck disable=SC2034  # for those who load this
NET_FAULTS='
{"fault": "slow", "fault_on": "token", "auth": "bearer", "token_valid": 1}
{"fault": "stall"}
{"fault": "stall", "fault_at": 0}
{"fault": "mute"}
{"fault": "reset"}
{"fault": "early"}
{"fault": "untold"}
{"fault": "drop"}
{"fault": "garbage"}
{"fault": "headers"}
{"fault": "429", "retry_after": 1}
{"fault": "429", "retry_after": "+2"}
{"fault": "429"}
{"fault": "500"}
{"fault": "502"}
{"fault": "503", "retry_after": 1}
{"fault": "504"}
{"fault": "401"}
{"fault": "403"}
{"fault": "416"}
{"fault": "ignore-range"}
{"fault": "short"}
{"fault": "long"}
{"fault": "shift"}
{"fault": "total"}
{"fault": "norange"}
{"fault": "coded"}
{"fault": "chunked-short"}
{"fault": "chunked-long"}
{"fault": "chunked-late"}
{"fault": "flip"}
{"fault": "503", "fault_on": "token", "auth": "bearer", "token_valid": 0.2}
{"fault": "mute", "fault_on": "token", "auth": "bearer", "token_valid": 0.2}
{"fault": "reset", "redirect": true}
{"fault": "flip", "redirect": true}
{"fault": "503", "redirect": true, "redirect_valid": 0.2}
'

# Contents that do not compress, so that a file is as much on the network.
net_image() {
	local i
	mkdir -p "$RIG/tree/a" "$RIG/tree/b"
	for i in {1..4}; do
		head -c 1000000 /dev/urandom >"$RIG/tree/a/$i"
		head -c 500000 /dev/urandom >"$RIG/tree/b/$i"
	done
	tar -C "$RIG/tree" -cf "$RIG/a.tar" a
	tar -C "$RIG/tree" -cf "$RIG/b.tar" b
	images_make_layout gzip '{}' "$RIG/a.tar" "$RIG/b.tar" "$RIG/layout" >/dev/null
}

net_registry() { # [registry.py options...]
	NET_OPTIONS=("$@")
	start_pyregistry "$RIG/layout" --at "${NET_PORTS:-0,0}" "$@"
	NET_PORTS=$(tr ' ' , <"$RIG/ports")
}

# It is not there any more: connections are refused; and again at the same place.
net_down() { rig_stop_registries; }
net_up() { net_registry "${NET_OPTIONS[@]}"; }

net_tarnd() { # line...
	printf '%s\n' "$@" >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
}

net_lake() { # [reference [pull options...]]
	tarn -q pull --keep=none "${@:2}" "docker://${1:-$REGISTRY/x}" --name x
	lake_mount x
}

# Nothing of it here, neither on disk nor in the page cache.
net_cold() {
	lake_umount
	tarn -q evict --all
	[ "$(resident)" = 0 ] || { echo "something is still here" >&2; return 1; }
	lake_mount x
}

# How many requests were answered wrongly so far.
net_hit() { grep -c '"fault": "' "$RIG/requests" || [ $? = 1 ]; }

# Reads all of it, cold, while the registry does wrong @count times; $RIG/readers.json has what was
# found. Fails when the registry never came to it, too.
net_short() { # control count [reader options...]
	local before
	net_cold || return
	before=$(net_hit)
	registry_control "$(jq -c --argjson n "$2" '. + {fault_count: $n}' <<<"$1")"
	readers "$RIG/tree" "$RIG/m" -j 2 -m rm "${@:3}" >/dev/null || return
	[ "$(net_hit)" -gt "$before" ] || { echo "no request was hit" >&2; return 1; }
}

# For as long as it takes: a reader must get EIO and nothing else; afterwards, all is well again
# without anybody's help. $NET_WAITED: how long the reader waited, in ms.
net_long() { # control
	local before
	net_cold || return
	before=$(net_hit)
	registry_control "$1"
	net_refused || return
	[ "$(net_hit)" -gt "$before" ] || { echo "no request was hit" >&2; return 1; }
	registry_control '{}'
	net_recovers
}

net_refused() {
	local start=${EPOCHREALTIME/[.,]/} said rc=0
	said=$(timeout 100 cat "$RIG/m/a/1" 2>&1 >"$RIG/got") || rc=$?
	# shellcheck disable=SC2034  # for those who load this
	NET_WAITED=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
	if [ $rc != 1 ] || [[ $said != *"Input/output error"* ]]; then
		echo "the reader ended with $rc: $said" >&2
		return 1
	fi
	cmp -n "$(stat -c %s "$RIG/got")" "$RIG/got" "$RIG/tree/a/1"
}

# Who comes while a source is still being left alone waits; nobody is stuck.
net_recovers() {
	readers "$RIG/tree" "$RIG/m" -j 2 -m rm -w 100 >/dev/null
}
