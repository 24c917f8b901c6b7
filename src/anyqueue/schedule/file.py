"""A TOML file -> a plan: where to send, and the entries. Everything wrong with it is told before anything runs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from anyqueue import URL, ConfigError, Queue, Topic
from anyqueue.schedule.entry import Entry, Missed, seconds_of

if TYPE_CHECKING:
    from pathlib import Path


class Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An [[entry]] of the file."""

    name: str
    queue: str | None = None
    topic: str | None = None
    payload: Any = None
    cron: str | None = None
    every: str | float | None = None
    timezone: str | None = None
    missed: Missed | None = None
    headers: dict[str, str] = {}
    priority: int | None = None


class File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    url: str
    entry: list[Line]
    lock: str | None = None
    timezone: str = "UTC"
    missed: Missed = "once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a scheduler does, and where."""

    url: URL
    lock: str
    """A path, or the URL of a database."""
    entries: tuple[Entry, ...]


def load(path: Path) -> Plan:
    """Read a file. Raises ConfigError, naming the file and what is wrong in it, and OSError."""
    try:
        read = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), File, strict=True)
        entries = tuple(_entry(line, read) for line in read.entry)
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"two schedules have the name {twice[0]!r}")
        if not entries:
            raise ConfigError("there is no [[entry]]")
        return Plan(url=URL.parse(read.url), lock=read.lock or f"{path}.lock", entries=entries)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _entry(line: Line, file: File) -> Entry:
    if (line.queue is None) == (line.topic is None):
        raise ConfigError(f"the schedule {line.name!r} needs either a queue or a topic")
    return Entry(
        name=line.name,
        address=Queue(line.queue) if line.queue is not None else Topic(str(line.topic)),
        payload=line.payload,
        cron=line.cron,
        every=None if line.every is None else seconds_of(line.every),
        timezone=line.timezone or file.timezone,
        missed=line.missed or file.missed,
        headers=line.headers,
        priority=line.priority,
    )
