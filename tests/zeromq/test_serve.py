"""`?serve=1`: the first process that finds nobody is the hub; when it goes, another one is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import anyqueue
from anyqueue import ConfigError, ConnectFailed
from anyqueue.backends.zeromq import serving
from anyqueue.testing.targets.hub_process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hubs import Hub

FIRST: Final = """
import asyncio, sys, anyqueue
async def main():
    async with anyqueue.connect(sys.argv[1]) as client:
        await client.send("q", b"by the first")
        print("serving", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


@pytest.fixture
def port() -> Iterator[int]:
    yield free_port()
    serving.stop_all()


async def test_the_first_that_finds_nobody_serves_and_the_others_use_it(port: int) -> None:
    url = f"zmq://127.0.0.1:{port}?serve=1"
    with pytest.raises(ConnectFailed, match="nobody listens there"):
        async with anyqueue.connect(f"zmq://127.0.0.1:{port}"):
            pass
    async with anyqueue.connect(url) as first, anyqueue.connect(url) as second:
        await first.send("q", b"x")
        async with second.consumer("q") as messages:
            (message,) = await messages.receive()
            await message.ack()
        async with anyqueue.connect(f"zmq://127.0.0.1:{port}") as third:
            assert (await third.depth("q")).total == 0
    async with anyqueue.connect(url) as later:
        await later.send("q", b"the hub outlives its clients")


async def test_many_at_once_find_one_hub(port: int) -> None:
    clients = [anyqueue.connect(f"zmq://127.0.0.1:{port}?serve=1") for _ in range(10)]
    await asyncio.gather(*(client.open() for client in clients))
    await asyncio.gather(*(client.send("q", b"x") for client in clients))
    assert (await clients[0].depth("q")).ready == 10
    await asyncio.gather(*(client.close() for client in clients))


async def test_when_the_process_that_serves_ends_another_one_serves_the_same_store(port: int, tmp_path: Path) -> None:
    url = f"zmq://127.0.0.1:{port}?serve=1&store=sqlite:///{tmp_path}/hub.db"
    command = [sys.executable, "-c", FIRST, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603, ASYNC220 -- ours, and soon begun
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "serving\n"
        async with anyqueue.connect(url) as client, client.consumer("q") as messages:
            assert not serving._running, "there was a hub"
            process.communicate("")
            assert process.returncode == 0
            (message,) = await messages.receive(timeout=10)
            assert message.body == b"by the first"
            await message.ack()
            assert serving._running, "this process is the hub now"


async def test_a_killed_process_that_served_loses_nothing_that_was_confirmed(port: int, tmp_path: Path) -> None:
    url = f"zmq://127.0.0.1:{port}?serve=1&store=sqlite:///{tmp_path}/hub.db"
    command = [sys.executable, "-c", FIRST, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603, ASYNC220 -- ours, and soon begun
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "serving\n"
        process.kill()
        process.wait()
    async with anyqueue.connect(url) as client:
        assert (await client.depth("q")).ready == 1


async def test_what_serves_must_be_one_host_without_keys(hub: Hub) -> None:
    for url, what in (
        (f"zmq://127.0.0.1:{hub.port},127.0.0.1:1?serve=1", "on one host"),
        (f"zmq://127.0.0.1:{hub.port}?serve=1&key=a&hub_key=b", "without keys"),
        (f"zmq://127.0.0.1:{hub.port}?serve=1&store=nothing", "no URL|a hub's store is|scheme"),
    ):
        with pytest.raises(ConfigError, match=what):
            anyqueue.connect(url)
