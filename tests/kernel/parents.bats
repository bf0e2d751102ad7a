# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Directories that upper layers imply and lower ones describe: what the kernel makes of an image
# whose layers leave parents out, against what umoci makes of it.

load ../fixtures/rig

setup() {
	rig_setup
	need umoci jq
	need_tarn_kernel
	start_tarnd
}

teardown() { rig_teardown; }

# Three layers and more. umoci repack lists a directory that changed, but not those above it; umoci
# insert lists nothing but what it is given.
make_image() {
	local r=$RIG/base/rootfs img=$RIG/img:latest
	umoci init --layout "$RIG/img"
	umoci new --image "$img"
	umoci unpack --image "$img" "$RIG/base"
	mkdir -p "$r"/{tmp,etc/secret,home/app,keep,srv/shared,srv/opaque/deep,opt/old/deep,opt/file} \
		"$r"/var/lib/app/data
	echo first | tee "$r"/{keep,srv/opaque/deep,opt/old/deep,var/lib/app/data}/first >"$r/tmp/first"
	chown 1000:1001 "$r/home/app"
	chown 0:50 "$r/srv/shared"
	chmod 751 "$r"
	chmod 1777 "$r/tmp"
	chmod 2775 "$r/srv/shared"
	chmod 700 "$r/etc/secret" "$r/opt/file"
	chmod 711 "$r/opt/old" "$r/opt/old/deep" "$r/srv/opaque" "$r/srv/opaque/deep"
	setfattr -n user.tarn -v inherited "$r/var/lib"
	find "$r" -exec touch -h -d '2001-02-03 04:05:06 UTC' {} +
	umoci repack --image "$img" "$RIG/base"

	umoci unpack --image "$img" "$RIG/second"
	r=$RIG/second/rootfs
	echo second | tee "$r/var/lib/app/data/second" >"$r/etc/secret/second"
	chmod 2750 "$r/home/app"
	rm -r "$r/opt/old" "$r/opt/file"
	echo second >"$r/opt/file"
	umoci repack --image "$img" "$RIG/second"

	# A whole block: umoci 0.4 does not pad what it inserts.
	printf '%512s' third >"$RIG/file"
	mkdir "$RIG/dir"
	cp "$RIG/file" "$RIG/dir/third"
	umoci insert --image "$img" "$RIG/file" /tmp/third
	umoci insert --image "$img" "$RIG/file" /home/app/third
	umoci insert --image "$img" "$RIG/file" /srv/shared/third
	umoci insert --image "$img" "$RIG/file" /opt/old/deep/third
	umoci insert --image "$img" --opaque "$RIG/dir" /srv/opaque
	umoci insert --image "$img" "$RIG/file" /srv/opaque/deep/third
}

blobs() { echo "$RIG/img/blobs/sha256"; }

manifest() { jq -r '.manifests[0].digest' "$RIG/img/index.json" | cut -d : -f 2; }

# The names in the tar of a layer, counted from the bottom.
names_in() { # number
	local blob
	blob=$(jq -r ".layers[$1].digest" "$(blobs)/$(manifest)" | cut -d : -f 2)
	gzip -dc "$(blobs)/$blob" | tar -t
}

parents_file() { echo "$TARN_STORE/images/$(manifest).erofs"; }

mount_image() {
	mkdir -p "$RIG/mnt"
	tarn mount parents:one "$RIG/mnt"
}

# Times too, but for what umoci itself touches while it unpacks.
directories() { # top
	(cd "$1" && find . -type d ! -path './opt*' ! -path './srv/opaque*' \
		-printf '%p %m %U:%G %T@\n' | sort)
}

check_tree() { # reference
	same_tree "$1" "$RIG/mnt"
	diff <(directories "$1") <(directories "$RIG/mnt")
	[ "$(stat -c %a "$RIG/mnt/tmp")" = 1777 ]
	[ "$(stat -c %a "$RIG/mnt")" = 751 ]
	[ "$(getfattr -n user.tarn --only-values "$RIG/mnt/var/lib" 2>/dev/null)" = inherited ]
}

@test "an image whose layers leave out parents looks as it does unpacked" {
	make_image
	# Or all this would say nothing.
	[ "$(names_in 2)" = tmp/third ]
	[ "$(names_in 1 | grep -cE '^(\./)?var/(lib/)?$')" = 0 ]
	reference=$(umoci_unpack "$RIG/img")
	tarn pull --name parents:one "oci:$RIG/img:latest"
	[ -s "$(parents_file)" ]
	mount_image
	check_tree "$reference"
	# What was hidden stays hidden.
	[ ! -e "$RIG/mnt/opt/old/deep/first" ]
	[ ! -e "$RIG/mnt/srv/opaque/deep/first" ]
	[ -f "$RIG/mnt/opt/file" ]
	# The upper directory has a root of its own: it is made like the one below.
	touch "$RIG/mnt/tmp/new" "$RIG/mnt/var/lib/new"
	[ "$(stat -c %a "$RIG/mnt/tmp")" = 1777 ]
	tarn umount "$RIG/mnt"
}

@test "a parents image that is lost or damaged is made again" {
	make_image
	reference=$(umoci_unpack "$RIG/img")
	tarn pull --name parents:one "oci:$RIG/img:latest"
	file=$(parents_file)
	cp "$file" "$RIG/first"
	for how in 'rm "$file"' ': >"$file"' 'truncate -s -1 "$file"' \
		'dd if=/dev/zero of="$file" bs=128 seek=8 count=1 conv=notrunc status=none'; do
		echo "$how"
		eval "$how"
		mount_image
		check_tree "$reference"
		cmp "$file" "$RIG/first"
		tarn umount "$RIG/mnt"
	done
}

@test "it lives and goes with its image, and others have none" {
	make_image
	tarn pull --name parents:one "oci:$RIG/img:latest"
	tarn pull --name parents:again "oci:$RIG/img:latest"
	[ -s "$(parents_file)" ]
	tarn rm parents:one
	[ -s "$(parents_file)" ]
	tarn gc
	[ -s "$(parents_file)" ]
	tarn rm parents:again
	[ ! -e "$(parents_file)" ]
	tarn pull --name tiny "oci:$(image_tiny):latest"
	[ -z "$(find "$TARN_STORE/images" -name '*.erofs')" ]
}

@test "images of random layers look as they do unpacked" {
	mkdir "$RIG/mnt"
	for seed in {1..25}; do
		echo "seed $seed"
		mkdir "$RIG/$seed"
		"$RIG_FIXTURES/randlayers.py" "$seed" "$RIG/$seed" 5
		"$RIG_FIXTURES/mkimage.py" --fresh --compression tar --config '{}' "$RIG/img-$seed" \
			"$RIG/$seed"/{0..4}.tar
		reference=$(umoci_unpack "$RIG/img-$seed" 2>/dev/null)
		tarn pull -q --name "$seed" "oci:$RIG/img-$seed:latest"
		tarn mount "$seed" "$RIG/mnt"
		same_tree "$reference" "$RIG/mnt"
		tarn umount "$RIG/mnt"
	done
	# Most of them need a parents image, or this would say little.
	[ "$(find "$TARN_STORE/images" -name '*.erofs' | wc -l)" -ge 12 ]
}

@test "an opaque root directory hides every layer below it" {
	mkdir "$RIG"/{lower,upper}
	echo low >"$RIG/lower/low"
	echo up >"$RIG/upper/up"
	: >"$RIG/upper/.wh..wh..opq"
	tar -C "$RIG/lower" -cf "$RIG/lower.tar" .
	tar -C "$RIG/upper" -cf "$RIG/upper.tar" .
	"$RIG_FIXTURES/mkimage.py" --fresh --compression gzip --config '{"Cmd":["/x"]}' \
		"$RIG/opaque" "$RIG/lower.tar" "$RIG/upper.tar" >/dev/null
	tarn -q pull "oci:$RIG/opaque" --name opaque
	mkdir "$RIG/m"
	tarn mount opaque "$RIG/m"
	[ "$(ls "$RIG/m")" = up ]
	tarn umount "$RIG/m"
}

@test "an image that umoci insert made: no padding and no end marker in its tar" {
	local layout=$RIG/inserted
	umoci init --layout "$layout"
	umoci new --image "$layout:latest"
	head -c 70001 /dev/urandom >"$RIG/random"
	umoci insert --image "$layout:latest" "$RIG/random" /opt/random
	tarn -q pull "oci:$layout:latest" --name inserted
	mkdir "$RIG/m"
	tarn mount inserted "$RIG/m"
	cmp "$RIG/random" "$RIG/m/opt/random"
	tarn fill --wait inserted
	tarn verify inserted
	tarn umount "$RIG/m"
}
