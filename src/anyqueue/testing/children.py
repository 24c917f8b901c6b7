"""Children: producers and consumers that can be killed, each with a journal that survives them.

Where the target crosses processes a child is a process, killed by SIGKILL. Where it does not (memory://), a child is
a client on an event loop in a thread of its own (`threads`): see there what a kill means, and what it cannot mean.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue.testing.history import Record, read_journal

if TYPE_CHECKING:
    from pathlib import Path

GRACE: Final = 40.0
POLL: Final = 0.01


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a child does. A consumer runs until it is stopped, a producer until it has sent `count` messages."""

    role: Literal["producer", "consumer", "redriver", "leaver", "requester"]
    """A requester makes one request and waits for the reply. A redriver redrives NAME.dead. A leaver sends `count`
    messages, with the handler `hold` accepts one message and holds others, and ends without closing anything."""
    queue: str
    count: int = 100
    size: int = 32
    """Of a producer: bytes in a body. A body begins with `who:number:`."""
    pace: float = 0.0
    """Seconds between sends, or that a handler takes."""
    concurrency: int = 1
    prefetch: int | None = None
    attempts: int | None = 5
    """Of a consumer: Retry.attempts; None: retry=None."""
    delay: float | None = None
    """Of a producer: send(delay=)."""
    initial: float = 0.01
    """Of a consumer: Retry.initial, with factor 1 and no jitter."""
    dead_letter: bool = True
    """Of a consumer: into NAME.dead."""
    handler: Literal["ack", "fail", "hold"] = "ack"
    """What the handler does: returns, raises, or never returns."""
    die_on: bytes | None = None
    """Of a consumer: it kills itself in the handler of a body that begins so."""
    die_unseen: bool = False
    """With `die_on`: before it writes that it has received the message, as fast as a handler can die."""
    die_after: int | None = None
    """It kills itself once it has handled, or has had confirmed, so many."""
    die_at: str | None = None
    """It kills itself at this point of its driver, such as `after send 2` (see `faults`)."""


class Child(ABC):
    """A producer or consumer beside the case."""

    def __init__(self, name: str, journal: Path) -> None:
        self.name = name
        self._journal = journal

    def journal(self) -> list[Record]:
        """Read what it has recorded so far."""
        return read_journal(self._journal)

    def count(self, kind: str, state: str = "ok") -> int:
        """Count its records of a kind."""
        return sum(record.kind == kind and record.state == state for record in self.journal())

    @abstractmethod
    def alive(self) -> bool:
        """Say whether it still runs."""

    @abstractmethod
    async def kill(self) -> None:
        """End it at once, in the middle of whatever it does; return when it is gone."""

    @abstractmethod
    async def terminate(self) -> None:
        """Ask it to end as a service manager does; return when it has drained and ended."""

    @abstractmethod
    def ask(self) -> None:
        """Ask it to end, and do not wait. Asked a second time it ends at once, in the middle of whatever it does."""

    @abstractmethod
    async def freeze(self) -> None:
        """Stop it where it is, connection and all."""

    @abstractmethod
    async def thaw(self) -> None:
        """Let it go on."""

    async def wait(self, timeout: float = GRACE) -> None:  # noqa: ASYNC109 -- a deadline of the case's own
        """Wait until it has ended by itself; fail at the deadline."""
        async with asyncio.timeout(timeout):
            while self.alive():  # noqa: ASYNC110 -- a process does not tell the loop that it ends
                await asyncio.sleep(POLL)

    async def end(self) -> None:
        """Make sure that it is gone, after the case."""
        if self.alive():
            await self.kill()


class ProcessChild(Child):
    """A child process."""

    def __init__(self, name: str, journal: Path, url: str, script: Script) -> None:
        super().__init__(name, journal)
        command = [sys.executable, "-m", "anyqueue.testing.play", name, str(journal)]
        self._log = journal.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603 -- ours
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(msgspec.json.encode({"url": url, "script": script}))

    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; negative: the signal that ended it."""
        return self._process.poll()

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        await self._gone()

    async def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        await self._gone()

    def ask(self) -> None:
        """SIGTERM; the second makes it call os._exit()."""
        self._process.terminate()

    async def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self._process.pid, signal.SIGSTOP)

    async def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def _gone(self) -> None:
        await self.wait()
