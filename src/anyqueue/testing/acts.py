"""What several cases do: run a consumer beside the case, kill children, crash the broker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from anyqueue.testing.harness import Count

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyqueue import Client, Consumer, Message
    from anyqueue.testing.children import Child
    from anyqueue.testing.trial import Trial


@contextlib.asynccontextmanager
async def running(
    client: Client,
    queue: str,
    handler: Callable[[Message], object],
    **options: Any,  # noqa: ANN401 -- whatever Client.consumer() takes
) -> AsyncIterator[Consumer]:
    """Run a consumer while the block runs; at its end drain, and raise what ended the consumer."""
    consumer = client.consumer(queue, **options)
    task = asyncio.create_task(consumer.run(handler))
    try:
        yield consumer
    finally:
        consumer.stop()
        await task


async def written(t: Trial, child: Child, records: int) -> None:
    """Wait until a child has written so many records: a point that the trial may draw."""
    await t.eventually(lambda: len(child.journal()) >= records, what=f"{child.name} wrote {records} records")


async def kill(t: Trial, *children: Child) -> None:
    """Kill children and take over their journals. Each ends twice in the history: what it still did is between."""
    for child in children:
        t.history.ended(child.name)
        await child.kill()
        t.history.ended(child.name)
        t.history.merge(child.journal())


async def crash(t: Trial, *children: Child) -> None:
    """Kill the broker (SIGKILL) and start it again; where the target is embedded, kill all who hold its file.

    Call it while the case itself has no client open.
    """
    await kill(t, *children)
    if t.harness.broker is not None:
        t.history.ended()
        t.broker.kill()
        t.broker.start()


async def sendings(t: Trial, client: Client, queue: str, count: int) -> list[str]:
    """Send so many recorded messages, one after another, and return their ids."""
    return [await t.history.send(client, queue, f"message {number}".encode()) for number in range(count)]


async def bury(t: Trial, client: Client, queue: str, count: int, **fields: Any) -> list[str]:  # noqa: ANN401 -- whatever send() takes
    """Send so many messages and reject each, into NAME.dead; return their ids."""
    sent = [await client.send(queue, f"message {number}".encode(), **fields) for number in range(count)]

    async def reject(message: Message) -> None:
        await message.reject("buried")

    async with running(client, queue, reject):
        await t.eventually(is_empty(t, queue))
    assert await t.total(f"{queue}.dead") == count
    return sent


class Empty(msgspec.Struct, frozen=True):
    """True where the broker counts nothing; prints what it counts."""

    count: Count

    def __bool__(self) -> bool:
        return not self.count.total


def holds(t: Trial, queue: str, number: int) -> Callable[[], Awaitable[bool]]:
    """Return the fact that the broker counts so many messages as handed out."""

    async def handed_out() -> bool:
        return (await t.foreign.count(queue)).unacked == number

    return handed_out


def is_empty(t: Trial, queue: str) -> Callable[[], Awaitable[Empty]]:
    """Return the fact that the broker counts nothing in a queue."""

    async def empty() -> Empty:
        return Empty(await t.foreign.count(queue))

    return empty
