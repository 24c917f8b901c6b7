"""Batches that a handler is given. Of the group Batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue import Retry
from anyqueue.testing.acts import is_empty
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from anyqueue import Batch
    from anyqueue.testing.trial import Trial


@case("B4", "the messages of a handled batch are settled each on its own", group="Batches")
async def b4(t: Trial) -> None:
    """B4: the messages of a handled batch are settled each on its own: by hand, or by how the handler ended."""
    queue = t.queue()
    seen: list[tuple[str, int]] = []
    async with t.connect() as client:
        await client.producer(queue).send_many(["ack", "reject", "fail", "fail too"])
        consumer = client.consumer(queue, retry=Retry(attempts=2, initial=0.01, jitter=0))

        async def handle(batch: Batch) -> None:
            for message in batch:
                seen.append((message.payload, message.attempt))
                if message.payload == "ack":
                    await message.ack()
                elif message.payload == "reject":
                    await message.reject("no good")
            if any(not message.settled for message in batch):
                raise ValueError("the rest failed")

        task = asyncio.create_task(consumer.run_batches(handle, max_size=4, max_wait=0.05))
        await t.eventually(is_empty(t, queue))
        consumer.stop()
        await task
        dead = {message.payload: message for message in await t.drain(client, f"{queue}.dead")}
    assert sorted(seen) == [("ack", 1), ("fail", 1), ("fail", 2), ("fail too", 1), ("fail too", 2), ("reject", 1)]
    assert set(dead) == {"reject", "fail", "fail too"}
    reasons = {payload: message.death.reason for payload, message in dead.items() if message.death is not None}
    assert reasons == {
        "reject": "no good",
        "fail": "failed 2 times: ValueError: the rest failed",
        "fail too": "failed 2 times: ValueError: the rest failed",
    }
