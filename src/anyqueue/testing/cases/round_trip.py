"""Round trip: what was sent is what is received."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

import anyqueue
from anyqueue import TooLarge
from anyqueue.testing.case import case
from anyqueue.testing.cases.headers import HEADERS, UNICODE
from anyqueue.testing.raising import raises
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from anyqueue import Client, Message, Messages
    from anyqueue.testing.trial import Trial

GROUP: Final = "Round trip"
JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(UNICODE, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(UNICODE, max_size=10), inner, max_size=4),
    max_leaves=15,
)
PAYLOADS: Final = st.binary(max_size=200) | st.text(UNICODE, max_size=50) | JSON
BOUNDARIES: Final = (0, 1, 125, 126, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 131071, 131072, 131073, 1 << 20)


@case("R1", "any bytes come back as they were", group=GROUP)
async def r1(t: Trial) -> None:
    """R1: any bytes come back as they were."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:

        async def check(body: bytes) -> None:
            await t.history.send(client, queue, body)
            (message,) = await messages.receive()
            assert message.body == body
            t.history.took(message, "consumer")
            await t.history.ack(message)

        await t.for_all(st.binary(max_size=5000), check)
    t.history.prove(ordered=True)


@case("R5", "metadata is kept, and absent stays None", group=GROUP)
async def r5(t: Trial) -> None:
    """R5: metadata is kept, and absent stays None."""
    text = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", codec="utf-8"), min_size=1, max_size=200)
    metadata = st.fixed_dictionaries(
        {},
        optional={
            "content_type": st.sampled_from(["application/octet-stream", "image/png", "text/plain; charset=utf-8"]),
            "correlation_id": text,
            "reply_to": text,
        },
    )
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:

        async def check(given: dict[str, Any]) -> None:
            before = time.time()
            identity = await client.send(queue, b"body", **given)
            (message,) = await messages.receive()
            await message.ack()
            assert message.id == identity
            assert message.content_type == given.get("content_type", "application/octet-stream")
            assert message.correlation_id == given.get("correlation_id")
            assert message.reply_to == given.get("reply_to")
            assert (message.priority, message.expires_at, message.headers) == (None, None, {})
            assert message.timestamp is not None
            assert before - 0.001 <= message.timestamp <= time.time() + 0.001
            assert (message.attempt, message.redelivered, message.death) == (1, False, None)
            assert message.queue == queue

        await t.for_all(metadata, check)


@case("R2", "every size up to the limit; one byte over is refused before I/O, and the connection lives", group=GROUP)
async def r2(t: Trial) -> None:
    """R2: every size up to the limit; one byte over is refused before I/O, and the connection lives."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue) as messages:
        most = client.limits.max_body
        assert most == t.expected.limits.max_body

        async def check(size: int) -> None:
            body = secrets.token_bytes(min(size, 64)).ljust(size, b"~")
            await t.history.send(client, queue, body)
            (message,) = await messages.receive()
            assert len(message.body) == size
            t.history.took(message, "consumer")
            await t.history.ack(message)

        for size in (*BOUNDARIES, most - 1, most):
            if size <= most:
                await check(size)
        await t.for_all(st.integers(0, min(most, 300_000)), check, examples=10)
        for over in (most + 1, most + 4096):
            with raises(TooLarge, f"{over} bytes where {most} is the limit") as caught:
                await client.send(queue, bytes(over))
            assert f"{most:,}" in str(caught)
        await t.counts(queue, total=0)
        await check(1)
    t.history.prove(ordered=True)


@case("R7", "receive waits as long as it is told: 0, some seconds, for ever", group=GROUP)
async def r7(t: Trial) -> None:
    """R7: receive waits as long as it is told: 0, some seconds, for ever."""
    queue = t.queue()
    async with t.connect() as client, client.consumer(queue, prefetch=10) as messages:
        assert await timed(messages, 0, at_most=0.25) == []
        assert await timed(messages, 0.3, at_least=0.3, at_most=1.0) == []
        for number in range(3):
            await client.send(queue, f"message {number}")
        taken: list[Message] = []

        async def here() -> int:
            taken.extend(await messages.receive(1, timeout=0))
            return len(taken)

        await t.eventually(here)
        taken += await timed(messages, 20.0, limit=3 - len(taken), at_most=4.0)
        assert [message.payload for message in taken] == ["message 0", "message 1", "message 2"]
        assert await timed(messages, 0.2, limit=5, at_least=0.2, at_most=1.0) == []
        await client.send(queue, "alone")
        (late,) = await timed(messages, None, limit=5, at_most=4.0)
        for message in (*taken, late):
            await message.ack()


async def timed(
    messages: Messages,
    timeout: float | None,  # noqa: ASYNC109 -- it is what the case is about
    *,
    limit: int = 1,
    at_least: float = 0.0,
    at_most: float,
) -> list[Message]:
    """Receive, and prove how long it took."""
    watch = Stopwatch()
    batch = await messages.receive(limit, timeout=timeout)
    watch.within(at_most, call := f"receive({limit}, timeout={timeout})")
    assert watch.took >= at_least - 0.01, f"{call} took {watch.took:.3f} s"
    return batch


NAMES: Final = st.lists(
    st.sampled_from(
        ["a", "A", "%61", "a%", "a%25", "a/b", "a.b", "a b", "a+b", "a_b", "a-b", "\u00e9", "e\u0301", "*", "#"]
    )
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    min_size=2,
    max_size=5,
    unique=True,
)


@case("R8", "names never cross: two different names are two queues", group=GROUP)
async def r8(t: Trial) -> None:
    """R8: names never cross: two different names are two queues."""
    async with t.connect() as client:

        async def check(endings: list[str]) -> None:
            prefix = t.queue()
            for ending in endings:
                await client.send(prefix + ending, ending)
            for ending in endings:
                await t.counts(prefix + ending, total=1)
            for ending in reversed(endings):
                async with client.consumer(prefix + ending) as messages:
                    (message,) = await messages.receive()
                    assert (message.payload, message.queue) == (ending, prefix + ending)
                    await message.ack()
            for ending in endings:
                await t.counts(prefix + ending, total=0)

        await t.for_all(NAMES, check, examples=15)


@case("R9", "the same message reads equal through every backend", group=GROUP)
async def r9(t: Trial) -> None:
    """R9: the same message reads equal through every backend."""
    queue = t.queue()
    given = st.fixed_dictionaries(
        {}, optional={"headers": HEADERS, "correlation_id": st.just("c-1"), "content_type": st.just("text/x-own")}
    )
    reference = anyqueue.connect(f"memory://{secrets.token_hex(8)}")
    async with reference, t.connect() as client:

        async def check(example: tuple[object, dict[str, Any]]) -> None:
            payload, keywords = example
            identity = secrets.token_hex(8)
            here = await echo(client, queue, payload, {**keywords, "id": identity})
            there = await echo(reference, queue, payload, {**keywords, "id": identity})
            assert here == there
            if "content_type" not in keywords:
                assert here["payload"] == payload
                assert type(here["payload"]) is type(payload)

        await t.for_all(st.tuples(PAYLOADS, given), check)


FIELDS: Final = (
    "id",
    "body",
    "headers",
    "payload",
    "content_type",
    "correlation_id",
    "reply_to",
    "priority",
    "expires_at",
    "attempt",
    "redelivered",
    "death",
    "queue",
)


async def echo(client: Client, queue: str, payload: object, keywords: dict[str, Any]) -> dict[str, object]:
    """Send, receive, and return everything a user can see of the message."""
    await client.send(queue, payload, **keywords)
    async with client.consumer(queue) as messages:
        (message,) = await messages.receive()
        seen = {name: getattr(message, name) for name in FIELDS}
        await message.ack()
    return seen
