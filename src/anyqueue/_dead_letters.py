"""Dead letters over any backend: list them, send them back to where they came from, throw them away.

Sending back, one at a time and in this order: send the restored copy, wait for its confirm, accept the dead letter. An
interrupted redrive loses nothing; it may have sent one batch twice. What is looked at or does not match is held until
the end, so that it is not met again, and then goes back as it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from anyqueue._death import as_redriven
from anyqueue._message import Message
from anyqueue.driver import Delivery, Feature, Queue
from anyqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue._client import Client
    from anyqueue._sending import Outbox

    Match = Callable[[Message], bool]
    Act = Callable[[Message], Awaitable[None]]

IDLE: Final = 1.0
"""Seconds without another dead letter after which there are none, where the backend cannot count them."""
TRICKLE: Final = 3
"""Batches that were not full, one after another, after which what still comes has come since the beginning."""
BATCH: Final = 100
MAX_HELD: Final = 10_000
"""Dead letters that are held until the end: at most this many."""


async def listed(client: Client, queue: Queue, *, limit: int, match: Match | None) -> list[Message]:
    """Return up to `limit` dead letters that match, to be looked at only."""
    if Feature.INSPECT in client.features:
        found = await client.browse(queue, limit if match is None else MAX_HELD)
        return [message for message in found if match is None or match(message)][:limit]
    seen: list[Message] = []

    async def look(message: Message) -> None:
        seen.append(Message(Delivery(envelope=message.envelope, receipt=None), queue.name, None))

    await _each(client, queue, look, limit=limit, match=match, held=MAX_HELD)
    return seen


async def redrive(
    client: Client,
    outbox: Callable[[Queue], Outbox],
    queue: Queue,
    *,
    to: Queue | None,
    limit: int | None,
    match: Match | None,
) -> int:
    """Send up to `limit` dead letters that match back; return how many went."""

    async def move(message: Message) -> None:
        address = to or _origin(message)
        await outbox(address).send([as_redriven(message.envelope)])
        await message.ack()

    return await _each(client, queue, move, limit=limit, match=match, held=BATCH if match is None else MAX_HELD)


async def discard(client: Client, queue: Queue, *, limit: int | None, match: Match | None) -> int:
    """Throw up to `limit` messages that match away; return how many there were."""
    if limit is None and match is None and Feature.INSPECT in client.features:
        return await client.purge(queue)
    return await _each(client, queue, Message.ack, limit=limit, match=match, held=BATCH if match is None else MAX_HELD)


async def _each(client: Client, queue: Queue, act: Act, *, limit: int | None, match: Match | None, held: int) -> int:
    """Take every message that there was at the beginning, and act on up to `limit` that match; return how many."""
    left = await _count(client, queue)
    done = few = 0
    async with client.consumer(queue, prefetch=held, retry=None, dead_letter=None) as messages:
        while (limit is None or done < limit) and (left is None or left > 0) and few < TRICKLE:
            wanted = min(BATCH, BATCH if limit is None else limit - done, BATCH if left is None else left)
            batch = await messages.receive(wanted, timeout=IDLE)
            if not batch:
                break
            few = few + 1 if left is None and len(batch) < wanted else 0
            left = None if left is None else left - len(batch)
            chosen = [message for message in batch if match is None or match(message)]
            await asyncio.gather(*(act(message) for message in chosen))
            done += len(chosen)
    return done


async def _count(client: Client, queue: Queue) -> int | None:
    if Feature.COUNT not in client.features:
        return None
    depth = await client.depth(queue)
    return depth.total


def _origin(message: Message) -> Queue:
    death = message.death
    if death is None or not death.origin:
        what = f"message {message.id} does not say where it came from: it is no dead letter of anyqueue's"
        raise ConfigError(what, queue=message.queue, hint="name the queue with to=")
    return Queue(death.origin)
