"""Children do what their script says, and a kill is one: on processes and on threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import anyqueue
from anyqueue.testing.children import Script
from anyqueue.testing.recorder import Recorder
from anyqueue.testing.residue import residue, snapshot
from anyqueue.testing.targets import load_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anyqueue.testing.harness import Harness


@pytest.fixture(params=["memory", "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    harness = load_harness(request.param)
    harness.start(tmp_path)
    before = snapshot()
    yield harness
    assert residue(before) == []
    harness.stop()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 -- a child's journal is a file
            await asyncio.sleep(0.01)


async def test_a_producer_sends_its_count_and_ends(harness: Harness) -> None:
    queue = harness.fresh()
    child = harness.child("sender", Script(role="producer", queue=queue, count=20))
    await child.wait()
    assert child.count("send") == 20
    assert child.count("end") == 1
    assert (await harness.foreign.count(queue)).waiting == 20


async def test_what_a_killed_consumer_held_comes_again_and_what_it_acked_does_not(harness: Harness) -> None:
    queue, history = harness.fresh(), Recorder()
    async with anyqueue.connect(harness.url()) as client:
        for number in range(30):
            await history.send(client, queue, b"%d" % number)
        child = harness.child("worker", Script(role="consumer", queue=queue, pace=0.01))
        await until(lambda: child.count("settle") >= 7)
        history.ended("worker")
        await child.kill()
        history.ended("worker")  # what it still did is between
        assert not child.alive()
        history.merge(child.journal())
        async with client.consumer(queue) as messages:
            while (await harness.foreign.count(queue)).total:
                for message in await messages.receive(100, timeout=0.1):
                    history.took(message, "second")
                    await history.ack(message)
    history.prove()


async def test_a_consumer_that_kills_itself_says_so(harness: Harness) -> None:
    queue = harness.fresh()
    async with anyqueue.connect(harness.url()) as client:
        for body in (b"good", b"bad", b"good"):
            await client.send(queue, body)
        child = harness.child("worker", Script(role="consumer", queue=queue, die_on=b"bad"))
        await child.wait()
    assert [record.kind for record in child.journal()] == ["receive", "settle", "settle", "receive", "end"]
    assert (await harness.foreign.count(queue)).total == 2


async def test_a_terminated_consumer_drains(harness: Harness) -> None:
    queue = harness.fresh()
    async with anyqueue.connect(harness.url()) as client:
        for _ in range(30):
            await client.send(queue, b"")
        child = harness.child("worker", Script(role="consumer", queue=queue, pace=0.02))
        await until(lambda: child.count("settle") >= 3)
        await child.terminate()
    taken, done = child.count("receive"), child.count("settle")
    assert 3 <= taken == done < 30
    assert child.count("end") == 1
    count = await harness.foreign.count(queue)
    assert (count.waiting, count.unacked) == (30 - done, 0)


async def test_a_frozen_child_does_nothing_until_it_is_thawed(harness: Harness) -> None:
    queue = harness.fresh()
    child = harness.child("sender", Script(role="producer", queue=queue, count=100_000))
    await until(lambda: child.count("send") >= 3)
    await child.freeze()
    await asyncio.sleep(0.1)
    frozen = child.count("send", "invoked")
    await asyncio.sleep(0.2)
    assert child.count("send", "invoked") == frozen
    await child.thaw()
    await until(lambda: child.count("send", "invoked") > frozen)
    await child.kill()
