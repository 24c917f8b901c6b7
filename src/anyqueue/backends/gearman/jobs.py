"""Envelopes <-> jobs: what a message is on a server that knows a function, a unique id and data. Pure.

* A message with nothing but a body travels as its body, so that a worker in any language reads it: its id, its time and
  its content type are in the job's unique id. Anything more (headers, a given id, a time) makes it travel as a line,
  `aq1 ` and a JSON object of the envelope's fields, then the body.
* Both are read, from everybody. What begins as such a line and is none is a body.
* A body that is empty, or that begins as such a line, travels behind one: gearmand stores no data as NULL, and then
  does not start again (1.1.20).
* Every submission has a unique id never used before, or the server would take it for one that it has, and drop it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from anyqueue.driver import Envelope

MAGIC: Final = b"aq1 "
_KINDS: Final[Mapping[str | None, bytes]] = MappingProxyType(
    {"application/octet-stream": b"b", "text/plain; charset=utf-8": b"t", "application/json": b"j"}
)
_TYPES: Final[Mapping[bytes, str | None]] = MappingProxyType(
    {letter: name for name, kind in _KINDS.items() for letter in (kind, kind.upper())}
)
_LINE: Final = b"e"
_PLAIN: Final = re.compile(rb"aq([btjBTJ])([0-9a-f]{14}[0-9A-Za-z]{18})-")
_MICRO: Final = 1e6
_ID: Final = 32
"""Letters and digits of an id of ours. The first 14 are its time in microseconds, in hexadecimal."""


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line in front of a body."""

    id: str = ""
    headers: Mapping[str, str] = {}
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    not_before: float | None = None
    expires_at: float | None = None
    timestamp: float | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Head).decode


class Uniques:
    """Ends of unique ids that were never used before, by this process or another."""

    def __init__(self) -> None:
        self._token = os.urandom(8).hex().encode()
        self._count = itertools.count()

    def next(self) -> bytes:
        """Return another: at most 27 characters."""
        return b"%b%x" % (self._token, next(self._count))


def job_of(envelope: Envelope, end: bytes, *, asks: bool = False) -> tuple[bytes, bytes]:
    """Return the unique id and the data of the job that carries an envelope. `asks`: a requester waits for a reply."""
    kind = _KINDS.get(envelope.content_type) if _is_plain(envelope) else None
    if kind is None:
        return (b"aqE-%b" if asks else b"aqe-%b") % end, lined(envelope)
    return b"aq%b%b-%b" % (kind.upper() if asks else kind, envelope.id.encode(), end), envelope.body


def _is_plain(envelope: Envelope) -> bool:
    """Say whether a body and a unique id say everything."""
    body, identity, timestamp = envelope.body, envelope.id, envelope.timestamp
    return (
        not envelope.headers
        and timestamp is not None
        and len(identity) == _ID
        and identity.startswith(f"{int(timestamp * _MICRO):014x}")
        and identity.isalnum()
        and identity.isascii()
        and body != b""
        and not body.startswith(MAGIC)
        and envelope.priority is None
        and envelope.correlation_id is envelope.reply_to is None
        and envelope.not_before is envelope.expires_at is None
    )


def lined(envelope: Envelope) -> bytes:
    """Return an envelope as a line and a body."""
    head = Head(
        id=envelope.id,
        headers=envelope.headers,
        content_type=envelope.content_type,
        correlation_id=envelope.correlation_id,
        reply_to=envelope.reply_to,
        priority=envelope.priority,
        not_before=envelope.not_before,
        expires_at=envelope.expires_at,
        timestamp=envelope.timestamp,
    )
    return MAGIC + _encode(head) + b"\n" + envelope.body


def envelope_of(handle: bytes, unique: bytes, data: bytes) -> Envelope:
    """Return what a job carries, whoever submitted it."""
    if data.startswith(MAGIC) and (found := read_line(data)) is not None:
        return found if found.id else msgspec.structs.replace(found, id=made_id(handle, unique))
    match = _PLAIN.match(unique)
    if match is None:
        return Envelope(id=made_id(handle, unique), body=data)
    identity = match[2].decode()
    return Envelope(
        id=identity,
        body=data,
        content_type=_TYPES[match[1]],
        timestamp=int(identity[:14], 16) / _MICRO,
    )


def read_line(data: bytes) -> Envelope | None:
    """Return what a line and a body say; None where what begins with MAGIC is no such line."""
    line, _, body = data.partition(b"\n")
    try:
        head = _decode(line[len(MAGIC) :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Envelope(
        id=head.id,
        body=body,
        headers=head.headers,
        content_type=head.content_type,
        correlation_id=head.correlation_id,
        reply_to=head.reply_to,
        priority=head.priority,
        not_before=head.not_before,
        expires_at=head.expires_at,
        timestamp=head.timestamp,
    )


def asks(unique: bytes) -> bool:
    """Say whether a requester of anyqueue's waits for the reply."""
    return unique.startswith(b"aq") and unique[2:3].isupper()


def is_strange(unique: bytes) -> bool:
    """Say whether another program submitted it."""
    return not unique.startswith((b"aqe-", b"aqE-")) and _PLAIN.match(unique) is None


def made_id(handle: bytes, unique: bytes) -> str:
    """Return an id for a message that has none: the same each time it is delivered."""
    try:
        text = unique.decode("ascii")
    except UnicodeDecodeError:
        return unique.hex()
    return text if text.isprintable() and text not in {"", "-", "#"} else handle.decode("ascii", "replace")
