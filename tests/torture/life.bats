#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Something of everything, and much at once: what a build with sanitizers is run through (`make
# check-asan-kernel`, `check-tsan-kernel`).

load ../kernel/lake

export BATS_TEST_TIMEOUT=600

setup() {
	lake_setup
	start_pyregistry "$(image_debian gzip)"
	start_tarnd
	TREE=$(debian_tree)
}
teardown() { lake_teardown; }

evictions() {
	while :; do
		tarn -q evict --all --wait || :
	done
}

@test "pulled, read, evicted, filled, killed and restarted under readers, verified and removed" {
	tarn -q pull --tls-verify=false "$REGISTRY/app:latest" --name app
	lake_mount app
	start_readers "$TREE/usr/bin" "$RIG/m/usr/bin" -j 4 -m rpdmx -s 6 -w 100 -b -d
	evictions 3>&- &
	LAKE_JOBS+=($!)
	kill_tarnd engine
	kill_tarnd fetcher
	kill_tarnd keeper
	wait_readers
	kill "${LAKE_JOBS[-1]}"
	wait "${LAKE_JOBS[-1]}" || true
	start_readers "$TREE/usr/sbin" "$RIG/m/usr/sbin" -j 2 -s 4 -w 100
	stop_tarnd
	start_tarnd
	wait_readers
	tarn -q pin app
	tarn -q fill app
	tarn -q verify app
	tarn status --waiting >"$RIG/waiting"
	tarn -q unpin app
	tarn umount "$RIG/m"
	rig_wait 120 "the unmounting of layers" lake_is_dry
	tarn rm app
	tarn -q gc
}
