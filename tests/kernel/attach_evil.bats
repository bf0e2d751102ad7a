#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Images that want to reach the host: whatever the hook makes or mounts must stay in the container.

load ../fixtures/rig
load attach

setup() {
	attach_setup
	HOST=$RIG/host
	mkdir -p "$HOST"
	echo "the host's" >"$HOST/hosts"
	echo "engine's" >"$RIG/engine"
	ENGINE=".mounts += [{type: \"bind\", source: \"$RIG/engine\", destination: \"/etc/hosts\",
		options: [\"bind\"]}]"
}
teardown() { rig_teardown; }

# Nothing was made or changed there, and nothing is mounted there, seen from anywhere.
host_untouched() {
	[ "$(ls -A "$HOST")" = hosts ]
	[ "$(<"$HOST/hosts")" = "the host's" ]
	! rig_mounts | grep -F "$HOST"
}

@test "/etc is a link to a directory of the host" {
	mkdir "$RIG/t"
	ln -s "$HOST" "$RIG/t/etc"
	make_image evil "$RIG/t"
	for way in $WAYS; do
		# It starts with its own directory of that name, or not at all.
		IMAGE=evil run once $way "cat /etc/hosts; grep -F '$HOST/hosts' /proc/self/mountinfo
			echo x >/etc/new; echo ended" "$ENGINE"
		echo "$way: $output"
		[[ $output != *"the host's"* ]]
		host_untouched
	done
	nothing_left
}

@test "/proc, /sys or /dev is a link to a directory of the host" {
	for name in proc sys dev; do
		rm -rf "$RIG/t"
		mkdir "$RIG/t"
		ln -s "$HOST" "$RIG/t/$name"
		make_image evil-$name "$RIG/t"
		for way in $WAYS; do
			IMAGE=evil-$name run once $way 'echo started; ls /proc/self/ns' "$ENGINE"
			echo "$way: $output"
			host_untouched
			[ "$status" != 0 ]
			[[ $output != *started* ]]
		done
	done
	nothing_left
}

@test "a link into /proc leads nowhere" {
	mkdir -p "$RIG/t/etc"
	ln -s /proc/1/root/"$HOST"/hosts "$RIG/t/etc/hosts"
	make_image evil "$RIG/t"
	for way in $WAYS; do
		IMAGE=evil run once $way 'cat /etc/hosts' "$ENGINE"
		echo "$way: $output"
		[[ $output != *"the host's"* ]]
		host_untouched
	done
	nothing_left
}

@test "links that climb, circle and are too long" {
	mkdir -p "$RIG/t/etc" "$RIG/t/a"
	ln -s ../../../../../../../../../../../../../../"$HOST"/new/hosts "$RIG/t/etc/hosts"
	ln -s b "$RIG/t/a/b"
	make_image evil "$RIG/t"
	for way in $WAYS; do
		IMAGE=evil run once $way "cat /etc/hosts '$HOST/new/hosts'" "$ENGINE"
		echo "$way: $output"
		[ "$status" = 0 ]
		[ "$output" = $'engine\'s\nengine\'s' ]
		host_untouched
		IMAGE=evil run once $way true ".mounts += [{type: \"bind\", source: \"$RIG/engine\",
			destination: \"/a/b/c\", options: [\"bind\"]}]"
		[ "$status" != 0 ]
	done
	nothing_left
}

@test "a directory where the engine's file goes, and the other way round" {
	mkdir -p "$RIG/t/etc/hosts/in"
	make_image dir "$RIG/t"
	rm -r "$RIG/t/etc/hosts"
	echo x >"$RIG/t/data"
	make_image file "$RIG/t"
	for way in $WAYS; do
		IMAGE=dir run once $way true "$ENGINE"
		[ "$status" != 0 ]
		# shellcheck disable=SC2209  # the word, not the command
		IMAGE=file run once $way true ".mounts += [{type: \"bind\", source: \"$HOST\",
			destination: \"/data\", options: [\"bind\"]}]"
		[ "$status" != 0 ]
	done
	nothing_left
	host_untouched
}

@test "names that are odd, and more of them than can be grafted" {
	mkdir "$RIG/t"
	mkdir "$RIG/t/with space" "$RIG/t/"$'new\nline' "$RIG/t/back\\slash"
	echo 1 >"$RIG/t/with space/file"
	make_image odd-names "$RIG/t"
	for way in $WAYS; do
		out=$(IMAGE=odd-names once $way 'cat "/with space/file"; ls -d /new*' \
			".mounts += [{type: \"bind\", source: \"$RIG/engine\",
			destination: \"/with space/two words/file\", options: [\"bind\"]}]")
		[ "${out%%$'\n'*}" = 1 ]
	done
	for i in $(seq 300); do mkdir "$RIG/t/d$i"; done
	make_image many "$RIG/t"
	[ "$(IMAGE=many once front-runc 'ls -d /d* | wc -l')" -ge 300 ]
	COMMAND=true make_bundle "$RIG/many-b" many ".annotations[\"run.oci.hooks.stderr\"] = \"$RIG/many.log\""
	run by hook-crun run -b "$RIG/many-b" many
	[ "$status" != 0 ]
	grep -q 'more than 256 entries' "$RIG/many.log"
	nothing_left
}
