"""Envelopes as headers for brokers that keep headers as they are, by name: ActiveMQ, and those nobody knows. Pure.

* Such a broker reads a line of a header up to some length (ActiveMQ: 10 KiB), and escapes nothing in a name when it
  sends it on. So a sender's header travels under its own name if that is a plain word and its text is short; the others
  travel in the bundle, in lines of their own: `aq-headers`, `aq-headers-1` and so on.
* ActiveMQ knows three of STOMP's four escapes: a carriage return goes into the bundle.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import headers
from anyqueue.driver import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

ID: Final = "aq-message-id"
MAX_TEXT: Final = 2000
"""Characters in a line: at most four bytes each, or two where they are escaped."""
MAX_LINES: Final = 200
"""Headers under their own names: ActiveMQ takes a thousand lines."""
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_STOMP: Final = (
    *("destination", "content-length", "content-type", "receipt", "transaction", "persistent", "message-id"),
    *("subscription", "redelivered", "ack", "correlation-id", "reply-to", "priority", "expires", "timestamp", "type"),
)
_ACTIVEMQ: Final = (
    *("transformation", "transformation-error", "amq-msg-type", "selector", "browser", "original-destination"),
    *("JMSXUserID", "scheduledJobId", "dlqDeliveryFailureCause", "originalExpiration"),
)
TAKEN: Final = frozenset({*_STOMP, *_ACTIVEMQ})
"""Names of headers that mean something to the broker or come from it."""
_PREFIXES: Final = ("JMS", "AMQ_", "activemq", headers.BUNDLE, headers.FIELD)
_OWN: Final = frozenset({ID, headers.TIMESTAMP, headers.EXPIRES})


def lines(envelope: Envelope) -> str:
    """Return the headers of an envelope, but for what each broker says in its own way."""
    told = headers.line(ID, envelope.id)
    if envelope.content_type is not None:
        told += _again("content-type", envelope.content_type)
    if envelope.timestamp is not None:
        told += f"{headers.TIMESTAMP}:{envelope.timestamp!r}\n"
    if envelope.correlation_id is not None:
        told += headers.line("correlation-id", envelope.correlation_id)
    if (reply_to := envelope.reply_to) is not None:
        # what looks like a destination of the broker's would be read as one, and come back otherwise
        told += headers.line(f"{headers.FIELD}reply_to" if "/" in reply_to else "reply-to", reply_to)
    if envelope.expires_at is not None:
        told += f"{headers.EXPIRES}:{envelope.expires_at!r}\n"
    return told + _user(envelope.headers) if envelope.headers else told


_again: Final = lru_cache(maxsize=256)(headers.line)
"""For what is the same in many messages."""


def _user(given: Mapping[str, str]) -> str:
    own: list[str] = []
    rest: dict[str, str] = {}
    for name, text in given.items():
        if len(own) < MAX_LINES and _fits(name) and len(text) <= MAX_TEXT and "\r" not in text and "\0" not in text:
            own.append(headers.line(name, text))
        else:
            rest[name] = text
    if rest:
        bundle = headers.bundled(rest)
        for number, at in enumerate(range(0, len(bundle), MAX_TEXT)):
            own.append(headers.line(_part(number), bundle[at : at + MAX_TEXT]))
    return "".join(own)


@lru_cache(maxsize=1024)
def _fits(name: str) -> bool:
    return (
        _WORD.fullmatch(name) is not None
        and name not in TAKEN
        and not name.startswith(_PREFIXES)
        and (name not in _OWN)
    )


def _part(number: int) -> str:
    return f"{headers.BUNDLE}-{number}" if number else headers.BUNDLE


def envelope_of(found: Mapping[str, str], body: bytes, identity: str, **more: float | None) -> Envelope:
    """Put an envelope together. `identity` is that of a message without an id; `more`: what the broker says of it."""
    user = {name: text for name, text in found.items() if name not in TAKEN and not name.startswith(_PREFIXES)}
    own = {name: user.pop(name) for name in _OWN & user.keys()}
    if headers.BUNDLE in found:
        headers.unbundle(_joined(found), user)
    timestamp = headers.number(own.get(headers.TIMESTAMP))
    expires_at = headers.number(own.get(headers.EXPIRES))
    return Envelope(
        id=own.get(ID) or identity,
        body=body,
        headers=user,
        content_type=found.get("content-type"),
        correlation_id=found.get("correlation-id"),
        reply_to=found.get(f"{headers.FIELD}reply_to", found.get("reply-to")),
        priority=None if more.get("priority") is None else int(more["priority"] or 0),
        expires_at=more.get("expires_at") if expires_at is None else expires_at,
        timestamp=more.get("timestamp") if timestamp is None else timestamp,
    )


def _joined(found: Mapping[str, str]) -> str:
    parts: list[str] = []
    while (part := found.get(_part(len(parts)))) is not None:
        parts.append(part)
    return "".join(parts)
