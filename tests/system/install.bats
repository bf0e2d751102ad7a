#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# make install and uninstall, into a directory of the test's.

setup() {
	cd "$BATS_TEST_DIRNAME/../.." || return
	D=$BATS_TEST_TMPDIR/root
}

# With the flags of the build there is, so that nothing is built again for another prefix.
install_to() { # target
	make B="$B" FLAGS="$(<"$B/flags")" --old-file=all DESTDIR="$D" PREFIX=/usr "$1"
}

@test "every program and file is in its place, and named there" {
	install_to install
	for f in bin/tarn bin/tarn-runtime sbin/tarnd libexec/tarn/tarn-hook; do
		[ -x "$D/usr/$f" ]
	done
	[ -s "$D/usr/lib/sysusers.d/tarn.conf" ]
	grep -qx 'ExecStart=/usr/sbin/tarnd' "$D/usr/lib/systemd/system/tarnd.service"
	for f in "$D"/usr/share/containers/oci/hooks.d/*.json; do
		[ "$(jq -r .version "$f")" = 1.0.0 ]
		[ -x "$D$(jq -r .hook.path "$f")" ]
	done
	for f in plugin/*.scd hooks/*.scd; do
		[ -e "$f" ] || continue
		f=${f##*/} f=${f%.scd}
		[ -s "$D/usr/share/man/man${f##*.}/$f" ]
	done
}

@test "paths follow the prefix and the directory variables" {
	make B="$B" FLAGS="$(<"$B/flags")" --old-file=all DESTDIR="$D" PREFIX=/opt/t \
		libexecdir=/opt/t/lib sbindir=/opt/t/bin install
	[ -x "$D/opt/t/lib/tarn/tarn-hook" ]
	grep -qx 'ExecStart=/opt/t/bin/tarnd' "$D/opt/t/lib/systemd/system/tarnd.service"
	run grep -r /usr/libexec "$D/opt/t/share/containers"
	[ "$status" = 1 ]
	[ ! -e "$D/usr" ]
}

@test "uninstall takes away all that install put there" {
	install_to install
	[ "$(find "$D" -type f | wc -l)" -ge 6 ]
	install_to uninstall
	[ -z "$(find "$D" -type f)" ]
}
