"""Requests and replies as envelopes: written by whoever has a payload or an error, read by whoever waits. Pure.

A request that travels over a reply queue names it in `reply_to`; its own id is the `correlation_id` of what comes back.
What comes back is the reply, an error (ERROR), or a report on the way to them (REPORT).
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from anyqueue import codecs
from anyqueue._arguments import check_seconds
from anyqueue._outgoing import new_id
from anyqueue.driver import MAX_BODY, Delivery, Envelope, Progress, reply_lasts
from anyqueue.errors import ConfigError, Rejected, RemoteError, TooLarge
from anyqueue.policy import MAX_REASON, cut, describe

BY: Final = "aq-reply-by"
"""On a request: when its requester stops waiting, Unix seconds."""
REPORTS: Final = "aq-reports"
"""On a request: its requester wants to hear of progress."""
ERROR: Final = "aq-error"
"""On a reply: the handler failed, and this is what it said."""
KIND: Final = "aq-error-kind"
"""Beside ERROR: the class of its exception."""
REPORT: Final = "aq-report"
"""On what is no reply yet: the body is a Progress."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Progress).decode


def asks(delivery: Delivery) -> bool:
    """Say whether the sender waits for a reply: natively, or at a reply queue. Anybody else's `reply_to` is theirs."""
    reply_to = delivery.envelope.reply_to
    return delivery.asks or (reply_to is not None and reply_lasts(reply_to) is not None)


def as_request(envelope: Envelope, reply_to: str, *, by: float, reports: bool) -> Envelope:
    """Return a request as it travels where a reply queue is needed."""
    extra = {BY: repr(by), REPORTS: "1"} if reports else {BY: repr(by)}
    headers = {**envelope.headers, **extra}
    return msgspec.structs.replace(envelope, headers=headers, reply_to=reply_to, correlation_id=envelope.id)


def waits_until(envelope: Envelope) -> float | None:
    """Return when the requester stops waiting; None where it did not say, or said nonsense."""
    try:
        by = float(envelope.headers.get(BY, "inf"))
    except ValueError:
        return None
    return by if math.isfinite(by) else None


def waits(envelope: Envelope, now: float) -> bool:
    """Say whether the requester still waits."""
    by = waits_until(envelope)
    return by is None or now < by


def answer(request: Envelope, payload: object, now: float, max_body: int = MAX_BODY) -> Envelope:
    """Return the reply that carries a handler's value. Raises what codecs.encode() does, and TooLarge."""
    body, content_type = codecs.encode(payload)
    if len(body) > max_body:
        raise TooLarge(f"the reply takes {len(body):,} bytes, over the limit of {max_body:,}")
    return _reply(request, body, content_type, {}, now)


def failure(request: Envelope, error: BaseException | str, now: float) -> Envelope:
    """Return the reply that says how the handler failed. The exception's text is cut; there is no traceback in it."""
    kind = "" if isinstance(error, str) else type(error).__name__
    return _reply(request, b"", codecs.BYTES, {ERROR: cut(said(error), MAX_REASON), KIND: cut(kind, MAX_REASON)}, now)


def said(error: BaseException | str) -> str:
    """Return what went wrong, for people."""
    if isinstance(error, str):
        return error
    return error.reason if isinstance(error, Rejected) else describe(error)


def report(request: Envelope, progress: Progress) -> Envelope | None:
    """Return what tells a requester of progress; None for one that does not want to hear of it."""
    if REPORTS not in request.headers or not waits(request, progress.time):
        return None
    return _reply(request, _encode(progress), codecs.JSON, {REPORT: "1"}, progress.time)


def read_report(reply: Envelope) -> Progress | None:
    """Return the progress that this reports, or None where it is a reply."""
    if REPORT not in reply.headers:
        return None
    try:
        return _decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Progress(done=0.0, time=reply.timestamp or 0.0)


def read(reply: Envelope, kind: Any, *, queue: str, url: object) -> Any:  # noqa: ANN401 -- what the handler returned
    """Return the value of a reply, of the type `kind`. Raises RemoteError, and Undecodable."""
    if ERROR in reply.headers:
        what = f"the handler of the request failed: {reply.headers[ERROR]}"
        raise RemoteError(what, kind=reply.headers.get(KIND, ""), queue=queue, url=url)
    return codecs.decode(reply.body, reply.content_type, kind)


def check_report(value: object) -> None:
    """Raise TypeError for what cannot be told of progress."""
    if value is not None and not callable(value):
        raise TypeError(f"progress is a function of one Progress, not {type(value).__name__}")


def check_timeout(value: object) -> float:
    """Return how long a request waits; raise TypeError, or ConfigError for one that could never have its reply."""
    seconds = check_seconds(value, "timeout")
    if not seconds:
        raise ConfigError("a request's timeout is more than 0 seconds")
    return seconds


def _reply(request: Envelope, body: bytes, content_type: str, headers: dict[str, str], now: float) -> Envelope:
    return Envelope(
        id=new_id(now),
        body=body,
        headers=headers,
        content_type=content_type,
        correlation_id=request.correlation_id,
        timestamp=now,
    )
