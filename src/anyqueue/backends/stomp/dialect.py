"""What the driver asks of a broker's dialect: where a message goes, what its frames say, what its headers mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from anyqueue.driver import Address, Envelope, Feature, Limits, Queue, Spec

if TYPE_CHECKING:
    from anyqueue.backends.stomp.frames import Raw


_SERVER: Final = re.compile(r"(RabbitMQ|ActiveMQ)/([0-9]+)\.([0-9]+)")
Version = tuple[int, int]


class Declared(msgspec.Struct, frozen=True):
    """A queue that must be there before anything is sent to it, with the headers that make it."""

    name: str
    """On the broker."""
    arguments: tuple[tuple[str, str], ...]


class Place(msgspec.Struct, frozen=True):
    """Where messages go."""

    prefix: bytes
    """What every SEND to it begins with."""
    declares: tuple[Declared, ...] = ()
    lasts: int | None = None
    """Seconds after which nobody wants the message any more; None is for ever."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subscription takes its messages from."""

    headers: dict[str, str]
    """Of its SUBSCRIBE, but for id and receipt."""
    home: Queue | None
    declares: tuple[Declared, ...] = ()


class Read(msgspec.Struct, frozen=True):
    """A message, and what its broker says of the delivery."""

    envelope: Envelope
    ack: str
    """What settles it; empty where the server gave none."""
    attempt: int | None
    redelivered: bool


class Dialect(Protocol):
    """One broker's way of STOMP. Pure."""

    name: str
    features: Feature
    limits: Limits
    transacts: bool
    """Several messages are sent in a transaction."""

    def place(self, address: Address, not_before: float | None, now: float) -> Place:
        """Return where to send to; with `not_before`, where it waits first."""

    def frame(self, place: Place, envelope: Envelope, receipt: int | None, now: float, extra: str = "") -> bytes:
        """Return the SEND of an envelope. `extra`: lines of more headers. Without a receipt only if it `transacts`."""

    def source(self, spec: Spec, token: str) -> Source:
        """Return where the messages of a subscription come from. `token` is its own."""

    def read(self, raw: Raw, queue: str) -> Read:
        """Read a MESSAGE of anybody's. Never raises."""

    def deletes(self, queue: Queue) -> str | None:
        """Return the name on the broker of a queue that is to be deleted; None where STOMP cannot delete one."""

    def drop(self, ack: str) -> bytes:
        """Return the frame, but for its blank line and NUL, that gives a delivery up for good."""


def accept(ack: str) -> bytes:
    """Return the frame, but for its blank line and NUL, that accepts a delivery. `ack` is escaped."""
    return b"ACK\nid:%b\n" % ack.encode()


def server_of(said: str) -> tuple[str, Version]:
    """Return which of the servers that are known a `server` header names, and its version."""
    match = _SERVER.match(said)
    return (match[1].lower(), (int(match[2]), int(match[3]))) if match else ("other", (0, 0))
