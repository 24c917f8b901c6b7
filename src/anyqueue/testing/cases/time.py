"""Time: never early, never after its end, and the urgent first."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from anyqueue import ConfigError, Feature, Retry, Unsupported
from anyqueue.testing.case import case
from anyqueue.testing.refusal import check_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Client, Messages
    from anyqueue.testing.trial import Trial

GROUP: Final = "Time"
LONG: Final = 3600.0
BAD_SECONDS: Final = (-1, -0.001, -math.inf, math.inf, math.nan)


async def take_all(t: Trial, messages: Messages, count: int) -> list[bytes]:
    """Receive and accept so many; return their bodies."""
    bodies: list[bytes] = []
    while len(bodies) < count:
        for message in await messages.receive(count - len(bodies)):
            bodies.append(t.history.took(message, "consumer").body)
            await t.history.ack(message)
    return bodies


async def send_all(t: Trial, client: Client, queue: str, given: Sequence[dict[str, Any]]) -> None:
    """Send a message for each, its number the body, one after the other."""
    for number, options in enumerate(given):
        await t.history.send(client, queue, b"%d" % number, **options)


@case("E1", "a delayed message is never early, and a time that cannot be is refused", group=GROUP, needs=Feature.DELAY)
async def e1(t: Trial) -> None:
    """E1: a delayed message is never early: 0 is now; past, negative, NaN and infinite times are refused.

    A delay is too far only beyond `limits.max_delay`. A backend without that limit takes the longest there is.
    """
    delays = st.lists(st.sampled_from([0, 0.0, 0.001, 0.01, 0.03]) | st.floats(0, 0.1), min_size=1, max_size=6)
    async with t.connect() as client:
        queue = t.queue()
        async with client.consumer(queue, retry=Retry(attempts=100)) as messages:

            async def check(drawn: list[float]) -> None:
                await send_all(t, client, queue, [{"delay": delay} for delay in drawn])
                (first,) = await messages.receive()
                t.history.took(first, "consumer")
                await t.history.retry(first, delay=drawn[0])
                await take_all(t, messages, len(drawn))

            await t.for_all(delays, check)
        t.history.ended("consumer")
        await refuses_bad_times(t, client, "delay")
        await takes_the_longest(t, client)
    t.history.prove()


async def refuses_bad_times(t: Trial, client: Client, name: str) -> None:
    """Prove that seconds which cannot be are refused, and that nothing is sent."""
    queue = t.queue()
    for seconds in BAD_SECONDS:
        options: dict[str, Any] = {name: seconds}
        (outcome,) = await asyncio.gather(client.send(queue, b"never", **options), return_exceptions=True)
        assert isinstance(outcome, ConfigError), f"{name}={seconds} ended with {outcome!r}"
        assert name in str(outcome)
    await t.counts(queue, total=0)


async def takes_the_longest(t: Trial, client: Client) -> None:
    """Prove that the longest delay keeps its message back, and stops no other."""
    queue, most = t.queue(), t.expected.limits.max_delay
    longest = sys.float_info.max if most is None else most
    await client.send(queue, b"in the end", delay=longest)
    async with client.consumer(queue) as messages:
        await client.send(queue, b"now")
        assert [message.body for message in await messages.receive()] == [b"now"]
        await t.counts(queue, waiting=1, unacked=1)
    if most is not None:
        (outcome,) = await asyncio.gather(client.send(queue, b"never", delay=most + 1), return_exceptions=True)
        assert isinstance(outcome, ConfigError), f"a delay beyond max_delay ended with {outcome!r}"


@case("E2", "delays are independent: a short one is not stuck behind a long one", group=GROUP, needs=Feature.DELAY)
async def e2(t: Trial) -> None:
    """E2: delays are independent: a short one is not stuck behind a long one, and brings no long one along."""
    delays = st.lists(st.sampled_from([0.0, 0.005, 0.02, 0.05, LONG, 10 * LONG]), min_size=1, max_size=12)
    async with t.connect() as client:

        async def check(drawn: list[float]) -> None:
            queue = t.queue()
            await client.send(queue, b"the longest", delay=LONG)
            short = {b"%d" % number for number, delay in enumerate(drawn) if delay < LONG}
            async with client.consumer(queue) as messages:
                for number, delay in enumerate(drawn):
                    await client.send(queue, b"%d" % number, delay=delay)
                taken = await take_all_unrecorded(messages, len(short))
                assert set(taken) == short
            await t.counts(queue, waiting=1 + len(drawn) - len(short), unacked=0)

        await t.for_all(delays, check, examples=15)


async def take_all_unrecorded(messages: Messages, count: int) -> list[bytes]:
    """Receive and accept so many."""
    bodies: list[bytes] = []
    while len(bodies) < count:
        for message in await messages.receive(count - len(bodies)):
            bodies.append(message.body)
            await message.ack()
    return bodies


@case("E3", "an expired message is never delivered, also behind an unexpired one", group=GROUP)
async def e3(t: Trial) -> None:
    """E3: an expired message is never delivered, also behind an unexpired one, nor once it was fetched ahead."""
    lives = st.lists(st.sampled_from([None, 0.0, 0.02, 0.05, LONG]), min_size=1, max_size=12)
    plans = st.tuples(lives, st.booleans())
    async with t.connect() as client:

        async def check(plan: tuple[list[float | None], bool]) -> None:
            drawn, ahead = plan
            queue = t.queue()
            kept = [b"%d" % number for number, life in enumerate(drawn) if life is None or life >= LONG]
            if ahead:
                async with client.consumer(queue, dead_letter=None, prefetch=50) as messages:
                    await send_all(t, client, queue, [{"expires": life} for life in drawn])
                    await outlived(t)
                    assert await sentinel(t, client, messages, queue, len(kept) + 1) == [*kept, b"end"]
            else:
                await send_all(t, client, queue, [{"expires": life} for life in drawn])
                await outlived(t)
                async with client.consumer(queue, dead_letter=None) as messages:
                    assert await sentinel(t, client, messages, queue, len(kept) + 1) == [*kept, b"end"]
            t.history.ended("consumer")
            await t.counts(queue, total=0)

        await t.for_all(plans, check, examples=15)
        await refuses_bad_times(t, client, "expires")
    t.history.prove()


async def outlived(t: Trial) -> None:
    """Wait until the clock is past the short lives."""
    end = time.time() + 0.06
    await t.eventually(lambda: time.time() > end)


async def sentinel(t: Trial, client: Client, messages: Messages, queue: str, count: int) -> list[bytes]:
    """Send one more, and take so many: it is the last of them."""
    await t.history.send(client, queue, b"end")
    return await take_all(t, messages, count)


@case("E5", "the urgent first, FIFO inside a level, 9 the most urgent", group=GROUP, needs=Feature.PRIORITY)
async def e5(t: Trial) -> None:
    """E5: the urgent first, FIFO inside a level, 9 the most urgent, on all backends.

    A broker with fewer levels than ten says so in its limits; neighbours are then one. Messages without a priority have
    a level of the backend's choice, so only their order among themselves is law.
    """
    count = t.expected.limits.priorities
    levels = st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=20)
    async with t.connect() as client:

        async def check(drawn: list[int | None]) -> None:
            queue = t.queue()
            await send_all(t, client, queue, [{"priority": level} for level in drawn])
            async with client.consumer(queue, prefetch=1) as messages:
                taken = [int(body) for body in await take_all(t, messages, len(drawn))]
                given = [number for number in taken if drawn[number] is not None]
                assert given == sorted(given, key=lambda number: (-((drawn[number] or 0) * count // 10), number))
                plain = [number for number in taken if drawn[number] is None]
                assert plain == sorted(plain)

        await t.for_all(levels, check)
        await overtakes(t, client)
    t.history.prove(ordered=True)


async def overtakes(t: Trial, client: Client) -> None:
    """Prove that what is sent later and is more urgent comes before what waits."""
    queue = t.queue()
    async with client.consumer(queue, prefetch=1) as messages:
        await send_all(t, client, queue, [{"priority": level} for level in (0, 1, 5)])
        (held,) = await messages.receive()
        t.history.took(held, "consumer")
        await t.history.send(client, queue, b"urgent", priority=9)
        await t.history.ack(held)
        assert (await take_all(t, messages, 3)) == [b"urgent", b"2", b"1"]


@case("E6", "a time or a priority is honoured or refused, never ignored", group=GROUP)
async def e6(t: Trial) -> None:
    """E6: a time or a priority is honoured or refused, never ignored: what is refused leaves nothing behind."""
    wishes = st.fixed_dictionaries(
        {},
        optional={
            "delay": st.sampled_from([0, 0.01, LONG]),
            "expires": st.sampled_from([0, LONG]),
            "priority": st.integers(0, 9),
        },
    )
    asks = {"delay": Feature.DELAY, "expires": Feature.EXPIRY, "priority": Feature.PRIORITY}
    async with t.connect() as client:

        async def check(wish: dict[str, Any]) -> None:
            queue = t.queue()
            wanted = {asks[name] for name, value in wish.items() if name != "delay" or value}
            refused = [feature for feature in wanted if not t.has(feature)]
            (outcome,) = await asyncio.gather(client.send(queue, b"x", **wish), return_exceptions=True)
            if refused:
                assert isinstance(outcome, Unsupported), f"{wish} ended with {outcome!r}"
                assert outcome.feature in refused
                check_refusal(outcome, Feature(outcome.feature))
                await t.counts(queue, total=0)
                return
            assert isinstance(outcome, str), f"{wish} ended with {outcome!r}"
            await honoured(client, queue, wish)

        await t.for_all(wishes, check, examples=40)


async def honoured(client: Client, queue: str, wish: dict[str, Any]) -> None:
    """Prove that the message comes if it is due and not over, and not if not."""
    async with client.consumer(queue, dead_letter=None) as messages:
        await client.send(queue, b"end", **{name: wish[name] for name in wish.keys() & {"priority"}})
        comes = wish.get("delay") != LONG and wish.get("expires") != 0
        taken: dict[bytes, int | None] = {}
        while len(taken) < 1 + comes:
            for message in await messages.receive():
                taken[message.body] = message.priority
                await message.ack()
    assert taken == dict.fromkeys([b"x", b"end"] if comes else [b"end"], wish.get("priority"))
