"""An envelope <-> the content header of a message. Pure; docs/backends/amqp.md has the table of what becomes what.

* No `expiration` is written: the broker would see to it at the head of the queue alone, and dead-letter without regard
  to what the consumer wants. A stranger's is the broker's business.
* A field goes where other clients look for it: `message_id`, `content_type`, `correlation_id`, `reply_to`, `priority`,
  `timestamp` (whole seconds). What AMQP has no room for goes into headers of ours: `aq-timestamp` and
  `aq-expires-at` exactly, `aq-field-NAME` for what is over 255 bytes.
* A header is a long string under its own name. Those that the broker itself reads or writes (`CC`, `x-death`), those of
  its STOMP adapter (`receipt`) and names over 255 bytes travel together as JSON in `aq-headers`.
* Reading never fails. What a stranger sends is shown as text, and is under `Message.native` as it came.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.backends.amqp import adapter, table
from anyqueue.backends.amqp.properties import (
    CONTENT_TYPE,
    CORRELATION,
    DELIVERY_MODE,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    TIME,
    properties,
)
from anyqueue.driver import HEADER_RESERVED, MAX_HEADERS, Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMESTAMP: Final = "aq-timestamp"
EXPIRES: Final = "aq-expires-at"
BUNDLE: Final = "aq-headers"
FIELD: Final = "aq-field-"
DEATH_REASON: Final = "aq-death-reason"
DEATH_ORIGIN: Final = "aq-death-origin"
COUNT: Final = "x-delivery-count"
_OWN: Final = frozenset({TIMESTAMP, EXPIRES, BUNDLE})
_BROKERS: Final = (
    *("x-death", "x-delivery-count", "x-acquired-count", "x-invalid-headers", "x-received-from", "x-shovelled"),
    *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")),
)
_TAKEN: Final = frozenset({*_BROKERS, "CC", "BCC"})
"""Headers that the broker reads, writes or removes."""
MAX_SHORT: Final = 255
PERSISTENT: Final = b"\x02"
_DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"
"""As a `reply_to` the broker takes it for an order of its own."""

_USUAL: Final = MESSAGE_ID | CONTENT_TYPE
_U16: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")


def encode(envelope: Envelope) -> bytes:
    """Write the flags and properties of an envelope."""
    flags, pairs = DELIVERY_MODE | MESSAGE_ID, _pairs(envelope.headers)
    before, after, identity = b"", b"", _short(envelope.id)
    content_type = envelope.content_type
    if content_type is not None and (short := _short_again(content_type)) is not None:
        flags, before = flags | CONTENT_TYPE, short
    if envelope.priority is not None:
        flags, after = flags | PRIORITY, bytes((min(max(envelope.priority, 0), 255),))
    for flag, text in ((CORRELATION, envelope.correlation_id), (REPLY_TO, envelope.reply_to)):
        if text is not None and (short := _short(text)) is not None and not text.startswith(_DIRECT_REPLY):
            flags, after = flags | flag, after + short
    if identity is not None:
        after += identity
    else:
        flags ^= MESSAGE_ID
    if envelope.timestamp is not None:
        flags, after = flags | TIME, after + _U64.pack(min(max(int(envelope.timestamp), 0), 2**63 - 1))
    pairs += _extra(envelope, flags)
    if pairs:
        flags, before = flags | HEADERS, before + table.encode(pairs)
    return b"%b%b%b%b" % (_U16.pack(flags), before, PERSISTENT, after)


def _extra(envelope: Envelope, flags: int) -> list[tuple[bytes, bytes]]:
    """Return the headers for what the properties could not carry, or not exactly."""
    pairs = []
    if envelope.timestamp is not None:
        pairs.append((TIMESTAMP.encode(), repr(envelope.timestamp).encode()))
    if envelope.expires_at is not None:
        pairs.append((EXPIRES.encode(), repr(envelope.expires_at).encode()))
    if flags & _USUAL == _USUAL and envelope.reply_to is None and envelope.correlation_id is None:
        return pairs
    for flag, name, text in (
        (MESSAGE_ID, "id", envelope.id),
        (CONTENT_TYPE, "content_type", envelope.content_type),
        (CORRELATION, "correlation_id", envelope.correlation_id),
        (REPLY_TO, "reply_to", envelope.reply_to),
    ):
        if text is not None and not flags & flag:
            pairs.append((f"{FIELD}{name}".encode(), text.encode()))
    return pairs


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers that travel under their own names, and the bundle of the others."""
    pairs: list[tuple[bytes, bytes]] = []
    bundle: dict[str, str] = {}
    for name, text in headers.items():
        raw = name.encode()
        if name in _TAKEN or name in adapter.FRAMES or len(raw) > MAX_SHORT:
            bundle[name] = text
        else:
            pairs.append((raw, text.encode()))
    if bundle:
        pairs.append((BUNDLE.encode(), msgspec.json.encode(bundle)))
    return pairs


def _short(text: str) -> bytes | None:
    """Return a short string; None where AMQP has no room."""
    raw = text.encode()
    return b"%c%b" % (len(raw), raw) if len(raw) <= MAX_SHORT else None


_short_again = lru_cache(maxsize=256)(_short)
"""For what is the same in many messages."""


class Decoded(msgspec.Struct):
    """What a message says of itself."""

    envelope: Envelope
    count: int | None
    """How often the broker has brought it back, where it says so."""


def decode(header: bytes, body: bytes, queue: str) -> Decoded:
    """Read a message of anybody's. Never raises."""
    found = properties(header)
    headers: dict[str, str] = {}
    own: dict[str, str] = {}
    count: int | None = None
    if (raw := found.get("headers")) is not None:
        count = _read_headers(raw, headers, own)
    adapter.strip(headers)
    if BUNDLE in own:
        _unbundle(own.pop(BUNDLE), headers)
    identity = _text(found, own, "message_id", "id") or _made_up(header, body, queue)
    timestamp = _number(own.get(TIMESTAMP))
    if timestamp is None and "timestamp" in found:
        timestamp = float(int.from_bytes(found["timestamp"], "big"))
    envelope = Envelope(
        id=identity,
        body=body,
        headers=headers,
        content_type=_text(found, own, "content_type", "content_type"),
        correlation_id=_text(found, own, "correlation_id", "correlation_id"),
        reply_to=_text(found, own, "reply_to", "reply_to"),
        priority=found["priority"][0] if "priority" in found else None,
        expires_at=_number(own.get(EXPIRES)),
        timestamp=timestamp,
    )
    return Decoded(envelope, count)


def _read_headers(raw: bytes, headers: dict[str, str], own: dict[str, str]) -> int | None:
    """Sort a table into the user's headers and ours; return the broker's count of returns."""
    plain = table.strings(raw)
    if plain is None:
        return _read_foreign(table.decode(raw), headers, own)
    for name, text in plain:
        try:
            key, value = name.decode(), text.decode()
        except UnicodeDecodeError:
            return _read_foreign(table.decode(raw), headers, own)
        _sort(key, value, headers, own)
    return None


def _read_foreign(values: Mapping[str, object], headers: dict[str, str], own: dict[str, str]) -> int | None:
    count = values.get(COUNT)
    room = MAX_HEADERS
    for name, value in values.items():
        if name in _TAKEN:
            continue
        text = table.text_of(value)
        if not name.startswith(HEADER_RESERVED):
            room -= len(name.encode()) + len(text.encode())
        if room >= 0:
            _sort(name, text, headers, own)
    if DEATH_REASON not in headers:
        headers.update(_death(values.get("x-death")))
    return count if isinstance(count, int) else None


def _sort(name: str, text: str, headers: dict[str, str], own: dict[str, str]) -> None:
    if name in _OWN or name.startswith(FIELD):
        own[name] = text
    elif name not in _TAKEN:
        headers[name] = text


def _death(deaths: object) -> dict[str, str]:
    """Return the failure headers of what the broker itself gave up; none for what has only waited for its time."""
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(latest, dict) or str(latest.get("queue", "")).startswith(("aq.delay", "aq.stomp.delay")):
        return {}
    reason = str(latest.get("reason"))
    return {
        DEATH_REASON: {"delivery_limit": "brought back more often than the queue's delivery limit"}.get(reason, reason),
        DEATH_ORIGIN: str(latest.get("queue")),
    }


def _unbundle(text: str, headers: dict[str, str]) -> None:
    try:
        headers.update(msgspec.json.decode(text, type=dict[str, str]))
    except msgspec.DecodeError:
        return  # a stranger's


def _text(found: Mapping[str, bytes], own: Mapping[str, str], name: str, field: str) -> str | None:
    return table.readable(found[name]) if name in found else own.get(f"{FIELD}{field}") if own else None


def _number(text: str | None) -> float | None:
    """Return a number that is one: a stranger may write any text, NaN and infinity among it."""
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _made_up(header: bytes, body: bytes, queue: str) -> str:
    """Return an id for a message that has none, the same whenever it is read: a hash of all that does not change."""
    found = properties(header)
    told = {name: value for name, value in table.decode(found.pop("headers", b"")).items() if name not in _TAKEN}
    parts = [queue, *(f"{name}={found[name]!r}" for name in sorted(found)), repr(sorted(told.items(), key=str))]
    return sha256("\0".join(parts).encode(errors="replace") + b"\0" + body).hexdigest()[:32]
