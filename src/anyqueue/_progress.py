"""Progress reports where the broker has none: kept in a tracker, which is loaded by name when it is first needed.

The tracker is `connect(progress=)`, else the environment's ANYQUEUE_PROGRESS, else a SQLite file of this user; each a
path or the URL of a database for SQLAlchemy. A report that cannot be kept is logged: it never fails a handler.
"""

from __future__ import annotations

import asyncio
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyqueue._arguments import check_seconds
from anyqueue.driver import Progress

if TYPE_CHECKING:
    from anyqueue.progress.contract import Tracker

_log = logging.getLogger(__name__)


def checked(done: object, total: object, note: object, now: float) -> Progress:
    """Return a report, or raise TypeError or ConfigError."""
    if not isinstance(note, str):
        raise TypeError(f"a note is a str, not {type(note).__name__}")
    whole = None if total is None else check_seconds(total, "total", "a number")
    return Progress(done=check_seconds(done, "done", "a number"), total=whole, note=note, time=now)


def default_place() -> str:
    """Return where the tracker is unless somebody says otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return os.environ.get("ANYQUEUE_PROGRESS") or str(Path(state) / "anyqueue" / "progress.db")


class Trackers:
    """The tracker of one client, opened when it is first used."""

    def __init__(self, place: str | None) -> None:
        self._place = place
        self._tracker: Tracker | None = None

    async def report(self, identity: str, progress: Progress) -> None:
        """Keep a report; log what is in the way."""
        try:
            await asyncio.to_thread(lambda: self._open().report(identity, progress))
        except OSError as error:
            _log.warning("the progress of message %s was not kept: %s", identity, error)

    async def read(self, identity: str) -> Progress | None:
        """Return the last report. Raises OSError."""
        return await asyncio.to_thread(lambda: self._open().read(identity))

    def close(self) -> None:
        """Close it."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def _open(self) -> Tracker:
        if self._tracker is None:
            place = self._place or default_place()
            name = "sql:SqlTracker" if "://" in place else "sqlite:SqliteTracker"
            module, _, kind = name.partition(":")
            made: Any = getattr(import_module(f"anyqueue.progress.{module}"), kind)
            self._tracker = made(place)
        return self._tracker
