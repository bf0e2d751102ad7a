#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Whatever way the root file system comes, the container is what the runtime would have made of it.

load ../fixtures/rig
load attach

setup() {
	attach_setup
	make_usual_image
}
teardown() { rig_teardown; }

# Every way in turn; the name of the one that failed is the last thing said. Where a container's errors
# matter they are on one output with the rest: of two, the runtime copies each as it comes, also into
# the middle of a line of the other.
each_way() { # function
	local way
	for way in $WAYS; do
		echo "--- $way"
		"$1" "$way"
	done
	nothing_left
}

runs() {
	out=$(once "$1" 'cat /top; readlink /lib; id -u; pwd')
	[ "$out" = $'top\nusr/lib\n0\n/' ]
}
@test "a container runs from its image" { each_way runs; }

status_is_kept() {
	run once "$1" 'exit 7'
	[ "$status" = 7 ]
}
@test "the container's exit status is the runtime's" { each_way status_is_kept; }

# /proc paths, and a file and a directory of the image. What is masked reads as nothing at all.
masks() {
	out=$(once "$1" 'cat /proc/version /top; ls /masked /proc/bus
		cut -d " " -f 5 /proc/self/mountinfo | grep -xE "/proc/version|/top|/masked"' \
		'.linux.maskedPaths += ["/proc/version", "/proc/bus", "/top", "/masked"]' | sort -u)
	echo "$out"
	[ "$(grep -v : <<<"$out" | tr '\n' ' ')" = ' /masked /proc/version /top ' ]
}
@test "masked paths are masked, also those of the image" { each_way masks; }

readonly_paths() {
	out=$(once "$1" 'exec 2>&1; echo x >/proc/sys/kernel/domainname; echo x >/data/new; echo x >/new' \
		'.linux.readonlyPaths += ["/data"]' 2>&1) || true
	[[ $out == *domainname*'Read-only file system'*/data/new*'Read-only file system'* ]]
	[[ $out != *': /new'* ]]
}
@test "read-only paths are read-only, and the rest is not" { each_way readonly_paths; }

readonly_root() {
	out=$(once "$1" 'exec 2>&1; for f in /new /etc/new /usr/lib/new /home/app/new; do echo x >$f; done
		echo ok >/dev/shm/new; cat /dev/shm/new' '.root.readonly = true' 2>&1) || true
	echo "$out"
	[ "$(grep -c 'Read-only file system' <<<"$out")" = 4 ]
	grep -qx ok <<<"$out"
}
@test "root.readonly is honoured" { each_way readonly_root; }

cwd() {
	[ "$(once "$1" 'pwd; ls /' '.process.cwd = "/newdir/deep"' | head -n 1)" = /newdir/deep ]
	[ "$(once "$1" 'pwd' '.process.cwd = "/newdir/deep" | .root.readonly = true')" = /newdir/deep ]
	[ "$(once "$1" 'pwd' '.process.cwd = "/var/run/work"')" = /run/work ]
}
@test "a working directory that is missing is made" { each_way cwd; }

# The engine's files: on a link of the image that leads nowhere yet, on a file, below a link.
binds() {
	echo "from $1" >"$RIG/host-file"
	mkdir -p "$RIG/host-dir/sub"
	echo "in $1" >"$RIG/host-dir/sub/file"
	out=$(once "$1" 'exec 2>&1; cat /etc/resolv.conf /run/resolve/stub.conf /etc/hosts /lib/modules/sub/file
		cat /usr/lib/modules/sub/file /secrets/deep/file /run/volume/sub/file
		echo x >/etc/hosts; echo x >/lib/modules/new' \
		".mounts += ([\"/etc/resolv.conf\", \"/etc/hosts\", \"/secrets/deep/file\"] | map({
			type: \"bind\", source: \"$RIG/host-file\", destination: .,
			options: [\"bind\", \"ro\"]})) + ([\"/lib/modules\", \"/var/run/volume\"] |
			map({type: \"bind\", source: \"$RIG/host-dir\", destination: .,
			options: [\"rbind\", \"ro\"]}))" 2>&1) || true
	echo "$out"
	[ "$(grep -c "^from $1$" <<<"$out")" = 4 ]
	[ "$(grep -c "^in $1$" <<<"$out")" = 3 ]
	[ "$(grep -c 'Read-only file system' <<<"$out")" = 2 ]
	[ "$(<"$RIG/host-file")" = "from $1" ]
}
@test "binds are on the image's paths, links and all" { each_way binds; }

tmpfs_run() {
	out=$(once "$1" 'echo x >/var/run/new; cat /run/new; grep -c " /run .* tmpfs " /proc/self/mountinfo
		cat /run/secret' \
		".mounts += [{type: \"tmpfs\", source: \"tmpfs\", destination: \"/run\"},
			{type: \"bind\", source: \"$RIG/host-file\", destination: \"/var/run/secret\",
			options: [\"bind\"]}]")
	[ "$out" = $'x\n1\nsecret' ]
}
@test "a bind below a link goes into the tmpfs that the link leads to" {
	echo secret >"$RIG/host-file"
	each_way tmpfs_run
}

devices() {
	out=$(once "$1" 'echo x >/dev/null; head -c 4 /dev/zero | wc -c; ls /dev/pts/ptmx; ls -d /dev/shm
		readlink /dev/fd; touch /dev/shm/x && echo ok')
	[ "$out" = $'4\n/dev/pts/ptmx\n/dev/shm\n/proc/self/fd\nok' ]
}
@test "devices are there" { each_way devices; }

# Propagation stays what the engine asked for: a volume's later mounts come through, or do not.
propagation() {
	local dir=$RIG/shared
	# What makes crun run on some hosts cuts it off from their mounts.
	if [[ $1 == *crun ]] && ! rig_crun_plain; then
		echo "# $1: not asked, crun itself cannot do it here" >&3
		return 0
	fi
	mkdir -p "$dir/sub"
	mount --bind "$dir" "$dir"
	mount --make-shared "$dir"
	start "$1" p-"$1" true ".mounts += [{type: \"bind\", source: \"$dir\", destination: \"/data\",
		options: [\"rbind\", \"rslave\"]}]"
	mount -t tmpfs tmpfs "$dir/sub"
	run by "$1" exec p-"$1" grep -c ' /data/sub ' /proc/self/mountinfo
	umount "$dir/sub"
	by "$1" delete --force p-"$1"
	umount "$dir"
	[ "$output" = 1 ]
}
@test "mounts of the host still reach a volume that wants them" { each_way propagation; }

writes() {
	start "$1" w-"$1" 'echo new >/etc/new; echo top >/newtop; rm /top; mv /data/file /data/moved' || true
	[ "$(by "$1" exec w-"$1" cat /etc/new /newtop)" = $'new\ntop' ]
	[ ! -e "$RIG/w-$1/rootfs/etc/new" ]
	by "$1" delete --force w-"$1"
	! once "$1" 'cat /etc/new' 2>/dev/null
}
@test "a container writes into a layer of its own" { each_way writes; }
