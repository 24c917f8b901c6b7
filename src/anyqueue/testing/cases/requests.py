"""Requests: a message whose sender waits for what its handler returns. On the broker's own terms, or over a queue."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from anyqueue import Closed, ConfigError, Message, NoReply, Progress, Rejected, RemoteError, RetryLater, Topic
from anyqueue.testing.acts import is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.testing.trial import Trial

GROUP: Final = "Requests"
LASTS: Final = 2
"""Seconds that a reply queue outlives its requester here."""
PAYLOADS: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
) | st.binary(max_size=100)


def requester(t: Trial, **options: object) -> Client:
    """Return a client whose reply queue does not last."""
    return t.connect(t.url(reply_lasts=LASTS, **options))


@case("J1", "the reply is what the handler returned, whatever that is, async or plain or by hand", group=GROUP)
async def j1(t: Trial) -> None:
    """J1: the reply is what the handler returned, whatever that is, async or plain or by hand."""
    queue, beside = t.queue(), t.queue()

    async def echo(message: Message) -> object:
        assert message.is_request
        return message.payload

    def plain(message: Message) -> object:
        return message.payload

    async with requester(t) as client, t.connect() as other:
        async with running(other, queue, echo), running(other, beside, plain):

            async def check(payload: object) -> None:
                assert await client.request(queue, payload) == payload
                assert await client.request(beside, payload) == payload

            await t.for_all(PAYLOADS, check)
            assert await client.request(queue, [1, 2], type=tuple[int, int]) == (1, 2)
            assert await client.request(queue, b"x", headers={"tenant": "eu"}) == b"x"
        await by_hand(t, client, other)
        await t.counts(queue, total=0)
        await t.counts(beside, total=0)


async def by_hand(t: Trial, client: Client, other: Client) -> None:
    """Reply to one, and acknowledge one: its reply is None. Of what is no request, there is no reply."""
    queue = t.queue()
    async with other.consumer(queue) as messages:
        for settle, expected in ((reply_seven, 7), (Message.ack, None)):
            asked = asyncio.create_task(client.request(queue, "?"))
            (message,) = await messages.receive()
            assert message.is_request
            await settle(message)
            assert await asked == expected
        await client.send(queue, "no request")
        (message,) = await messages.receive()
        assert not message.is_request
        await message.ack()


async def reply_seven(message: Message) -> None:
    """Reply by hand."""
    await message.reply(7)


@case("J2", "without a reply: NoReply at the deadline; a late one reaches nobody", group=GROUP)
async def j2(t: Trial) -> None:
    """J2: without a reply: NoReply at the deadline; a late one reaches nobody.

    Catches a timeout that runs only from the confirm on, a late reply that is taken for the next request's, and one
    that stays on the broker.
    """
    queue, nobody = t.queue(), t.queue()
    go = asyncio.Event()

    async def handle(message: Message) -> object:
        if message.payload == "late":
            await go.wait()
        return message.payload

    async with requester(t) as client, t.connect() as other:
        watch = Stopwatch()
        with raises(NoReply, "a request to nobody"):
            await client.request(nobody, "anybody?", timeout=0.5)
        watch.within(0.5 + 2.0, "a request with a timeout of 0.5 s")
        assert watch.took >= 0.5
        async with running(other, queue, handle, concurrency=2):
            with raises(NoReply, "a request whose handler takes long"):
                await client.request(queue, "late", timeout=0.5)
            again = asyncio.create_task(client.request(queue, "next"))
            go.set()
            assert await again == "next"
            assert await client.request(queue, "last") == "last"
        await t.eventually(is_empty(t, queue))
        async with running(other, nobody, handle):
            assert await client.request(nobody, "now?") == "now?"
        await t.eventually(is_empty(t, nobody))
    await t.counts(f"{nobody}.dead", total=0)


class NotAgainError(Exception):
    """What a handler raises."""


def uncarried() -> object:
    """Return what no message carries."""
    return {1, 2, 3}


def broken() -> object:
    """Raise."""
    raise NotAgainError("it is broken")


def rejected() -> object:
    """Refuse."""
    raise Rejected("not for you")


@case("J3", "a handler's error is told at once: the request is neither retried nor a dead letter", group=GROUP)
async def j3(t: Trial) -> None:
    """J3: a handler's error is told at once: the request is neither retried nor a dead letter.

    Only RetryLater has it handled again, its requester waiting.
    """
    queue = t.queue()
    tries: dict[str, int] = {}
    ends = {"broken": broken, "rejected": rejected, "uncarried": uncarried}

    async def handle(message: Message) -> object:
        tries[message.payload] = tries.get(message.payload, 0) + 1
        if message.payload == "later":
            if message.attempt < 3:
                raise RetryLater(0.01)
            return message.attempt
        return ends[message.payload]()

    async with requester(t) as client, t.connect() as other:
        async with running(other, queue, handle):
            told = {}
            for payload in ends:
                with raises(RemoteError, payload) as caught:
                    await client.request(queue, payload)
                told[payload] = caught.error
            assert await client.request(queue, "later") == 3
        assert tries == {"broken": 1, "rejected": 1, "uncarried": 1, "later": 3}
        assert told["broken"].kind == "NotAgainError"
        assert "it is broken" in str(told["broken"])
        assert "not for you" in str(told["rejected"])
        assert "set" in str(told["uncarried"])
        await t.eventually(is_empty(t, queue))
    await t.counts(f"{queue}.dead", total=0)


@case("J4", "many at once, of several requesters: each has its own reply", group=GROUP)
async def j4(t: Trial) -> None:
    """J4: many at once, of several requesters: each has its own reply, in whatever order they come."""
    queue = t.queue()

    async def handle(message: Message) -> object:
        await asyncio.sleep(t.random.uniform(0.0, 0.01))  # so that they overtake each other
        return [message.payload, "answered"]

    async with requester(t) as one, requester(t) as two, t.connect() as other:
        async with running(other, queue, handle, concurrency=20):
            asked = [(client, f"{name} {number}") for number in range(100) for client, name in ((one, "a"), (two, "b"))]
            replies = await asyncio.gather(*(client.request(queue, text) for client, text in asked))
        assert replies == [[text, "answered"] for _, text in asked]
        await t.counts(queue, total=0)


@case("J8", "a requester hears of progress, in order, before the reply", group=GROUP)
async def j8(t: Trial) -> None:
    """J8: a requester hears of progress, in order, before the reply; what its listener raises disturbs nobody."""
    queue = t.queue()
    heard: list[Progress] = []

    async def handle(message: Message) -> object:
        await message.progress(1, 4, "a note: \N{OWL}\n")
        await message.progress(2.5, 4)
        await message.progress(4)
        return "done"

    def listen(progress: Progress) -> None:
        heard.append(progress)
        raise NotAgainError

    with tempfile.TemporaryDirectory(prefix="anyqueue-") as folder:
        other = t.connect(progress=f"{folder}/progress.db")
        async with requester(t) as client, other, running(other, queue, handle):
            assert await client.request(queue, "?", progress=listen) == "done"
            assert await client.request(queue, "?") == "done"
    told = [(each.done, each.total, each.note) for each in heard]
    assert told == [(1.0, 4.0, "a note: \N{OWL}\n"), (2.5, 4.0, ""), (4.0, None, "")]


@case("J9", "what cannot be asked is refused before any I/O; who waits at the end is told", group=GROUP)
async def j9(t: Trial) -> None:
    """J9: what cannot be asked is refused before any I/O; who waits at the end is told."""
    queue = t.queue()
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (ConfigError, {"timeout": 0}),
        (ConfigError, {"timeout": -1}),
        (ConfigError, {"timeout": float("nan")}),
        (TypeError, {"timeout": "1"}),
        (TypeError, {"progress": "yes"}),
        (TypeError, {"headers": {"a": 1}}),
        (ConfigError, {"headers": {"aq-reply-by": "1"}}),
        (TypeError, {"payload": {1, 2}}),
        (TypeError, {"queue": Topic(queue)}),
    ]
    async with requester(t) as client:
        for error, arguments in wrong:
            given = {"queue": queue, "payload": "x", **arguments}
            with raises(error, str(arguments)):
                await client.request(given.pop("queue"), given.pop("payload"), **given)
        await t.counts(queue, total=0)
        async with t.connect() as other, other.consumer(queue, dead_letter=None) as messages:
            waits = asyncio.create_task(client.request(queue, "x"))
            await messages.receive()
            await client.close()
    with raises(Closed, "a request whose client is closed"):
        await waits
