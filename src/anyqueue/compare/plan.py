"""What is measured on a backend: decided by what it declares, never by its name. Pure.

The one exception is what another process can reach: no driver declares that, and memory:// is of one process.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from anyqueue import URL, ConfigError, Feature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyqueue import Limits
    from anyqueue.compare.results import Operation

LEAST_SIZE: Final = 24
"""Bytes that tell one message of a run from every other."""
MANY: Final = 100
"""Messages in a batch of send_many()."""
_ONE_PROCESS: Final = frozenset({"memory"})
_LABELLED: Final = re.compile(r"([^:/?#=]{1,60})=([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)
_BARE: Final = "zmq+push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user chose."""

    sizes: tuple[int, ...] = (100, 1024, 16 * 1024)
    concurrency: tuple[int, ...] = (1, 32)
    seconds: float = 0.25
    """For each cell."""
    pause: float = 0.02
    """What the slow handler takes."""
    held: int = 10
    """Messages in the hands of the consumer that is killed."""
    kill: bool = True

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < LEAST_SIZE:
            raise ConfigError(f"a size is {LEAST_SIZE} bytes or more", hint="leave --size out for the usual ones")
        if not self.concurrency or min(self.concurrency) < 1:
            raise ConfigError("a concurrency is 1 or more")
        if not 0 < self.seconds < 3600 or not 0 <= self.pause < 60 or self.held < 1:  # noqa: PLR2004 -- an hour, a minute
            raise ConfigError("seconds are more than 0, and less than an hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One URL, and what it is called in the report."""

    label: str
    url: str
    """Not redacted: never printed."""
    shown: str
    """Redacted."""
    one_process: bool
    queue: str | None
    """The only queue there is, where the URL names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One cell to be measured."""

    operation: Operation
    size: int
    concurrency: int


def targets_of(texts: Sequence[str]) -> list[Target]:
    """Read each `URL` or `LABEL=URL`, no two with one label. Never raises: what is no URL fails when it is used."""
    found = [_target(text) for text in texts]
    names = [target.label for target in found]
    longer = [
        f"{each.label}?{each.shown.partition('?')[2]}"
        if names.count(each.label) > 1 and "?" in each.shown
        else each.label
        for each in found
    ]
    numbered = (
        label if longer[:place].count(label) == 0 else f"{label} ({longer[:place].count(label) + 1})"
        for place, label in enumerate(longer)
    )
    return [replace(target, label=label) for target, label in zip(found, numbered, strict=True)]


def _target(text: str) -> Target:
    match = _LABELLED.fullmatch(text)
    label, url = (match[1].strip(), match[2]) if match else ("", text)
    try:
        parsed = URL.parse(url)
    except ConfigError:
        scheme = url.partition(":")[0]
        shown = f"{scheme}://…" if scheme.replace("+", "").isalnum() and scheme != url else "…"
        return Target(label=label or shown, url=url, shown=shown, one_process=False, queue=None)
    place = ",".join(map(str, parsed.hosts)) or parsed.path.rpartition("/")[2]
    return Target(
        label=label or f"{parsed.scheme}://{place}",
        url=url,
        shown=str(parsed),
        one_process=parsed.scheme in _ONE_PROCESS,
        queue=parsed.path[1:] if parsed.scheme == _BARE else None,
    )


def prefix() -> str:
    """Return what the names of one run's queues begin with."""
    return f"anyqueue-compare.{secrets.token_hex(4)}"


def sizes_of(settings: Settings, limits: Limits) -> list[int]:
    """Return the sizes that a backend takes."""
    return [size for size in settings.sizes if size <= limits.max_body]


def main_size(sizes: Sequence[int]) -> int:
    """Return the size for what is measured at one size alone."""
    return sorted(sizes)[(len(sizes) - 1) // 2]


def steps(settings: Settings, features: Feature, limits: Limits) -> Iterator[Step]:
    """Say what is measured, in order.

    A send that nobody confirms takes no time, or waits for a receiver; so it is measured only with one.
    """
    sizes = sizes_of(settings, limits)
    for size in sizes:
        if Feature.CONFIRM in features:
            for count in settings.concurrency:
                yield Step(operation="send", size=size, concurrency=count)
            yield Step(operation="send_many", size=size, concurrency=1)
        for count in settings.concurrency:
            yield Step(operation="through", size=size, concurrency=count)
    for count in settings.concurrency if sizes and settings.pause else ():
        yield Step(operation="slow", size=main_size(sizes), concurrency=count)


def why_no_kill(target: Target, features: Feature, settings: Settings) -> str:
    """Say why no consumer is killed here; empty where one is."""
    if not settings.kill:
        return "not asked for"
    if target.one_process:
        return "one process only: what is killed takes the queue with it"
    if Feature.REDELIVER not in features:
        return "refused: what a killed consumer held is gone"
    return ""
