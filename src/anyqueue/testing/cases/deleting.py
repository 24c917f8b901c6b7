"""Deleting: a queue that is deleted by the public API. Of the group Interop: others see that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyqueue import Feature
from anyqueue.testing.acts import is_empty, sendings
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.testing.trial import Trial

GROUP: Final = "Interop"


@case("I7", "a queue that is deleted is gone with all that is in it, and can be used anew", group=GROUP)
async def i7(t: Trial) -> None:
    """I7: a queue that is deleted is gone with all that is in it, and can be used anew.

    Where deleting is emulated, what is due and nobody holds is gone. Catches a driver that leaves what a consumer
    holds, what is delayed, or the queue itself; one that deletes another queue; one that uses what is no more.
    """
    queue, other = t.queue(), t.queue()
    async with t.connect() as client:
        await client.send(other, b"not to be deleted")
        await client.delete(queue)  # nobody knows it yet
        if client.support(Feature.DELETE).kind == "native":
            await _delete_in_use(t, client, queue)
        await sendings(t, client, queue, 5)
        t.history.ended()  # what is deleted is nobody's loss
        await client.delete(queue)
        await t.eventually(is_empty(t, queue))
        if client.support(Feature.DELETE).kind == "native":
            assert queue not in await t.foreign.queues()
        await t.counts(other, total=1)
        await client.send(queue, b"anew")
        assert [message.body for message in await t.drain(client, queue)] == [b"anew"]


async def _delete_in_use(t: Trial, client: Client, queue: str) -> None:
    """Delete a queue of which a consumer holds a message, and others wait for their time."""
    await client.send(queue, b"held")
    async with t.connect() as holder, holder.consumer(queue, prefetch=1, dead_letter=None) as messages:
        await messages.receive()
        await client.send(queue, b"ready")
        if t.has(Feature.DELAY):
            await client.send(queue, b"delayed", delay=60.0)
        await client.delete(queue)
        await t.eventually(is_empty(t, queue))
