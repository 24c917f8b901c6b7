"""The failure headers of a dead letter: written when a message is given up, read by people, removed on redrive. Pure.

A record always fits: text that a failure brings is cut, so that all the failure headers together stay under 8 KiB.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from anyqueue.driver import HEADER_RESERVED, Envelope
from anyqueue.policy import DEATH_REASON, MAX_REASON, cut, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ATTEMPTS: Final = "aq-attempts"
"""On a copy that retries: how many attempts were used up before it was sent."""
FIRST_FAILURE: Final = "aq-first-failure"
"""On a copy that retries: when a handler first failed on the message, Unix seconds."""
_ORIGIN: Final = "aq-death-origin"
_ATTEMPTS: Final = "aq-death-attempts"
_FIRST: Final = "aq-death-first-failure"
_LAST: Final = "aq-death-last-failure"
_EXCEPTION: Final = "aq-death-exception"
_TRACEBACK: Final = "aq-death-traceback"
NumberT = TypeVar("NumberT", int, float)
MAX_TRACEBACK: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Why a message is a dead letter. Times are Unix seconds; what the broker itself did not say is None."""

    reason: str
    origin: str | None = None
    """The queue it was given up in, where redrive sends it back to."""
    attempts: int | None = None
    first_failure: float | None = None
    last_failure: float | None = None
    exception: str | None = None
    """Class and message of the exception that ended the last attempt."""
    traceback: str | None = None
    """The end of its traceback."""


def death_headers(
    error: BaseException | None, *, origin: str, attempt: int, first_failure: float | None, now: float
) -> dict[str, str]:
    """Return the failure headers, but for the reason, which the plan adds."""
    headers = {
        _ORIGIN: origin,
        _ATTEMPTS: str(attempt),
        _FIRST: repr(now if first_failure is None else first_failure),
        _LAST: repr(now),
    }
    if error is not None:
        headers[_EXCEPTION] = cut(describe(error), MAX_REASON)
        headers[_TRACEBACK] = cut(_traceback(error), MAX_TRACEBACK, keep_end=True)
    return headers


def _traceback(error: BaseException) -> str:
    lines = traceback.format_tb(error.__traceback__)
    return "".join(lines)


def read_death(headers: Mapping[str, str]) -> Death | None:
    """Return what the failure headers say, or None where the message is no dead letter."""
    if DEATH_REASON not in headers:
        return None
    return Death(
        reason=headers[DEATH_REASON],
        origin=headers.get(_ORIGIN),
        attempts=_number(headers.get(_ATTEMPTS), int),
        first_failure=_number(headers.get(_FIRST), float),
        last_failure=_number(headers.get(_LAST), float),
        exception=headers.get(_EXCEPTION),
        traceback=headers.get(_TRACEBACK),
    )


def _number(text: str | None, kind: Callable[[str], NumberT]) -> NumberT | None:
    """Return the number that a header holds; None where it holds none, or one that is not finite."""
    try:
        number = None if text is None else kind(text)
    except ValueError:
        return None
    return number if number is None or math.isfinite(number) else None


def used_attempts(headers: Mapping[str, str]) -> int:
    """Return how many attempts earlier copies of this message used up; a stranger's nonsense counts as none."""
    return max(0, _number(headers.get(ATTEMPTS), int) or 0)


def first_failure(headers: Mapping[str, str]) -> float | None:
    """Return when an earlier copy first failed."""
    return _number(headers.get(FIRST_FAILURE), float)


def as_retry(envelope: Envelope, *, attempt: int, first: float, not_before: float | None) -> Envelope:
    """Return the copy that retries: the same message, counting its attempts."""
    headers = {**envelope.headers, ATTEMPTS: str(attempt), FIRST_FAILURE: repr(first)}
    return msgspec.structs.replace(envelope, headers=headers, not_before=not_before)


def as_dead_letter(envelope: Envelope, death: Mapping[str, str], reason: str) -> Envelope:
    """Return the copy for the dead letters: the same id, body and headers, the failure, no times that end it."""
    kept = {name: value for name, value in envelope.headers.items() if not name.startswith(HEADER_RESERVED)}
    headers = {**kept, **death, DEATH_REASON: reason}
    return msgspec.structs.replace(envelope, headers=headers, not_before=None, expires_at=None)


def as_redriven(envelope: Envelope) -> Envelope:
    """Return the message as it was before it failed: no failure headers, no attempts."""
    kept = {name: value for name, value in envelope.headers.items() if not name.startswith(HEADER_RESERVED)}
    return msgspec.structs.replace(envelope, headers=kept, not_before=None, expires_at=None)
