"""Concurrency: many threads, close at any moment, cancelled receives, and an event loop that is always free."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Closed, Feature, SendError, SettleError, sync
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue import Client, Message, Messages
    from anyqueue.testing.trial import Trial

GROUP: Final = "Concurrency"
THREADS: Final = 16
EACH: Final = 40
STALL: Final = 0.1
"""Seconds of work that one step of the event loop may take."""


async def in_threads(acts: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own, and raise what the first that failed raised; a hang ends with the case."""
    loop, errors = asyncio.get_running_loop(), list[BaseException]()
    left, ended = len(acts), loop.create_future()

    def end() -> None:
        nonlocal left
        left -= 1
        if not left:
            ended.set_result(None)

    def run(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 -- it is raised again in the case
            errors.append(error)
        loop.call_soon_threadsafe(end)

    for act in acts:
        threading.Thread(target=run, args=(act,), daemon=True).start()
    await ended
    if errors:
        raise errors[0]


async def steps(count: int) -> None:
    """Let the event loop turn so many times: a fault point."""
    for _ in range(count):
        await asyncio.sleep(0)


@case("P1", "16 threads share one blocking client", group=GROUP)
async def p1(t: Trial) -> None:
    """P1: 16 threads share one blocking client: each message is confirmed to its sender and comes exactly once."""
    queue = t.queue()
    confirmed: dict[str, bytes] = {}
    received: list[tuple[str, bytes]] = []
    total = 8 * EACH + 8

    def main() -> None:
        with sync.connect(t.url()) as client, client.consumer(queue, prefetch=50) as messages:
            _share(client, messages)

    def _share(client: sync.Client, messages: sync.Messages) -> None:
        barrier = threading.Barrier(THREADS)

        def produce(number: int) -> None:
            barrier.wait()
            bodies = [b"%d-%d" % (number, one) for one in range(EACH + 1)]
            for body in bodies[: EACH // 2]:
                confirmed[client.send(queue, body)] = body
            with client.producer(queue) as producer:
                rest = bodies[EACH // 2 :]
                confirmed.update(zip(producer.send_many(rest), rest, strict=True))

        def consume() -> None:
            barrier.wait()
            while len(received) < total:
                for message in messages.receive(3, timeout=0.01):
                    received.append((message.id, message.body))
                    message.ack()

        threads = [threading.Thread(target=produce, args=(number,)) for number in range(THREADS // 2)]
        threads += [threading.Thread(target=consume) for _ in range(THREADS // 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    await in_threads([main])
    assert len(confirmed) == total
    assert sorted(received) == sorted(confirmed.items()), "not each confirmed message came exactly once"
    await t.counts(queue, total=0)


@case("P2", "close races with everything: nothing hangs, nothing confirmed is lost", group=GROUP)
async def p2(t: Trial) -> None:
    """P2: close races with send, receive, settle and subscribe at generated points.

    Nothing hangs, every call ends with its result or an error of anyqueue's, and nothing confirmed is lost; where the
    backend has no REDELIVER, what a consumer had been handed and not settled excepted.
    """
    points = st.tuples(st.integers(0, 60), st.integers(1, 4), st.integers(1, 8))

    async def check(point: tuple[int, int, int]) -> None:
        at, senders, prefetch = point
        queue, taken = t.queue(), set[str]()
        async with asyncio.timeout(60):
            async with t.connect() as client:
                for number in range(4):
                    await t.history.send(client, queue, b"%d" % number, who="before")
                tasks = [asyncio.create_task(keep_sending(t, client, queue, f"s{one}")) for one in range(senders)]
                tasks.append(asyncio.create_task(keep_receiving(t, client, queue, prefetch, taken)))
                tasks.append(asyncio.create_task(keep_subscribing(t, client)))
                await steps(at)
                t.history.ended("consumer")
                await client.close()
                await asyncio.gather(*tasks)
            async with t.connect() as client:
                left = {message.id for message in await t.drain(client, queue)}
        if not t.has(Feature.REDELIVER):
            confirmed = {record.id for record in t.history.records if record.kind == "send" and record.state == "ok"}
            here = {record.id for record in t.history.records if record.queue == queue}
            assert (confirmed & here) - taken <= left, "confirmed, handed to nobody, and lost"

    await t.for_all(points, check)
    t.history.prove(drained=t.has(Feature.REDELIVER))


async def keep_sending(t: Trial, client: Client, queue: str, who: str) -> None:
    """Send until the client is closed."""
    with contextlib.suppress(Closed):
        while True:
            with contextlib.suppress(SendError):
                await t.history.send(client, queue, b"x", who=who)


async def keep_receiving(t: Trial, client: Client, queue: str, prefetch: int, taken: set[str]) -> None:
    """Receive and settle, each settlement on its own, until the client is closed."""
    with contextlib.suppress(Closed):
        async with client.consumer(queue, prefetch=prefetch) as messages:
            while True:
                for message in await messages.receive(3):
                    taken.add(message.id)
                    with contextlib.suppress(SettleError):
                        await t.history.ack(t.history.took(message, "consumer"))


async def keep_subscribing(t: Trial, client: Client) -> None:
    """Subscribe and leave, until the client is closed."""
    with contextlib.suppress(Closed):
        while True:
            async with client.consumer(t.queue()) as messages:
                await messages.receive(timeout=0)


@case("P2b", "closing a blocking client races with its threads: each call ends", group=GROUP)
async def p2b(t: Trial) -> None:
    """P2b: closing a blocking client races with the calls of its threads: each ends, and nothing confirmed is lost."""
    for _ in range(20):
        queue, confirmed, begun = t.queue(), list[str](), threading.Event()
        client = sync.connect(t.url())
        client.open()
        acts = [lambda: send_until_closed(client, queue, confirmed, begun)] * 4  # noqa: B023 -- run before the next turn
        acts += [lambda: subscribe_until_closed(t, client)]  # noqa: B023 -- as above
        async with asyncio.timeout(60):
            racing = asyncio.create_task(in_threads(acts))
            await t.eventually(begun.is_set)
            await asyncio.sleep(t.random.uniform(0, 0.005))
            await in_threads([client.close, client.close])
            await racing
        async with t.connect() as reader:
            left = [message.id for message in await drained(t, reader, queue)]
        assert set(confirmed) <= set(left), "a confirmed message is lost"
        assert len(left) == len(set(left)), "a message came twice"


def send_until_closed(client: sync.Client, queue: str, confirmed: list[str], begun: threading.Event) -> None:
    """Send until the client is closed; nothing but anyqueue's own errors may come."""
    while True:
        try:
            confirmed.append(client.send(queue, b"x"))
        except SendError:
            continue
        except Closed:
            return
        begun.set()


def subscribe_until_closed(t: Trial, client: sync.Client) -> None:
    """Subscribe, receive and leave until the client is closed."""
    while True:
        try:
            with client.consumer(t.queue()) as messages:
                messages.receive(timeout=0.001)
        except Closed:
            return


async def drained(t: Trial, client: Client, queue: str) -> list[Message]:
    """Take all the broker counts."""
    taken: list[Message] = []
    async with client.consumer(queue, prefetch=100) as messages:
        while await t.total(queue):
            for message in await messages.receive(100, timeout=0.01):
                taken.append(message)
                await message.ack()
    return taken


@case("P4", "a cancelled receive loses nothing", group=GROUP)
async def p4(t: Trial) -> None:
    """P4: a receive that is cancelled at a generated point loses nothing, and brings nothing twice or out of order."""
    receives = st.tuples(st.integers(1, 6), st.sampled_from([None, 0, 0.001, 5.0]), st.integers(0, 12))
    plans = st.tuples(st.integers(1, 8), st.lists(receives, min_size=1, max_size=10), st.booleans())
    async with t.connect() as client:

        async def check(plan: tuple[int, list[tuple[int, float | None, int]], bool]) -> None:
            prefetch, drawn, at_once = plan
            queue = t.queue()
            async with client.consumer(queue, prefetch=prefetch) as messages:
                for number, (limit, wait, at) in enumerate(drawn):
                    sends = [asyncio.create_task(send_pair(t, client, queue, number))]
                    if at_once:
                        await sends[0]
                    await cancelled_receive(t, messages, limit, wait, at)
                    await asyncio.gather(*sends)
                while await t.total(queue):
                    await settle(t, await messages.receive(100, timeout=0.05))

        await t.for_all(plans, check, examples=40)
    t.history.prove(ordered=True)


async def send_pair(t: Trial, client: Client, queue: str, number: int) -> None:
    """Send two messages."""
    for part in range(2):
        await t.history.send(client, queue, b"%d-%d" % (number, part))


async def cancelled_receive(t: Trial, messages: Messages, limit: int, wait: float | None, at: int) -> None:
    """Receive, and cancel it after so many turns of the loop."""
    receive = asyncio.create_task(messages.receive(limit, timeout=wait))
    await steps(at)
    receive.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await settle(t, await receive)


async def settle(t: Trial, taken: list[Message]) -> None:
    """Note and accept what came."""
    for message in taken:
        await t.history.ack(t.history.took(message, "consumer"))
