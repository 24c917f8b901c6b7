"""Retry: a failed message is tried again as the policy says, where it is, and disturbs nobody."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from anyqueue import ConnectionLost, Feature, QueueFull, Rejected, Retry, RetryLater
from anyqueue.driver import Release
from anyqueue.testing.acts import crash, is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.children import Script
from anyqueue.testing.faults import POINTS, between
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Message
    from anyqueue.testing.trial import Trial

GROUP = "Retry"
ERRORS: dict[str, Exception] = {
    "wanted": ValueError("fails"),
    "unwanted": KeyError("fails"),
    "later": RetryLater(0),
    "rejected": Rejected("bad"),
}


def attempts_of(attempts: int, fails: int, how: str) -> tuple[int, bool]:
    """Say how often the handler is called, and whether the message is dead at the end: the policy as a sentence."""
    if not fails:
        return 1, False
    if how in {"unwanted", "rejected"}:
        return 1, True
    return min(fails + 1, attempts), fails >= attempts


@case("T1", "the attempts are those of the policy", group=GROUP)
async def t1(t: Trial) -> None:
    """T1: the attempts are those of the policy: their number, their count, and what becomes of the message."""
    drawn = st.tuples(st.integers(1, 4), st.integers(0, 5), st.sampled_from(sorted(ERRORS)))
    async with t.connect() as client:

        async def check(example: tuple[int, int, str]) -> None:
            attempts, fails, how = example
            calls, dead = attempts_of(*example)
            queue = t.queue()
            seen: list[int] = []

            async def handle(message: Message) -> None:
                seen.append(message.attempt)
                if len(seen) <= fails:
                    raise ERRORS[how]

            identity = await client.send(queue, b"tried")
            async with running(client, queue, handle, retry=Retry(attempts=attempts, initial=0, on=ValueError)):
                await t.eventually(is_empty(t, queue))
            assert seen == list(range(1, calls + 1))
            buried = await t.drain(client, f"{queue}.dead")
            assert [message.id for message in buried] == ([identity] if dead else [])

        await t.for_all(drawn, check, examples=18)


@case("T2", "between attempts lies the backoff: never less, and little more", group=GROUP)
async def t2(t: Trial) -> None:
    """T2: between attempts lies the backoff: never less, and little more (the grain of delays, and one second)."""
    queue = t.queue()
    retry = Retry(attempts=4, initial=0.08, factor=2, jitter=0.5)
    failed: dict[str, list[float]] = {}
    begun: dict[str, list[float]] = {}

    async def handle(message: Message) -> None:
        begun.setdefault(message.id, []).append(time.time())
        if message.attempt < 4:
            failed.setdefault(message.id, []).append(time.time())
            raise ValueError("fails")

    async with t.connect() as client:
        for number in range(5):
            await client.send(queue, b"message %d" % number)
        watch = Stopwatch()
        async with running(client, queue, handle, retry=retry, concurrency=5):
            await t.eventually(is_empty(t, queue))
    lost = watch.lost
    assert [len(times) for times in begun.values()] == [4] * 5
    grain = t.expected.limits.delay_step
    for identity, times in failed.items():
        for attempt, (end, start) in enumerate(zip(times, begun[identity][1:], strict=True), 1):
            least, most = retry.delay(attempt, chance=1.0), retry.delay(attempt)
            most += grain + 1 + lost
            assert least - 0.001 <= start - end <= most, f"attempt {attempt} after {start - end:.3f} s"


@case("T3", "no schedule leaves its bounds, and none overflows, at attempt 10^6 either", group=GROUP)
async def t3(t: Trial) -> None:
    """T3: no schedule leaves its bounds, and none overflows, at attempt 10^6 either; such a one works."""
    seconds = st.floats(0, 1e9, allow_nan=False)
    policies = st.builds(
        Retry, initial=seconds, maximum=seconds, factor=st.floats(1, 1e308), jitter=st.floats(0, 1, allow_nan=False)
    )
    drawn = st.tuples(policies, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))

    async def check(example: tuple[Retry, int, float]) -> None:
        retry, attempt, chance = example
        exact = math.log(retry.initial or 1) + (attempt - 1) * math.log(retry.factor)
        longest = retry.delay(attempt)
        assert 0 <= longest <= retry.maximum
        assert longest <= retry.delay(attempt + 1)
        assert (1 - retry.jitter) * longest * 0.999999 <= retry.delay(attempt, chance) <= longest
        if retry.initial and exact < math.log(retry.maximum or 1) - 1e-6 and retry.maximum:
            assert math.isclose(longest, math.exp(exact), rel_tol=1e-6)

    await t.for_all(drawn, check, examples=200)
    queue, seen = t.queue(), list[int]()

    async def handle(message: Message) -> None:
        seen.append(message.attempt)
        if len(seen) < 4:
            raise ValueError("fails")

    async with t.connect() as client:
        await client.send(queue, b"steep")
        steep = Retry(attempts=10**6, initial=1e-6, maximum=0.01, factor=1e308)
        async with running(client, queue, handle, retry=steep):
            await t.eventually(is_empty(t, queue))
    assert seen == [1, 2, 3, 4]


@case(
    "T4",
    "delays and backoffs survive a killed broker",
    group=GROUP,
    tier="fault",
    needs=Feature.DELAY | Feature.RELEASE_DELAY | Feature.DURABLE,
)
async def t4(t: Trial) -> None:
    """T4: delays and backoffs survive a killed broker: nothing is lost, and nothing comes before its time."""
    queue, failing, wait = t.queue(), t.queue(), 3.0
    sender = t.child("sender", Script(role="producer", queue=failing, count=5))
    delayer = t.child("delayer", Script(role="producer", queue=queue, count=100_000, delay=wait))
    await sender.wait()
    t.history.merge(sender.journal())
    worker = t.child("worker", Script(role="consumer", queue=failing, handler="fail", initial=wait))
    await t.eventually(lambda: worker.count("settle") >= 5)
    await crash(t, worker, delayer)
    released = {
        record.id: record.at for record in worker.journal() if record.kind == "settle" and record.state == "invoked"
    }
    async with t.connect() as client:
        await t.drain(client, queue)
        again = await t.drain(client, failing)
    assert {message.id for message in again} == set(released)
    assert all(message.attempt == 2 for message in again)
    takes = [record for record in t.history.records if record.kind == "receive" and record.who == "drain"]
    assert all(record.at >= released[record.id] + wait for record in takes if record.id in released)
    t.history.prove()


@case(
    "T5",
    "killed between the copy and the accept: one or two copies, never none",
    group=GROUP,
    tier="fault",
    timeout=120,
)
async def t5(t: Trial) -> None:
    """T5: killed between the copy and the accept: one or two copies, never none.

    Killed at each point of a retry, in its first or second attempt. Where retrying is one step of the broker there is
    no copy, and exactly one comes back. Where the broker does not redeliver, what is killed before its copy is
    confirmed is gone, as declared: there the later points count; a prefetch of 1 keeps the copy out of its own hands.
    """
    points = points_of(t, copies=not {Feature.ATTEMPTS, Feature.RELEASE_DELAY} <= set(t.expected.features))
    async with t.connect() as client:
        for number, point in enumerate(points):
            queue = t.queue()
            identity = await client.send(queue, b"tried again")
            which = t.random.randint(1, 2) if Feature.REDELIVER in t.expected.features else 1
            script = Script(role="consumer", queue=queue, prefetch=1, handler="fail", die_at=f"{point} {which}")
            worker = t.child(f"worker {number}", script)
            await worker.wait()
            t.history.merge(worker.journal())
            found = [message.id for message in await t.drain(client, queue)]
            most = 2 if points[0].endswith("send") and t.has(Feature.REDELIVER) else 1
            assert identity in found, f"killed {point} {which}: lost"
            assert found.count(identity) == len(found) <= most, f"killed {point} {which}: {len(found)} copies"
            await t.counts(f"{queue}.dead", total=0)


def points_of(t: Trial, *, copies: bool) -> Sequence[str]:
    """Return the points where a kill must lose nothing."""
    points = POINTS if copies else POINTS[2:]
    return points if t.has(Feature.REDELIVER) else points[1:]


@case("T6", "a retry keeps id, body and headers, whatever the failed handler changed", group=GROUP)
async def t6(t: Trial) -> None:
    """T6: a retry keeps id, body and headers, whatever the failed handler changed."""
    text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
    names = text.filter(lambda name: not name.lower().startswith("aq-"))
    drawn = st.tuples(st.binary(max_size=200), st.dictionaries(names, text, max_size=4), text)
    queue = t.queue()
    seen: list[tuple[Any, ...]] = []

    async def handle(message: Message) -> None:
        seen.append((message.id, message.body, dict(message.headers), message.correlation_id, message.content_type))
        message.headers.clear()
        message.headers["changed"] = "by the handler"
        if message.attempt < 3:
            raise ValueError("fails")

    async with t.connect() as client, running(client, queue, handle, retry=Retry(initial=0)):

        async def check(example: tuple[bytes, dict[str, str], str]) -> None:
            body, headers, correlation = example
            seen.clear()
            identity = await client.send(queue, body, headers=headers, correlation_id=correlation)
            await t.eventually(is_empty(t, queue))
            assert seen == [(identity, body, headers, correlation, "application/octet-stream")] * 3

        await t.for_all(drawn, check)


@case("T7", "a message in backoff delays no other, and nothing runs hot meanwhile", group=GROUP)
async def t7(t: Trial) -> None:
    """T7: a message in backoff delays no other, and nothing runs hot meanwhile."""
    queue, calls = t.queue(), list[str]()
    handled: list[bytes] = []

    async def count(point: str, batch: Sequence[object]) -> None:
        del batch
        calls.append(point)

    async def handle(message: Message) -> None:
        handled.append(message.body)
        if message.body == b"fails":
            raise ValueError("fails")

    async with t.connect() as sender, between(t.connect(), count) as client:
        await sender.send(queue, b"fails")
        async with running(client, queue, handle, retry=Retry(initial=600, maximum=600, jitter=0)):
            await t.eventually(lambda: handled)
            watch = Stopwatch()
            for number in range(50):
                await sender.send(queue, b"%d" % number)
            await t.eventually(lambda: len(handled) >= 51)
            watch.within(5.0, "fifty messages beside one that waits")
            calls.clear()
            spent = time.process_time()
            await asyncio.sleep(0.5)  # a measured span, not a wait for anything
            assert len(calls) <= 5, f"{len(calls)} calls of the driver in an idle half second"
            assert time.process_time() - spent < 0.25
    assert handled == [b"fails", *(b"%d" % number for number in range(50))]
    await t.counts(queue, total=1)


@case("T8", "if the retry itself fails, the original stays, and is tried again", group=GROUP, tier="fault")
async def t8(t: Trial) -> None:
    """T8: if the retry itself fails, the original stays, and is tried again.

    What fails is the first step of the retry: sending the copy, which the broker refuses; or the release, where the
    connection is lost.
    """
    queue, faults, handled = t.queue(), t.random.randint(1, 3), list[int]()
    left: list[int] = []

    async def fail(point: str, batch: Sequence[Any]) -> None:
        releasing = point == "before settle" and any(isinstance(settlement, Release) for _, settlement in batch)
        if len(left) < faults and (releasing or point == "before send"):
            left.append(await t.total(queue))
            raise ConnectionLost("cut off here") if releasing else QueueFull("full here")

    async def handle(message: Message) -> None:
        handled.append(message.attempt)
        if len(left) < faults:
            raise ValueError("fails")

    async with t.connect() as sender, between(t.connect(), fail) as client:
        await sender.send(queue, b"tried")
        async with running(client, queue, handle, retry=Retry(attempts=100, initial=0)):
            await t.eventually(is_empty(t, queue))
    assert left == [1] * faults
    assert len(handled) >= 2
    await t.counts(f"{queue}.dead", total=0)
