"""What happens to a message that was not handled. Pure: no clock, no randomness, no I/O; those are passed in.

`plan_failure()` decides; the consumer carries the plan out. The order of preference, and why:

1. `Release(delay)`, where the broker counts attempts and delays releases: atomic, nothing is copied.
2. `Resend(home, delay)`, where it delays sends: the copy is confirmed, then the original is accepted.
3. `Resend(home)` after parking: the original stays unsettled until the copy is confirmed.
4. `Rerun(delay)`, where nothing reaches this consumer's group alone: hold it, call the handler again.

A retry never reaches another group: it goes to `home` or nowhere. A message given up goes into the dead letters by
one atomic `Reject` where this driver bound them, by a confirmed copy where not, and is rejected where none are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anyqueue.driver import Feature, Queue, Reject, Release
from anyqueue.errors import ConfigError, Rejected, RetryLater, Undecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

OnError = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

SUSPECT_SLACK: Final = 2
"""How many deliveries beyond `Retry.attempts` a message gets, alone, before it is given up unhandled.

A broker counts a delivery when it is handed over, so a consumer that was killed counts one against everything it
had prefetched. Handing a suspect over alone clears the innocent; the guilty one is given up after this many more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed message is tried again: `attempts` in all, exponentially spaced, with jitter.

    The delay after attempt n is `min(maximum, initial * factor ** (n - 1))` seconds, shortened at random by up to the
    share `jitter` of it. `on` chooses the exceptions that are worth another try: a class, a tuple of classes, or a
    function; the others are given up at once.
    """

    attempts: int = 5
    initial: float = 1.0
    maximum: float = 300.0
    factor: float = 2.0
    jitter: float = 0.5
    on: OnError = Exception

    def __post_init__(self) -> None:
        """Raise TypeError or ConfigError for what cannot be meant."""
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"Retry.attempts is an int, not {type(self.attempts).__name__}")
        if self.attempts < 1:
            raise ConfigError(f"Retry.attempts is at least 1, not {self.attempts}", hint="retry=None switches it off")
        bounds = {
            "initial": (0.0, math.inf),
            "maximum": (0.0, math.inf),
            "factor": (1.0, math.inf),
            "jitter": (0.0, 1.0),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"Retry.{name} is a number, not {type(value).__name__}")
            if not (least <= value <= most and math.isfinite(value)):
                raise ConfigError(f"Retry.{name} is a finite number from {least} to {most}, not {value}")
        if not _chooses(self.on):
            raise TypeError(f"Retry.on is an exception class, a tuple of them or a function, not {self.on!r}")

    def wants(self, error: BaseException) -> bool:
        """Say whether this exception is worth another try; a cancellation that nobody asked for always is."""
        if not isinstance(error, Exception):
            return True
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return self.on(error)

    def delay(self, attempt: int, chance: float = 0.0) -> float:
        """Return the seconds to wait after `attempt` (from 1), with `chance` in [0, 1) for the jitter."""
        try:
            grown = self.initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            grown = math.inf if self.initial else 0.0
        return min(self.maximum, grown) * (1.0 - self.jitter * chance)


def _chooses(on: object) -> bool:
    """Say whether this can choose exceptions: a class of them, a tuple of classes, or a function."""
    if isinstance(on, type | tuple):
        kinds = on if isinstance(on, tuple) else (on,)
        return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)
    return callable(on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything plan_failure() may look at."""

    features: Feature
    attempt: int
    """Which attempt has failed, from 1."""
    retry: Retry | None
    home: Queue | None
    dead_letter: Queue | None
    asks: bool = False
    """The sender waits for a reply."""
    bound: bool
    """Subscription.dead_letters: Reject() itself reaches `dead_letter`."""
    max_delay: float | None
    now: float
    chance: float
    """In [0, 1), for the jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Settle the original so; nothing else."""

    settlement: Release | Reject
    reason: str
    """For people: why the message is retried or given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Wait `park` seconds holding the original; send a copy with `delay`; once it is confirmed accept the original."""

    address: Queue
    reason: str
    delay: float = 0.0
    park: float = 0.0
    dead: bool = False
    """The copy is a dead letter and carries the failure headers; else it counts the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """Hold the original for `delay` seconds, then call the handler again in this process."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Send the requester this error as the reply; once that is confirmed accept the original."""

    error: BaseException | str
    reason: str


Plan = Settle | Resend | Rerun | Tell


def plan_failure(error: BaseException, situation: Situation, death: Mapping[str, str]) -> Plan:
    """Decide what happens to a message whose handling ended in `error`.

    A request is neither retried nor a dead letter: its requester is told, and decides. RetryLater keeps it waiting.
    `death` are the failure headers that a dead letter carries. RetryLater and Rejected steer; Undecodable is given up
    at once; anything else is up to the retry policy.
    """
    if situation.asks and not isinstance(error, RetryLater):
        return Tell(error=error, reason=describe(error))
    match error:
        case Rejected():
            return give_up(error.reason, situation, death)
        case Undecodable():
            return give_up(f"undecodable: {error.what}", situation, death)
        case RetryLater():
            asked = error.delay
        case _:
            asked = None
            if situation.retry is None or not situation.retry.wants(error):
                return give_up(f"failed: {describe(error)}", situation, death)
    if situation.retry is not None and situation.attempt >= situation.retry.attempts:
        return give_up(f"failed {situation.attempt} times: {describe(error)}", situation, death)
    policy = situation.retry or Retry()
    delay = policy.delay(situation.attempt, situation.chance) if asked is None else asked
    return again(delay, describe(error), situation)


def again(delay: float, reason: str, situation: Situation) -> Plan:
    """Plan another attempt after `delay` seconds, by the strongest means the broker has."""
    has = situation.features
    if situation.max_delay is not None:
        delay = min(delay, situation.max_delay)
    if Feature.ATTEMPTS in has and (Feature.RELEASE_DELAY in has or (delay <= 0 and Feature.RELEASE in has)):
        return Settle(settlement=Release(delay, failed_at=situation.now), reason=reason)
    if situation.home is None:
        return Rerun(delay=delay, reason=reason)
    if Feature.DELAY in has:
        return Resend(address=situation.home, delay=delay, reason=reason)
    return Resend(address=situation.home, park=delay, reason=reason)


def counts_returns(features: Feature) -> bool:
    """Say whether the broker counts every message that it brings back, also one that nobody handled."""
    return Feature.ATTEMPTS in features and Feature.RELEASE_DELAY not in features


def give_up(reason: str, situation: Situation, death: Mapping[str, str]) -> Plan:
    """Plan the dead letter, or the rejection where none is wanted. The reason is cut so that it always fits."""
    reason = cut(reason, MAX_REASON)
    if situation.asks:
        return Tell(error=reason, reason=reason)
    if situation.dead_letter is None:
        return Settle(settlement=Reject(reason), reason=reason)
    if situation.bound and Feature.DEAD_LETTER in situation.features:
        return Settle(settlement=Reject(reason, {**death, DEATH_REASON: reason}), reason=reason)
    return Resend(address=situation.dead_letter, reason=reason, dead=True)


DEATH_REASON: Final = "aq-death-reason"
MAX_REASON: Final = 512
"""Bytes of a reason, in UTF-8."""


def describe(error: BaseException) -> str:
    """Return the class and message of an exception, also of one that cannot be printed."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 -- an exception's __str__ is the user's code
        text = "(its message cannot be printed)"
    if isinstance(error, RetryLater):
        return "the handler asked for it later"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def cut(text: str, size: int, *, keep_end: bool = False) -> str:
    """Return text of at most `size` bytes in UTF-8, cut between characters; surrogates become question marks."""
    raw = text.encode(errors="replace")
    if len(raw) <= size:
        return raw.decode()
    return (raw[-size:] if keep_end else raw[:size]).decode(errors="ignore")
