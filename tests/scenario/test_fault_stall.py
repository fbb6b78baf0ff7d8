"""A thousand connections through one tunnel, two of which do not move."""

import asyncio
import os
import time

import grpc
import pytest
from conftest import BIN
from openshell._proto import openshell_pb2 as pb
from openshell._proto import openshell_pb2_grpc as pb_grpc

STREAMS = 1000
CHANNELS = 4  # the client's connections; the tunnel stays one
OPENING = 16  # at once; docs/limits.md has how many may wait for their supervisor
MIB = 1 << 20
WINDOW = MIB  # bytes under way of one stream: RPC_WINDOW
OUTPUT = MIB  # bytes that a connection has framed and not written: RPC_OUT_HIGH
BLOCKS = 8 * MIB  # receive blocks that the loops keep, and what the allocator does


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_sanitized():
    return b"__asan_init" in (BIN / "towline-gateway").read_bytes()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(reader, writer):
    """Talks, and does not listen."""
    data = bytes(65536)
    try:
        while True:
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        writer.close()


async def serve(answer):
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=65536)
    return server, server.sockets[0].getsockname()[1]


class Stream:
    """One connection through the tunnel."""

    def __init__(self, ready, stub, port):
        self.call = stub.ForwardTcp()
        target = pb.TcpRelayTarget(host="127.0.0.1", port=port)
        self.init = pb.TcpForwardFrame(init=pb.TcpForwardInit(sandbox=ready.name, tcp=target))
        self.sent = 0

    async def open(self, turn):
        async with turn:
            await self.call.write(self.init)
            await self.exchange(b"hello")

    async def exchange(self, data):
        await self.call.write(pb.TcpForwardFrame(data=data))
        got = b""
        while len(got) < len(data):
            got += (await self.call.read()).data
        assert got == data

    async def flood(self):
        while True:
            await self.call.write(pb.TcpForwardFrame(data=bytes(65536)))
            self.sent += 65536


async def rounds(streams, count=3):
    """How long it takes until each has got its own back, a few times."""
    began = time.monotonic()
    data = os.urandom(1024)
    for _ in range(count):
        await asyncio.wait_for(asyncio.gather(*(s.exchange(data) for s in streams)), 30)
    return time.monotonic() - began


async def stalls(stream):
    before = -1
    while stream.sent != before or stream.sent == 0:
        before = stream.sent
        await asyncio.sleep(0.3)


async def scene(ready, pid):
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = ready.gateway.target
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(CHANNELS)]
    stubs = [pb_grpc.OpenShellStub(channel) for channel in channels]
    (echoing, echo_port), (talking, talk_port) = await serve(echo), await serve(talk)

    turn = asyncio.Semaphore(OPENING)
    streams = [Stream(ready, stubs[n % CHANNELS], echo_port) for n in range(STREAMS - 2)]
    empty = resident(pid)
    await asyncio.gather(*(stream.open(turn) for stream in streams))
    alone = await rounds(streams)
    idle = resident(pid)

    # One service that listens to nobody, while its client does not listen either.
    stalled = [Stream(ready, stubs[n], talk_port) for n in range(2)]
    for stream in stalled:
        await stream.call.write(stream.init)
    floods = [asyncio.create_task(stream.flood()) for stream in stalled]
    await asyncio.gather(*(stalls(stream) for stream in stalled))
    beside = await rounds(streams)
    full = resident(pid)

    for task in floods:
        task.cancel()
    for stream in streams[: STREAMS // 2]:
        await stream.call.done_writing()
        assert await stream.call.read() is grpc.aio.EOF
    for stream in stalled + streams:
        stream.call.cancel()
    for channel in channels:
        await channel.close()
    echoing.close()
    talking.close()
    return alone, beside, idle - empty, full - idle


@pytest.mark.timeout(120)
def test_a_thousand_streams(ready):
    pid = ready.gateway.process.pid
    alone, beside, of_idle, of_stalled = asyncio.run(scene(ready, pid))
    print(
        f"{STREAMS} streams: rounds {alone:.2f} s alone, {beside:.2f} s beside two that stall; "
        f"{of_idle / STREAMS / 1024:.1f} KiB a stream, {of_stalled / MIB:.1f} MiB for those two"
    )
    assert beside < 2 * alone + 1
    if not is_sanitized():
        assert of_idle < STREAMS * 16 * 1024
        # Each way of both: the stream's window, and what its connection has framed.
        assert of_stalled < 2 * 2 * (WINDOW + OUTPUT) + BLOCKS
