"""Security: nothing of a message is run, and what costs far more to read than to send is bounded."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anyqueue import Error, TooLarge, Undecodable
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial

GROUP: Final = "Security"
ROOM: Final = 64 * 1024 * 1024
"""The memory, in bytes, that reading a bomb may take: a few times the largest body."""

sung: Final[list[str]] = []
"""What was unpickled."""


def sing(song: str) -> None:
    """Be heard."""
    sung.append(song)


class Canary:
    """Unpickling it is heard."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return sing, ("a canary",)


@dataclass(frozen=True)
class Order:
    """What a consumer asks for."""

    number: int


def bombs() -> dict[str, tuple[bytes, str]]:
    """Return bodies that cost far more to read than to send, with their content types."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><x>&l9;</x>'
    return {
        "gzip": (gzip.compress(bytes(100 * 1024 * 1024), 9), "application/gzip"),
        "gzip json": (gzip.compress(b" " * 50_000_000 + b"1", 9), "application/json; encoding=gzip"),
        "xml": (laughs.encode(), "application/xml"),
        "deep json": (b"[" * 1_000_000, "application/json"),
        "closed deep json": (b"[" * 100_000 + b"]" * 100_000, "application/json"),
        "long number": (b"9" * 1_000_000, "application/json"),
        "NaN": (b"NaN", "application/json"),
        "no UTF-8": (b'"\xff\xfe"', "application/json"),
        "typed": (b'{"number": "not one"}', "application/json"),
    }


@case("Y6", "nothing is unpickled; bombs are bounded", group=GROUP)
async def y6(t: Trial) -> None:
    """Y6: nothing is unpickled; XML, gzip and JSON bombs are bounded: bytes, or Undecodable, and the next one comes."""
    async with t.connect() as client:
        await keeps_pickles(t, client)
        prepared = bombs()
        tracemalloc.start()
        try:
            for name, (body, content_type) in prepared.items():
                await defuses(t, client, name, body, content_type)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < ROOM, f"reading bombs took {peak:,} bytes"


async def keeps_pickles(t: Trial, client: Client) -> None:
    """Send a pickle under the names that make others unpickle it."""
    queue = t.queue()
    body = pickle.dumps(Canary())
    pickle.loads(body)  # noqa: S301 -- the case's own
    assert sung.pop() == "a canary", "the canary does not sing"
    kinds = ("application/x-python-serialize", "application/x-pickle", "application/python-pickle", "text/plain")
    async with client.consumer(queue) as messages:
        for content_type in (*kinds, "application/json", "application/octet-stream", None):
            headers = {"content-encoding": "pickle", "serializer": "pickle"}
            await client.send(queue, body, content_type=content_type, headers=headers)
            (message,) = await messages.receive()
            outcome = payload_of(message)
            assert outcome == body or isinstance(outcome, Undecodable), f"{content_type}: {outcome!r}"
            await message.ack()
    assert not sung, "a message was unpickled"


def payload_of(message: Message) -> object:
    """Return the payload, or what reading it raises."""
    try:
        return message.payload
    except Error as error:
        return error


async def defuses(t: Trial, client: Client, name: str, body: bytes, content_type: str) -> None:
    """Prove that a bomb harms neither who reads it as it is nor who asks for a type, nor what comes after it."""
    plain, typed = t.queue(), t.queue()
    if len(body) > client.limits.max_body:
        with raises(TooLarge, f"{name} of {len(body):,} bytes"):
            await client.send(plain, body, content_type=content_type)
        return
    async with client.consumer(plain) as messages:
        await client.send(plain, body, content_type=content_type)
        (message,) = await messages.receive()
        outcome = payload_of(message)
        spared = outcome == body or isinstance(outcome, Undecodable | dict)
        assert spared, f"{name} was read as {repr(outcome)[:100]}"
        await message.ack()
    async with client.consumer(typed, type=Order) as orders:
        await client.send(typed, body, content_type=content_type)
        await client.send(typed, Order(1))
        (order,) = await orders.receive()
        assert order.payload == Order(1)
        await order.ack()
    async with client.consumer(f"{typed}.dead") as messages:
        (dead,) = await messages.receive(timeout=5)
        assert dead.body == body
        await dead.ack()
