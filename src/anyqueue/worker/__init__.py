"""Worker: handlers of queues, run as a process that drains on SIGTERM, or as several. A user of the public API.

    worker = Worker("sqlite:///jobs.db")

    @worker.handler("emails", type=Email, concurrency=8)
    async def deliver(message): ...

`anyqueue worker MODULE:worker` runs it; `await worker.run()` does inside a program of your own.
"""

from __future__ import annotations

from anyqueue.worker.app import Worker
from anyqueue.worker.calls import CallNext, Middleware
from anyqueue.worker.handlers import Handler
from anyqueue.worker.meter import Ended, Limits

__all__ = ["CallNext", "Ended", "Handler", "Limits", "Middleware", "Worker"]
