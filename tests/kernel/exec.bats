#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Programs that are not there yet when they are started, by many at once.

load lake

setup() { lake_setup; start_tarnd; }
teardown() { lake_teardown; }

# A layer with a large program, and on both sides of it what must not be brought in as well.
exec_layout() { # compression
	local dir=$RIG/tree
	if [ ! -e "$RIG/big.tar" ]; then
		mkdir -p "$dir"
		head -c $((16 << 20)) /dev/urandom >"$dir/a-before"
		cp "$B/test/bigexec" "$dir/bigexec"
		"$B/test/bigexec" --fill "$dir/bigexec"
		head -c $((16 << 20)) /dev/urandom >"$dir/z-behind"
		tar -C "$dir" --sort=name -cf "$RIG/big.tar" a-before bigexec z-behind
	fi
	"$RIG_FIXTURES/mkimage.py" --compression "$1" "$RIG/big-$1" "$RIG/big.tar" >/dev/null
	echo "$RIG/big-$1"
}

@test "64 processes start the same large program for the first time" {
	for how in gzip zstd-multi; do
		lake "$(exec_layout $how)" big "$RIG/m-$how"
		tarn -q evict --all
		drop_caches
		size=$(stat -c %s "$RIG/m-$how/bigexec")
		[ "$size" -ge $((20 << 20)) ]
		fetched=$(counted bytes.fetched) filled=$(counted bytes.filled)
		said=$("$B/test/manyexec" 64 "$RIG/m-$how/bigexec")
		echo "$how: $said"
		[ "$said" = "exit 0: 64" ]
		fetched=$(($(counted bytes.fetched) - fetched))
		filled=$(($(counted bytes.filled) - filled))
		# Its spans: of 2 MiB at most here, the first and the last shared with its neighbours.
		spans=$(((size / (2 << 20) + 2) * (2 << 20)))
		echo "size $size, in spans at most $spans, filled $filled, fetched $fetched"
		[ "$filled" -le "$spans" ]
		[ "$fetched" -le $((spans * 11 / 10)) ]
		[ "$filled" -ge "$size" ]
		tarn umount "$RIG/m-$how"
		tarn rm big
	done
}

@test "a program is all there before it runs" {
	lake "$(exec_layout gzip)" big
	misses=$(counted events.misses)
	"$RIG/m/bigexec"
	[ "$(counted events.open_exec)" -ge 1 ]
	# What it then touches raises events that find their bytes.
	[ "$(counted events.misses)" -le $((misses + 1)) ]
}

@test "a program past exec.fill_max runs, and comes as it is touched" {
	stop_tarnd
	echo 'exec.fill_max = 1M' >"$RIG/tarn.conf"
	start_tarnd --config "$RIG/tarn.conf"
	lake "$(exec_layout gzip)" big
	[ "$("$B/test/manyexec" 8 "$RIG/m/bigexec")" = "exit 0: 8" ]
}

@test "programs of a whole system, each started cold" {
	tree=$(debian_tree)
	lake "$(image_debian gzip)" debian
	readers "$tree/usr/bin" "$RIG/m/usr/bin" -m x
	[ "$(found execs)" -gt 1000 ]
	chroot "$RIG/m" /usr/bin/python3 -c 'import json, ssl; print(json.dumps("ran"))'
	chroot "$RIG/m" /usr/bin/gcc --version
}
