"""Peers that vanish, fall silent, share an identity or come from before a restart: nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import pytest
from hubs import alive

import anyqueue
from anyqueue import QueueFull, SendError
from anyqueue.errors import ConfigError, ConnectFailed
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.testing.targets.hub_process import HubProcess, free_port
from anyqueue.testing.targets.raw_hub import CREDIT, SETTLE, SUBSCRIBE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hubs import Hub, Run, Stranger

    from anyqueue import Message
    from anyqueue.backends.zeromq.vault import SqliteVault

PATIENCE: Final = 30.0


def hold(stranger: Stranger, heartbeat: float = 10.0) -> tuple[bytes, list[Any]]:
    """Say hello and take what is in q; return the first frame of the connection, and the deliveries."""
    first = stranger.greet(heartbeat)
    stranger.say(first, msgspec.msgpack.encode([SUBSCRIBE, 1, 1, False, "q", None, 10]))
    stranger.say(first, msgspec.msgpack.encode([CREDIT, 1, 10]))
    assert stranger.hear() == [103, 1, "q"]
    frames = stranger.socket.recv_multipart()
    while msgspec.msgpack.decode(frames[1]) != [107, 1]:
        frames = stranger.socket.recv_multipart()
    return first, msgspec.msgpack.decode(frames[2], type=list[Any])


def filled(hub: Hub, count: int = 3) -> None:
    with hub.raw().connected() as peer:
        for number in range(count):
            peer.put("q", b"%d" % number, {})


def ready(hub: Hub, count: int) -> float:
    """Wait until so many are ready; return how long that took."""
    begun = time.monotonic()
    with hub.raw().connected() as peer:
        while peer.depth("q") != (count, 0, 0):
            assert time.monotonic() - begun < PATIENCE, peer.depth("q")
            time.sleep(0.01)
    return time.monotonic() - begun


def test_what_a_peer_held_that_vanished_comes_again_at_once_and_is_counted(hub: Hub) -> None:
    filled(hub)
    with hub.stranger() as stranger:
        _, deliveries = hold(stranger)
        assert [one[:3] for one in deliveries] == [[1, 1, False], [2, 1, False], [3, 1, False]]
    assert ready(hub, 3) < 1.0
    with hub.stranger() as stranger:
        _, deliveries = hold(stranger)
        assert [one[:3] for one in deliveries] == [[1, 2, True], [2, 2, True], [3, 2, True]]


def test_a_peer_that_is_silent_for_three_heartbeats_is_a_stranger(hub: Hub) -> None:
    filled(hub)
    with hub.stranger() as stranger:
        first, _ = hold(stranger, heartbeat=0.2)
        assert 0.3 < ready(hub, 3) < 2.0
        told = stranger.hear()
        assert told is not None
        assert told[:3] == [109, 0, "stranger"]
        stranger.say(first, msgspec.msgpack.encode([SETTLE, 2, 1, [1, 2, 3]]))
        told = stranger.hear()
        assert told is not None
        assert told[:3] == [109, 0, "stranger"], "it could settle what others may hold by now"
        assert ready(hub, 3) < 1.0


def test_who_shares_an_identity_is_not_heard_and_harms_nobody(hub: Hub) -> None:
    identity = secrets.token_bytes(16)
    filled(hub)
    with hub.stranger(identity) as mine:
        first, _ = hold(mine)
        with hub.stranger(identity) as other:
            other.say(b"AQH\x01" + bytes(16), msgspec.msgpack.encode([1, 10.0]))
            assert other.hear(0.3) is None
        mine.say(first, msgspec.msgpack.encode([SETTLE, 2, 1, [1, 2, 3]]))
        assert mine.hear() == [104, 2, []]
    assert ready(hub, 0) < 1.0


def test_who_says_hello_again_holds_nothing_any_more(hub: Hub) -> None:
    filled(hub)
    with hub.stranger() as stranger:
        hold(stranger)
        first = stranger.greet()
        stranger.say(first, msgspec.msgpack.encode([SETTLE, 1, 1, [1]]))
        assert stranger.hear() == [104, 1, [1]], "the subscription ended with the first hello"
    assert ready(hub, 3) < 1.0


def test_a_peer_from_before_the_restart_is_a_stranger(run: Run, tmp_path: Path) -> None:
    hub = run(store=f"sqlite:///{tmp_path}/hub.db")
    filled(hub)
    with hub.stranger() as stranger:
        first, _ = hold(stranger)
        hub.stop()
        assert stranger.hear() == [111], "the hub says goodbye"
        again = run(store=f"sqlite:///{tmp_path}/hub.db", listen=f"tcp://127.0.0.1:{hub.port}")
        stranger.say(first, msgspec.msgpack.encode([SETTLE, 2, 1, [1, 2, 3]]))
        told = stranger.hear()
        assert told is not None
        assert told[:3] == [109, 0, "stranger"]
        assert ready(again, 3) < 1.0


def test_two_hubs_do_not_share_a_store(run: Run, tmp_path: Path) -> None:
    hub = run(store=f"sqlite:///{tmp_path}/hub.db")
    filled(hub)
    with pytest.raises(ConfigError, match=r"hub.db is served by another hub.*stop that one"):
        run(store=f"sqlite:///{tmp_path}/hub.db")
    assert ready(hub, 3) < 1.0
    hub.stop()
    assert ready(run(store=f"sqlite:///{tmp_path}/hub.db"), 3) < 1.0


def test_two_hubs_do_not_share_a_port(run: Run, tmp_path: Path) -> None:
    hub = run()
    with pytest.raises(ConnectFailed, match=r"is taken.*is a hub running there already"):
        run(listen=f"tcp://127.0.0.1:{hub.port}", store=f"sqlite:///{tmp_path}/hub.db")
    assert not list(tmp_path.iterdir()), "who came too late touched the store"
    assert alive(hub)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[tuple[HubProcess, str]]:
    port = free_port()
    process = HubProcess(port, ["--store", f"sqlite:///{tmp_path}/hub.db", "--drain", "30"], tmp_path / "log")
    process.start()
    yield process, f"zmq://127.0.0.1:{port}"
    process.kill()


async def test_a_full_disk_under_the_hub_is_told_at_once_and_got_over(run: Run, tmp_path: Path) -> None:
    hub = run(store=f"sqlite:///{tmp_path}/hub.db")
    connection = cast("SqliteVault", hub.server._vault)._connection
    async with anyqueue.connect(hub.url) as client, client.consumer("q") as messages:
        await client.send("q", b"first")
        (first,) = await messages.receive()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(SendError, match=r"the disk of .* is full") as caught:
            await client.send("q", bytes(100_000))
        assert isinstance(caught.value.__cause__, QueueFull)
        assert "free some space" in str(caught.value.__cause__)
        assert not caught.value.unknown
        await first.ack()
        connection.execute("PRAGMA max_page_count = 1073741823")
        await client.send("q", bytes(100_000))
        (second,) = await messages.receive()
        assert second.body == bytes(100_000)
        await second.ack()
        assert (await client.depth("q")).total == 0


async def test_a_disk_that_fails_under_the_hub_loses_nothing_confirmed(
    durable: tuple[HubProcess, str],
) -> None:
    process, url = durable
    confirmed, refused = set[str](), 0
    async with anyqueue.connect(url, send_timeout=0.2) as client:
        with process.limited_files(300_000):
            while refused < 3:
                try:
                    confirmed.add(await client.send("q", bytes(10_000)))
                except SendError:
                    refused += 1
        assert confirmed
    async with anyqueue.connect(url) as client:
        confirmed.add(await client.send("q", b"there is room again"))
        async with client.consumer("q", prefetch=1000) as messages:
            received = set[str]()
            while not confirmed <= received:
                received |= {message.id for message in await messages.receive(10)}


async def test_sigterm_lets_what_is_held_be_settled(durable: tuple[HubProcess, str]) -> None:
    process, url = durable
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        begun.set()
        await go.wait()
        await message.ack()

    async with anyqueue.connect(url) as client:
        await client.send("q", b"first")
        consumer = client.consumer("q", concurrency=1, prefetch=10)
        running = asyncio.create_task(consumer.run(handle))
        await begun.wait()
        process.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert process.alive(), "it did not wait for what is held"
        go.set()
        await asyncio.to_thread(process.wait)
        consumer.stop()
        await running
    process.start()
    async with anyqueue.connect(url) as client:
        assert (await client.depth("q")).total == 0, "what was accepted while it drained came back"


async def test_a_second_sigterm_ends_the_hub_at_once(durable: tuple[HubProcess, str]) -> None:
    process, url = durable
    async with anyqueue.connect(url) as client, client.consumer("q") as messages:
        await client.send("q", b"held")
        await messages.receive()
        process.signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert process.alive()
        watch = Stopwatch()
        await asyncio.to_thread(process.stop)
        watch.within(2, "the end")
    process.start()
    async with anyqueue.connect(url) as client, client.consumer("q") as messages:
        (message,) = await messages.receive()
        assert message.attempt == 1, "that the hub ended is no attempt"


async def test_a_hub_that_was_away_blames_nobody(durable: tuple[HubProcess, str]) -> None:
    """Stopped for longer than its peers may be silent: what they hold stays theirs."""
    process, url = durable
    async with anyqueue.connect(f"{url}?heartbeat=10") as client, client.consumer("q") as messages:
        await client.send("q", b"held")
        (message,) = await messages.receive()
        process.pause()
        await asyncio.sleep(1.5)
        process.resume()
        await message.ack()
        assert (await client.depth("q")).total == 0
