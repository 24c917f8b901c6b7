"""Requests between anyqueue and programs of others, on Gearman: the `gearman` command and php."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

import anyqueue
from anyqueue.testing.targets.gearman_programs import GearmanCommand, Php

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from launching import Launch

    from anyqueue import Client, Message

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300), pytest.mark.xdist_group("brokers-launched")]


@pytest.fixture
async def client(gearmand: Launch) -> AsyncIterator[Client]:
    async with anyqueue.connect(gearmand("url", "gearmand").strip()) as client:
        yield client


@pytest.fixture
def port(gearmand: Launch) -> int:
    found: int = gearmand.describe("gearmand")["ports"]["gearman"]
    return found


@contextlib.asynccontextmanager
async def answering(client: Client, queue: str) -> AsyncIterator[None]:
    """Answer meanwhile."""

    async def handle(message: Message) -> str:
        if message.body == b"broken":
            raise ValueError("no good")
        return message.body.decode().upper()

    consumer = client.consumer(queue)
    task = asyncio.create_task(consumer.run(handle))
    try:
        yield
    finally:
        consumer.stop()
        await task


async def test_they_are_answered(client: Client, port: int) -> None:
    async with answering(client, "shout"):
        assert await GearmanCommand(port).ask("shout", b"hello") == b"HELLO"
        assert await Php(port).ask("shout", b"hello") == (True, b"HELLO", b"")
        failed, said, told = await Php(port).ask("shout", b"broken")
        assert (failed, said) == (False, b"")
        assert b"ValueError: no good" in told


async def test_php_answers(client: Client, port: int) -> None:
    working = asyncio.create_task(Php(port).work("backwards", 10_000))
    assert await client.request("backwards", "hello", timeout=10) == b"olleh"
    done, said, _ = await working
    assert done
    assert said.endswith(b"\0hello")
