# SPDX-License-Identifier: Apache-2.0
"""claims.py STORE TARS: what the store's present files claim, held against the disk.

Every span that a clean present file calls durable is compared with the layer's tar as it should be,
TARS/<diff_id in hex>. No daemon may run on the store. Prints how many spans were claimed, and how
many bytes of them are wrong; status 1 if there are any, or a file that cannot be understood.
"""
import os
import struct
import sys

CLEAN = 1


def bits(data, n):
    return [i for i in range(n) if data[i // 8] >> i % 8 & 1]


def durable(path):
    """The spans that a present file vouches for; none if tarnd worked on the layer since."""
    with open(path, "rb") as f:
        data = f.read()
    magic, version, flags, _, nspans, _ = struct.unpack_from("<8sII32sII", data)
    if magic != b"TARNPRS\1" or version != 1:
        raise ValueError(f"{path}: not a present file that is known here")
    return bits(data[56:], nspans) if flags & CLEAN else []


def span_size(path):
    with open(path, "rb") as f:
        return struct.unpack_from("<8sII32sQI", f.read(64))[5]


def differing(a, b):
    return sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))


def layer(path, expected):
    """(spans claimed, bytes of them that are wrong)"""
    if not os.path.exists(path + "/index") or not os.path.exists(path + "/present"):
        return 0, 0
    spans, size, wrong = durable(path + "/present"), span_size(path + "/index"), 0
    with open(path + "/tar", "rb") as is_, open(expected, "rb") as should:
        for i in spans:
            is_.seek(i * size)
            should.seek(i * size)
            want = should.read(size)
            have = is_.read(len(want))
            if have != want:
                wrong += differing(have, want)
                print(f"{path}: span {i} is claimed, and wrong", file=sys.stderr)
    return len(spans), wrong


def main(store, tars):
    top = store + "/layers"
    found = [layer(f"{top}/{name}", f"{tars}/{name}") for name in os.listdir(top)]
    claimed, wrong = sum(f[0] for f in found), sum(f[1] for f in found)
    print(claimed, wrong)
    return wrong > 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
