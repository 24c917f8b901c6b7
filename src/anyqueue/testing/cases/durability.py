"""Durability: what was confirmed survives the broker, and nothing is confirmed before the broker has it.

Where the target is embedded, "the broker" is the processes that hold its file: all of them are killed. Where it has a
process of its own, the senders and consumers live through its end, and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

from anyqueue import Feature, QueueFull, SendError
from anyqueue.testing.acts import crash, kill, sendings, written
from anyqueue.testing.case import case
from anyqueue.testing.children import Script
from anyqueue.testing.faults import between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anyqueue import Client
    from anyqueue.testing.children import Child
    from anyqueue.testing.trial import Trial

GROUP = "Durability"
NEEDS = Feature.DURABLE | Feature.CONFIRM


@case("X1", "what was confirmed survives a SIGKILL of the broker", group=GROUP, needs=NEEDS, tier="fault")
async def x1(t: Trial) -> None:
    """X1: what was confirmed survives a SIGKILL of the broker.

    Catches a confirm before the disk; behind a network also a send that is dropped at a reconnect.
    """
    queue = t.queue()
    sender = t.child("sender", Script(role="producer", queue=queue, count=100_000, size=2000))
    await written(t, sender, t.random.randint(40, 120))
    if t.harness.network:
        await outlive(t, t.broker.kill, sender)
        await kill(t, sender)
    else:
        await crash(t, sender)
    confirmed = sender.count("send")
    assert confirmed >= 10
    async with t.connect() as client:
        await t.drain(client, queue)
    t.history.prove()


@case("X2", "a storm of SIGKILLs under load: nothing confirmed is lost", group=GROUP, needs=NEEDS, tier="fault")
async def x2(t: Trial) -> None:
    """X2: a storm of SIGKILLs under load: nothing confirmed is lost, nothing accepted comes back.

    Four times all at once, each time at another point of their journals: two producers and a consumer. Where the broker
    has a process of its own: twice, once with SIGTERM, and they live through it.
    """
    queue = t.queue()
    if t.harness.network:
        await storm(t, queue)
    for number in range(0 if t.harness.network else 4):
        producer = Script(role="producer", queue=queue, count=100_000, pace=0.002)
        children: list[Child] = [t.child(f"sender {number} {twin}", producer) for twin in range(2)]
        children.append(t.child(f"worker {number}", Script(role="consumer", queue=queue, concurrency=2)))
        await written(t, children[t.random.randrange(3)], t.random.randint(3, 60))
        await crash(t, *children)
    async with t.connect() as client:
        await t.drain(client, queue, timeout=90)
    t.history.prove()


async def storm(t: Trial, queue: str) -> None:
    """End the broker under living producers and a consumer, again and again."""
    producer = Script(role="producer", queue=queue, count=100_000, pace=0.002)
    children = [t.child(f"sender {twin}", producer) for twin in range(2)]
    children.append(t.child("worker", Script(role="consumer", queue=queue, concurrency=2)))
    for child in children:
        await written(t, child, 1)
    ends = [t.broker.kill, t.broker.stop]
    t.random.shuffle(ends)
    for end in ends:
        await written(t, children[t.random.randrange(3)], t.random.randint(3, 60))
        await outlive(t, end, *children)
    await kill(t, *children)


async def outlive(t: Trial, end: Callable[[], None], *children: Child) -> None:
    """End the broker under living children, start it again, and wait until they all go on."""
    t.history.ended()
    await asyncio.to_thread(end)
    t.history.ended()
    await asyncio.to_thread(t.broker.start)
    for child in children:
        kind = "settle" if child.name.startswith("worker") else "send"
        before = child.count(kind)
        await t.eventually(lambda c=child, k=kind, b=before: c.count(k) > b, 20, f"{child.name} goes on")  # type: ignore[misc]  # closures
    t.history.ended()  # what they had under way was sent again by now


@case(
    "X3",
    "an ack that returned survives a SIGKILL of the broker",
    group=GROUP,
    tier="fault",
    needs=NEEDS | Feature.REDELIVER,
)
async def x3(t: Trial) -> None:
    """X3: an ack that returned survives a SIGKILL of the broker: what was accepted never comes again.

    But for what was accepted in the harness's `ack_window` before the kill, where the broker has one.
    """
    queue = t.queue()
    async with t.connect() as client:
        await sendings(t, client, queue, 60)
    worker = t.child("worker", Script(role="consumer", queue=queue, concurrency=2))
    await written(t, worker, t.random.randint(20, 120))
    await crash(t, worker)
    settled = [record for record in worker.journal() if record.kind == "settle" and record.state == "ok"]
    last, accepted = max(record.at for record in settled), {record.id for record in settled}
    safe = {record.id for record in settled if record.at < last - t.harness.ack_window or not t.harness.ack_window}
    async with t.connect() as client:
        back = {message.id for message in await t.drain(client, queue)}
    assert not safe & back
    assert 60 - len(accepted) - 2 <= len(back) <= 60 - len(safe)
    t.history.prove()


@case("X4", "durable can be asked for where it is, and is refused where it is not", group=GROUP, needs=Feature.DURABLE)
async def x4(t: Trial) -> None:
    """X4: durable can be asked for where it is, and is refused (the twin) where it is not.

    Asked for and had, it is so: what this client confirmed is there when everybody who had the broker open is gone.
    """
    queue = t.queue()
    async with t.connect(require=Feature.DURABLE) as client:
        assert client.support(Feature.DURABLE).kind == "native"
        sent = await sendings(t, client, queue, 20)
    await crash(t)
    async with t.connect(require=Feature.DURABLE) as client:
        drained = await t.drain(client, queue)
    assert [message.id for message in drained] == sent
    t.history.prove(ordered=True)


@case("X5", "a send never succeeds before its confirm", group=GROUP, needs=Feature.CONFIRM)
async def x5(t: Trial) -> None:
    """X5: a send never succeeds before its confirm.

    One whose driver is held up, before the broker has it, is not done while fifty others are; and each of the fifty is
    in the broker's own count when its send returns.
    """
    slow, queue = t.queue(), t.queue()
    held, go = asyncio.Event(), asyncio.Event()

    async def hold(point: str, batch: Sequence[Any]) -> None:
        if point == "before send" and batch[0].body == b"slow":
            held.set()
            await go.wait()

    async with between(t.connect(), hold) as client:
        task = asyncio.create_task(t.history.send(client, slow, b"slow"))
        await held.wait()
        for number in range(1, 51):
            await t.history.send(client, queue, b"message %d" % number)
            await t.counts(queue, total=number)
        assert not task.done()
        await t.counts(slow, total=0)
        go.set()
        await task
        await t.counts(slow, total=1)
        await t.drain(client, slow)
        await t.drain(client, queue)
    t.history.prove(ordered=True)


@case("X6", "a broker that refuses a message makes its send raise, and only that", group=GROUP, tier="fault")
async def x6(t: Trial) -> None:
    """X6: a broker that refuses a message makes its send raise, and only that.

    On every target: a driver that refuses every third message, as a full queue does; that is the most a target without
    a disk can be made to do. Where the target keeps files in this process: a disk that takes no more (RLIMIT_FSIZE),
    and then takes again.
    """
    queue = t.queue()
    refused: list[str] = []

    async def refuse(point: str, batch: Sequence[Any]) -> None:
        if point == "before send" and batch[0].body.endswith(b"refused"):
            raise QueueFull("full here")

    async with between(t.connect(), refuse) as client:
        for number in range(12):
            if number % 3:
                await t.history.send(client, queue, b"taken %d" % number)
                continue
            with pytest.raises(SendError) as caught:
                await t.history.send(client, queue, b"%d refused" % number)
            assert not caught.value.unknown
            refused.append(str(caught.value))
        await t.counts(queue, total=8)
        await t.drain(client, queue)
    assert all("full here" in text and queue in text for text in refused)
    if Feature.DURABLE in t.expected.features and t.harness.broker is None:
        await full_disk(t)
    t.history.prove(ordered=True)


async def full_disk(t: Trial) -> None:
    """Let the disk take no more, prove that sends raise, and that all goes on when it takes again."""
    queue = t.queue()
    async with t.connect(send_timeout=5.0) as client:
        await t.history.send(client, queue, b"before")
        with file_limit(64 * 1024):
            taken = await fill(t, client, queue)
            with pytest.raises(SendError):
                await t.history.send(client, queue, b"y" * 600_000)
        await t.history.send(client, queue, b"after")
        assert await t.total(queue) >= taken + 2
        drained = await t.drain(client, queue)
    assert (drained[0].body, drained[-1].body) == (b"before", b"after")


async def fill(t: Trial, client: Client, queue: str) -> int:
    """Send until a send is refused; return how many were not."""
    for number in range(100):
        try:
            await t.history.send(client, queue, b"x" * 30_000)
        except SendError:
            return number
    raise AssertionError("a hundred sends were confirmed by a full disk")


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let this process write no file beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
