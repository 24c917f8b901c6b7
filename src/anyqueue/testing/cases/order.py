"""Order: first in, first out, as far as the broker promises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue.testing.case import case

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.testing.trial import Trial

GROUP: Final = "Order"


@case("O1", "one producer, one consumer: first in, first out", group=GROUP)
async def o1(t: Trial) -> None:
    """O1: one producer, one consumer: first in, first out."""
    queue = t.queue()
    async with t.connect() as client:
        for number in range(200):
            await t.history.send(client, queue, f"message {number}".encode())
        drained = await t.drain(client, queue)
    assert len(drained) == 200
    t.history.prove(ordered=True)


@case("O2", "several producers: the messages of each stay in order", group=GROUP)
async def o2(t: Trial) -> None:
    """O2: several producers: the messages of each stay in order."""

    async def produce(client: Client, queue: str, who: str, count: int) -> None:
        for number in range(count):
            await t.history.send(client, queue, f"{who} {number}".encode(), who=who)

    async with t.connect() as one, t.connect() as two:

        async def check(counts: list[int]) -> None:
            queue = t.queue()
            async with asyncio.TaskGroup() as group:
                for index, count in enumerate(counts):
                    group.create_task(produce((one, two)[index % 2], queue, f"producer {index}", count))
            assert len(await t.drain(one, queue)) == sum(counts)

        await t.for_all(st.lists(st.integers(1, 30), min_size=2, max_size=4), check, examples=6)
    t.history.prove(ordered=True)


@case("O3", "a released message comes back where the target says: in its place, or at the end", group=GROUP)
async def o3(t: Trial) -> None:
    """O3: a released message comes back where the target says: in its place, or at the end."""
    async with t.connect() as client:

        async def check(example: tuple[int, int]) -> None:
            count, after = example
            queue = t.queue()
            for number in range(count):
                await client.send(queue, number)
            kept = list(range(after % count, count))
            first, rest = kept[0], kept[1:]
            wanted = [*range(first), first, *([first, *rest] if t.expected.released == "in place" else [*rest, first])]
            seen: list[int] = []
            async with client.consumer(queue, prefetch=1) as messages:
                while len(seen) < len(wanted):
                    (message,) = await messages.receive()
                    again = message.payload == first and first not in seen
                    seen.append(message.payload)
                    await (message.retry(0) if again else message.ack())
            assert seen == wanted

        await t.for_all(st.tuples(st.integers(1, 6), st.integers(0, 5)), check, examples=12)
