#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is wrong with an image, a name or the machine is said in one line that names it, with the
# right exit code; the store is as it was before, and nothing stays mounted (rig_teardown).
#
# The images are badimage.py's: each is in order but for what its name says.

bats_require_minimum_version 1.5.0
load ../fixtures/rig

setup() {
	rig_setup
	need_tarn_kernel
}
teardown() { rig_teardown; }

bad_image() { # case
	"$RIG_FIXTURES/badimage.py" "$1" "$RIG/bad/$1" >/dev/null
	echo "oci:$RIG/bad/$1"
}

# Everything in the store, with the size of files; sources of layers that are known may be added to.
store_list() {
	[ ! -e "$TARN_STORE" ] ||
		find "$TARN_STORE" -mindepth 1 \( -type f -printf '%P %s\n' -o -printf '%P\n' \) |
		sed 's/sources.json .*/sources.json/' | sort
}

# A layer that nobody needs any more is put away in the background: that is waited for.
unchanged() { # what store_list said before
	rig_wait 5 "the store as it was" is_unchanged "$1" || diff <(echo "$1") <(store_list)
}

is_unchanged() {
	[ "$1" = "$(store_list)" ]
}

# A command that must fail: with this code, with one line on stderr that has this in it, with nothing
# on stdout and with nothing changed in the store.
fails() { # exit-code pattern command...
	local code=$1 pattern=$2 before
	shift 2
	before=$(store_list)
	run --separate-stderr "$@"
	# shellcheck disable=SC2154  # bats sets stderr
	if [ "$status" != "$code" ] || [ -n "$output" ] || [ -z "$stderr" ] ||
		[ "${#stderr_lines[@]}" != 1 ] ||
		[[ ! $stderr =~ ^tarn(-hook|-runtime|d)?:\ .*$pattern ]]; then
		printf '%s\n' "$*: status $status (not $code?), stdout '$output', stderr:" \
			"$stderr" "to match: $pattern" >&2
		return 1
	fi
	unchanged "$before" || { echo "$*: the store has changed" >&2; return 1; }
}

# Lines `case pattern`: pulling the image of that name fails, and what is said has the pattern in it.
refused() {
	local name pattern source
	while read -r name pattern; do
		source=$(bad_image "$name")
		fails 1 "${pattern//@/$RIG/bad/$name}" tarn -q pull --keep=all "$source" ||
			{ echo "the image was $name" >&2; return 1; }
	done
	[ "$(tarn images --json | jq length)" = 0 ]
}

# Lines `case`: these are unusual, but fine.
taken() {
	local name
	while read -r name; do
		tarn -q pull --keep=all "$(bad_image "$name")" --name "$name"
		[ "$(tarn verify --json "$name" | jq .bad)" = 0 ]
	done
}

mount_image() { # name
	mkdir -p "$RIG/at"
	tarn mount "$1" "$RIG/at"
}

@test "not an image layout" {
	start_tarnd
	mkdir "$RIG/empty"
	echo x >"$RIG/file"
	fails 1 "$RIG/none: No such file" tarn -q pull "oci:$RIG/none"
	fails 1 "$RIG/empty: .*No such file" tarn -q pull "oci:$RIG/empty"
	fails 1 "$RIG/file" tarn -q pull "oci:$RIG/file"
	fails 1 "fine:other" tarn -q pull "$(bad_image fine):other"
	fails 1 "fine" tarn -q pull --platform linux/none "$(bad_image fine)"
	refused <<-EOF
		no-marker @: oci-layout
		no-index @: index.json
		marker-version @: not an OCI image layout of version 1
		index-cut @: bad JSON
		index-huge @: index.json: File too large
		index-link @: index.json
		index-fifo @: index.json is not a file
		index-nested @: more than 4 indexes
	EOF
}

@test "sources that are none" {
	start_tarnd
	fails 2 "''" tarn -q pull ""
	fails 2 "oci:" tarn -q pull oci:
	fails 2 "docker://" tarn -q pull docker://
	fails 2 "UPPER" tarn -q pull docker://host/UPPER
	fails 2 "a b" tarn -q pull "docker://host/a b"
	fails 2 "sha256:12" tarn -q pull docker://host/name@sha256:12
	fails 2 "''" tarn -q pull --name "" oci:/x
	fails 2 "is no name" tarn -q pull --name $'a\nb' oci:/x
	fails 2 "is no name" tarn -q pull --name "$(printf %0600d 0)" oci:/x
	fails 2 "keep" tarn -q pull --keep some oci:/x
	fails 2 "platform|os" tarn -q pull --platform / oci:/x
	fails 1 "127.0.0.1:1" tarn -q pull 127.0.0.1:1/name
}

@test "manifests and configs that are not what their digests say" {
	start_tarnd
	refused <<-EOF
		manifest-cut @: blob sha256:[0-9a-f]{64} has
		manifest-flip @: wrong digest: sha256:
		manifest-other @: wrong digest: sha256:
		manifest-missing @: blobs/sha256/[0-9a-f]{64}: No such file
		config-cut @: blob sha256:[0-9a-f]{64} has
		config-flip @: wrong digest: sha256:
		config-other @: wrong digest: sha256:
		config-missing @: blobs/sha256/[0-9a-f]{64}: No such file
	EOF
}

@test "manifests and configs that make no sense" {
	start_tarnd
	refused <<-EOF
		manifest-deep @: bad JSON .*nested deeper than
		manifest-huge @: manifest sha256:[0-9a-f]{64} is to have
		manifest-layers @ has 600 layers
		manifest-counts @: the manifest has 1 layers, the config 2
		manifest-type @: layers\[0\] is of type application/x-lzma
		config-diff-id layer sha256:[0-9a-f]{64}: wrong digest
	EOF
}

@test "layers that are not what their digests say" {
	start_tarnd
	refused <<-EOF
		layer-cut @: blob sha256:[0-9a-f]{64} has
		layer-flip layer sha256:[0-9a-f]{64}: .*sha256:
		layer-other layer sha256:[0-9a-f]{64}: .*sha256:
		layer-missing @: blobs/sha256/[0-9a-f]{64}: No such file
	EOF
}

@test "gzip and zstd that are cut, empty, followed by garbage, or bombs" {
	start_tarnd
	refused <<-EOF
		gzip-cut layer sha256:[0-9a-f]{64}: gzip data ends at byte
		gzip-garbage layer sha256:[0-9a-f]{64}: gzip data is damaged at byte
		gzip-empty @: layer 1 is to have 0 bytes
		gzip-bomb layer sha256:[0-9a-f]{64}: .*header
		zstd-cut layer sha256:[0-9a-f]{64}: zstd data ends at byte
		zstd-garbage layer sha256:[0-9a-f]{64}: zstd data is damaged at byte
		zstd-empty @: layer 1 is to have 0 bytes
	EOF
}

@test "layers that are compressed otherwise than their type says" {
	start_tarnd
	taken <<-EOF
		gzip-plain
		zstd-plain
	EOF
}

@test "tars that lead out of the image" {
	start_tarnd
	refused <<-EOF
		tar-parent 'a/../../etc/passwd'
		tar-parent-link 'link'
		tar-link-nothing 'link': a hard link to nothing
		tar-link-self 'link': a hard link to nothing
		tar-link-dir 'link': a hard link to a directory
		tar-through-link 'out/passwd': a parent directory is a symbolic link
		tar-through-file 'file/below': a parent directory is a file
	EOF
}

@test "absolute names begin at the image's root" {
	start_tarnd
	taken <<-EOF
		tar-absolute
		tar-link-absolute
	EOF
	mount_image tar-absolute
	[ "$(cat "$RIG/at/etc/absolute" "$RIG/at/twice")" = $'anchored\nanchored' ]
	[ ! -e /etc/absolute ]
	tarn umount "$RIG/at"
	mount_image tar-link-absolute
	[ "$(stat -c %i "$RIG/at/file")" = "$(stat -c %i "$RIG/at/link")" ]
	tarn umount "$RIG/at"
}

@test "names and sizes that no file can have" {
	start_tarnd
	refused <<-EOF
		tar-long-name 'nnn
		tar-long-part 'nnn
		tar-long-target 'link': its link target is longer
		tar-deep 'd/d/d
		tar-nul-path 'good': there is a NUL
		tar-nul-link 'x': there is a NUL
		tar-negative-size near byte 512: .*negative size
		tar-negative-pax size attribute is negative
		tar-huge-size 'x': its size is out of range
		tar-huge-pax overflow
		tar-bad-sum layer sha256:[0-9a-f]{64}: this is no tar
		tar-cut 'x': Truncated
		tar-none layer sha256:[0-9a-f]{64}: this is no tar
	EOF
}

@test "one name as a file and as a directory: the last one counts" {
	start_tarnd
	taken <<-EOF
		tar-file-then-dir
		tar-dir-then-file
	EOF
	mount_image tar-file-then-dir
	[ "$(cat "$RIG/at/thing/inside")" = inside ]
	tarn umount "$RIG/at"
	mount_image tar-dir-then-file
	[ "$(cat "$RIG/at/thing")" = file ]
	tarn umount "$RIG/at"
}

@test "an empty layer" {
	start_tarnd
	taken <<<tar-empty-file
	mount_image tar-empty-file
	[ -z "$(ls -A "$RIG/at")" ]
	tarn umount "$RIG/at"
}

@test "100,000 files in one directory" {
	start_tarnd
	tarn -q pull --keep=none "$(bad_image tar-many)" --name many
	mount_image many
	[ "$(find "$RIG/at/many" -type f | wc -l)" = 100000 ]
	[ "$(cat "$RIG/at/many/000000" "$RIG/at/many/054321" "$RIG/at/many/099999")" = \
		$'0\n54321\n99999' ]
	[ ! -e "$RIG/at/many/100000" ]
	tarn umount "$RIG/at"
}

@test "configs that no container can be made from" {
	start_tarnd
	local name pattern
	while read -r name pattern; do
		tarn -q pull "$(bad_image "$name")" --name "$name"
		fails 1 "$pattern" timeout 20 "$B/tarn" bundle "$name" "$RIG/bundle" ||
			{ echo "the image was $name" >&2; return 1; }
		[ ! -e "$RIG/bundle" ]
	done <<-EOF
		run-no-command command
		run-no-config command
		run-user ghost
		run-group ghosts
		run-user-number 99999999999
		run-directory \.\./up
		run-command-type Cmd
		run-env-type Env
		run-os windows
		run-passwd-fifo passwd
		run-passwd-device passwd
		run-passwd-dir passwd
		run-passwd-out daemon
	EOF
}

@test "good layers of a bad image are collected" {
	start_tarnd
	before=$(store_list)
	run tarn -q pull "$(bad_image second)"
	[ "$status" = 1 ]
	[ "$(tarn images --json | jq length)" = 0 ]
	tarn -q gc
	unchanged "$before"
}

@test "no space left" {
	mkfs_store ext4 24M
	start_tarnd
	source=$(bad_image big)
	fails 1 "No space left on device" tarn -q pull --keep=all "$source" --name big
	[ "$(tarn images --json | jq length)" = 0 ]
	taken <<<fine
	# What does not keep content has room enough, and its readers get what they ask for: what is idle
	# goes for it.
	tarn -q pull --keep=none "$source" --name big
	mount_image big
	same_noise 0
	cat "$RIG/at/"noise* >/dev/null
	same_noise 0
	tarn -q evict big
	same_noise 11
	tarn umount "$RIG/at"
}

same_noise() { # number
	cmp "$RIG/at/noise$1" <(python3 -c 'import hashlib, sys
sys.stdout.buffer.write(hashlib.shake_128(sys.argv[1].encode()).digest(4 << 20))' "$1")
}

@test "tarnd is not running" {
	mkdir "$TARN_STORE"
	local verb
	for verb in images layers status gc "pull oci:$RIG" "rm x" "fill x" "evict --all" "verify x" \
		"pin x" "unpin x" "mount x $RIG" "bundle x $RIG/b" "run x"; do
		# shellcheck disable=SC2086
		fails 1 "tarnd .*$TARN_SOCKET|$TARN_SOCKET.*tarnd" tarn $verb
	done
	[ ! -e "$RIG/b" ]
	plain_bundle "$RIG/bundle" env
	annotate "$RIG/bundle" "sha256:$(printf %064d 0)" "$B/tarn-hook"
	run run_runc run -b "$RIG/bundle" nobody
	[ "$status" != 0 ]
	[[ $output == *"tarn-hook: "*"$TARN_SOCKET"* ]]
}

# A plain bundle that names an image, with our hook and without.
annotate() { # directory image [hook]
	jq --arg image "$2" --arg hook "${3-}" --arg socket "TARN_SOCKET=$TARN_SOCKET" '
		.annotations["org.tarn.image"] = $image |
		if $hook != "" then .hooks.createRuntime = [
			{path: $hook, args: ["tarn-hook", "createRuntime"], env: [$socket]}]
		else . end' "$1/config.json" >"$1/config.new"
	mv "$1/config.new" "$1/config.json"
}

@test "an annotation with an unknown image, or with none" {
	start_tarnd
	local image
	for image in "sha256:$(printf %064d 0)" fine sha256:12 "" "/etc" "sha256:../../x"; do
		rm -rf "$RIG/bundle"
		plain_bundle "$RIG/bundle" env
		annotate "$RIG/bundle" "$image" "$B/tarn-hook"
		before=$(store_list)
		run run_runc run -b "$RIG/bundle" unknown
		echo "'$image': $status $output"
		[ "$status" != 0 ]
		[[ $output == *"tarn-hook: "*"$image"* ]]
		run "$B/tarn-runtime" --root "$RIG/runc" run -b "$RIG/bundle" unknown
		echo "'$image': $status $output"
		[ "$status" != 0 ]
		[[ $output == *"tarn-runtime: "*"$image"* ]]
		unchanged "$before"
	done
	fails 1 "image no-such-image is not known" tarn run no-such-image
	fails 1 "image no-such-image is not known" tarn mount no-such-image "$RIG"
	fails 1 "image no-such-image is not known" tarn bundle no-such-image "$RIG/b"
	[ ! -e "$RIG/b" ]
}

# What a client of the socket can say that `tarn` would not.
ask_raw() { # json
	python3 - "$TARN_SOCKET" "$1" <<-'PY'
	import socket, sys
	with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
	    s.connect(sys.argv[1])
	    s.send(sys.argv[2].encode())
	    print(s.recv(1 << 18).decode())
	PY
}

@test "container ids with '/', '..' and worse" {
	start_tarnd
	tarn -q pull "$(bad_image fine)" --name fine
	digest=$(tarn images --json | jq -r '.[0].digest')
	plain_bundle "$RIG/bundle" env
	annotate "$RIG/bundle" "$digest"
	before=$(store_list)
	local id
	for id in ../x a/b .. . /x -x "" "a b" "$(printf '%0200d' 0)"; do
		[ "$id" = "" ] || fails 2 "name" tarn run --name="$id" fine
		run "$B/tarn-hook" createRuntime <<<"$(jq -n --arg id "$id" --arg b "$RIG/bundle" \
			'{ociVersion: "1.0.2", id: $id, status: "created", pid: 1, bundle: $b}')"
		echo "hook '$id': $status $output"
		[ "$status" = 1 ]
		[[ $output == "tarn-hook: "* ]]
		[ "${#lines[@]}" = 1 ]
		for verb in attach detach remove; do
			run ask_raw "$(jq -n --arg id "$id" --arg i "$digest" --arg v "$verb" \
				'{verb: $v, id: $id, image: $i, rw: true, kind: "runtime", pid: 1}')"
			echo "socket '$id': $status $output"
			[[ $output == '{"error":'* ]]
		done
		unchanged "$before"
	done
}

@test "nonsense on the control socket" {
	start_tarnd
	local text
	for text in "{" "[]" "1" '""' "{}" '{"verb":"none"}' '{"verb":1}' '{"verb":"pull"}' \
		'{"verb":"pull","source":7}' '{"verb":"pull","source":"oci:relative"}' \
		'{"verb":"layers","image":["x"]}' '{"verb":"evict"}' '{"verb":"rm","image":"../x"}' \
		"$(printf '[%.0s' $(seq 5000))"; do
		run ask_raw "$text"
		echo "${text:0:60}: $output"
		[[ $output == '{"error":{"text":"'* ]] || [[ $output == '{"done":'* && $text == *layers* ]]
	done
	tarn status >/dev/null
}

@test "a store that is none" {
	mkdir "$RIG/other"
	local run=("$B/tarnd" --socket "$TARN_SOCKET" --store)
	echo 'format 999' >"$RIG/plain"
	TARN_STORE=$RIG/other
	fails 1 "$RIG/plain" timeout 20 "${run[@]}" "$RIG/plain"
	echo x >"$RIG/other/precious"
	fails 1 "$RIG/other" timeout 20 "${run[@]}" "$RIG/other"
	[ "$(cat "$RIG/other/precious")" = x ]
	TARN_STORE=$RIG/store
	start_tarnd
	stop_tarnd
	echo 999 >"$TARN_STORE/format"
	fails 1 "$TARN_STORE.*(format|version)" timeout 20 "${run[@]}" "$TARN_STORE"
}

@test "two daemons on one store" {
	start_tarnd
	fails 1 "$TARN_STORE" timeout 20 "$B/tarnd" --store "$TARN_STORE" --socket "$RIG/other.sock"
	tarn status >/dev/null
}

@test "a socket that is not ours" {
	local run=(timeout 20 "$B/tarnd" --store "$RIG/other" --socket)
	mkdir -m 700 "$RIG/other"
	echo precious >"$RIG/file"
	fails 1 "socket $RIG/file: " "${run[@]}" "$RIG/file"
	[ "$(cat "$RIG/file")" = precious ]
	start_tarnd
	fails 1 "socket $TARN_SOCKET: .*--socket" "${run[@]}" "$TARN_SOCKET"
	tarn status >/dev/null
}

@test "settings that are none" {
	mkdir -p "$TARN_STORE"
	local line
	for line in "no.such.key = 1" "fault.deadline = soon" "fault.deadline" "= 1" \
		"fill.fetchers = 1000" "log.level = loud" "fault.deadline = 99999999d" \
		"fault.deadline = 0" "mount.readahead = 512"; do
		printf '%s\n' '# one' "$line" >"$RIG/conf"
		fails 1 "$RIG/conf, line 2" timeout 20 "$B/tarnd" --store "$TARN_STORE" \
			--socket "$TARN_SOCKET" --config "$RIG/conf"
	done
	fails 1 "$RIG/none" timeout 20 "$B/tarnd" --config "$RIG/none" --store "$TARN_STORE"
}
