# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of hook, runtime front, `tarn run` and `tarn mount` have in common. A WAY is how a
# container gets its root file system: hook-runc, hook-crun, front-runc, front-crun. The hook covers
# the root of a runtime that goes by path (older runc) and grafts in one that has pinned it.
#
# The image has what makes a difference: links that lead out or nowhere, a file where runtimes
# mount one, a user, no /newdir.

# shellcheck disable=SC2034  # for those who load this
WAYS='hook-runc hook-crun front-runc front-crun'

attach_setup() {
	rig_setup
	need_root
	need busybox runc crun
	start_tarnd
}

# Adds to the tiny tree; what is in $1 goes on top of it as a layer of its own.
make_image() { # name [tree [config]]
	local name=$1 tree=${2-} config=${3-'{"Cmd":["/bin/sh"]}'} tars
	tars=("$(images_once "$TARN_TEST_CACHE/tiny.tar" images_make_tiny_tar)") || return
	if [ -n "$tree" ]; then
		images_tar "$tree" "$RIG/$name.tar" --format=gnu . || return
		tars+=("$RIG/$name.tar")
	fi
	"$RIG_FIXTURES/mkimage.py" --fresh --compression gzip --config "$config" \
		"$RIG/$name.layout" "${tars[@]}" >/dev/null || return
	tarn -q pull "oci:$RIG/$name.layout" --name "$name"
}

# The image most tests use.
make_usual_image() {
	local t=$RIG/usual
	mkdir -p "$t"/{etc,usr/lib/modules,run,var,masked,data}
	ln -s ../run/resolve/stub.conf "$t/etc/resolv.conf"
	echo image >"$t/etc/hosts"
	ln -s usr/lib "$t/lib"
	ln -s ../run "$t/var/run"
	echo top >"$t/top"
	echo hidden >"$t/masked/file"
	echo shared >"$t/data/file"
	make_image usual "$t"
}

# `tarn bundle`, and what the test wants changed in its config.json.
make_bundle() { # directory image [jq-filter]
	tarn bundle "$2" "$1" -- /bin/sh -c "${COMMAND-true}" || return
	[ -z "${3-}" ] || edit_bundle "$1" "$3"
}

edit_bundle() { # directory jq-filter
	jq "$2" "$1/config.json" >"$1.json" && cat "$1.json" >"$1/config.json"
}

# The runtime's command line, the way of $1.
by() { # way runtime-arguments...
	local way=$1 rt=${1#*-}
	shift
	case $way in
	hook-*) "run_$rt" "$@" ;;
	front-*) TARN_RUNTIME=$(runtime "$rt") "$B/tarn-runtime" --root "$RIG/$rt" "$@" ;;
	esac
}

# Runs a shell command in a fresh container of the usual image, and prints what it prints.
once() { # way command [jq-filter]
	local dir
	dir=$(mktemp -u "$RIG/bundle.XXXXXX")
	COMMAND=$2 make_bundle "$dir" "${IMAGE:-usual}" "${3-}" || return
	by "$1" run -b "$dir" "c-${dir##*.}" </dev/null
}

# Starts one that stays, and waits for it.
start() { # way id command [jq-filter]
	COMMAND="$3; echo ready; exec sleep 1000" make_bundle "$RIG/$2" "${IMAGE:-usual}" "${4-}" ||
		return
	by "$1" run -d -b "$RIG/$2" "$2" </dev/null >"$RIG/$2.out" 2>&1 3>&- || {
		cat "$RIG/$2.out" >&2
		return 1
	}
	rig_wait 10 "container $2" grep -qx ready "$RIG/$2.out"
}

# Of the container: the kind of attachment, by tarnd.
attached_as() { tarn status --json | jq -r --arg id "$1" '.containers[] | select(.id == $id).attach'; }

# None of our file systems is mounted on the host, and nobody holds one.
nothing_attached() {
	[ "$(tarn status --json | jq '.containers | length')" = 0 ]
}
nothing_left() {
	rig_wait 10 "the end of all root file systems" nothing_attached
	! rig_mounts | grep -F "$RIG/" | grep -vE "^$TARN_RUNDIR "
}
