# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the kernel makes of our index images: each is mounted over its tar, without a loop device,
# and compared with the tree that the tar was made of.

load_top() {
	TOP=$(realpath "$BATS_TEST_DIRNAME/../..")
	B=$(realpath -m "${B:-$TOP/build}")
	MKIMAGE=$B/test/mkimage
	TREEDIFF=$TOP/tests/fixtures/treediff.py
}

setup() {
	load_top
	[ "$(id -u)" = 0 ] || skip "mounting needs root"
	grep -qw erofs /proc/filesystems || modprobe -q erofs || skip "this kernel has no EROFS"
	D=$(mktemp -d "${TARN_TEST_TMPDIR:-/var/tmp}/erofs.XXXXXX")
	mkdir "$D/src" "$D/mnt"
	cd "$D/src" || return
}

teardown() {
	local rc=0
	cd /
	[ -n "${D-}" ] || return 0
	while mountpoint -q "$D/mnt"; do
		umount "$D/mnt" || { umount -l "$D/mnt"; rc=1; }
	done
	rm -rf "$D"
	return $rc
}

# Packs $D/src and mounts its image.
mount_src() {
	tar -C "$D/src" --format=pax --sort=name --xattrs --xattrs-include='*' -cf "$D/tar" .
	"$MKIMAGE" "$D/tar" "$D/image" "$D/mnt"
}

same() {
	"$TREEDIFF" --lookups "$D/src" "$D/mnt"
}

# Debian 12's fsck.erofs (1.5) refuses blocks below the page size, and 1.8 reads far out of bounds
# when it sums up a superblock of 512-byte blocks: the checksum, which the kernel has looked at on
# every mount, is taken out of the copy it sees.
fsck() {
	local fsck=${FSCK_EROFS:-fsck.erofs} out rc=0
	cp "$D/image" "$D/unsummed"
	printf '\2' | dd of="$D/unsummed" bs=1 seek=1032 conv=notrunc status=none
	out=$(timeout 60 "$fsck" --device="$D/tar" --extract="$D/out" "$D/unsummed" 2>&1) || rc=$?
	echo "$out"
	case $out in
	*"blksize 512 isn't supported on this platform"*)
		echo "# $fsck knows no 512-byte blocks: only our own reader has judged" >&3
		return 0
		;;
	esac
	# It exits 0 on most damage.
	[ $rc = 0 ] && ! grep -E '<[EW]>|[Ee]rror|corrupt' <<<"$out" &&
		"$TREEDIFF" --ignore-xattrs --ignore-links --ignore-mtime "$D/src" "$D/out"
}

@test "every type, owner, mode and time" {
	mkdir dir "sticky dir" dir/sub
	chmod 1777 "sticky dir"
	chmod 2750 dir
	echo hello >dir/file
	chmod 4711 dir/file
	: >dir/empty
	ln -s dir/file link
	ln -s /nowhere/at/all dangling
	mkfifo -m 604 pipe
	mknod -m 666 null c 1 3
	mknod -m 660 disk b 259 300000
	mknod far c 4095 1048575
	mknod whiteout c 0 0
	chown 4000000000:4294967294 dir/file
	chown -h 65536:65537 link
	touch -d '1960-02-29 12:34:56 UTC' dir/file
	touch -d '2100-12-31 23:59:59.999999999 UTC' dir/empty
	touch -h -d '2001-01-01 00:00:00.000000001 UTC' link dangling pipe null disk far whiteout
	touch -d '1970-01-01 00:00:00 UTC' dir
	mount_src
	same
	[ "$(stat -c %h "$D/mnt")" = 4 ]
	[ "$(stat -c %h "$D/mnt/dir")" = 3 ]
}

@test "files of sizes around blocks and pages, with their bytes" {
	local n
	for n in 0 1 511 512 513 1023 1024 1025 4095 4096 4097 8192 65536 1048576 3000001; do
		head -c $n /dev/urandom >"f$n"
	done
	mount_src
	same
	# From the middle, and mapped.
	cmp -i 2999000 f3000001 "$D/mnt/f3000001"
	python3 - "$D" <<-'END'
		import mmap, sys
		for n in (4097, 3000001):
		    with open(f"{sys.argv[1]}/mnt/f{n}", "rb") as f, open(f"{sys.argv[1]}/src/f{n}", "rb") as g:
		        m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
		        assert m[n - 4097:] == g.read()[n - 4097:]
	END
}

@test "programs run from the image" {
	cp "$(type -P true)" "$(type -P ls)" .
	mount_src
	"$D/mnt/true"
	"$D/mnt/ls" "$D/mnt" | grep -x true
}

@test "hard links share an inode" {
	mkdir d
	echo 1 >a
	ln a d/b
	ln a z
	ln -s x s
	ln s d/s2
	mount_src
	same
	[ "$(stat -c %h "$D/mnt/z")" = 3 ]
	[ "$(stat -c %i "$D/mnt/d/b")" = "$(stat -c %i "$D/mnt/a")" ]
}

@test "symbolic links of every length around a block" {
	python3 - <<-'END'
		import os
		text = "".join(str(i) for i in range(1000, 2100))
		for n in list(range(1, 80)) + list(range(400, 620)) + [1023, 1024, 1025, 4080, 4081, 4094, 4095]:
		    os.symlink(text[:n], f"l{n}")
	END
	mount_src
	same
}

@test "a directory of 100000 names" {
	mkdir d
	python3 - <<-'END'
		for i in range(100000):
		    open(f"d/{i * 7919 % 100000:x}-name-{i}", "w").close()
	END
	mount_src
	# Each is found by its name; the contents are empty and need no second look.
	"$TREEDIFF" --ignore-content --ignore-links --ignore-xattrs "$D/src" "$D/mnt"
	[ "$(find "$D/mnt/d" | wc -l)" = 100001 ]
	[ ! -e "$D/mnt/d/0" ]
}

@test "directories of every size up to some blocks" {
	python3 - <<-'END'
		import os
		for n in range(1, 160):
		    os.mkdir(f"d{n}")
		    for i in range(n):
		        os.close(os.open(f"d{n}/{i:03}" + "n" * (i * 41 % 200), os.O_CREAT))
	END
	mount_src
	same
}

@test "long names, names that are not UTF-8, names that sort before the dots" {
	python3 - <<-'END'
		import os
		names = [b"n" * 255, b"m" * 254, b"\xff" * 255, b"\xc3\x28", b"\xe2\x82", b"!", b"-", b" ",
		         b"new\nline", b".hidden", b"...", b"..a", b"+", b"\x01", b"\x7f", b"a:b,c\\d"]
		names += [bytes([c]) * n for c in range(0x80, 0x100) for n in (1, 100)]
		for name in names:
		    os.close(os.open(name, os.O_CREAT | os.O_EXCL))
	END
	mount_src
	same
}

@test "attributes, ACLs and capabilities" {
	local n
	mkdir acl
	echo 1 >user
	cp "$(type -P true)" cap
	setcap cap_net_raw,cap_net_admin+ep cap
	setfattr -n user.empty user
	setfattr -n user.small -v x user
	setfattr -n user.zeros -v 0x000000 user
	setfattr -n "user.$(head -c 250 /dev/zero | tr '\0' n)" -v long user
	setfattr -n user.large -v "$(head -c 1500 /dev/zero | tr '\0' v)" user
	setfattr -n trusted.secret -v y user
	setfattr -n security.any -v label user
	setfacl -m u:1000:rwx,g:5:r,m::rx acl user
	setfacl -d -m u:1001:rw acl
	ln -s user link
	setfattr -h -n trusted.on.a.link -v z link
	# Bodies of every length: behind them lie tails and chunk indexes.
	for n in $(seq 1 3 200); do
		echo "$n" >"f$n"
		setfattr -n user.n -v "$(head -c "$n" /dev/zero | tr '\0' v)" "f$n"
		mkdir "d$n"
		setfattr -n user.n -v "$(head -c "$n" /dev/zero | tr '\0' v)" "d$n"
	done
	mount_src
	same
	[ "$(getcap "$D/mnt/cap")" = "$D/mnt/cap cap_net_admin,cap_net_raw=ep" ]
	diff <(getfacl -cn acl user) <(cd "$D/mnt" && getfacl -cn acl user)
}

@test "directories nested as deep as a path can be" {
	# 2046 below the root: a path with "./" in front still has fewer than 4096 bytes.
	python3 - <<-'END'
		import os
		for i in range(2046):
		    os.mkdir("d")
		    os.chdir("d")
		open("f", "w").write("deep\n")
	END
	mount_src
	same
}

@test "files larger than 1 TiB" {
	# What is asked for is far inside; between lies a hole of 2 TB.
	echo "reg huge size=$((1900 << 30)) at=512" >"$D/list"
	truncate -s $(((1900 << 30) + 512)) "$D/tar"
	python3 - "$D/tar" <<-'END'
		import sys
		with open(sys.argv[1], "r+b") as f:
		    for at in (0, (1 << 40) - 3, (1 << 40) + 12345, (1900 << 30) - 5):
		        f.seek(512 + at)
		        f.write(b"here!")
	END
	"$MKIMAGE" -l "$D/list" "$D/tar" "$D/image" "$D/mnt"
	[ "$(stat -c %s "$D/mnt/huge")" = $((1900 << 30)) ]
	python3 - "$D/mnt/huge" <<-'END'
		import sys
		with open(sys.argv[1], "rb") as f:
		    for at in (0, (1 << 40) - 3, (1 << 40) + 12345, (1900 << 30) - 5):
		        f.seek(at)
		        assert f.read(5) == b"here!", at
		    f.seek(1 << 40 | 1 << 35)
		    assert f.read(100) == bytes(100)
	END
}

@test "the last block that a tar can have" {
	echo "reg last size=512 at=$(((1 << 41) - 1024))" >"$D/list"
	truncate -s $(((1 << 41) - 512)) "$D/tar"
	printf 'the end' | dd of="$D/tar" bs=1 seek=$(((1 << 41) - 1024)) conv=notrunc status=none
	"$MKIMAGE" -l "$D/list" "$D/tar" "$D/image" "$D/mnt"
	[ "$(head -c 7 "$D/mnt/last")" = "the end" ]
	[ "$(tail -c 505 "$D/mnt/last" | tr -d '\0' | wc -c)" = 0 ]
}

@test "what no tool puts into a tar, and times before 1970 to the nanosecond" {
	truncate -s 4096 "$D/tar"
	cat >"$D/list" <<-'END'
		fifo p mode=600 mtime=-310476304 ns=789012345
		link d/p to=p
		chr c mode=600 dev=4095:1048575
		link d/c to=c
		reg f size=3 at=512 mtime=-1 ns=999999999
		link g to=f
		reg f size=4 at=1536
		link d to=g
		whiteout p/../p
	END
	run "$MKIMAGE" -l "$D/list" "$D/tar" "$D/image" "$D/mnt"
	[ "$status" = 1 ]
	[ "$output" = "mkimage: not a legal entry: 'p/../p'" ]
	sed -i '$d' "$D/list"
	"$MKIMAGE" -l "$D/list" "$D/tar" "$D/image" "$D/mnt"
	[ "$(stat -c '%.9Y %h' "$D/mnt/p")" = "-310476303.210987655 1" ]
	[ "$(stat -c '%t:%T %h' "$D/mnt/c")" = "fff:fffff 1" ]
	[ "$(stat -c '%s %h' "$D/mnt/g" "$D/mnt/d" "$D/mnt/f" | tr '\n' ,)" = "3 2,3 2,4 1," ]
	[ "$D/mnt/g" -ef "$D/mnt/d" ]
}

@test "whiteouts and opaque directories, through overlayfs" {
	mkdir -p "$D/lower/dir" "$D/lower/opaque" "$D/lower/again" "$D/lower/keep"
	touch "$D/lower/file" "$D"/lower/{dir,opaque,again,keep}/old
	mkdir opaque again keep
	touch .wh.file .wh.dir .wh.again opaque/.wh..wh..opq {opaque,again,keep}/new
	mount_src
	[ "$(stat -c '%F %t:%T %a' "$D/mnt/file")" = "character special file 0:0 0" ]
	[ "$(getfattr --only-values -n trusted.overlay.opaque "$D/mnt/opaque" 2>/dev/null)" = y ]
	mkdir "$D/merged"
	mount -t overlay -o "lowerdir=$D/mnt:$D/lower" none "$D/merged"
	run find "$D/merged" -mindepth 1 -printf '%P\n'
	umount "$D/merged"
	[ "$(sort <<<"$output" | tr '\n' ' ')" = "again again/new keep keep/new keep/old opaque opaque/new " ]
}

@test "the comparison sees every kind of difference" {
	mkdir d
	echo 1 >f
	ln f g
	ln -s f l
	mknod c c 1 3
	cp -a . "$D/copy"
	"$TREEDIFF" --lookups . "$D/copy"
	differs() { # command that changes a fresh copy
		rm -rf "$D/copy"
		cp -a . "$D/copy"
		(cd "$D/copy" && "$@")
		run "$TREEDIFF" . "$D/copy"
		[ "$status" = 1 ] && [ -n "$output" ] && return 0
		echo "not seen: $*"
		return 1
	}
	differs touch new
	differs rm g
	differs chmod 600 f
	differs chmod 700 d
	differs chown 1 d
	differs chown -h :1 l
	differs touch -d '@1.000000001' f
	differs touch -d '@1' .
	differs setfattr -n user.a -v b f
	differs setfattr -n trusted.a -v b d
	differs sh -c 'echo 2 >x; touch -r f x; cat x >f; touch -r x f; rm x; touch -r ../src .'
	differs sh -c 'rm g; cp -a f g; touch -r ../src .'
	differs sh -c 'ln -sfn g l; touch -h -r ../src/l l; touch -r ../src .'
	differs sh -c 'rm c; mknod c c 1 5; touch -r ../src/c c; touch -r ../src .'
}

@test "fsck.erofs finds nothing" {
	mkdir -p a/b/c
	head -c 70000 /dev/urandom >a/b/file
	ln a/b/file a/link
	ln -s "$(head -c 600 /dev/zero | tr '\0' t)" a/long
	ln -s short a/short
	mknod a/null c 1 3
	touch a/b/c/{1..300}-some-name
	setfattr -n user.a -v b a a/b/file
	mount_src
	fsck
}

# TARN_LONG=1: 5,000 of them. The same seed makes the same lists.
@test "lists that nobody would write are mounted as they mean, or refused" {
	local lists=250 seed=${EROFUZZ_SEED:-1}
	[ -z "${TARN_LONG-}" ] || lists=5000
	run "$TOP/tests/fixtures/erofuzz.py" "$MKIMAGE" "$D/fuzz" $lists "$seed" \
		"$TOP"/tests/fuzz/corpus/erofs/*
	echo "$output"
	echo "# ${lines[-1]}" >&3
	[ "$status" = 0 ]
	# Most of them mean something, and some do not.
	[[ ${lines[-1]} =~ ([0-9]+)\ mounted,\ ([0-9]+)\ refused ]]
	[ "${BASH_REMATCH[1]}" -gt $((lists / 2)) ]
	[ "${BASH_REMATCH[2]}" -gt $((lists / 50)) ]
}

@test "a real file system tree" {
	local d
	for d in /usr/bin /usr/lib/x86_64-linux-gnu/perl-base /etc /usr/share/doc/bash; do
		[ -d $d ] && cp -a --parents $d .
	done
	mount_src
	same
}
