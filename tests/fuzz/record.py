"""Records what Kafka clients ask: a network between them and an endpoint that keeps a few frames of each API and version.

    record.py HOST:PORT UPSTREAM_HOST:PORT FILE

Clients must be told to connect to HOST:PORT: two addresses of the loopback with one port, and `advertise` of the endpoint, do that.
FILE, and what it had, is a list of frames, each with its length, as on the wire; it is written when the program is ended.
"""

import asyncio
import os
import signal
import struct
import sys
from collections import Counter

# Of one API and version and client library, frames that are kept; and the longest.
KEPT, LONGEST = 3, 1500


class Recorder:
    def __init__(self, upstream, file):
        self.upstream, self.file = upstream, file
        self.frames, self.kept = [], Counter()
        try:
            with open(file, "rb") as kept:
                rest = kept.read()
        except FileNotFoundError:
            rest = b""
        while rest:
            [length] = struct.unpack(">i", rest[:4])
            self.add(rest[4 : 4 + length])
            rest = rest[4 + length :]

    def add(self, frame):
        kind = frame[:4], frame[8:18]
        if len(frame) <= LONGEST and self.kept[kind] < KEPT and frame not in self.frames:
            self.kept[kind] += 1
            self.frames.append(frame)

    def save(self):
        with open(self.file, "wb") as file:
            # By API and version.
            for frame in sorted(self.frames):
                file.write(struct.pack(">i", len(frame)) + frame)
        print(len(self.frames), "frames,", len({frame[:4] for frame in self.frames}), "of APIs and versions")

    async def asked(self, client, server):
        while True:
            length = await client.readexactly(4)
            frame = await client.readexactly(struct.unpack(">i", length)[0])
            self.add(frame)
            server.write(length + frame)

    async def answered(self, server, client):
        while piece := await server.read(1 << 16):
            client.write(piece)

    async def carry(self, reader, writer):
        try:
            upstream, server = await asyncio.open_connection(*self.upstream)
            ways = [asyncio.create_task(self.asked(reader, server)), asyncio.create_task(self.answered(upstream, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            server.close()
        except ConnectionError:
            pass
        writer.close()


async def main(here, upstream, file):
    place = lambda text: text.rsplit(":", 1)
    recorder = Recorder(place(upstream), file)
    over = asyncio.Event()
    for ended in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ended, over.set)
    async with await asyncio.start_server(recorder.carry, *place(here)):
        await over.wait()
        recorder.save()
        # Connections that are open have nothing more to say.
        os._exit(0)


asyncio.run(main(*sys.argv[1:]))
