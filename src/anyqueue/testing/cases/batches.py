"""Batches: many at once are what one by one would have been."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from anyqueue import BatchFailed, ConnectionLost, SendError, TooLarge
from anyqueue.testing.case import case

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue import Client, Message
    from anyqueue.driver import Address, Driver, Envelope
    from anyqueue.testing.trial import Trial

GROUP: Final = "Batches"
MANY: Final = 2500
"""More than two batches of a driver."""


async def take_all(t: Trial, client: Client, queue: str) -> list[Message]:
    """Take what the broker counts in a queue, and prove that it was no more."""
    count = await t.total(queue)
    taken: list[Message] = []
    async with client.consumer(queue, prefetch=1000) as messages:
        while len(taken) < count:
            for message in await messages.receive(1000):
                taken.append(message)
                await message.ack()
    await t.counts(queue, total=0)
    assert len(taken) == count
    return taken


def look(message: Message) -> tuple[object, ...]:
    """What a receiver sees, but for id and time."""
    seen = (message.body, message.headers, message.content_type, message.correlation_id, message.reply_to)
    return (*seen, message.payload, message.attempt)


@case("B1", "a batch equals its singles", group=GROUP)
async def b1(t: Trial) -> None:
    """B1: a batch equals its singles, whatever the payloads, in order; chunked where one call does not take it."""
    text = st.text(st.characters(codec="utf-8"), max_size=20)
    json = st.dictionaries(text, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text, max_size=4)
    payloads = st.lists(st.binary(max_size=50) | text | json, max_size=30)
    given = st.fixed_dictionaries({}, optional={"headers": st.just({"Tenant": "eu"}), "reply_to": st.just("answers")})
    async with t.connect() as client:

        async def check(drawn: tuple[list[Any], dict[str, Any]]) -> None:
            values, options = drawn
            together, alone = t.queue(), t.queue()
            async with client.producer(together) as producer:
                ids = await producer.send_many(iter(values), **options)
            singles = [await client.send(alone, value, **options) for value in values]
            batch, separate = await take_all(t, client, together), await take_all(t, client, alone)
            assert [look(message) for message in batch] == [look(message) for message in separate]
            assert [message.id for message in batch] == ids
            assert len({*ids, *singles}) == 2 * len(values)

        await t.for_all(st.tuples(payloads, given), check)
        await chunked(t, client)
        await checked_before(t, client)


async def chunked(t: Trial, client: Client) -> None:
    """Send more than one call of the driver takes, at once and as concurrent singles."""
    together, alone = t.queue(), t.queue()
    bodies = [b"%d" % number for number in range(min(MANY, t.harness.backlog))]
    assert len(bodies) > client.limits.max_batch
    async with client.producer(together) as producer:
        ids = await producer.send_many(bodies)
    async with client.producer(alone) as producer:
        singles = await asyncio.gather(*map(producer.send, bodies))
    for queue, sent in ((together, ids), (alone, singles)):
        taken = await take_all(t, client, queue)
        assert [message.body for message in taken] == bodies
        assert [message.id for message in taken] == list(sent)


async def checked_before(t: Trial, client: Client) -> None:
    """Prove that one payload which cannot be sent stops the batch before any of it leaves."""
    queue = t.queue()
    bad: dict[type[Exception], object] = {
        TypeError: object(),
        ValueError: float("nan"),
        TooLarge: bytes(client.limits.max_body + 1),
    }
    async with client.producer(queue) as producer:
        for kind, payload in bad.items():
            batch = [b"first", payload, b"last"]
            (outcome,) = await asyncio.gather(producer.send_many(batch), return_exceptions=True)
            assert isinstance(outcome, kind), f"a batch with {kind.__name__} in it ended with {outcome!r}"
        assert await producer.send_many([]) == []
    await t.counts(queue, total=0)


@case("B2", "a partial failure is told for each message", group=GROUP)
async def b2(t: Trial) -> None:
    """B2: a partial failure is told for each message: what is not named was confirmed, and is there.

    Brokers refuse single messages of a batch for reasons of their own; here it is the driver's send() that refuses
    some, in batches of at most 7, and passes the others on.
    """
    plans = st.tuples(st.integers(1, 40), st.sets(st.integers(0, 39)))
    refused: set[bytes] = set()
    client = refusing(t.connect(), lambda body: body in refused)
    async with client:

        async def check(plan: tuple[int, set[int]]) -> None:
            count, positions = plan[0], {position for position in plan[1] if position < plan[0]}
            bodies = [b"%d" % number for number in range(count)]
            refused.clear()
            refused.update(bodies[position] for position in positions)
            together, alone = t.queue(), t.queue()
            async with client.producer(together) as producer:
                (outcome,) = await asyncio.gather(producer.send_many(bodies), return_exceptions=True)
            async with client.producer(alone) as producer:
                singles = await asyncio.gather(*map(producer.send, bodies), return_exceptions=True)
            told = outcome.failures if isinstance(outcome, BatchFailed) else {}
            if count == 1:
                told = {0: outcome} if isinstance(outcome, SendError) else {}
            assert set(told) == positions, f"{outcome!r} names {sorted(told)}, refused were {sorted(positions)}"
            assert all("this one not" in str(error) for error in told.values())
            assert {n for n, single in enumerate(singles) if isinstance(single, SendError)} == positions
            assert {n for n, single in enumerate(singles) if isinstance(single, str)} == {*range(count)} - positions
            expected = [body for body in bodies if body not in refused]
            for queue in (together, alone):
                assert [message.body for message in await take_all(t, client, queue)] == expected

        await t.for_all(plans, check)


def refusing(client: Client, refuses: Callable[[bytes], bool]) -> Client:
    """Let the drivers of a client that is not open yet refuse some bodies, and take 7 messages at once."""
    kind: Any = client._class  # noqa: SLF001 -- nowhere else is between a client and its driver

    async def open_small(self: Driver) -> None:
        await kind.open(self)
        self.limits = type(self.limits)(**{**_fields(self.limits), "max_batch": 7})

    async def send(self: Driver, address: Address, batch: Sequence[Envelope]) -> None:
        assert 1 <= len(batch) <= 7
        bad = [position for position, envelope in enumerate(batch) if refuses(envelope.body)]
        good = [envelope for envelope in batch if not refuses(envelope.body)]
        if good:
            await kind.send(self, address, good)
        if bad:
            raise BatchFailed("some not", failures={position: SendError("this one not") for position in bad})

    client._class = type(kind.__name__, (kind,), {"open": open_small, "send": send})  # noqa: SLF001 -- as above
    return client


def _fields(limits: Any) -> dict[str, Any]:  # noqa: ANN401 -- a Struct
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


@case("B2b", "a batch whose connection is lost is sent again, and nothing of it is lost", group=GROUP)
async def b2b(t: Trial) -> None:
    """B2b: a batch whose connection is lost is sent again with the same ids, and nothing of it is lost."""
    queue, bodies = t.queue(), [b"%d" % number for number in range(100)]
    client = t.connect()
    cuts = iter(t.random.choice(("before", "after")) for _ in range(4))
    losing(client, lambda: next(cuts, None))
    async with client, client.producer(queue) as producer:
        ids = await producer.send_many(bodies)
        taken = await take_all(t, client, queue)
    assert {message.id for message in taken} == set(ids), "something confirmed is lost, or an id is new"
    firsts = {message.id: message.body for message in reversed(taken)}
    assert [firsts[identity] for identity in ids] == bodies
    assert next(cuts, None) is None, "the connection was not lost as often as it was to be"


def losing(client: Client, cut: Callable[[], str | None]) -> None:
    """Let a client that is not open yet lose its connection before or after a send took effect."""
    kind: Any = client._class  # noqa: SLF001 -- nowhere else is between a client and its driver

    async def send(self: Driver, address: Address, batch: Sequence[Envelope]) -> None:
        when = cut()
        if when != "before":
            await kind.send(self, address, batch)
        if when is not None:
            raise ConnectionLost(f"cut {when}")

    client._class = type(kind.__name__, (kind,), {"send": send})  # noqa: SLF001 -- as above


@case("B3", "a batch is received full, partial at the deadline, and with late arrivals", group=GROUP)
async def b3(t: Trial) -> None:
    """B3: a batch is received full as soon as it is, partial at the deadline, and with what arrives meanwhile."""
    numbers = st.integers(1, 30)
    plans = st.fixed_dictionaries({"there": st.integers(0, 20), "limit": numbers, "prefetch": numbers})
    async with t.connect() as client:

        async def check(plan: dict[str, int]) -> None:
            queue, there = t.queue(), plan["there"]
            most = min(plan["limit"], plan["prefetch"])
            async with client.consumer(queue, prefetch=plan["prefetch"]) as messages:
                await client.producer(queue).send_many([b"%d" % number for number in range(there)])
                begun = time.monotonic()
                got = await messages.receive(plan["limit"], timeout=30 if there >= most else 0.05)
                waited = time.monotonic() - begun
                assert len(got) == most if there >= most else waited >= 0.05
                await asyncio.gather(*(message.ack() for message in got))
                late = [asyncio.create_task(messages.receive(most, timeout=30))]
                await asyncio.sleep(0)
                missing = most - (there - len(got))
                for number in range(max(missing, 0)):
                    await client.send(queue, b"%d" % (there + number))
                got += await late[0]
                await asyncio.gather(*(message.ack() for message in got if not message.settled))
                assert len(got) >= most, "a full batch did not come though it was there"
                assert [int(message.body) for message in got] == list(range(len(got)))
                if there >= 2 * most:
                    assert len(got) == 2 * most

        await t.for_all(plans, check)
        await at_once(t, client)


async def at_once(t: Trial, client: Client) -> None:
    """Prove what the timeouts None and 0 mean: wait for the first alone, and for nothing."""
    queue = t.queue()
    async with client.consumer(queue, prefetch=20) as messages:
        assert await messages.receive(5, timeout=0) == []
        waiting = asyncio.create_task(messages.receive(5))
        await client.send(queue, b"0")
        assert [message.body for message in await waiting] == [b"0"]
        await client.producer(queue).send_many([b"1", b"2", b"3"])
        got = [message.body for message in await messages.receive(2, timeout=60)]
        assert got == [b"1", b"2"]
        got = [message.body for message in await messages.receive(2, timeout=0.02)]
        assert got == [b"3"]
