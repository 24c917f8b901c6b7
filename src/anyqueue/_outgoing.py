"""What a user asks to be sent -> an envelope, or a clear refusal. No I/O; the clock is passed in.

Everything that can be known to be wrong with a message is found here, before any I/O: types, numbers, sizes, names,
and features that the backend neither has nor can have emulated.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from anyqueue import codecs
from anyqueue._arguments import check_seconds
from anyqueue.capability import support
from anyqueue.driver import HEADER_RESERVED, MAX_HEADERS, Envelope, Feature, Limits
from anyqueue.errors import ConfigError, TooLarge, Unsupported

MAX_TEXT: Final = 200
"""Characters in an id, a correlation id, a reply address or a content type."""
MAX_PRIORITY: Final = 9


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What send() was given beside the payload, as the user gave it."""

    id: str | None = None
    headers: Mapping[str, str] | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    delay: float | None = None
    expires: float | None = None
    priority: int | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend takes, and how to name it and the queue in an error."""

    features: Feature
    limits: Limits
    backend: str
    queue: str | None
    url: object


def envelope_of(payload: object, given: Given, terms: Terms, now: float) -> Envelope:
    """Return the envelope to send; raise TypeError, ValueError, TooLarge or Unsupported."""
    body, content_type = codecs.encode(payload, _text(given.content_type, "content_type"))
    _check_size(len(body), terms.limits.max_body, "body", terms)
    if given == _NOTHING:
        return Envelope(id=new_id(now), body=body, content_type=content_type, timestamp=now)
    not_before = _delay(given.delay, terms, now)
    expires = None if given.expires is None else check_seconds(given.expires, "expires")
    return Envelope(
        id=new_id(now) if given.id is None else _identity(given.id),
        body=body,
        headers=_headers(given.headers, terms),
        content_type=content_type,
        correlation_id=_text(given.correlation_id, "correlation_id"),
        reply_to=_text(given.reply_to, "reply_to"),
        priority=_priority(given.priority, terms),
        not_before=not_before,
        expires_at=None if expires is None else now + expires,
        timestamp=now,
    )


def forwarded(envelope: Envelope, terms: Terms) -> Envelope:
    """Return another broker's envelope as it is sent on; raise TooLarge, or ConfigError for what none of ours may hold.

    It was due when it was received, so it has no delay. A priority is left out where the backend has none.
    """
    _check_size(len(envelope.body), terms.limits.max_body, "body", terms)
    size = sum(len(name.encode()) + len(text.encode()) for name, text in envelope.headers.items())
    _check_size(size, MAX_HEADERS, "headers", terms)
    levels = support(Feature.PRIORITY, terms.features).kind != "refused"
    return msgspec.structs.replace(
        envelope,
        id=_identity(envelope.id),
        content_type=_text(envelope.content_type, "content_type"),
        correlation_id=_text(envelope.correlation_id, "correlation_id"),
        reply_to=_text(envelope.reply_to, "reply_to"),
        priority=envelope.priority if levels else None,
        not_before=None,
    )


_NOTHING: Final = Given()
_counter = itertools.count()
_process = os.urandom(6).hex()


def _after_fork() -> None:
    global _process  # noqa: PLW0603 -- a forked child must not repeat its parent's ids
    _process = os.urandom(6).hex()


os.register_at_fork(after_in_child=_after_fork)


def new_id(now: float) -> str:
    """Return a fresh id: 32 hex digits, sortable by time, then by order within the process."""
    return f"{int(now * 1e6):014x}{next(_counter) & 0xFFFFFF:06x}{_process}"


def check_now(wanted: Feature, terms: Terms, hint: str) -> None:
    """Raise Unsupported unless the backend has the single feature, or the core emulates it."""
    found = support(wanted, terms.features)
    if found.kind == "refused":
        what = f"the {terms.backend} backend has no {wanted.name}: {found.note}"
        raise Unsupported(what, feature=wanted, backend=terms.backend, queue=terms.queue, url=terms.url, hint=hint)


def _identity(value: str) -> str:
    text = _text(value, "id") or ""
    if not text.isprintable() or not text:
        raise ConfigError(f"an id has 1 to {MAX_TEXT} printable characters, not {text!r}")
    return text


def _text(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")
    if len(value) > MAX_TEXT:
        raise ConfigError(f"{what} has at most {MAX_TEXT} characters, this one {len(value)}")
    _check_unicode(value, what)
    if any(ord(character) < ord(" ") or ord(character) == 0x7F for character in value):  # noqa: PLR2004 -- DEL
        raise ConfigError(f"{what} holds a control character: {value!r}")
    return value


def _check_unicode(value: str, what: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} holds a lone surrogate, which UTF-8 cannot carry: {value!r}") from None


def _delay(value: object, terms: Terms, now: float) -> float | None:
    delay = 0.0 if value is None else check_seconds(value, "delay")
    if not delay:
        return None
    check_now(Feature.DELAY, terms, "send it when it is due, or choose a backend that delays")
    if terms.limits.max_delay is not None and delay > terms.limits.max_delay:
        raise ConfigError(f"delay is at most {terms.limits.max_delay:g} s on {terms.backend}, not {delay:g}")
    return now + delay


def _priority(value: object, terms: Terms) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority is an int, not {type(value).__name__}")
    if not 0 <= value <= MAX_PRIORITY:
        raise ConfigError(f"priority is 0 (lowest) to {MAX_PRIORITY} (highest), not {value}")
    check_now(Feature.PRIORITY, terms, "use one queue for each priority, or choose a backend that has priorities")
    return value


def _headers(value: object, terms: Terms) -> dict[str, str]:
    if value is None:
        return {}
    try:
        headers: dict[str, str] = dict(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise TypeError(f"headers are a mapping of str to str, not {type(value).__name__}") from None
    size = 0
    for name, text in headers.items():
        if {type(name), type(text)} != {str}:
            raise TypeError(f"headers are str to str; {name!r} is {type(name).__name__} to {type(text).__name__}")
        if not name or name.lower().startswith(HEADER_RESERVED):
            raise ConfigError(f"a header's name is not empty and does not begin with {HEADER_RESERVED!r}: {name!r}")
        _check_unicode(name + text, f"the header {name!r}")
        size += len(name.encode()) + len(text.encode())
    _check_size(size, MAX_HEADERS, "headers", terms)
    return headers


def _check_size(size: int, most: int, what: str, terms: Terms) -> None:
    if size > most:
        message = f"the {what} of this message take {size:,} bytes, over the limit of {most:,}"
        raise TooLarge(message, queue=terms.queue, url=terms.url, hint="store it elsewhere and send a reference")
