#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The command line as such, and that what is written about it is true: manual pages, the example of
# the settings and the README name what there is, and nothing else.

# shellcheck disable=SC2154  # stderr and stderr_lines are bats'
bats_require_minimum_version 1.5.0
load ../fixtures/rig

setup() { rig_setup; }
teardown() { rig_teardown; }

verbs() { tarn --help | sed -n 's/^  \([a-z]*\) .*/\1/p'; }
options() { tarn "$1" --help | grep -oE '^  (-[a-z], )? *--[a-z-]+' | grep -oE '[-]-?[a-z][a-z-]*'; }

# The text of a page without its marks: what is bold there is between blanks here.
page() { sed 's/\\//g; s/[*_]/ /g' "$RIG_TOP/plugin/$1.scd"; }

@test "every verb and option is in tarn(1)" {
	page tarn.1 >"$RIG/page"
	[ "$(verbs | wc -l)" -ge 17 ]
	for verb in $(verbs); do
		grep -qwe "$verb" "$RIG/page" || { echo "no verb $verb"; return 1; }
		[ "$(options "$verb" | wc -l)" -ge 8 ]
		for option in $(options "$verb"); do
			grep -qE -- "(^|[ |[])$option([] =|,]|$)" "$RIG/page" ||
				{ echo "no option $option of $verb"; return 1; }
		done
	done
}

@test "every long option in tarn(1) and tarnd(8) is one" {
	for verb in $(verbs); do
		options "$verb"
	done | sort -u >"$RIG/known"
	"$B/tarnd" --help | grep -oE -- '--[a-z-]+' | sort -u >"$RIG/known-tarnd"
	# What belongs to other programs.
	printf '%s\n' --rootfs --annotation --runtime >>"$RIG/known"
	for option in $(page tarn.1 | grep -oE -- '(^|[ [])--[a-z-]+' | tr -d ' [' | sort -u); do
		grep -qxe "$option" "$RIG/known" || { echo "tarn(1): no $option"; return 1; }
	done
	for option in $(page tarnd.8 | grep -oE -- '(^|[ [])--[a-z-]+' | tr -d ' [' | sort -u); do
		grep -qxe "$option" "$RIG/known-tarnd" || { echo "tarnd(8): no $option"; return 1; }
	done
}

@test "every environment variable is in a manual page" {
	local name
	for name in $(grep -rhoE '(getenv|from_env|env_or|below)\("[A-Z_]+"' "$RIG_TOP"/{plugin,hooks} |
		grep -oE '[A-Z_]{3,}' | sort -u); do
		[ "$name" != PATH ] || continue
		grep -qwe "$name" "$RIG_TOP"/{plugin,hooks}/*.scd || { echo "$name"; return 1; }
	done
}

@test "the settings: program, manual page and example agree" {
	sed -n 's/^\t{ *"\([a-z_.]*\)", KIND_.*/\1/p' "$RIG_TOP/plugin/settings.c" | sort >"$RIG/keys"
	[ "$(wc -l <"$RIG/keys")" -ge 10 ]
	diff "$RIG/keys" <(sed -n 's/^\*\([a-z_.]*\)\* = .*/\1/p' "$RIG_TOP/plugin/tarn.conf.5.scd" |
		sort)
	diff "$RIG/keys" <(sed -n 's/^#\([a-z_.]*\) = .*/\1/p' "$RIG_TOP/plugin/tarn.conf.example" |
		sort)
	# The defaults, too.
	while read -r key _ value; do
		[ "$key" != socket.group ] || continue
		grep -qE "^\*$key\* = .*default \*$value\*" "$RIG_TOP/plugin/tarn.conf.5.scd" ||
			{ echo "$key = $value"; return 1; }
	done < <(sed -n 's/^#\([a-z]\)/\1/p' "$RIG_TOP/plugin/tarn.conf.example")
}

@test "tarnd takes the example, with every setting in force" {
	need_tarn_kernel
	sed 's/^#\([a-z]\)/\1/; s/^socket.group = .*/socket.group = root/' \
		"$RIG_TOP/plugin/tarn.conf.example" >"$RIG/conf"
	[ "$(grep -c '^[a-z]' "$RIG/conf")" -ge 10 ]
	start_tarnd --config "$RIG/conf"
	tarn status >/dev/null
}

reread() { # log level; waits until the keeper has it, which it says on info and debug only
	local before
	before=$(grep -c "settings were read again" "$RIG/tarnd.log" || :)
	echo "log.level = $1" >"$RIG/conf"
	kill -HUP "$TARND_PID"
	rig_wait 10 "the settings" reread_since "$before"
}
reread_since() { [ "$(grep -c "settings were read again" "$RIG/tarnd.log")" -gt "$1" ]; }
# Has a verb fail; how often the engine has said why by now, which is for debug only.
engine_debugs() {
	tarn evict nosuch 2>/dev/null || :
	grep -c 'tarnd\[engine\]: debug: control:' "$RIG/tarnd.log" || :
}

@test "SIGHUP: the log level reaches every process, and -v wins" {
	need_tarn_kernel
	echo "log.level = error" >"$RIG/conf"
	start_tarnd --config "$RIG/conf"
	[ "$(engine_debugs)" = 0 ]
	reread debug
	[ "$(engine_debugs)" = 1 ]
	reread info
	[ "$(engine_debugs)" = 1 ]
	stop_tarnd
	start_tarnd --config "$RIG/conf" -v
	[ "$(engine_debugs)" = 2 ]
	reread error
	[ "$(engine_debugs)" = 3 ]
}

@test "the manual pages have no warnings" {
	need scdoc man
	local page
	for page in "$RIG_TOP"/{plugin,hooks}/*.scd; do
		[ -e "$page" ] || continue
		scdoc <"$page" >"$RIG/page"
		run --separate-stderr man --warnings -l "$RIG/page"
		[ "$status$stderr" = 0 ] || { echo "$page: $stderr"; return 1; }
	done
}

@test "what the README names is there" {
	local name
	cd "$RIG_TOP"
	for name in $(grep -oE '`(oci|plugin|hooks|tests)/[a-z/_.]*`' README.md | tr -d '`'); do
		[ -e "$name" ] || { echo "$name"; return 1; }
	done
	for name in $(grep -oE '(`|sudo )make [a-z-]+' README.md |
		sed 's/.* //' | sort -u); do
		grep -qE "^$name:" Makefile || { echo "make $name"; return 1; }
	done
	# Its laws are numbered without a gap, and its examples use verbs and options there are.
	[ "$(grep -cE '^[0-9]+\. ' README.md)" = 13 ]
	while read -r _ verb rest; do
		verbs | grep -qxe "$verb" || { echo "tarn $verb"; return 1; }
		for name in $(grep -oE -- '(^| )--[a-z-]+' <<<"${rest%% -- *}"); do
			options "$verb" | grep -qxe "$name" || { echo "tarn $verb $name"; return 1; }
		done
	done < <(grep -hE '^tarn [a-z]' README.md | sed 's/ && .*//')
}

@test "global options before and after the verb, and from the environment" {
	local s=$RIG/one.sock
	run tarn --socket "$s" status
	[ "$status" = 1 ]
	[[ $output == *"$s"* ]]
	run tarn status --socket "$s"
	[ "$status" = 1 ]
	[[ $output == *"$s"* ]]
	TARN_SOCKET=$s run tarn status
	[ "$status" = 1 ]
	[[ $output == *"$s"* ]]
	TARN_SOCKET=$RIG/other run tarn status "--socket=$s"
	[ "$status" = 1 ]
	[[ $output == *"$s"* ]]
	TARN_SOCKET='' run tarn status
	[ "$status" = 1 ] || [ "$status" = 0 ]
	for name in tarn tarnd; do
		run "$B/$name" --version
		[ "$status" = 0 ]
		[[ $output =~ ^$name\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
		run "$B/$name" --help
		[ "$status" = 0 ]
		[[ $output == "usage: $name "* ]]
	done
}

@test "wrong usage is one line and 2" {
	local line
	while read -r line; do
		# shellcheck disable=SC2086
		run --separate-stderr tarn $line
		echo "tarn $line: $status $stderr"
		[ "$status" = 2 ]
		[ -z "$output" ]
		[ "${#stderr_lines[@]}" = 1 ]
		[[ $stderr == "tarn: "*"see tarn "*"--help" ]]
	done <<-'EOT'
		nothing
		--nothing
		pull
		pull a/b c/d
		pull --keep
		images one
		evict
		evict --all x
		evict --free 1X x
		evict --cold-for soon x
		run
		run -v nowhere x
		run -v /tmp:/x:rx x
		run -e X x
		run --net bridge x
		bundle x
		mount x
		umount
		pin
		rm
		gc x
		help nothing
	EOT
	run tarn
	[ "$status" = 2 ]
	run --separate-stderr "$B/tarnd" --nothing
	[ "$status" = 2 ]
	[ -n "$stderr" ]
	run --separate-stderr "$B/tarnd" extra
	[ "$status" = 2 ]
	[ "${#stderr_lines[@]}" = 1 ]
}

@test "run: the container's status, output and input; a bundle's directory" {
	need_tarn_kernel
	start_tarnd
	tarn -q pull "oci:$(image_tiny)" --name tiny
	RUNTIME=$(runtime runc)
	run tarn run --rm --runtime "$RUNTIME" tiny /bin/probe env
	echo "$output"
	[ "$status" = 0 ]
	[[ $output == *"uid=0 gid=0"* ]]
	run tarn run --rm --runtime "$RUNTIME" tiny /bin/no-such-program
	[ "$status" != 0 ]
	run --separate-stderr tarn run --rm --runtime "$RIG/none" tiny /bin/probe env
	[ "$status" = 1 ]
	[ "${#stderr_lines[@]}" = 1 ]
	mkdir "$RIG/full"
	touch "$RIG/full/x"
	run --separate-stderr tarn bundle tiny "$RIG/full"
	[ "$status" = 1 ]
	[[ $stderr == *"$RIG/full is not empty"* ]]
	[ "$(ls "$RIG/full")" = x ]
	tarn bundle tiny "$RIG/b" -- /bin/probe --help
	[ "$(jq -c .process.args "$RIG/b/config.json")" = '["/bin/probe","--help"]' ]
	[ -z "$(ls -A "$TARN_STORE/containers")" ]
}

@test "every program has --help, and says which it is" {
	for program in tarn tarnd tarn-hook tarn-runtime; do
		run --separate-stderr env TARN_RUNTIME=/bin/true "$B/$program" --help </dev/null
		[ "$status" = 0 ]
		[[ $output == "usage: $program "* ]]
		[ -z "$stderr" ]
	done
	# A front hands it on.
	printf '#!/bin/sh\necho "real $*"\n' >"$RIG/real"
	chmod +x "$RIG/real"
	run env TARN_RUNTIME="$RIG/real" "$B/tarn-runtime" --help
	[ "${lines[-1]}" = "real --help" ]
}

@test "tarn-runtime and tarn-hook: wrong usage" {
	run --separate-stderr "$B/tarn-runtime" --tarn-socket
	[ "$status" = 2 ]
	[ "$stderr" = "tarn-runtime: option --tarn-socket needs a value" ]
	run --separate-stderr "$B/tarn-hook" poststart <<<'{"ociVersion":"1.0.2","id":"x","status":"created","pid":1,"bundle":"/"}'
	[ "$status" = 1 ]
	[[ $stderr == "tarn-hook: 'poststart' is no stage for this hook: "* ]]
}

@test "-v shows the chain of a failure, the daemon's links too" {
	need_tarn_kernel
	start_tarnd
	run --separate-stderr tarn -v pull oci:/nowhere/at/all
	[ "$status" = 1 ]
	[ "$stderr" = "tarn: image layout /nowhere/at/all: No such file or directory
  image layout /nowhere/at/all
  No such file or directory (ENOENT)" ]
	tarn -q pull "oci:$(image_tiny)" --name tiny
	run --separate-stderr tarn pin tiny /nowhere -v
	[ "$status" = 1 ]
	[ "$stderr" = "tarn: tiny: nowhere is not in the image
  tiny
  nowhere is not in the image" ]
	run --separate-stderr tarn pin tiny /nowhere
	[ "${#stderr_lines[@]}" = 1 ]
}

@test "output that cannot be written is a failure" {
	need_root
	run --separate-stderr bash -c '"$0" --help >/dev/full' "$B/tarn"
	[ "$status" = 1 ]
	[[ $stderr == "tarn: "*"No space left"* ]]
}
