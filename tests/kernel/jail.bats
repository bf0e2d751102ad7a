#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What each process of tarnd may do, and what becomes of one that tries more. tests/unit/test_isolate.c
# has every attempt; here they are made by a daemon at work, whose readers must not notice.

load lake

setup() { lake_setup; }
teardown() { lake_teardown; }

# A daemon that does what $RIG/order tells it to (tests/hostile/exploit.c).
start_exploit() {
	mkdir "$RIG/B"
	ln -s "$B"/* "$RIG/B"
	ln -sfn "$B/test/tarnd-exploit" "$RIG/B/tarnd"
	head -c 4096 /dev/zero >"$RIG/order"
	TARN_EXPLOIT=$RIG/order B=$RIG/B start_tarnd
	mapfile -t ATTEMPTS < <(TARN_EXPLOIT=list "$B/test/tarnd-exploit")
	[ ${#ATTEMPTS[@]} -gt 40 ]
	TREE=$(debian_tree)
	lake "$(image_debian gzip-multi)" debian
	# Cold files, far apart, in no order.
	mapfile -t COLD < <(cd "$TREE" && find usr -type f -size +60k -size -600k | sort -R --random-source=<(yes))
	NEXT=0
}

# Reads another file, and finds the right bytes there.
read_cold() {
	cmp "$TREE/${COLD[NEXT]}" "$RIG/m/${COLD[NEXT]}"
	NEXT=$((NEXT + 1))
}

outcome() { od -An -tu1 -j2 -N1 "$RIG/order" | tr -d ' '; }

give_order() { # who number
	printf "%b" "$1\\x$(printf %x "$2")\\x00" |
		dd of="$RIG/order" conv=notrunc bs=3 status=none
}

order() { # who number
	give_order "$@"
	for _ in {1..30}; do
		read_cold || return
		[ "$(outcome)" = 0 ] || return 0
	done
	echo "nobody made the attempt"
	return 1
}

number_of() { # name
	local i
	for i in "${!ATTEMPTS[@]}"; do
		[ "${ATTEMPTS[i]}" != "$1" ] || { echo "$i"; return; }
	done
	return 1
}

pids() { tarnd_pid "$1" | tr '\n' ' '; }

# None got through; those that were not just refused ended the process, and the next one serves.
attempt() { # engine|fetcher name
	local before out
	before=$(pids "$1")
	order "${1:0:1}" "$(number_of "$2")"
	out=$(outcome)
	case $out in
	1) rig_wait 30 "another $1" rig_others "$1" "$before" ;;
	2) ;;
	*) echo "$1: $2: it got through"; return 1 ;;
	esac
	read_cold
	echo "# $1: $2: $([ "$out" = 1 ] && echo ended || echo refused)" >&3
}

rig_others() { # who pids
	local now
	now=$(pids "$1" 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$2" ]
}

attempts() { # engine|fetcher names...
	local who=$1 name keeper guardian
	shift
	[ -z "${TARN_LONG-}" ] || set -- "${ATTEMPTS[@]}"
	keeper=$(tarnd_pid keeper) guardian=$(tarnd_pid guardian)
	for name; do
		[[ $name == *'(not of a fetcher)' ]] || attempt "$who" "$name"
	done
	[ "$(tarnd_pid keeper) $(tarnd_pid guardian)" = "$keeper $guardian" ]
	[ "$(counted events.failed)" = 0 ]
}

@test "an engine that was taken over" {
	start_exploit
	attempts engine open exec "exec from memory" ptrace mount AF_UNIX "a user namespace"
}

@test "a fetcher that was taken over" {
	start_exploit
	attempts fetcher open "write a file" exec "exec from memory" "memory made executable" ptrace \
		kill tgkill fork setuid "a user namespace" mount AF_UNIX AF_PACKET AF_NETLINK \
		"a datagram pair, connected elsewhere" bpf io_uring
}

# --- those that parse what an image brings, before any of it is mounted ---------------------------

FORBIDDEN=(open "write a file" exec ptrace kill mount AF_UNIX)

# A command during which who parses for it makes the attempt. If that ended him, the command fails
# and says so; else it never noticed.
attempt_during() { # who name what-it-says command...
	local who=$1 name=$2 says=$3 rc=0
	shift 3
	give_order "$who" "$(number_of "$name")"
	"$@" >"$RIG/said" 2>&1 || rc=$?
	case $(outcome) in
	0) echo "$who: $name: nobody made the attempt"; return 1 ;;
	1) [ $rc != 0 ] && grep -qF "$says" "$RIG/said" ;;
	2) [ $rc = 0 ] ;;
	*) echo "$who: $name: it got through"; return 1 ;;
	esac || { echo "$who: $name: $rc, $(cat "$RIG/said")"; return 1; }
}

# Everything anew, also the index of its one layer.
pull_tiny() { # source [options]
	tarn -q rm tiny 2>/dev/null || true
	tarn -q gc
	tarn -q pull --keep=none --name tiny "$@"
}

only_the_pool() { [ "$(lake_tarnd_pids | wc -l)" = $((4 + $(tarnd_pid fetcher | wc -l))) ]; }

core_pids() { echo "$(tarnd_pid guardian) $(tarnd_pid keeper) $(tarnd_pid anchor) $(tarnd_pid engine)"; }

attempt_in_pull() { # job what
	local from=(--tls-verify=false "$REGISTRY/tiny:latest")
	[ "$1" != l ] || from=("oci:$(image_tiny):latest")
	attempt_during "$1" "$2" "the fetcher died" pull_tiny "${from[@]}" || return
	# Of an image that could not be pulled there is nothing.
	[ "$(outcome)" = 2 ] || ! tarn images --json | grep -q '"tiny"'
}

@test "fetchers that are taken over by what a pull brings" {
	local name job core
	start_exploit
	start_pyregistry "$(image_tiny)"
	core=$(core_pids)
	# What a manifest says, and a layer; then a layout, a manifest, a config and what it says.
	for name in "${FORBIDDEN[@]}"; do
		for job in m i ${TARN_LONG:+l r b c}; do
			attempt_in_pull $job "$name"
		done
		read_cold
	done
	for job in l r b c; do
		attempt_in_pull $job exec
	done
	pull_tiny --tls-verify=false "$REGISTRY/tiny:latest"
	[ "$(core_pids)" = "$core" ]
	rig_wait 10 "the end of a pull's fetchers" only_the_pool
	[ "$(counted events.failed)" = 0 ]
}

@test "a child of tarn that is taken over by an image's config or passwd" {
	local name who dir=$RIG/bundle
	start_tarnd
	image_tiny >/dev/null
	"$RIG_FIXTURES/mkimage.py" --config '{"User":"app"}' "$RIG/layout" "$TARN_TEST_CACHE/tiny.tar"
	tarn -q pull "oci:$RIG/layout:latest" --name tiny
	head -c 4096 /dev/zero >"$RIG/order"
	mapfile -t ATTEMPTS < <(TARN_EXPLOIT=list "$B/test/tarn-exploit")
	# It looks for tarn-hook beside itself.
	cp "$B/test/tarn-exploit" "$RIG/tarn"
	ln -s "$B/tarn-hook" "$RIG/tarn-hook"
	for name in "${FORBIDDEN[@]}"; do
		for who in c a; do
			attempt_during $who "$name" "the process that parses image data ended" \
				env TARN_EXPLOIT="$RIG/order" "$RIG/tarn" bundle tiny "$dir" -- /bin/probe
			[ "$(outcome)" = 2 ] || [ ! -e "$dir" ]
			rm -rf "$dir"
		done
	done
	tarn bundle tiny "$dir" -- /bin/probe
	jq -e '.process.user.uid == 1000' "$dir/config.json"
}

# --- what it shares -------------------------------------------------------------------------------

# Counts without bounds, groups that are none, "no engine has ever come up", "the keeper is an
# engine": guardian and keeper, which are root, go on, and so does the next engine.
@test "an engine that writes over what it shares with the keeper" {
	start_exploit
	keeper=$(tarnd_pid keeper) guardian=$(tarnd_pid guardian)
	order e 255
	rig_wait 30 "another engine" read_cold
	kill_tarnd anchor
	read_cold
	[ "$(tarnd_pid keeper) $(tarnd_pid guardian)" = "$keeper $guardian" ]
	rig_gone "$keeper" && return 1
	tarn images
}

field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' '; }

# The capabilities that plugin/isolate.c lists.
KEEPER_CAPS=00000000902400ff

show_status() { # who pid
	printf '# %-9s %-21s' "$1" "uid $(field "$2" Uid | cut -d ' ' -f 2)"
	printf ' %s' "eff $(field "$2" CapEff)" "prm $(field "$2" CapPrm)" "bnd $(field "$2" CapBnd)"
	printf ' seccomp %s filters %s nnp %s groups [%s]\n' "$(field "$2" Seccomp)" \
		"$(field "$2" Seccomp_filters)" "$(field "$2" NoNewPrivs)" "$(field "$2" Groups)"
}

NONE=0000000000000000
expect_rights() { # pid uid capabilities seccomp filters
	[ "$(field "$1" Uid)" = "$2 $2 $2 $2" ]
	[ "$2" = 0 ] || [ "$(field "$1" Gid | cut -d ' ' -f 1)" != 0 ]
	[ "$(field "$1" CapEff) $(field "$1" CapPrm)" = "$3 $3" ]
	[ "$(field "$1" CapBnd) $(field "$1" CapAmb) $(field "$1" CapInh)" = "$NONE $NONE $NONE" ]
	[ "$(field "$1" Seccomp) $(field "$1" Seccomp_filters)" = "$4 $5" ]
	[ "$(field "$1" NoNewPrivs)" = 1 ]
}

@test "/proc/PID/status of the five" {
	local who pid
	start_tarnd
	engine_uid=$(id -u tarn-engine 2>/dev/null || echo 1999000001)
	fetch_uid=$(id -u tarn-fetch 2>/dev/null || echo 1999000002)
	for who in guardian keeper anchor engine fetcher; do
		for pid in $(tarnd_pid "$who"); do
			show_status "$who" "$pid" >&3
		done
	done
	# The engine, whose root directory is /proc, can say of each of them how much it uses.
	[ "$(tarn status --json | jq '.daemon.processes | length')" -ge 5 ]
	expect_rights "$(tarnd_pid guardian)" 0 $KEEPER_CAPS 0 0
	expect_rights "$(tarnd_pid keeper)" 0 $KEEPER_CAPS 0 0
	expect_rights "$(tarnd_pid anchor)" "$engine_uid" $NONE 2 1
	expect_rights "$(tarnd_pid engine)" "$engine_uid" $NONE 2 2
	for pid in $(tarnd_pid engine) $(tarnd_pid anchor); do
		[ -z "$(field "$pid" Groups)" ]
		[ "$(readlink "/proc/$pid/root")" = /proc ]
	done
	# Every thread of it.
	for pid in /proc/"$(tarnd_pid engine)"/task/*; do
		grep -q '^Seccomp_filters:[[:space:]]*2$' "$pid/status"
	done
	for pid in $(tarnd_pid fetcher); do
		expect_rights "$pid" "$fetch_uid" $NONE 2 1
		[ -z "$(field "$pid" Groups)" ]
		[ "$(readlink "/proc/$pid/root")" = "$TARN_STORE/resolver" ]
	done
}
