#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""merge.py AREA: what dump.c wrote there, added up into the .gcda files that gcov reads."""
import array
import mmap
import os
import struct
import sys

COUNTERS = range(0x01a10000, 0x01b20000)  # GCOV_TAG_FOR_COUNTER()

PAGE, MAGIC = 4096, 0x56434e5241540a01


def records(area):
    """The distinct ones: most processes of a kind go the same way."""
    used, = struct.unpack_from("<Q", area)
    at, seen = 8, set()
    while at < 8 + used:
        magic, whole, length = struct.unpack_from("<QQQ", area, at)
        if magic != MAGIC:  # whoever wanted to write here was killed
            at += PAGE
            continue
        raw = area[at + 24:at + 24 + length]
        at += whole
        if raw not in seen:
            seen.add(raw)
            name, _, data = raw.partition(b"\0")
            yield name.decode(), data


def parts(data):
    """Tag, length and payload; a negative length stands for so many bytes of zeros."""
    at = 16
    while at + 8 <= len(data):
        tag, length = struct.unpack_from("<Ii", data, at)
        if tag == 0:
            break
        at += 8
        size = max(length, 0)
        payload = data[at:at + size]
        at += size
        if tag in COUNTERS:
            payload = array.array("Q", payload if length >= 0 else bytes(-length))
        yield tag, payload


def add(into, more):
    if [(t, len(p)) for t, p in into] != [(t, len(p)) for t, p in more]:
        return False
    for (tag, a), (_, b) in zip(into, more):
        if tag in COUNTERS:
            for i, n in enumerate(b):
                if n:
                    a[i] = (a[i] + n) % (1 << 64)
    return True


def main():
    found, other = {}, 0
    with open(sys.argv[1], "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as area:
        for name, data in records(area):
            key = name, data[:16]
            if not data[:16].strip(b"\0"):
                continue
            mine = list(parts(data))
            if key not in found:
                found[key] = mine
            elif not add(found[key], mine):
                other += 1
    for (name, head), all_parts in found.items():
        with open(name, "wb") as out:
            out.write(head)
            for tag, payload in all_parts:
                raw = bytes(payload)
                out.write(struct.pack("<Ii", tag, len(raw)) + raw)
            out.write(bytes(4))
    print(f"{len(found)} objects, {other} records that fit none", file=sys.stderr)


if __name__ == "__main__":
    main()
