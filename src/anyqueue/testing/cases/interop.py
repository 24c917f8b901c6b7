"""Interop: other programs use the same queues. They know nothing of anyqueue, and do as they please."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from anyqueue import Error, Feature, QueueMismatch, QueueNotFound, SendError
from anyqueue.driver import Envelope
from anyqueue.packing import VERSION, unpack
from anyqueue.testing.acts import is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises

if TYPE_CHECKING:
    from anyqueue import Client, Message
    from anyqueue.testing.harness import Program
    from anyqueue.testing.trial import Trial

GROUP: Final = "Interop"
DEAF: Final = 30.0
"""Seconds without a message after which a consumer that should be consuming is deaf."""
NAMES: Final = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(
    lambda name: not name.lower().startswith("aq-")
)
VALUES: Final = st.text(st.characters(min_codepoint=32, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), max_size=30)
HEADERS: Final = st.dictionaries(NAMES, VALUES, max_size=3)


def programs(t: Trial) -> list[Program]:
    """Return the witness and the programs that others wrote."""
    return [t.foreign, *t.harness.foreign_programs]


@case("I1", "what another program sends: the same body, its headers, and an id that stays", group=GROUP)
async def i1(t: Trial) -> None:
    """I1: what another program sends: the same body, its headers, and an id that stays.

    It has no id of its own, so one is made up; it must be the same when the message comes again, to another consumer.
    Catches a body that is decoded on the way, and an id that is drawn anew at each delivery.
    """
    async with t.connect() as client:
        for program in programs(t):
            carried = HEADERS if program.carries_headers else st.just({})

            async def check(sent: tuple[bytes, dict[str, str]], program: Program = program) -> None:
                queue = t.queue()
                body, headers = sent
                await program.put(queue, body, headers)
                seen = [await looked_at(client, queue), await looked_at(client, queue)]
                async with client.consumer(queue) as messages:
                    (message,) = await messages.receive()
                    await message.ack()
                assert (message.body, message.headers) == (body, headers)
                assert message.id
                if t.has(Feature.REDELIVER):
                    assert {*seen} == {message.id}, f"one message, and the ids {seen} and {message.id}"
                await t.counts(queue, total=0)

            await t.for_all(st.tuples(st.binary(max_size=200), carried), check, examples=12)


async def looked_at(client: Client, queue: str) -> str:
    """Receive a message and give it back by ending; return its id."""
    async with client.consumer(queue) as messages:
        (message,) = await messages.receive()
        return message.id


@case("I2", "what anyqueue sends: another program reads the same body and headers", group=GROUP)
async def i2(t: Trial) -> None:
    """I2: what anyqueue sends: another program reads the same body and headers, and nothing but `aq-` beside them."""
    async with t.connect() as client:
        for program in programs(t):

            async def check(sent: tuple[bytes, dict[str, str]], program: Program = program) -> None:
                queue = t.queue()
                body, headers = sent
                identity = await client.send(queue, body, headers=headers)
                seen = await program.get(queue)
                assert seen is not None
                assert seen.body == body
                if program.carries_headers:
                    theirs = {name: text for name, text in seen.headers.items() if not name.startswith("aq-")}
                    assert theirs == headers
                    assert seen.id == identity
                await t.counts(queue, total=0)

            await t.for_all(st.tuples(st.binary(max_size=200), HEADERS), check, examples=12)


@case("I4", "junk of other programs never stops a consumer", group=GROUP)
async def i4(t: Trial) -> None:
    """I4: junk of other programs never stops a consumer: each is handled or dead-lettered, and the next one comes.

    Catches a decoder whose failure ends the connection, which then comes again with the same message, for ever.
    """
    queue = t.queue()
    seen: list[bytes] = []

    async def handle(message: Message) -> None:
        message.headers  # noqa: B018 -- reading them must work
        seen.append(message.body)

    async with t.connect() as client:
        junk = await t.foreign.junk(queue)
        assert junk, "there is no junk that this broker takes"
        await client.send(queue, b"after the junk")
        async with running(client, queue, handle, concurrency=2):
            await t.eventually(lambda: b"after the junk" in seen, DEAF)
            await t.eventually(is_empty(t, queue))
        dead = await t.total(f"{queue}.dead")
    assert len(seen) + dead == junk + 1, f"{junk} were put, {len(seen) - 1} handled, {dead} dead-lettered"


RECORDS: Final[tuple[tuple[str, str, Envelope], ...]] = (
    ("0.1", "01 92 a169 c40162", Envelope(id="i", body=b"b")),
    ("0.1", "01 9a a169 c40162 80 c0c0c0c0c0c0c0", Envelope(id="i", body=b"b")),
    (
        "0.1",
        (
            "01 9a a16a c40300ff0a 81a174a26575 aa746578742f706c61696e a163 a172 09"
            "cb3ff8000000000000 cb41ddcd6500000000 cb41d954fc40000000"
        ),
        Envelope(
            id="j",
            body=b"\x00\xff\n",
            headers={"t": "eu"},
            content_type="text/plain",
            correlation_id="c",
            reply_to="r",
            priority=9,
            not_before=1.5,
            expires_at=2e9,
            timestamp=1.7e9,
        ),
    ),
)
"""Version that wrote it, a record as it stands in stores, what it says."""


@case("I5", "what every released version wrote is still read", group=GROUP)
async def i5(t: Trial) -> None:
    """I5: what every released version wrote is still read, and what is no record is refused with Undecodable."""
    for version, record, envelope in RECORDS:
        assert unpack(bytes.fromhex(record)) == envelope, f"a record of {version}"

    async def check(noise: bytes) -> None:
        try:
            unpack(VERSION + noise)
        except Error:
            return

    await t.for_all(st.binary(max_size=60), check, examples=200)


@case("I6", "an existing queue with other arguments is named, and nothing is deleted", group=GROUP)
async def i6(t: Trial) -> None:
    """I6: an existing queue with other arguments is named, and nothing is deleted.

    Sending to it and consuming it raise, for QueueMismatch, which names the argument; other queues go on over the same
    client. Where a queue has no arguments to differ in, one that another program made is used as it is. Catches a
    driver that deletes and declares again, and one that loops on what it cannot declare.
    """
    queue, other = t.queue(), t.queue()
    argument = await t.harness.mismatched(queue)
    await t.foreign.put(queue, b"there before", {})
    async with t.connect(send_timeout=20.0) as client:
        if argument is not None:
            await refused(t, client, queue, argument)
        else:
            async with client.consumer(queue) as messages:
                (message,) = await messages.receive()
                assert message.body == b"there before"
                await message.ack()
        await client.send(other, b"goes on")
        seen = await t.foreign.get(other)
    assert seen is not None
    assert seen.body == b"goes on"


async def refused(t: Trial, client: Client, queue: str, argument: str) -> None:
    """Use what does not fit: it says so, and stays as it is."""
    with raises(SendError, "a send to a queue with other arguments") as caught:
        await client.send(queue, b"never")
    assert isinstance(caught.error.__cause__, QueueMismatch), f"{caught.error!r} is not caused by QueueMismatch"
    assert not caught.error.unknown
    with raises(QueueMismatch, "a consumer of a queue with other arguments") as consuming:
        async with client.consumer(queue):
            pass
    for text in (str(caught), str(consuming)):
        assert argument in text, f"{text} does not name {argument}"
        assert queue in text
    seen = await t.foreign.get(queue)
    assert seen is not None
    assert seen.body == b"there before"
    await t.counts(queue, total=0)


@case("N8", "a destination deleted meanwhile: made again or refused, never silently nothing", group="Reconnect")
async def n8(t: Trial) -> None:
    """N8: a destination deleted meanwhile: made again or refused, never silently nothing.

    Another program deletes the queue under a consumer and a producer. Catches a consumer that stays connected to what
    is no more, and a send into nothing that is told to have worked.
    """
    queue = t.queue()
    seen: set[bytes] = set()

    async def handle(message: Message) -> None:
        seen.add(message.body)

    async with t.connect(send_timeout=20.0) as client, running(client, queue, handle, dead_letter=None):
        for number in range(3):
            await told(t, client, queue, b"message %d" % number)
            await t.eventually(lambda count=number + 1: len(seen) == count)  # type: ignore[misc]  # a closure
            await t.eventually(is_empty(t, queue))
            await t.delete(queue)


async def told(t: Trial, client: Client, queue: str, body: bytes) -> None:
    """Send until it is confirmed; what is refused meanwhile is refused as declared."""
    deadline = time.monotonic() + DEAF
    while True:
        try:
            await client.send(queue, body)
        except (QueueNotFound, SendError) as error:
            if t.expected.unknown == "created" or getattr(error, "unknown", False) or time.monotonic() > deadline:
                raise AssertionError(f"a send to what was deleted meanwhile ended with {error!r}") from error
        else:
            return
