#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The registry client (regcat) against a registry that misbehaves on command (registry.py) and
# against Debian's docker-registry. Nothing leaves the loopback interface.

SIZE=3000000

setup_file() {
	export LAYOUT="$BATS_FILE_TMPDIR/layout"
	export REGCAT="${B:?}/test/regcat"
	mkdir -p "$LAYOUT/blobs/sha256"
	python3 - "$LAYOUT" $SIZE >"$BATS_FILE_TMPDIR/digests" <<-'PY'
	import hashlib, json, os, random, sys
	os.chdir(sys.argv[1])
	rng = random.Random(7)
	def put(data, media):
	    d = hashlib.sha256(data).hexdigest()
	    with open("blobs/sha256/" + d, "wb") as f:
	        f.write(data)
	    return {"mediaType": media, "digest": "sha256:" + d, "size": len(data)}
	base = "application/vnd.oci.image."
	layer = put(rng.randbytes(int(sys.argv[2])), base + "layer.v1.tar")
	config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
	    "type": "layers", "diff_ids": [layer["digest"]]}}).encode(), base + "config.v1+json")
	manifest = put(json.dumps({"schemaVersion": 2, "mediaType": base + "manifest.v1+json",
	    "config": config, "layers": [layer]}).encode(), base + "manifest.v1+json")
	with open("index.json", "w") as f:
	    json.dump({"schemaVersion": 2, "manifests": [dict(manifest, annotations={
	        "org.opencontainers.image.ref.name": "v1"})]}, f)
	with open("oci-layout", "w") as f:
	    json.dump({"imageLayoutVersion": "1.0.0"}, f)
	print(layer["digest"], config["digest"], manifest["digest"])
	PY
}

setup() {
	read -r LAYER CONFIG MANIFEST <"$BATS_FILE_TMPDIR/digests"
	PIDS=()
	cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
	local pid
	for pid in "${PIDS[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
}

# --- helpers ------------------------------------------------------------------------------------

serve() { # [option]...
	rm -f ports
	python3 "$BATS_TEST_DIRNAME/../fixtures/registry.py" --layout "$LAYOUT" --ports ports \
		--control control --log log "$@" 3>&- &
	PIDS+=($!)
	for _ in $(seq 200); do
		[ -s ports ] && break
		sleep 0.05
	done
	read -r PORT STORAGE <ports
	HOST="127.0.0.1:$PORT"
}

control() { # JSON
	printf '%s' "$1" >control.new
	mv control.new control
}

# The client, on $HOST and ns/app, with the options in $OPTS. Output and status as `run` leaves them.
cat_() { # operation...
	# shellcheck disable=SC2086
	run timeout 60 "$REGCAT" ${OPTS:-} "$HOST" ns/app "$@"
	echo "$output"
}

sum_of() { # offset length
	tail -c +$(($1 + 1)) "$LAYOUT/blobs/sha256/${LAYER#sha256:}" | head -c "$2" | sha256sum |
		cut -d' ' -f1
}

whole() { # the arguments of a range operation: all of the layer
	echo "$LAYER $SIZE 0 $SIZE"
}

# Requests in the log for which the python expression is true (r is one request).
requests() { # [expression]
	python3 - "${1:-True}" <<-'PY'
	import json, sys
	print(sum(1 for r in map(json.loads, open("log")) if eval(sys.argv[1])))
	PY
}

is() { # what it is, what it should be
	[ "$1" = "$2" ] || { echo "is '$1', should be '$2'" >&2; return 1; }
}

fails_with() { # ERRNO text
	if [ "$status" != 1 ] || [[ "$output" != *"fail "*" $1 "*"$2"* ]]; then
		echo "should fail with $1 and '$2' (status $status)" >&2
		return 1
	fi
	[[ "$output" != *"error text has code"* ]]
}

delivers() { # line-number bytes sha256
	is "$(cut -d' ' -f1,3,4 <<<"${lines[$1]}")" "ok $2 $3"
}

# --- a registry that behaves --------------------------------------------------------------------

@test "manifest by tag and by digest, media type without parameters" {
	serve
	cat_ manifest v1 manifest "$MANIFEST"
	is "$status" 0
	local type=application/vnd.oci.image.manifest.v1+json
	is "${lines[0]#ok manifest * * }" "$type $MANIFEST"
	is "${lines[1]#ok manifest * * }" "$type $MANIFEST"
}

@test "a small blob whole, its digest checked" {
	serve
	cat_ blob "$CONFIG"
	is "$status" 0
	is "sha256:${lines[0]##* }" "$CONFIG"
}

@test "ranges: inside, first byte, last byte, tail, nothing, all" {
	serve
	cat_ range "$LAYER" $SIZE 1000 5000 range "$LAYER" $SIZE 0 1 \
		range "$LAYER" $SIZE $((SIZE - 1)) 1 range "$LAYER" $SIZE 2000000 1000000 \
		range "$LAYER" $SIZE 77 0 range $(whole)
	is "$status" 0
	delivers 0 5000 "$(sum_of 1000 5000)"
	delivers 1 1 "$(sum_of 0 1)"
	delivers 2 1 "$(sum_of $((SIZE - 1)) 1)"
	delivers 3 1000000 "$(sum_of 2000000 1000000)"
	delivers 4 0 "$(sum_of 0 0)"
	delivers 5 $SIZE "${LAYER#sha256:}"
	is "$(requests 'r["range"] == "bytes=1000-5999"')" 1
	is "$(requests 'r["range"] == "" and r["status"] == 200')" 1
	is "$(requests)" 5
}

@test "pieces of any size give the same bytes" {
	serve
	for piece in 1 4097 65536 1048576 8388608; do
		OPTS="--piece $piece" cat_ range "$LAYER" $SIZE 12345 100000
		delivers 0 100000 "$(sum_of 12345 100000)"
	done
}

@test "a range outside of the blob is refused before anything is sent" {
	serve
	cat_ range "$LAYER" $SIZE $SIZE 1
	fails_with EINVAL "are not inside"
	cat_ range "$LAYER" $SIZE 18446744073709551615 2
	fails_with EINVAL "are not inside"
	[ ! -s log ]
}

# Connections the servers have seen.
connections() {
	python3 -c 'import json; print(len({json.loads(l)["connection"] for l in open("log")}))'
}

@test "one connection for everything, errors included" {
	serve
	cat_ manifest v1 manifest nope blob "$CONFIG" range "$LAYER" $SIZE 5 50 range $(whole) \
		peek "$LAYER" $SIZE 0 1000 1000 manifest v1
	is "$(requests)" 7
	is "$(connections)" 1
}

@test "one connection to each of two servers, redirects and tokens included" {
	serve
	control '{"auth": "bearer", "redirect": true}'
	cat_ range "$LAYER" $SIZE 5 50 manifest nope blob "$CONFIG" range "$LAYER" $SIZE 50 500
	is "$(requests)" 8
	is "$(connections)" 2
}

@test "a stream given up early costs its connection and nothing else" {
	serve
	cat_ peek $(whole) 1000 range "$LAYER" $SIZE 5 50
	is "$status" 0
	delivers 0 1000 "$(sum_of 0 1000)"
	delivers 1 50 "$(sum_of 5 50)"
}

@test "a connection that the server has closed meanwhile is made anew" {
	serve --idle 0.3
	cat_ manifest v1 sleep 600 manifest v1 range "$LAYER" $SIZE 5 50
	is "$status" 0
	is "$(connections)" 2
}

@test "one stream at a time, and the one that is open is not harmed" {
	serve
	cat_ nested $(whole) manifest v1
	is "$status" 1
	[[ "${lines[0]}" == "fail nested EBUSY "* ]]
	delivers 1 $SIZE "${LAYER#sha256:}"
	is "${lines[2]%% [0-9]*}" "ok manifest"
}

@test "a missing manifest and a missing blob are ENOENT, with the registry's code" {
	serve
	cat_ manifest nope
	fails_with ENOENT MANIFEST_UNKNOWN
	cat_ blob "sha256:$(printf 0%.0s {1..64})"
	fails_with ENOENT BLOB_UNKNOWN
}

@test "hosts, names and references that are none are refused" {
	serve
	local good=$HOST
	for HOST in "$good/v2" "user@$good" "a b" "$good?x" "$good#x" "" "[::1"; do
		cat_ manifest v1
		fails_with EINVAL "is not a registry host"
	done
	HOST=$good
	for repo in "" ../x a//b /a a/ a/../b A/b "a?b" "a b" "a%2fb"; do
		run "$REGCAT" "$HOST" "$repo" manifest v1
		fails_with EINVAL "is not a repository name"
	done
	for ref in "" .hidden "a/b" "v1?x" "sha256:abc" "md5:abc" "$(printf a%.0s {1..129})"; do
		cat_ manifest "$ref"
		fails_with EINVAL "neither a tag nor"
	done
	[ ! -s log ]
}

@test "memory stays small and no clock runs while nobody reads" {
	# The sanitizer would keep what is freed; here that is what is measured.
	export ASAN_OPTIONS=quarantine_size_mb=1
	local sum small big
	head -c 100000000 /dev/zero >zeros
	sum=$(sha256sum zeros | cut -d' ' -f1)
	cp -r "$LAYOUT" lay && mv zeros "lay/blobs/sha256/$sum"
	LAYOUT=$PWD/lay serve
	OPTS="--rss" cat_ range "sha256:$sum" 100000000 5 5
	small=${lines[1]#rss }
	OPTS="--rss --stall 400" cat_ idle "sha256:$sum" 100000000 0 100000000 1500
	is "$status" 0
	delivers 0 100000000 "$sum"
	big=${lines[1]#rss }
	[ $((big - small)) -lt 8000 ] # KiB
}

# --- tokens and passwords -----------------------------------------------------------------------

@test "anonymous token: fetched once, used for all requests of the repository" {
	serve
	control '{"auth": "bearer"}'
	cat_ manifest v1 blob "$CONFIG" range "$LAYER" $SIZE 0 10
	is "$status" 0
	is "$(requests 'r["path"].startswith("/token")')" 1
	is "$(requests 'r["status"] == 401')" 1
	is "$(requests 'r["auth"] == "Basic"')" 0
	is "$(requests)" 5
}

@test "token with user and password" {
	serve
	control '{"auth": "bearer", "user": "ada", "password": "pä:ss \"w"}'
	SECRET='pä:ss "w' OPTS="--user ada" cat_ manifest v1
	is "$status" 0
	is "$(requests 'r["auth"] == "Basic" and r["path"].startswith("/token")')" 1
	is "$(requests 'r["auth"] == "Basic" and not r["path"].startswith("/token")')" 0
}

@test "a wrong password is EACCES after one try, and not shown" {
	serve
	control '{"auth": "bearer", "user": "ada", "password": "right"}'
	SECRET=hidden-word OPTS="--user ada" cat_ manifest v1
	fails_with EACCES "401"
	[[ "$output" != *hidden-word* ]]
	[[ "$output" != *"$(printf ada:hidden-word | base64)"* ]]
	is "$(requests)" 2
}

@test "token under either name, with and without its life told" {
	serve
	control '{"auth": "bearer", "token_name": "token"}'
	cat_ manifest v1
	is "$status" 0
	control '{"auth": "bearer", "token_name": "access_token", "token_expires": 300}'
	cat_ manifest v1
	is "$status" 0
	control '{"auth": "bearer", "token_name": "nonsense"}'
	cat_ manifest v1
	fails_with EPROTO "no usable token"
}

@test "an identity token is traded by OAuth2" {
	serve
	control '{"auth": "bearer", "identity": "id-&=token"}'
	SECRET='id-&=token' OPTS="--user <token>" cat_ manifest v1
	is "$status" 0
	is "$(requests 'r["method"] == "POST"')" 1
	SECRET=wrong-identity OPTS="--user <token>" cat_ manifest v1
	fails_with EACCES "401"
	[[ "$output" != *wrong-identity* ]]
}

@test "a token is renewed at 80 % of its life, without asking the registry first" {
	serve
	control '{"auth": "bearer", "token_expires": 2}'
	cat_ manifest v1 sleep 1000 manifest v1 sleep 750 manifest v1
	is "$status" 0
	is "$(requests 'r["path"].startswith("/token")')" 2
	is "$(requests 'r["status"] == 401')" 1
}

@test "a token that ends before its time is renewed, after 401 and after 403" {
	serve
	for denied in 401 403; do
		rm -f log
		control '{"auth": "bearer", "token_valid": 0.5, "denied": '$denied'}'
		serve
		cat_ manifest v1 sleep 600 manifest v1
		is "$status" 0
		is "$(requests 'r["path"].startswith("/token")')" 2
	done
}

@test "when the token server named after the end of a token fails, all starts anew" {
	serve
	control '{"auth": "bearer", "token_valid": 0.5, "realm_again": "http://127.0.0.1:1/token"}'
	cat_ manifest v1 sleep 600 manifest v1
	is "$status" 0
	is "$(requests 'r["path"].startswith("/token")')" 2
	is "$(requests 'r["status"] == 401')" 3
}

@test "a token that opens nothing ends in EACCES, not in a loop" {
	serve
	control '{"auth": "bearer", "token_valid": 0}'
	cat_ manifest v1
	fails_with EACCES "401"
	is "$(requests)" 3
	control '{"auth": "bearer", "token_valid": 0, "denied": 403}'
	cat_ manifest v1
	fails_with EACCES "403"
	is "$(requests)" 6
}

@test "basic: with a password, with a wrong one, with none" {
	serve
	control '{"auth": "basic", "user": "ada", "password": "right"}'
	SECRET=right OPTS="--user ada" cat_ manifest v1 blob "$CONFIG"
	is "$status" 0
	is "$(requests 'r["status"] == 401')" 1
	SECRET=wrong-one OPTS="--user ada" cat_ manifest v1
	fails_with EACCES "401"
	[[ "$output" != *wrong-one* ]]
	cat_ manifest v1
	fails_with EACCES "wants a user name and password"
}

@test "of several challenges Bearer is taken, in one header or in two" {
	serve
	control '{"auth": "both", "user": "ada", "password": "right"}'
	SECRET=right OPTS="--user ada" cat_ manifest v1
	is "$status" 0
	is "$(requests 'r["path"].startswith("/token")')" 1
	realm="http://$HOST/token"
	control '{"auth": "bearer", "challenge": ["Digest qop=\"a,b\", Basic realm=\"x, Bearer realm=y\", BEARER Realm=\"'"$realm"'\" , scope=\"repository:ns/app:pull\""]}'
	cat_ manifest v1
	is "$status" 0
}

@test "challenges nobody can answer are EACCES" {
	serve
	for value in 'Negotiate' 'Bearer service=\"x\"' 'Bearer realm=\"http://' ',,,' ''; do
		control '{"auth": "bearer", "challenge": ["'"$value"'"]}'
		cat_ manifest v1
		fails_with EACCES "credentials"
	done
}

@test "credentials do not go to a token server by plain HTTP elsewhere" {
	serve
	control '{"auth": "bearer", "user": "ada", "password": "right", "realm": "http://localhost:'"$STORAGE"'/token"}'
	SECRET=right OPTS="--user ada" cat_ manifest v1
	fails_with EACCES "plain HTTP"
	is "$(requests 'r["server"] == "storage"')" 0
}

@test "the token server's failures keep their meaning" {
	serve
	control '{"auth": "bearer", "fault": "503", "fault_on": "token", "retry_after": 7}'
	cat_ manifest v1
	fails_with EAGAIN "token"
	control '{"auth": "bearer", "fault": "garbage", "fault_on": "token"}'
	cat_ manifest v1
	fails_with EPROTO "token"
}

# --- redirects ----------------------------------------------------------------------------------

@test "storage gets no credentials, and is asked directly the next time" {
	serve
	control '{"auth": "bearer", "redirect": true}'
	cat_ range "$LAYER" $SIZE 0 10 range "$LAYER" $SIZE 10 10 blob "$CONFIG"
	is "$status" 0
	delivers 1 10 "$(sum_of 10 10)"
	is "$(requests 'r["server"] == "storage" and r["auth"]')" 0
	is "$(requests 'r["server"] == "storage" and r["status"] in (200, 206)')" 3
	is "$(requests 'r["server"] == "registry" and r["status"] == 307')" 2
}

@test "a storage URL that is over is resolved again, once" {
	serve
	for denied in 400 401 403 404; do
		rm -f log
		control '{"auth": "bearer", "redirect": true, "redirect_valid": 0.3, "redirect_denied": '$denied'}'
		serve
		cat_ range "$LAYER" $SIZE 0 10 sleep 400 range "$LAYER" $SIZE 10 10
		is "$status" 0
		delivers 1 10 "$(sum_of 10 10)"
		is "$(requests 'r["server"] == "storage"')" 3
		is "$(requests 'r["status"] == 307')" 2
		is "$(requests 'r["path"].startswith("/token")')" 1
	done
}

@test "storage that always refuses is EACCES, without another token" {
	serve
	control '{"auth": "bearer", "redirect": true, "redirect_valid": 0}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EACCES "403"
	is "$(requests 'r["path"].startswith("/token")')" 1
	is "$(requests 'r["server"] == "storage"')" 1
	[[ "$output" != *sig=* ]]
}

@test "credentials stay away once a redirect has left the registry, even back home" {
	serve
	control '{"auth": "bearer", "redirect": "back"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EACCES "401"
	is "$(requests '"returned" in r["path"] and r["auth"]')" 0
	is "$(requests 'r["path"].startswith("/token")')" 1
	control '{"redirect": "back"}'
	cat_ range "$LAYER" $SIZE 0 10
	is "$status" 0
}

@test "redirects in circles, to other protocols and to nowhere are EPROTO" {
	serve
	control '{"redirect": "loop"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EPROTO "more than 5 redirects"
	is "$(requests)" 6
	control '{"redirect": "ftp"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EPROTO "neither http nor https"
	control '{"redirect": "nowhere"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EPROTO "to nowhere"
}

# --- answers that break the protocol ------------------------------------------------------------

# Every fault at the registry itself and behind a redirect; then the client goes on as if nothing
# had been.
fault() { # FAULT ERRNO text operation...
	local name=$1 code=$2 text=$3 redirect
	shift 3
	for redirect in false true; do
		control '{"fault": "'"$name"'", "fault_count": 1, "redirect": '$redirect'}'
		OPTS="--stall 1500" cat_ "$@" range "$LAYER" $SIZE 7 70
		fails_with "$code" "$text"
		is "${lines[0]%% *}" fail
		delivers 1 70 "$(sum_of 7 70)"
	done
}

@test "a range that is answered by something else is EPROTO" {
	serve
	fault ignore-range EPROTO "ignores Range" range "$LAYER" $SIZE 100 1000
	fault short EPROTO "asked for bytes 100-1099/$SIZE, answered 'bytes 100-599/$SIZE'" \
		range "$LAYER" $SIZE 100 1000
	fault long EPROTO "has 1010 bytes, not the 1000" range "$LAYER" $SIZE 100 1000
	fault shift EPROTO "answered 'bytes 101-1100" range "$LAYER" $SIZE 100 1000
	fault total EPROTO "answered 'bytes 100-1099/3000007'" range "$LAYER" $SIZE 100 1000
	fault norange EPROTO "no Content-Range" range "$LAYER" $SIZE 100 1000
	fault coded EPROTO "is encoded (gzip)" range "$LAYER" $SIZE 100 1000
	fault chunked-long EPROTO "longer than the 1000" range "$LAYER" $SIZE 100 1000
	fault chunked-late EPROTO "longer than the 1000" range "$LAYER" $SIZE 100 1000
	fault chunked-short EPROTO "'bytes 100-599" range "$LAYER" $SIZE 100 1000
	fault 416 EPROTO "no such byte range" range "$LAYER" $SIZE 100 1000
}

@test "a whole blob that is answered by something else is EPROTO" {
	serve
	fault unasked-range EPROTO "unasked" range $(whole)
	fault short EPROTO "1500000 bytes, not the 3000000" range $(whole)
	fault long EPROTO "3000010 bytes, not the 3000000" range $(whole)
	fault chunked-short EPROTO "ends after 1500000 of 3000000" range $(whole)
	fault chunked-long EPROTO "longer than" range $(whole)
	fault coded EPROTO "is encoded" range $(whole)
	fault unasked-range EPROTO "a part was answered" blob "$CONFIG"
	fault flip EPROTO "the content is sha256:" blob "$CONFIG"
	fault coded EPROTO "is encoded" blob "$CONFIG"
}

@test "chunked answers of the right length are as good as any" {
	serve
	control '{"fault": "chunked"}'
	cat_ range "$LAYER" $SIZE 100 100000 range $(whole) blob "$CONFIG" \
		peek "$LAYER" $SIZE 100 25000 25000 range "$LAYER" $SIZE 1 1
	is "$status" 0
	delivers 0 100000 "$(sum_of 100 100000)"
	delivers 1 $SIZE "${LAYER#sha256:}"
	is "$(connections)" 1
}

@test "transport that breaks: reset, early end, silence, no HTTP, endless headers" {
	serve
	fault reset ECONNRESET "" range $(whole)
	fault early ECONNRESET "" range $(whole)
	fault stall ETIMEDOUT "no byte from the server for 1500 ms" range $(whole)
	fault mute ETIMEDOUT "no byte from the server for 1500 ms" range $(whole)
	fault early ECONNRESET "" blob "$CONFIG"
	fault garbage EPROTO "" range $(whole)
	fault headers EPROTO "headers are too long" range $(whole)
}

@test "a slow server is no silent one" {
	serve
	control '{"fault": "slow"}'
	OPTS="--stall 300" cat_ range "$LAYER" $SIZE 0 20000
	is "$status" 0
	delivers 0 20000 "$(sum_of 0 20000)"
}

@test "statuses worth another try are EAGAIN, with the wait asked for" {
	serve
	for s in 408 429 500 502 503 504; do
		fault $s EAGAIN "answered $s" range "$LAYER" $SIZE 0 10
	done
	control '{"fault": "429", "retry_after": 17}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EAGAIN "[retry after 17]"
	# A date counts from the answer's own Date, a second earlier or later.
	control '{"fault": "429", "retry_after": "+40"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EAGAIN "TOOMANYREQUESTS"
	[[ "$output" =~ "retry after "(39|40|41)"]" ]]
	control '{"fault": "429", "retry_after": "Fri, 31 Dec 2100 23:59:59 GMT"}'
	cat_ range "$LAYER" $SIZE 0 10
	fails_with EAGAIN "[retry after 3600]"
	for past in "Fri, 31 Dec 1999 23:59:59 GMT" "soon" "-3"; do
		control "{\"fault\": \"429\", \"retry_after\": \"$past\"}"
		cat_ range "$LAYER" $SIZE 0 10
		fails_with EAGAIN "TOOMANYREQUESTS"
		[[ "$output" != *"retry after"* ]]
	done
}

@test "wrong bytes in a range are passed on: the span's digest is for others to check" {
	serve
	control '{"fault": "flip", "fault_at": 5}'
	cat_ range "$LAYER" $SIZE 0 10
	is "$status" 0
	[ "${lines[0]##* }" != "$(sum_of 0 10)" ]
}

@test "a manifest must be what its digest, and what the server, says" {
	serve
	control '{"fault": "flip", "fault_on": "manifests"}'
	cat_ manifest "$MANIFEST"
	fails_with EPROTO "asked for was $MANIFEST"
	control '{"fault": "digest", "fault_on": "manifests"}'
	cat_ manifest v1
	fails_with EPROTO "the server calls it sha256:0000"
	cat_ manifest "$MANIFEST"
	fails_with EPROTO "the server calls it sha256:0000"
	control '{"fault": "sha512", "fault_on": "manifests"}'
	cat_ manifest v1
	fails_with EPROTO "not a sha256 digest"
	cat_ manifest "$MANIFEST"
	is "$status" 0
	control '{"fault": "early", "fault_on": "manifests"}'
	cat_ manifest v1
	fails_with ECONNRESET ""
}

@test "no server is ECONNREFUSED" {
	serve
	kill "${PIDS[0]}"
	wait "${PIDS[0]}" || true
	cat_ manifest v1
	fails_with ECONNREFUSED ""
}

@test "a server that accepts no connection is ETIMEDOUT after the connect timeout" {
	# One connection waits to be accepted for ever; the kernel drops those behind it.
	python3 - >address 3>&- <<-'PY' &
	import socket, time
	s = socket.socket()
	s.bind(("127.0.0.1", 0))
	s.listen(0)
	full = [socket.socket() for _ in range(2)]
	for c in full:
	    c.setblocking(False)
	    c.connect_ex(s.getsockname())
	print("127.0.0.1:%d" % s.getsockname()[1], flush=True)
	time.sleep(60)
	PY
	PIDS+=($!)
	for _ in $(seq 200); do
		[ -s address ] && break
		sleep 0.05
	done
	HOST=$(cat address) OPTS="--connect 300 --stall 20000" cat_ manifest v1
	fails_with ETIMEDOUT ""
}

# --- TLS ----------------------------------------------------------------------------------------

certificate() { # name subject-alternative-name
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
		-subj "/CN=$1" -addext "subjectAltName=$2" -keyout "$1.key" -out "$1.pem" 2>/dev/null
}

@test "TLS: the bundle given is the one that counts" {
	certificate good IP:127.0.0.1
	certificate other IP:127.0.0.1
	serve --cert good.pem --key good.key
	control '{"auth": "bearer", "redirect": true}'
	OPTS="--tls --ca good.pem" cat_ manifest v1 range "$LAYER" $SIZE 3 30
	is "$status" 0
	delivers 1 30 "$(sum_of 3 30)"
	OPTS="--tls --ca other.pem" cat_ manifest v1
	fails_with EKEYREJECTED "certificate"
	OPTS="--tls" cat_ manifest v1
	fails_with EKEYREJECTED "certificate"
	OPTS="--tls --insecure --ca other.pem" cat_ manifest v1 range "$LAYER" $SIZE 3 30
	is "$status" 0
}

@test "TLS: the name must be the certificate's; names are looked up by the caller" {
	certificate good DNS:registry.test,IP:127.0.0.1
	certificate wrong DNS:elsewhere.test
	serve --cert good.pem --key good.key
	HOST="registry.test:$PORT" OPTS="--tls --ca good.pem --resolve registry.test" cat_ manifest v1
	is "$status" 0
	HOST="other.test:$PORT" OPTS="--tls --ca good.pem --resolve registry.test" cat_ manifest v1
	fails_with ENOENT "cannot find the address of other.test"
	HOST="other.test:$PORT" OPTS="--tls --ca good.pem --resolve other.test" cat_ manifest v1
	fails_with EKEYREJECTED ""
	serve --cert wrong.pem --key wrong.key
	OPTS="--tls --ca wrong.pem" cat_ manifest v1
	fails_with EKEYREJECTED ""
}

@test "TLS: no way leads to plain HTTP, neither redirect nor token server" {
	certificate good IP:127.0.0.1
	serve --cert good.pem --key good.key
	control '{"redirect": "http"}'
	OPTS="--tls --ca good.pem" cat_ range "$LAYER" $SIZE 3 30
	fails_with EPROTO "from https to plain http"
	control '{"auth": "bearer", "realm": "http://127.0.0.1:1/token"}'
	OPTS="--tls --ca good.pem" cat_ manifest v1
	fails_with EPROTO "from https to plain http"
	is "$(requests 'r["server"] == "storage"')" 0
}

@test "TLS spoken to a plain server, and the other way round, fails in time" {
	certificate good IP:127.0.0.1
	serve
	OPTS="--tls --ca good.pem --stall 1000 --connect 1000" cat_ manifest v1
	is "$status" 1
	serve --cert good.pem --key good.key
	OPTS="--stall 1000" cat_ manifest v1
	is "$status" 1
}

# --- what surrounds the client ------------------------------------------------------------------

@test "the environment and the home directory change nothing" {
	serve
	control '{"auth": "basic", "user": "ada", "password": "right"}'
	printf 'machine 127.0.0.1 login ada password right\n' >.netrc
	HOME=$PWD http_proxy=http://127.0.0.1:1 ALL_PROXY=http://127.0.0.1:1 cat_ manifest v1
	fails_with EACCES "wants a user name and password"
	is "$(requests 'r["auth"]')" 0
}

@test "once it is made the client opens no file and starts no thread" {
	certificate good DNS:registry.test
	serve --cert good.pem --key good.key
	# The leak checker clones a process at the end.
	export ASAN_OPTIONS=detect_leaks=0
	control '{"auth": "bearer", "realm": "https://registry.test:'"$PORT"'/token"}'
	HOST="registry.test:$PORT" TZ=UTC0 OPTS="--sealed --tls --ca good.pem --resolve registry.test" \
		cat_ manifest v1 range "$LAYER" $SIZE 3 30 sleep 1 manifest nope
	is "$status" 1
	delivers 1 30 "$(sum_of 3 30)"
	[[ "${lines[2]}" == "fail manifest ENOENT "* ]]
}

# --- Debian's docker-registry -------------------------------------------------------------------

# Starts docker-registry with a config of its own; $HOST is its address.
serve_debian() { # [yaml appended]
	mkdir -p store
	cat >registry.yml <<-YML
	version: 0.1
	log: {accesslog: {disabled: true}}
	storage: {filesystem: {rootdirectory: $PWD/store}, cache: {blobdescriptor: inmemory}}
	http: {addr: "127.0.0.1:0", secret: throwaway}
	$1
	YML
	docker-registry serve registry.yml >registry.log 2>&1 3>&- &
	PIDS+=($!)
	for _ in $(seq 200); do
		grep -q 'listening on' registry.log && break
		sleep 0.05
	done
	HOST=$(grep -o 'listening on 127.0.0.1:[0-9]*' registry.log | head -n 1 | cut -d' ' -f3)
	[ -n "$HOST" ]
}

push() { # [skopeo option]...
	skopeo copy --quiet --insecure-policy --preserve-digests --dest-tls-verify=false "$@" \
		"oci:$LAYOUT:v1" "docker://$HOST/ns/app:v1"
}

@test "docker-registry: manifest, config, layer and ranges of a pushed image" {
	serve_debian
	push
	cat_ manifest v1 manifest "$MANIFEST" blob "$CONFIG" range $(whole) range "$LAYER" $SIZE 1234 5678 \
		range "$LAYER" $SIZE $((SIZE - 10)) 10 manifest nope
	is "$status" 1
	is "${lines[0]##* }" "$MANIFEST"
	is "sha256:${lines[2]##* }" "$CONFIG"
	delivers 3 $SIZE "${LAYER#sha256:}"
	delivers 4 5678 "$(sum_of 1234 5678)"
	delivers 5 10 "$(sum_of $((SIZE - 10)) 10)"
	[[ "${lines[6]}" == "fail manifest ENOENT "*MANIFEST_UNKNOWN* ]]
}

@test "docker-registry: with a password" {
	# bcrypt of "open sesame", cost 5; docker-registry reads no other kind.
	# shellcheck disable=SC2016
	echo 'ali:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW' >htpasswd
	serve_debian "auth: {htpasswd: {realm: test, path: $PWD/htpasswd}}"
	push --dest-creds 'ali:open sesame'
	SECRET='open sesame' OPTS='--user ali' cat_ manifest v1 range "$LAYER" $SIZE 1234 5678
	is "$status" 0
	delivers 1 5678 "$(sum_of 1234 5678)"
	SECRET='close sesame' OPTS='--user ali' cat_ manifest v1
	fails_with EACCES UNAUTHORIZED
	cat_ manifest v1
	fails_with EACCES "wants a user name and password"
}
