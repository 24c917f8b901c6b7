"""Schedules: messages sent by the clock, by one leader among several processes. A user of the public API.

`anyqueue schedule FILE` runs a TOML file; `@worker.cron(...)` schedules a handler of a worker. The extra is `schedule`.
"""

from __future__ import annotations

from anyqueue.schedule.entry import Entry, due, next_time, times
from anyqueue.schedule.file import Plan, load
from anyqueue.schedule.runner import Scheduler

__all__ = ["Entry", "Plan", "Scheduler", "due", "load", "next_time", "times"]
