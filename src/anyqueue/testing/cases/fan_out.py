"""Fan-out: every group of a topic gets every message, once, and none disturbs another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from anyqueue import Feature, Retry, Topic, Unroutable
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from anyqueue import Client, Messages
    from anyqueue.testing.trial import Trial

GROUP: Final = "Fan-out"
NEEDS: Final = Feature.FANOUT


async def collect(t: Trial, messages: Messages, who: str, group: str) -> None:
    """Take and accept as one member of a group, until cancelled."""
    async for message in messages:
        t.history.took(message, who, queue=group)
        await t.history.ack(message)


async def member(t: Trial, client: Client, topic: Topic, group: str | None, who: str, ready: asyncio.Semaphore) -> None:
    """Be one consumer of a group until cancelled; its messages are noted under the group's name."""
    async with client.consumer(topic, group=group) as messages:
        ready.release()
        await collect(t, messages, who, group or who)


def accepted(t: Trial) -> int:
    """Count the messages whose acceptance has returned."""
    return sum(record.kind == "settle" and record.state == "ok" for record in t.history.records)


@case("F1", "every group gets every message once, however many consumers it has", group=GROUP, needs=NEEDS)
async def f1(t: Trial) -> None:
    """F1: every group gets every message once, however many consumers it has."""
    topic, ready = Topic(t.queue()), asyncio.Semaphore(0)
    members = [("billing", "b1"), ("billing", "b2"), ("audit", "a1"), ("audit", "a2"), ("mail", "m1"), (None, "passer")]
    async with t.connect() as sender, t.connect() as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(member(t, client, topic, name, who, ready)) for name, who in members]
        for _ in members:
            await ready.acquire()
        for number in range(60):
            await t.history.send(sender, topic, f"event {number}".encode())
        await t.eventually(lambda: accepted(t) >= 4 * 60)
        for task in tasks:
            task.cancel()
    t.history.prove(groups={topic.name: ["billing", "audit", "mail", "passer"]})


@case("F2", "a durable group gets what came while it was away; one without a name does not", group=GROUP, needs=NEEDS)
async def f2(t: Trial) -> None:
    """F2: a durable group gets what came while it was away; one without a name does not."""
    topic = Topic(t.queue())
    async with t.connect() as client:
        async with client.consumer(topic, group="durable"), client.consumer(topic):
            pass
        for number in range(5):
            await client.send(topic, number)
        async with client.consumer(topic, group="durable") as durable, client.consumer(topic) as passing:
            await client.send(topic, "after")
            assert [await take(durable) for _ in range(6)] == [0, 1, 2, 3, 4, "after"]
            assert await take(passing) == "after"


async def take(messages: Messages) -> object:
    """Receive and accept the next message, and return its payload."""
    (message,) = await messages.receive(timeout=5)
    await message.ack()
    return message.payload


@case("F3", "what becomes of a message to a topic without groups is what the target says", group=GROUP, needs=NEEDS)
async def f3(t: Trial) -> None:
    """F3: what becomes of a message to a topic without groups is what the target says."""
    topic = Topic(t.queue())
    async with t.connect() as client:
        try:
            await client.send(topic, "unheard")
        except Unroutable:
            assert t.expected.unheard == "refused"
        else:
            assert t.expected.unheard != "refused"
        async with client.consumer(topic, group="late") as late:
            await client.send(topic, "heard")
            if t.expected.unheard == "kept":
                assert await take(late) == "unheard"
            assert await take(late) == "heard"


@case("F4", "unsubscribing is final: nothing is kept for who has gone", group=GROUP, needs=NEEDS)
async def f4(t: Trial) -> None:
    """F4: unsubscribing is final: nothing is kept for who has gone."""
    topic = Topic(t.queue())
    async with t.connect() as client:
        before = await t.foreign.queues()
        async with client.consumer(topic) as first, client.consumer(topic) as second:
            await client.send(topic, 1)
            assert await take(first) == 1
            (held,) = await second.receive()
            assert held.payload == 1
        await t.eventually(lambda: nothing_new(t, before))
        await client.send(topic, 2)
        assert await nothing_new(t, before), "a message was kept for a subscriber that has gone"
        async with client.consumer(topic) as again:
            await client.send(topic, 3)
            assert await take(again) == 3


async def nothing_new(t: Trial, before: set[str]) -> bool:
    """Say whether the broker has no other queues than before."""
    return not await t.foreign.queues() - before


@case("F5", "a group that stalls, releases or crashes disturbs no other", group=GROUP, needs=NEEDS)
async def f5(t: Trial) -> None:
    """F5: a group that stalls, releases or crashes disturbs no other."""
    topic, ready = Topic(t.queue()), asyncio.Semaphore(0)

    async def release_all() -> None:
        retry = Retry(attempts=10_000, initial=0.001, factor=1.0)
        async with other.consumer(topic, group="releasing", retry=retry) as messages:
            ready.release()
            async for message in messages:
                await message.retry(0.01)

    async def crash() -> None:
        while True:
            async with t.connect() as client, client.consumer(topic, group="crashing", prefetch=3) as messages:
                ready.release()
                await messages.receive(3, timeout=0.05)

    async with (
        t.connect() as client,
        t.connect() as other,
        asyncio.TaskGroup() as group,
        other.consumer(topic, group="stalled", prefetch=1) as stalled,
        client.consumer(topic, group="good") as good,
    ):
        tasks = [group.create_task(release_all()), group.create_task(crash())]
        for _ in tasks:
            await ready.acquire()
        for number in range(50):
            await client.send(topic, number)
        await stalled.receive()
        seen = [await take(good) for _ in range(50)]
        assert seen == list(range(50))
        await client.send(topic, "last")
        assert await take(good) == "last"
        for task in tasks:
            task.cancel()


@case("F6", "a message sent right after subscribe() returned is not missed: 100 of 100", group=GROUP, needs=NEEDS)
async def f6(t: Trial) -> None:
    """F6: a message sent right after subscribe() returned is not missed: 100 of 100."""
    topic = Topic(t.queue())
    async with t.connect() as sender, t.connect() as client:
        for number in range(100):
            async with client.consumer(topic) as messages:
                await sender.send(topic, number)
                assert await take(messages) == number
