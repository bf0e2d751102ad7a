#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Under systemd the file descriptor store of the service has what the guardian holds. Every process
# of tarnd is killed in the same instant, and the next one is born with all of it: readers wait, and
# nobody sees zeros. The manager is tests/fixtures/systemd.py, the unit is the real one.

load lake

UNIT=$RIG_TOP/plugin/tarnd.service
FIXED='content exec inotify slots ward'

setup() {
	lake_setup
	TREE=$(debian_tree)
}
teardown() {
	lake_umount_all
	sd stop >/dev/null || true
	sd quit 2>/dev/null || true
	[ -z "${MANAGER-}" ] || wait "$MANAGER" || true
	rig_wait 30 "the end of what lingers" nobody_is_there || true
	lake_teardown
}

lake_umount_all() {
	local dir
	for dir in "$RIG/m" "$RIG/n"; do
		! mountpoint -q "$dir" || umount "$dir"
	done
}

manager() { # [Setting=value...]
	install -d -m 700 "$TARN_STORE"
	mkdir -p "$RIG/sd"
	"$RIG_FIXTURES/systemd.py" serve "$RIG/sd" "$UNIT" "$@" -- "$B/tarnd" \
		--store "$TARN_STORE" --socket "$TARN_SOCKET" \
		>>"$RIG/tarnd.out" 2>>"$RIG/tarnd.log" </dev/null 3>&- &
	MANAGER=$!
	rig_wait 10 "the manager" test -S "$RIG/sd/control"
}

sd() { "$RIG_FIXTURES/systemd.py" "$RIG/sd" "$@"; }

shown() { sd show | jq -er "$@"; }

nobody_is_there() { [ -z "$(lake_tarnd_pids)" ]; }

# The names of what is stored: one of each, and nothing that is not of a mounted layer. What is on
# its way out may be there for a moment.
store_is_right() { rig_wait 20 "the store to have what is mounted" store_fits; }

store_fits() {
	local layers
	layers=$(tarn status --json | jq '[.layers[] | select(.mounted)] | length') &&
		shown --argjson n "$layers" --arg fixed "$FIXED" '.refused == [] and
			(.store | length == (unique | length) and length == 5 + 3 * $n and
				([.[] | select(startswith("layer-") | not)] | sort | join(" ")) == $fixed)'
}

# Who is served by a layer that was lost reads zeros; nobody is to.
nothing_was_lost() {
	[ -z "$(tarn status --json | jq -r '.lost[]?')" ]
	[ ! -e "$TARN_STORE/lost" ]
	! grep -q 'every process of tarnd was killed' "$RIG/tarnd.log"
}

all_is_right() {
	end_readers
	[ "$(found wrong)" = 0 ]
	[ "$(found errors)" = 0 ]
	[ "$(found stuck)" = 0 ]
	nothing_was_lost
	store_is_right
	# What is idle can be proved to be: the superblock is the one that the readers go through.
	before=$(resident)
	tarn evict --all --wait --json >&2
	[ "$(resident)" -lt "$before" ]
	drop_caches
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	[ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" = 0 ]
}

many_wait() { [ "$(tarn status --waiting --json | jq '[.waiting[]?] | length')" -ge 4 ]; }

@test "all at once, with readers in the middle of a fault" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	store_is_right
	readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	mapfile -t fetchers < <(tarnd_pid fetcher)
	kill -STOP "${fetchers[@]}"
	start_readers "$TREE" "$RIG/m" -t -w 120
	rig_wait 30 "readers that wait" many_wait
	crash_tarnd
	readers_run
	sd start
	all_is_right
	readers "$TREE/usr/lib" "$RIG/m/usr/lib" -m mx -j 4
	grep -q 'took over what systemd kept' "$RIG/tarnd.log"
	# A new one of the same image goes through the same superblock.
	lake_mount debian "$RIG/n"
	store_is_right
	tarn umount "$RIG/n"
}

@test "all at once, at any moment, again and again" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	for _ in 1 2 3; do
		start_readers "$TREE" "$RIG/m" -t -w 120
		for _ in 1 2 3; do
			read -rt "$((RANDOM % 2)).$((RANDOM % 10))" <> <(:) || :
			crash_tarnd
			sd start
		done
		all_is_right
	done
}

@test "stop, start and restart with a container" {
	for preserve in yes restart; do
		manager "FileDescriptorStorePreserve=$preserve"
		sd start
		[ $preserve = restart ] || lake "$(image_debian gzip)" debian
		[ $preserve = yes ] || lake_mount debian
		start_readers "$TREE" "$RIG/m" -t -w 120
		sd stop
		rig_wait 10 "the end of all but the guardian" tarnd_processes 1
		[ $preserve = yes ] || shown '.store == []'
		readers_run
		sd start
		sd restart
		all_is_right
		# All at once, it is as if it had never been stopped.
		crash_tarnd
		sd start
		nothing_was_lost
		readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 2
		lake_umount
		sd stop
		shown '.store == []'
		sd quit
		wait "$MANAGER"
		MANAGER=''
		rm -r "$RIG/sd"
	done
}

@test "the guardian that stays behind at a stop is killed" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	start_readers "$TREE" "$RIG/m" -t -w 120
	sd stop
	crash_tarnd
	readers_run
	sd start
	all_is_right
	# One that ends with the last container takes everything out.
	sd stop
	shown '.store | length > 5'
	umount "$RIG/m"
	rig_wait 30 "the end of what lingers" nobody_is_there
	shown '.store == []'
}

@test "the guardian alone is killed" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	start_readers "$TREE" "$RIG/m" -t -w 120
	kill -KILL "$(tarnd_pid guardian)"
	rig_wait 30 "the end of the service" shown '.main == null'
	# What is mounted before somebody starts it again is kept, too: by the keeper.
	rig_wait 30 "the keeper's guardian" tarnd_pid guardian
	lake_mount debian "$RIG/n"
	store_is_right
	sd start
	tarn umount "$RIG/n"
	all_is_right
}

@test "guardian and keeper are killed at once: the next one goes on" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	start_readers "$TREE" "$RIG/m" -t -w 120
	mapfile -t two < <(tarnd_pid guardian; tarnd_pid keeper)
	anchor=$(tarnd_pid anchor)
	kill -STOP "${two[@]}"
	kill -KILL "${two[@]}"
	rig_wait 30 "the end of the service" shown '.main == null'
	sd start
	rig_gone "$anchor"
	all_is_right
	tarn status --json | jq -e '.daemon.supervised == true'
}

@test "what is unmounted leaves the store, and what stops leaves it empty" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	lake "$(image_tiny gzip)" tiny "$RIG/n"
	store_is_right
	many=$(shown '.store | length')
	for _ in 1 2 3; do
		tarn umount "$RIG/n"
		lake_umount
		store_is_right
		lake_mount debian
		lake_mount tiny "$RIG/n"
		store_is_right
	done
	[ "$(shown '.store | length')" = "$many" ]
	shown '.twice == 0'
	tarn umount "$RIG/n"
	lake_umount
	sd stop
	shown '.store == []'
	shown '.told == ["READY=1", "STOPPING=1"]'
}

@test "what was stored cannot be used" {
	manager
	sd start
	lake "$(image_debian gzip)" debian
	for loss in "poke ward 999" "drop layer-0-fill" "drop content" "drop ward"; do
		crash_tarnd
		# shellcheck disable=SC2086  # words
		sd $loss
		sd start
		case $loss in
		poke*) what="it is of a tarnd of another version" ;;
		*) what="a part of it is missing" ;;
		esac
		grep -q "what systemd kept for tarnd cannot be used: $what" "$RIG/tarnd.log"
		: >"$RIG/tarnd.log"
		[ "$(tarn status --json | jq '.lost | length')" -gt 0 ]
		tarn -q status --acknowledge
		# Nothing of the old is left, and the new one is whole.
		store_is_right
		readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
	done
}

@test "a manager that does not answer" {
	manager
	for silence in mute deaf; do
		sd $silence
		sd start
		rig_wait 60 "tarnd: ready" grep -qx 'tarnd: ready' "$RIG/tarnd.out"
		grep -q 'systemd does not take what it should keep for tarnd (it does not answer)' \
			"$RIG/tarnd.log"
		[ $silence = deaf ] || lake "$(image_debian gzip)" debian
		[ $silence = mute ] || lake_mount debian
		readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2
		sd hear
		: >"$RIG/tarnd.log"
		# With the first layer that it answers it gets what it has missed.
		[ $silence = deaf ] || lake "$(image_tiny gzip)" tiny "$RIG/n"
		[ $silence = mute ] || lake_mount tiny "$RIG/n"
		! grep -q 'does not take' "$RIG/tarnd.log"
		store_is_right
		tarn umount "$RIG/n"
		lake_umount
		sd stop
		shown '.store == []'
		: >"$RIG/tarnd.out"
	done
}
