"""What is sent when: a cron expression or an interval, in a time zone, and what becomes of missed runs. Pure.

* Cron times are Debian's (by `cronsim`): a run in the hour that a spring skips comes right after it; one in the hour
  that an autumn repeats comes once; expressions with `*` in hours or minutes follow the clock through both.
* Intervals count from 1970-01-01T00:00Z, so that every process, and the one after a restart, means the same times.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from anyqueue import ConfigError, Queue, Topic, codecs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Missed = Literal["once", "all", "skip"]
GRACE: Final = 10.0
"""Seconds after its time within which a run is on time; later it was missed."""
MOST_MISSED: Final = 1000
"""How many missed runs `all` sends at most: the latest ones."""
MAX_NAME: Final = 100
FIRST_LOOK: Final = 3600.0
SHORTHANDS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_INTERVAL: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhd])")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a schedule. `cron` or `every` (seconds); raises ConfigError for what cannot be meant."""

    name: str
    address: Queue | Topic
    payload: object = None
    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    missed: Missed = "once"
    """Runs whose time passed while nobody was there: `once` sends one for all, `all` each, `skip` none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None

    def __post_init__(self) -> None:
        """Check everything that can be known to be wrong."""
        if not (0 < len(self.name) <= MAX_NAME and self.name.isprintable()):
            raise ConfigError(f"a schedule's name has 1 to {MAX_NAME} printable characters, not {self.name!r}")
        if (self.cron is None) == (self.every is None):
            raise ConfigError(f"the schedule {self.name!r} needs either a cron expression or an interval")
        if self.missed not in get_args(Missed):
            raise ConfigError(f"missed is once, all or skip, not {self.missed!r} (schedule {self.name!r})")
        if self.every is not None and not (1 <= self.every < math.inf):
            raise ConfigError(f"an interval is 1 second or more, not {self.every} (schedule {self.name!r})")
        try:
            codecs.encode(self.payload)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the schedule {self.name!r} cannot be sent: {error}") from error
        zone(self)
        if self.cron is not None:
            _check_cron(self)


def _check_cron(entry: Entry) -> None:
    try:
        next_time(entry, 0.0)
    except StopIteration:
        what = f"the cron expression {entry.cron!r} never fires (schedule {entry.name!r})"
        raise ConfigError(what) from None
    except CronSimError as error:
        what = f"the cron expression {entry.cron!r} is none, or never fires: {error} (schedule {entry.name!r})"
        raise ConfigError(what, hint="write minute, hour, day of month, month, day of week") from error


def zone(entry: Entry) -> ZoneInfo:
    """Return the time zone, or raise ConfigError for one that is not known here."""
    try:
        return ZoneInfo(entry.timezone)
    except (OSError, ValueError, KeyError) as error:  # a missing, malformed or absolute name
        hint = "write one such as Europe/Berlin; on a system without time zones, pip install tzdata"
        raise ConfigError(f"unknown time zone {entry.timezone!r} (schedule {entry.name!r})", hint=hint) from error


def seconds_of(interval: object) -> float:
    """Return the seconds of a number or of a text such as 90s, 15m, 2h or 1d; raise ConfigError."""
    if isinstance(interval, int | float) and not isinstance(interval, bool):
        return float(interval)
    match = _INTERVAL.fullmatch(interval) if isinstance(interval, str) else None
    if match is None:
        raise ConfigError(f"an interval is a number of seconds, or such as 90s, 15m, 2h, 1d, not {interval!r}")
    return float(match["number"]) * _UNITS[match["unit"]]


def times(entry: Entry, after: float) -> Iterator[float]:
    """Yield the times of an entry later than `after`, Unix seconds."""
    if entry.every is not None:
        first = math.floor(after / entry.every) + 1
        yield from (number * entry.every for number in itertools.count(first))
        return
    start = dt.datetime.fromtimestamp(after, zone(entry))
    expression = SHORTHANDS.get(str(entry.cron), str(entry.cron))
    for found in CronSim(expression, start):
        if (at := found.timestamp()) > after:
            yield at


def next_time(entry: Entry, after: float) -> float:
    """Return the next time. Raises StopIteration where there is none."""
    return next(times(entry, after))


def due(entry: Entry, last: float, now: float) -> list[float]:
    """Return the times to send for now, in order, when all up to `last` were dealt with."""
    match entry.missed:
        case "once":
            return _latest(entry, last, now, 1)
        case "skip":
            return _latest(entry, max(last, now - GRACE), now, MOST_MISSED)
        case _:
            return _latest(entry, last, now, MOST_MISSED)


def _latest(entry: Entry, last: float, now: float, most: int) -> list[float]:
    """Return the latest times up to now, looking back no further than it takes: a year of minutes is half a million."""
    back = FIRST_LOOK
    while True:
        start = max(last, now - back)
        passed = list(itertools.takewhile(lambda at: at <= now, times(entry, start)))
        if len(passed) >= most or start == last:
            return passed[-most:]
        back *= 4


def identity(entry: Entry, at: float) -> str:
    """Return the id of a run's message: the same whoever sends it, so that a second one is recognisable."""
    return f"schedule:{entry.name}:{stamp(at)}"


def stamp(at: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat().replace("+00:00", "Z")
