"""The fault proxy in front of a plain server that echoes: each fault does what its name says, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from anyqueue.testing.proxy import Proxy
from anyqueue.testing.residue import residue, snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SOON: Final = 30.0
"""Seconds in which something must happen."""
ABSENT: Final = 0.1
"""Seconds in which something must not."""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = snapshot()
    yield
    assert residue(before) == []


class Echo:
    """A server that sends back what comes, and ends when its client ends."""

    def __init__(self) -> None:
        self.heard = b""
        self.chunks: list[int] = []
        self.reset = 0
        self.ended = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echo one connection."""
        self.open.add(writer)
        try:
            while data := await reader.read(65536):
                self.heard += data[: 1_000_000 - len(self.heard)]
                self.chunks.append(len(data))
                writer.write(data)
                await writer.drain()
            self.ended += 1
        except ConnectionResetError:
            self.reset += 1
        finally:
            writer.close()
            self.open.discard(writer)


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    handler = Echo()
    server = await asyncio.start_server(handler.serve, "127.0.0.1", 0)
    proxy = Proxy("localhost", server.sockets[0].getsockname()[1])
    proxy.start()
    yield handler, proxy
    proxy.close()
    server.close()
    async with asyncio.timeout(SOON):
        while handler.open:  # noqa: ASYNC110 -- the handlers end by themselves
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def dialled(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def exchanged(proxy: Proxy, data: bytes) -> bytes:
    """Send over a new connection, close that direction, and return all that comes back."""
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(data)
        with contextlib.suppress(OSError):  # it is reset already, as reading says
            writer.write_eof()
        return await reader.read()


async def read_into(got: bytearray, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(1000):
        got += data


def flooded(client: socket.socket) -> int:
    """Send until nobody takes it any more; return how much went."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 30:
            sent += client.send(bytes(1 << 20))
    return sent


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not fact():  # noqa: ASYNC110 -- another thread's fact
            await asyncio.sleep(0.005)


async def test_it_hands_on_both_directions_and_counts(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    data = os.urandom(3_000_000)
    assert await exchanged(proxy, data) == data
    assert proxy.bytes == {"up": len(data), "down": len(data)}
    assert (proxy.connections, len(proxy.moments)) == (1, 1)
    assert proxy.overheard == data[:65536]
    assert handler.heard == data[:1_000_000]
    await until(lambda: proxy.open == 0)


async def test_slices_of_one_byte_arrive_whole_and_apart(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    proxy.slice(1)
    data = os.urandom(300)
    assert await exchanged(proxy, data) == data
    assert len(handler.chunks) > 30
    proxy.heal()
    assert await exchanged(proxy, data) == data
    assert handler.chunks[-1] == 300


@pytest.mark.parametrize("count", [0, 1, 7, 99])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_it_cuts_after_a_byte_once(echo: tuple[Echo, Proxy], count: int, direction: str) -> None:
    handler, proxy = echo
    proxy.cut_after(count, direction)
    got = bytearray()
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(bytes(range(100)))
        with pytest.raises(ConnectionResetError):
            await read_into(got, reader)
    await until(lambda: handler.reset == 1)
    assert proxy.bytes[direction] == count
    if direction == "up":
        assert handler.heard == bytes(range(count))
    assert bytes(range(100)).startswith(got)
    assert await exchanged(proxy, b"again") == b"again"


async def test_a_reset_and_an_end_are_told_apart(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    async with dialled(proxy) as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.cut("rst")
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await until(lambda: handler.reset == 1)
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        proxy.cut("fin")
        assert await reader.read() == b""
    await until(lambda: handler.ended == 1)
    assert handler.reset == 1
    await until(lambda: proxy.open == 0)


async def test_a_black_hole_looks_open_and_its_connections_are_reset_at_the_end(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    async with dialled(proxy) as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.blackhole()
        writer.write(b"swallowed")
        await writer.drain()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(ABSENT):
                await reader.read(1)
        for server in set(handler.open):
            server.close()  # its end is swallowed too
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(ABSENT):
                await reader.read(1)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    assert handler.heard == b"one"
    assert await exchanged(proxy, b"again") == b"again"


async def test_a_black_hole_may_be_one_way(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    proxy.blackhole("down")
    async with dialled(proxy) as (reader, writer):
        writer.write(b"heard")
        await until(lambda: handler.heard == b"heard")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(ABSENT):
                await reader.read(1)


async def test_what_is_held_goes_on_afterwards(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    proxy.hold("down")
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(b"held")
        await until(lambda: handler.heard == b"held")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(ABSENT):
                await reader.read(1)
        proxy.heal()
        assert await reader.readexactly(4) == b"held"


@pytest.mark.parametrize("offset", [0, 5, 150])
async def test_it_corrupts_one_byte_once(echo: tuple[Echo, Proxy], offset: int) -> None:
    handler, proxy = echo
    proxy.corrupt(offset, "up")
    data = bytes(200)
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        for part in (data[:100], data[100:]):
            writer.write(part)
            await writer.drain()
        got = await reader.readexactly(200)
    assert [place for place, byte in enumerate(got) if byte] == [offset]
    assert got[offset] == 0xFF
    assert handler.heard == got
    assert await exchanged(proxy, data) == data


async def test_refused_is_refused_and_then_it_accepts_on_the_same_port(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    port = proxy.port
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"two")  # what is there goes on
        assert await reader.readexactly(3) == b"two"
    proxy.accept()
    proxy.accept()
    assert proxy.port == port
    assert await exchanged(proxy, b"again") == b"again"
    assert proxy.connections == 2


async def test_throttled_takes_its_time_and_can_be_healed_in_between(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.throttle(10_000)
    begun = time.monotonic()
    assert len(await exchanged(proxy, bytes(3000))) == 3000
    assert time.monotonic() - begun > 0.3
    proxy.throttle(100)
    async with dialled(proxy) as (reader, writer), asyncio.timeout(SOON):
        writer.write(bytes(50_000))
        await asyncio.sleep(ABSENT)
        proxy.heal()
        assert len(await reader.readexactly(50_000)) == 50_000


async def test_it_keeps_no_more_than_it_must_of_a_sender_that_nobody_reads(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.hold("up")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(ABSENT)
        assert flooded(client) < 64 << 20  # what the kernel buffers
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


async def test_a_target_that_is_not_there_resets(unused_tcp_port: int) -> None:
    proxy = Proxy("127.0.0.1", unused_tcp_port)
    proxy.start()
    with pytest.raises(ConnectionResetError):
        await exchanged(proxy, b"anybody?")
    assert proxy.connections == 1
    proxy.close()


async def test_close_ends_its_thread_and_every_connection(echo: tuple[Echo, Proxy]) -> None:
    handler, proxy = echo
    async with dialled(proxy) as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("proxy")]
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await until(lambda: handler.reset == 1)
    proxy.close()


async def test_a_flood_of_cuts_leaves_nothing(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    for number in range(60):
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x" * 1000)
        proxy.cut("fin" if number % 3 else "rst")
        proxy.cut("rst")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await until(lambda: proxy.open == 0)
