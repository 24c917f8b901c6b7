"""Workers that answer: what a handler returns is the reply, through everything a worker puts around it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import anyqueue
from anyqueue import Message, RemoteError
from anyqueue.inbox import Inbox, open_inbox
from anyqueue.worker import CallNext, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from places import Place

    from anyqueue import sync


@pytest.fixture
def inbox(store: str) -> Inbox:
    return open_inbox(store)


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Run a worker meanwhile."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


async def test_what_a_handler_returns_is_the_reply(anywhere: Place) -> None:
    """Through middleware too, whether it hands the value on or not."""
    worker = Worker(anywhere.url)
    plain = f"{anywhere.queue}-plain"

    @worker.middleware
    async def forgetful(message: Message, call_next: CallNext) -> None:
        await call_next(message)

    @worker.middleware
    async def doubling(message: Message, call_next: CallNext) -> Any:
        value = await call_next(message)
        return value * 2 if isinstance(value, int) else None

    @worker.handler(anywhere.queue)
    async def add(message: Message) -> int:
        return sum(message.payload)

    @worker.handler(plain)
    def shout(message: sync.Message) -> str:
        return message.payload.upper()

    async with working(worker), anyqueue.connect(anywhere.url) as client:
        assert await client.request(anywhere.queue, [1, 2]) == 6
        assert await client.request(plain, "hello") == "HELLO"


async def test_a_request_that_was_handled_before_is_told_so(anywhere: Place, inbox: Inbox) -> None:
    worker = Worker(anywhere.url)

    @worker.handler(anywhere.queue, deduplicate=inbox)
    async def handle(message: Message) -> object:
        return message.payload

    async with working(worker), anyqueue.connect(anywhere.url) as client:
        assert await client.request(anywhere.queue, 1) == 1
        inbox.seen = lambda _queue, ids: set(ids)  # type: ignore[method-assign]  # as after a worker that was killed
        with pytest.raises(RemoteError, match="handled before"):
            await client.request(anywhere.queue, 2)
