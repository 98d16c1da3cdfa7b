"""Makes the fuzzer's first inputs of frames that clients have sent: an input of each.

    seeds.py FRAMES FOLDER

Those that say who somebody is go to the broker that asks for it, and so do some of the others, after alice has said that it is she.
"""

import os
import struct
import sys

EVERYBODY, KNOWN = b"\0", b"\1"
SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36


def listed(frames):
    return b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)


def asked(api, version, body):
    """A request of a client without a name, in a version whose header has no tagged fields."""
    return struct.pack(">hhih", api, version, 1, -1) + body


def hello(mechanism, said):
    mechanism = mechanism.encode()
    yield asked(SASL_HANDSHAKE, 1, struct.pack(">h", len(mechanism)) + mechanism)
    yield asked(SASL_AUTHENTICATE, 1, struct.pack(">i", len(said)) + said)


def inputs(frames):
    alice = list(hello("PLAIN", b"\0alice\0alice-secret"))
    newest = {frame[:2]: frame for frame in sorted(frames)}
    for frame in frames:
        [api] = struct.unpack(">h", frame[:2])
        yield (KNOWN if api in (SASL_HANDSHAKE, SASL_AUTHENTICATE) else EVERYBODY) + listed([frame])
    for frame in newest.values():
        yield KNOWN + listed([*alice, frame])
    for hash in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        yield KNOWN + listed(hello(hash, b"n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL"))


def main(source, folder):
    with open(source, "rb") as file:
        rest = file.read()
    frames = []
    while rest:
        [length] = struct.unpack(">i", rest[:4])
        frames.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    os.makedirs(folder, exist_ok=True)
    for number, made in enumerate(inputs(frames)):
        with open(os.path.join(folder, f"{number:04}"), "wb") as file:
            file.write(made)


main(*sys.argv[1:])
