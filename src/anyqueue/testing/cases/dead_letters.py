"""Dead letters: what was given up is kept once, says why, and can be sent back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from anyqueue import Feature, Rejected, Retry, Undecodable
from anyqueue.testing.acts import bury, is_empty, running, sendings
from anyqueue.testing.case import case
from anyqueue.testing.cases.retry import points_of
from anyqueue.testing.children import Script

if TYPE_CHECKING:
    from anyqueue import Message
    from anyqueue.testing.trial import Trial

GROUP = "Dead letters"
MAX_RECORD = 8192
"""Bytes of all failure headers together."""


@case("D1", "what fails for good is in the dead letters exactly once, and no more in the queue", group=GROUP)
async def d1(t: Trial) -> None:
    """D1: what fails for good is in the dead letters exactly once, and no more in the queue.

    Of 60 messages every third fails; some by an exception, some by Rejected, some by reject(), some by being settled
    with an error by hand.
    """
    queue = t.queue()
    dead = f"{queue}.dead"

    async def handle(message: Message) -> None:
        t.history.took(message, "worker")
        number = int(message.body.removeprefix(b"message "))
        if number % 3:
            await t.history.ack(message)
            return
        if number % 4 == 0:
            await t.history.reject(message)
            return
        async with t.history.settling(message, "reject" if message.attempt == 2 or number % 4 == 1 else "release"):
            await message.settle_with(Rejected("bad") if number % 4 == 1 else ValueError("bad"))

    async with t.connect() as client:
        sent = await sendings(t, client, queue, 60)
        async with running(client, queue, handle, retry=Retry(attempts=2, initial=0), concurrency=4):
            await t.eventually(is_empty(t, queue))
        await t.counts(dead, total=20)
        buried = await t.drain(client, dead)
    assert sorted(message.id for message in buried) == sorted(sent[::3])
    t.history.prove(dead=[dead])


class Unprintable(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("not this one either")


def deep(levels: int, error: Exception) -> None:
    """Raise from so many calls below, so that the traceback is long."""
    if levels:
        deep(levels - 1, error)
    raise error


@case("D2", "the record of a dead letter is complete, and always fits", group=GROUP)
async def d2(t: Trial) -> None:
    """D2: the record of a dead letter is complete, and always fits: whatever the exception, however full the headers.

    The headers of the message may be at their own limit; the body may be at its limit in the last example.
    """
    anything = st.text(st.characters(), max_size=5)  # lone surrogates too: no backend can store them as they are
    texts = st.builds(lambda text, times: text * times, anything, st.sampled_from([1, 1000]))
    errors = st.one_of(texts.map(ValueError), texts.map(Rejected), st.builds(Unprintable), st.builds(KeyError, texts))
    drawn = st.tuples(errors, st.integers(0, 60), st.sampled_from([0, 10, 60_000]), st.integers(1, 2))
    async with t.connect() as client:

        async def check(example: tuple[Exception, int, int, int], size: int = 10) -> None:
            error, levels, filling, attempts = example
            queue = t.queue()

            async def fail(message: Message) -> None:
                del message
                deep(levels, error)

            headers = {"filling": "x" * filling}
            identity = await client.send(queue, b"b" * size, headers=headers)
            async with running(client, queue, fail, retry=Retry(attempts=attempts, initial=0)):
                await t.eventually(is_empty(t, queue))
            (message,) = await t.drain(client, f"{queue}.dead")
            assert (message.id, message.body, message.headers) == (identity, b"b" * size, headers)
            tried = 1 if isinstance(error, Rejected) else attempts
            check_record(message, queue, error, tried)

        await t.for_all(drawn, check, examples=15)
        biggest = t.expected.limits.max_body
        await check((ValueError("x" * 5000), 60, 60_000, 2), size=biggest)


def check_record(message: Message, queue: str, error: Exception, attempts: int) -> None:
    """Prove that a record says everything, in less than MAX_RECORD bytes."""
    death = message.death
    assert death is not None
    assert (death.origin, death.attempts) == (queue, attempts)
    assert death.reason
    assert death.first_failure is not None
    assert death.last_failure is not None
    assert message.timestamp is not None
    assert message.timestamp - 0.001 <= death.first_failure <= death.last_failure
    assert attempts == 1 or death.first_failure < death.last_failure
    assert death.exception is not None
    assert death.exception.startswith(type(error).__name__)
    assert "deep" in (death.traceback or "")
    record = {name: text for name, text in message.envelope.headers.items() if name not in message.headers}
    size = sum(len(name.encode()) + len(text.encode()) for name, text in record.items())
    assert size <= MAX_RECORD, f"the record has {size} bytes: { ({name: len(text) for name, text in record.items()}) }"


@case("D3", "what cannot be decoded is dead-lettered with its raw bytes, and the next is handled", group=GROUP)
async def d3(t: Trial) -> None:
    """D3: what cannot be decoded is dead-lettered with its raw bytes at once, and the next is handled."""
    junk = st.one_of(st.binary(min_size=1, max_size=60), st.just(b'{"a": "text"}'), st.just(b"[" * 40), st.just(b""))
    bodies = junk.filter(lambda body: not fits(body))
    queue = t.queue()
    handled: list[Any] = []

    async def handle(message: Message) -> None:
        handled.append(message.payload)

    async with (
        t.connect() as client,
        running(client, queue, handle, type=dict[str, int]),
    ):

        async def check(body: bytes) -> None:
            handled.clear()
            identity = await client.send(queue, body, content_type="application/json")
            await client.send(queue, {"a": 1})
            await t.eventually(is_empty(t, queue))
            assert handled == [{"a": 1}]
            (message,) = await t.drain(client, f"{queue}.dead")
            assert (message.id, message.body, message.content_type) == (identity, body, "application/json")
            assert message.death is not None
            assert message.death.attempts == 1
            assert "undecodable" in message.death.reason

        await t.for_all(bodies, check, examples=15)


def fits(body: bytes) -> bool:
    """Say whether a body is what D3 asks for."""
    from anyqueue import codecs  # noqa: PLC0415 -- the decoder itself draws the line between junk and not

    try:
        codecs.decode(body, "application/json", dict[str, int])
    except Undecodable:
        return False
    return True


@case(
    "D4", "killed between storing the dead letter and the ack: one or two of it, never none", group=GROUP, tier="fault"
)
async def d4(t: Trial) -> None:
    """D4: killed between storing the dead letter and the ack: one or two of it, never none.

    Where dead-lettering is one step of the broker, exactly one is left, in one place or the other. What a broker
    without redelivery had handed over and got no copy of is gone, as declared; the later points count there.
    """
    copies = Feature.DEAD_LETTER not in t.expected.features
    points = points_of(t, copies=copies)
    async with t.connect() as client:
        for number, point in enumerate(points):
            queue = t.queue()
            identity = await client.send(queue, b"given up")
            script = Script(role="consumer", queue=queue, prefetch=1, handler="fail", attempts=1, die_at=f"{point} 1")
            worker = t.child(f"worker {number}", script)
            await worker.wait()
            dead = [message.id for message in await t.drain(client, f"{queue}.dead")]
            alive = [message.id for message in await t.drain(client, queue)]
            assert set(dead + alive) == {identity}, f"killed {point}: {dead} dead, {alive} alive"
            assert len(dead) <= 1
            assert len(alive) <= 1
            assert len(dead + alive) <= (2 if copies and t.has(Feature.REDELIVER) else 1)
            assert dead or point.startswith("before"), f"killed {point}: no dead letter"


@case("D8", "looking at dead letters changes nothing", group=GROUP, needs=Feature.INSPECT)
async def d8(t: Trial) -> None:
    """D8: looking at dead letters changes nothing: not their number, order, attempts or record."""
    queue = t.queue()
    dead = f"{queue}.dead"
    async with t.connect() as client:
        sent = await bury(t, client, queue, 7, headers={"kept": "yes"})
        before = await client.depth(dead)
        looks = [await client.browse(dead) for _ in range(3)]
        few = await client.browse(dead, limit=3)
        assert await client.depth(dead) == before
        assert before.ready == 7
        assert [[message.id for message in look] for look in looks] == [sent] * 3
        assert [message.id for message in few] == sent[:3]
        drained = await t.drain(client, dead)
    for seen, message in zip(looks[0], drained, strict=True):
        assert (seen.id, seen.body, seen.headers) == (message.id, message.body, {"kept": "yes"})
        assert seen.death == message.death
        assert (message.attempt, message.redelivered) == (1, False)
