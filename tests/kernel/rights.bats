#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Guardian and keeper need every capability they keep: without any one of them something of the small
# life of an image is lost (tests/hostile/lacking.c), and it is known what. jail.bats has what the others
# must not be able to do.

load lake

setup() { lake_setup; }
teardown() {
	# A guardian without capabilities, and what one without KILL left behind, cannot be stopped.
	crash_tarnd
	lake_teardown
}

# What is lost first, and what is said of it.
declare -gA LOST=(
	[cap_sys_admin]="starts: tarnd: fanotify_init: Operation not permitted"
	[cap_setuid]="starts: tarnd: fetcher: dropping capabilities: Operation not permitted"
	[cap_setgid]="starts: tarnd: fetcher: dropping capabilities: Operation not permitted"
	[cap_sys_chroot]="starts: tarnd: fetcher: changing the root directory: Operation not permitted"
	[cap_chown]="mounts: */upper: Operation not permitted"
	[cap_fowner]="mounts: */upper: Operation not permitted"
	[cap_dac_override]="mounts: *: mounting overlay: Permission denied"
	[cap_fsetid]="shows_root: */m is 1000:1001 755"
	[cap_setfcap]="takes_writes: touch: *: Operation not permitted"
	[cap_dac_read_search]="evicts: freed 0, kept *"
	[cap_lease]="evicts: freed *, kept [1-9]* in use"
	[cap_kill]="ends: a fetcher is left"
)

# Owners, modes and attributes that take rights to be made again.
make_image() {
	TREE=$RIG/tree
	mkdir -p "$TREE"/{bin,own}
	cp "$B/test/probe" "$TREE/bin/probe"
	cp "$B/test/probe" "$TREE/bin/raw"
	setcap cap_net_raw+ep "$TREE/bin/raw"
	head -c 300000 /dev/urandom >"$TREE/own/file"
	chown -R 1000:1001 "$TREE/own"
	chown 1000:1001 "$TREE"
	chmod 2755 "$TREE"
	tar -C "$TREE" --xattrs '--xattrs-include=*' --numeric-owner -cf "$RIG/layer.tar" .
	"$RIG_FIXTURES/mkimage.py" "$RIG/layout" "$RIG/layer.tar"
	mkdir "$RIG/m"
}

starts() { TARND=$B/test/tarnd-lacking start_tarnd || { cat "$RIG/tarnd.log"; return 1; }; }

pulls() { tarn -q pull --keep=none "oci:$RIG/layout:latest" --name small; }

mounts() { lake_mount small; }

shows_root() {
	stat -c '%n is %u:%g %a' "$RIG/m" | tee /dev/fd/2 | grep -q ' is 1000:1001 2755$'
}

reads() { cmp "$TREE/own/file" "$RIG/m/own/file"; }

executes() { "$RIG/m/bin/probe" env; }

# As a container's root and others do it.
takes_writes() {
	touch "$RIG/m/bin/raw" &&
		getcap "$RIG/m/bin/raw" | grep -q cap_net_raw &&
		mkdir -p "$RIG/m/own/sealed/in" &&
		chown 1000 "$RIG/m/own/sealed" "$RIG/m/own/file" &&
		chmod 500 "$RIG/m/own/sealed" &&
		rm "$RIG/m/bin/raw" &&
		setpriv --reuid 1000 --regid 1001 --clear-groups touch "$RIG/m/own/new"
}

evicts() {
	drop_caches
	tarn evict --all --wait && [ "$(resident)" = 0 ] && cmp "$TREE/bin/probe" "$RIG/m/bin/probe"
}

# What follows is done by another keeper.
survives() { kill_tarnd engine && kill_tarnd keeper && executes; }

unmounts() { lake_umount && tarn gc && [ -z "$(ls "$TARN_STORE/containers")" ]; }

# Also with a process that does not end by itself.
ends() {
	STUCK=$(tarnd_pid fetcher | head -n 1)
	kill -STOP "$STUCK" && stop_tarnd &&
		{ rig_wait 1 "the end of a fetcher" rig_gone "$STUCK" || { echo "a fetcher is left"; false; }; }
}

# A store's life from nothing to nothing; prints the first of these that is lost, and what it said.
life() {
	local step
	for step in starts pulls mounts shows_root reads executes takes_writes evicts survives unmounts \
		ends; do
		"$step" >"$RIG/said" 2>&1 || { LIFE="$step: $(tail -n 1 "$RIG/said")"; return; }
	done
	LIFE=whole
}

# Whatever is left of it, to begin anew.
end_life() {
	umount "$RIG/m" 2>/dev/null || true
	crash_tarnd
	rm -rf "$TARN_STORE"
	: >"$RIG/tarnd.log"
}

capabilities_of() { # process
	local caps
	caps=$(capsh --decode="$(sed -n 's/^CapPrm:[[:space:]]*//p' "/proc/$(tarnd_pid "$1")/status")")
	tr , '\n' <<<"${caps#*=}" | sort
}

@test "without any one of its capabilities the keeper loses what it keeps it for" {
	local cap
	make_image
	life
	[ "$LIFE" = whole ]
	end_life
	for cap in "${!LOST[@]}"; do
		export TARN_LACKS=$cap
		life
		end_life
		echo "# $cap: ${LIFE//$RIG/}" >&3
		# shellcheck disable=SC2053  # a pattern
		[[ $LIFE == ${LOST[$cap]} ]]
	done
	unset TARN_LACKS
	# Of those that it has none was left out.
	start_tarnd
	diff <(capabilities_of keeper) <(printf '%s\n' "${!LOST[@]}" | sort)
	diff <(capabilities_of guardian) <(capabilities_of keeper)
}

# What the guardian keeps is for the next keeper, which has no more than the guardian that starts it.
@test "a guardian without capabilities has no more keepers" {
	local keeper
	TARN_LACKS=guardian starts
	keeper=$(tarnd_pid keeper)
	[ -z "$(capabilities_of guardian)" ]
	kill -KILL "$keeper"
	rig_wait 10 "the next keeper's word" grep -q 'capabilities are missing:' "$RIG/tarnd.log"
	diff <(sed -n '/capabilities are missing: /{s/;.*//;s/.*: //p;q}' "$RIG/tarnd.log" | tr ' ' '\n' | sort) \
		<(printf '%s\n' "${!LOST[@]}" | sort)
}
