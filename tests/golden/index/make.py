#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tars of this directory: make.py DIRECTORY.

The tars that are stored are the samples; this tells what is in them, and how to make another. What
comes of each is in NAME.sha256 (of the index, spans of 64 KiB) or in NAME.refused (why).
"""
import io
import os
import sys
import tarfile

EPOCH = 1700000000
ACCESS_ACL = bytes.fromhex("02000000 01000600 ffffffff 02000400 e8030000 04000400 ffffffff"
                           "10000400 ffffffff 20000000 ffffffff")
CAPABILITY = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")


class Tar:
    def __init__(self, fmt):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=fmt, encoding="utf-8",
                                errors="surrogateescape")

    def put(self, name, kind=tarfile.REGTYPE, data=b"", pax=None, **fields):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(data), EPOCH
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        for key, value in fields.items():
            setattr(info, key, value)
        info.pax_headers = {key: value.decode("utf-8", "surrogateescape")
                            if isinstance(value, bytes) else value
                            for key, value in (pax or {}).items()}
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def done(self):
        self.tar.close()
        # One record of 10 KiB would be mostly zeros: the end marker is enough.
        return align(self.out.getvalue().rstrip(b"\0")) + b"\0" * 1024


def align(data):
    return data + b"\0" * (-len(data) % 512)


def types(fmt):
    tar = Tar(fmt)
    tar.put("./", tarfile.DIRTYPE)
    tar.put("./bin", tarfile.SYMTYPE, linkname="usr/bin", mode=0o777)
    tar.put("./usr/bin/", tarfile.DIRTYPE, mode=0o1777, uid=1000, gid=100)
    tar.put("./usr/bin/tool", data=b"#!/bin/sh\n" * 60, mode=0o4755)
    tar.put("./usr/bin/same", tarfile.LNKTYPE, linkname="./usr/bin/tool", mode=0o4755)
    tar.put("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    tar.put("./dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660)
    tar.put("./run/pipe", tarfile.FIFOTYPE)
    tar.put("./empty")
    return tar


def long_names(fmt):
    tar = Tar(fmt)
    deep = "/".join(["directory-with-a-rather-long-name"] * 12)
    tar.put(deep, tarfile.DIRTYPE)
    tar.put(deep + "/" + "f" * 255, data=b"long")
    tar.put("link", tarfile.SYMTYPE, linkname=deep + "/" + "f" * 255)
    tar.put("hard", tarfile.LNKTYPE, linkname=deep + "/" + "f" * 255)
    tar.put("caf\u00e9", data=b"composed")
    tar.put("cafe\u0301", data=b"decomposed")
    tar.put("caf\udce9", data=b"latin-1")
    return tar


def pax():
    tar = Tar(tarfile.PAX_FORMAT)
    tar.put("times", pax={"mtime": "1700000000.123456789"})
    tar.put("before-1970", mtime=-86400)
    tar.put("far", mtime=2 ** 40)
    tar.put("owner", uid=4294967294, gid=2 ** 31)
    tar.put("ping", data=b"\x7fELF", pax={"SCHILY.xattr.security.capability": CAPABILITY})
    tar.put("acl", pax={"SCHILY.xattr.system.posix_acl_access": ACCESS_ACL,
                        "SCHILY.acl.access": "user::rw-,group::r--,other::---"})
    tar.put("xattrs", pax={"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1",
                           "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                           "SCHILY.xattr.user.overlay.opaque": "y",
                           "SCHILY.xattr.btrfs.compression": "zstd"})
    return tar


def layer():
    tar = Tar(tarfile.PAX_FORMAT)
    tar.put("etc/", tarfile.DIRTYPE)
    tar.put("etc/.wh.passwd")
    tar.put("var/.wh..wh..opq")
    tar.put("var/log/.wh.old", tarfile.DIRTYPE)
    tar.put(".wh..wh.aufs")
    tar.put("/absolute", data=b"a")
    tar.put("etc//./odd/", tarfile.DIRTYPE)
    tar.put("etc/motd", data=b"first")
    tar.put("etc/motd", data=b"second, and this one counts")
    return tar


def spans():
    """Some spans of 64 KiB, and bytes behind the end marker."""
    tar = Tar(tarfile.USTAR_FORMAT)
    for i in range(5):
        tar.put(f"file-{i}", data=bytes([i]) * (30000 + 777 * i))
    return tar.done() + b"\0" * 10000 + b"left over"


def pax_member(records, name, data=b"", kind=tarfile.REGTYPE, link=""):
    """A member behind a PAX header with exactly these records."""
    body = b""
    for key, value in records:
        size = len(key) + len(value) + 3
        while len(str(size)) + len(key) + len(value) + 3 != size:
            size = len(str(size)) + len(key) + len(value) + 3
        body += b"%d %s=%s\n" % (size, key, value)
    head = tarfile.TarInfo("PaxHeaders/x")
    head.type, head.size = tarfile.XHDTYPE, len(body)
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, len(data), 0o644, link
    return (head.tobuf(tarfile.USTAR_FORMAT) + align(body) +
            info.tobuf(tarfile.USTAR_FORMAT) + align(data) + b"\0" * 1024)


def main():
    parent = Tar(tarfile.GNU_FORMAT).put("a/../../etc/passwd").done()
    cut = types(tarfile.GNU_FORMAT).done()[:4000]
    tars = {
        "types-ustar": types(tarfile.USTAR_FORMAT).done(),
        "types-gnu": types(tarfile.GNU_FORMAT).done(),
        "long-names-gnu": long_names(tarfile.GNU_FORMAT).done(),
        "long-names-pax": long_names(tarfile.PAX_FORMAT).done(),
        "pax-attributes": pax().done(),
        "layer-rules": layer().done(),
        "spans": spans(),
        "empty": b"\0" * 1024,
        "no-end-marker": types(tarfile.USTAR_FORMAT).done()[:-1024],
        "refuse-parent": parent,
        "refuse-cut": cut,
        "refuse-nul": pax_member([(b"path", b"good\0evil")], "x"),
        "refuse-link-with-data": pax_member([(b"mtime", b"1")], "x", b"data", tarfile.LNKTYPE, "y"),
        "refuse-sparse": pax_member([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"),
                                     (b"GNU.sparse.name", b"sparse"),
                                     (b"GNU.sparse.realsize", b"1000000")], "x",
                                    align(b"1\n999488\n512\n") + b"d" * 512),
        "refuse-realsize": pax_member([(b"SCHILY.realsize", b"10")], "x", b"data" * 200),
        "refuse-bare-whiteout": Tar(tarfile.GNU_FORMAT).put("a/.wh.").done(),
    }
    for name, data in tars.items():
        with open(os.path.join(sys.argv[1], name + ".tar"), "wb") as out:
            out.write(data)


main()
