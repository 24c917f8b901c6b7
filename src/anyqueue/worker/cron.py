"""A worker's cron handlers: the entries of a schedule, and the scheduler that sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyqueue import ConfigError, Queue
from anyqueue.leader import open_lock
from anyqueue.worker.handlers import check_function, name_of

try:
    from anyqueue.schedule import Entry, Scheduler
    from anyqueue.schedule.entry import seconds_of
except ModuleNotFoundError as error:
    raise ConfigError(f"a cron handler needs {error.name}", hint="pip install 'anyqueue[schedule]'") from error

if TYPE_CHECKING:
    from anyqueue import Client
    from anyqueue.schedule.entry import Missed
    from anyqueue.worker.app import Worker


def entry_of(
    function: object,
    expression: str | None,
    every: str | float | None,
    *,
    name: str | None,
    timezone: str,
    missed: Missed,
) -> Entry:
    """Return the entry that calls a function, or raise ConfigError."""
    check_function(function)
    called = name or name_of(function).rpartition(".")[2]
    return Entry(
        name=called,
        address=Queue(f"cron.{called}"),
        cron=expression,
        every=None if every is None else seconds_of(every),
        timezone=timezone,
        missed=missed,
    )


def scheduler_of(worker: Worker, client: Client) -> Scheduler:
    """Return what sends a worker's entries."""
    return Scheduler(worker.entries, client, open_lock(worker.schedule_lock, [entry.name for entry in worker.entries]))
