"""Flow: what a consumer holds, what a sender waits for, and what both cost in memory are bounded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from anyqueue import BatchFailed, ConnectionLost, Feature, Retry, SendError, SettleError
from anyqueue.testing.acts import holds
from anyqueue.testing.case import case
from anyqueue.testing.children import Script
from anyqueue.testing.residue import snapshot

if TYPE_CHECKING:
    from anyqueue import Client, Message, Messages
    from anyqueue.testing.recorder import Recorder
    from anyqueue.testing.trial import Trial

GROUP: Final = "Flow"
BACKLOG: Final = 100_000
GROWTH: Final = 50 * 1024 * 1024
AT_ONCE: Final = Retry(attempts=1000, initial=0.0, maximum=0.0)


async def fill(history: Recorder, client: Client, queue: str, numbers: range) -> None:
    """Send a message for each number."""
    for number in numbers:
        await history.send(client, queue, b"%d" % number)


async def take(t: Trial, messages: Messages, count: int) -> list[Message]:
    """Receive so many, however they come, and settle none."""
    taken: list[Message] = []
    while len(taken) < count:
        taken += [t.history.took(message, "consumer") for message in await messages.receive(count - len(taken))]
    return taken


@case("Q1", "a consumer never holds more than its prefetch", group=GROUP)
async def q1(t: Trial) -> None:
    """Q1: a consumer never holds more than its prefetch, by the broker's own count after every step."""
    steps = st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["ack", "retry", "reject"])), max_size=6)
    plans = st.fixed_dictionaries({"prefetch": st.integers(1, 12), "count": st.integers(0, 30), "steps": steps})
    async with t.connect() as client:

        async def check(plan: dict[str, Any]) -> None:
            queue, prefetch = t.queue(), plan["prefetch"]
            await fill(t.history, client, queue, range(plan["count"]))

            async def held() -> int:
                unacked = (await t.foreign.count(queue)).unacked
                assert unacked <= prefetch, f"{unacked} are held with prefetch={prefetch}"
                return unacked

            async def all_it_may() -> Any:  # noqa: ANN401 -- what eventually() takes
                return await held() == min(prefetch, await t.total(queue))

            async with client.consumer(queue, prefetch=prefetch, retry=AT_ONCE, dead_letter=None) as messages:
                await t.eventually(all_it_may)
                for count, settlement in plan["steps"]:
                    for message in await messages.receive(count, timeout=0):
                        t.history.took(message, "consumer")
                        await held()
                        await getattr(t.history, settlement)(message)
                        await held()
                await t.eventually(held_or_empty(t, queue))
            t.history.ended("consumer")
            await t.drain(client, queue)

        await t.for_all(plans, check)
    t.history.prove()


def held_or_empty(t: Trial, queue: str) -> Any:  # noqa: ANN401 -- what eventually() takes
    """Return the fact that a consumer has taken something, or that there is nothing to take."""

    async def fact() -> bool:
        count = await t.foreign.count(queue)
        return count.unacked > 0 or not count.total

    return fact


@case("Q2", "a saturated consumer gets no more, and goes on once it settles", group=GROUP)
async def q2(t: Trial) -> None:
    """Q2: a saturated consumer gets no more, and goes on once it settles."""
    queue, prefetch = t.queue(), 8
    async with t.connect() as client:
        await fill(t.history, client, queue, range(3 * prefetch))
        async with client.consumer(queue, prefetch=prefetch) as messages:
            for left in (3, 2, 1):
                taken = await take(t, messages, prefetch)
                await saturated(t, messages, queue, waiting=(left - 1) * prefetch, unacked=prefetch)
                await asyncio.gather(*map(t.history.ack, taken))
            await t.counts(queue, total=0)
            await fill(t.history, client, queue, range(3 * prefetch, 3 * prefetch + 1))
            await asyncio.gather(*map(t.history.ack, await take(t, messages, 1)))
    t.history.prove(ordered=True)


async def saturated(t: Trial, messages: Messages, queue: str, *, waiting: int, unacked: int) -> None:
    """Prove that the consumer holds all it may, and is handed no more."""
    await t.counts(queue, waiting=waiting, unacked=unacked)
    assert await messages.receive(timeout=0) == []


@case("Q2b", "a saturated consumer goes on after a reconnect", group=GROUP, needs=Feature.REDELIVER)
async def q2b(t: Trial) -> None:
    """Q2b: a saturated consumer goes on after a reconnect. What it held comes again, what it had settled does not.

    The connection is lost while the consumer has no call under way, as when another consumer of the same client finds
    it lost. A settlement of what came over it is told to be too late.
    """
    queue, prefetch = t.queue(), 8
    async with t.connect() as client:
        await fill(t.history, client, queue, range(3 * prefetch))
        async with client.consumer(queue, prefetch=prefetch) as messages:
            taken = await take(t, messages, prefetch)
            await asyncio.gather(*map(t.history.ack, taken[:3]))
            held = [*taken[3:], *await take(t, messages, 3)]
            for _ in range(3):
                t.history.ended("consumer")
                await lose_connection(client)
                for message in held:
                    await ack_too_late(t, message)
                held = await take(t, messages, prefetch)
                await t.eventually(holds(t, queue, prefetch))  # the broker has noticed the loss
                await saturated(t, messages, queue, waiting=2 * prefetch - 3, unacked=prefetch)
            await asyncio.gather(*map(t.history.ack, held))
            for count in (prefetch, prefetch - 3):
                await asyncio.gather(*map(t.history.ack, await take(t, messages, count)))
        await t.counts(queue, total=0)
    t.history.prove()


async def lose_connection(client: Client) -> None:
    """Report the consuming connection lost, as whoever finds it lost does; return when it is gone."""
    link = client._consuming  # noqa: SLF001 -- the connection itself is what is attacked
    lost = await link.driver()
    link.lost(lost, ConnectionLost("cut by the case"))
    assert await link.driver() is not lost


async def ack_too_late(t: Trial, message: Message) -> None:
    """Settle what came over a lost connection."""
    try:
        await t.history.ack(message)
    except SettleError:
        return
    raise AssertionError("an ack over a lost connection was told to have worked")


@case("Q4", "a blocked broker: send fails by its deadline, never hangs, never drops", group=GROUP, tier="fault")
async def q4(t: Trial) -> None:
    """Q4: a blocked broker: send fails by its deadline, never hangs, never drops what it confirmed.

    The harness blocks its broker (`Harness.blocked`). On sqlite another process holds the locks of the file for longer
    than the sends may take. Nothing can block memory://, whose broker is a lock in this process: there the driver's
    send does not return, which is all that a client sees of a blocked broker.
    """
    queue = t.queue()
    async with t.connect() as patient, t.connect(send_timeout=0.5) as client:
        await t.history.send(patient, queue, b"before")
        for block in range(2):
            with t.harness.blocked():
                async with asyncio.timeout(60):
                    await refused_by_deadline(t, client, queue, block)
            async with asyncio.timeout(60):
                await sends_again(t, client, queue)
        bodies = {message.body for message in await t.drain(client, queue)}
    assert {b"before", b"after"} <= bodies
    t.history.prove()


async def refused_by_deadline(t: Trial, client: Client, queue: str, block: int) -> None:
    """Send one, many and a batch into a blocked broker: each fails, and says that nobody knows."""
    sends = [t.history.send(client, queue, b"%d-%d" % (block, number), who=f"s{number}") for number in range(200)]
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(outcome, SendError), f"a send into a blocked broker ended with {outcome!r}"
        assert outcome.queue == queue
        assert outcome.hint or not outcome.unknown
    other = t.queue()
    async with client.producer(other) as producer:
        (batch,) = await asyncio.gather(producer.send_many([b"x"] * 50), return_exceptions=True)
    assert isinstance(batch, BatchFailed), f"a batch into a blocked broker ended with {batch!r}"
    assert list(batch.failures) == list(range(50))


async def sends_again(t: Trial, client: Client, queue: str) -> None:
    """Send until it is confirmed: the client finds its way back by itself."""
    while True:
        try:
            await t.history.send(client, queue, b"after")
        except SendError:
            continue
        return


@case(
    "Q5",
    "a backlog of 100,000 with a slow handler grows the consumer's memory by < 50 MiB",
    group=GROUP,
    tier="fault",
    timeout=900.0,  # a broker that stores each message on its own takes its time for so many
)
async def q5(t: Trial) -> None:
    """Q5: a backlog of 100,000 with a slow handler grows the consumer's memory by < 50 MiB.

    Of a consumer in a process of its own: all the memory by which it exceeds one that has a single message to consume.
    Of one in the broker's own process (memory://): what that process grows by once the consumer comes, the backlog
    itself not counted, which the broker holds.
    """
    full, single = t.queue(), t.queue()
    async with t.connect() as client, client.producer(full) as producer:
        await client.send(single, b"x" * 200)
        backlog = min(BACKLOG, t.harness.backlog)
        for start in range(0, backlog, 10_000):
            await producer.send_many([b"x" * 200] * min(10_000, backlog - start))
    base = await peak(t, single, 1)
    grown = await peak(t, full, min(300, backlog // 2)) - base
    assert grown < GROWTH, f"the consumer grew by {grown:,} bytes"


async def peak(t: Trial, queue: str, count: int) -> int:
    """Let a child handle so many messages, slowly; return the most memory that its process had."""
    before = snapshot().children
    reset_peak()
    child = t.child("consumer", Script(role="consumer", queue=queue, pace=0.001, concurrency=4, prefetch=100))
    process = next(iter(snapshot().children - before), os.getpid())
    await t.eventually(lambda: child.count("settle") >= count, timeout=120)
    unacked = (await t.foreign.count(queue)).unacked
    assert unacked <= 100, f"{unacked} are held with prefetch=100"
    most = read_peak(process)
    await child.terminate()
    return most


def reset_peak() -> None:
    """Let the peak of this process begin here."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_peak(process: int) -> int:
    """Return the most memory that a process had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
