"""Where workers are tested: the targets, and the processes that a test starts and that are gone after it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyqueue import sync

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Coroutine

    from anyqueue.testing.harness import Harness

T = TypeVar("T")
ACROSS: Final = ("sqlite", "amqp@rabbitmq-quorum")
"""Targets that several processes reach. One more broker is one more name here."""
ANYWHERE: Final = ("memory", *ACROSS)
TASKS: Final = Path(__file__).parent / "tasks.py"
PATIENCE: Final = 40.0


@dataclass(frozen=True)
class Depth:
    """A queue as the witness of the target counts it."""

    ready: int
    """Ready or delayed."""
    held: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.held


class Place:
    """One target, and a queue nobody has used. The witness counts: no backend is asked for what it lacks."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.url = self.harness.url()
        self.queue = self.harness.fresh()
        with self.client():  # a file is there from now on, for the witness to look at
            pass

    def client(self) -> sync.Client:
        """Return a blocking client, to be used in `with`."""
        return sync.connect(self.url)

    def depth(self, queue: str) -> Depth:
        """Count a queue; in a thread, so that a test on an event loop may ask."""
        count = self._witness(self.harness.foreign.count(queue))
        return Depth(ready=count.waiting, held=count.unacked)

    def counts(self, queue: str, **expected: int) -> None:
        """Prove what a queue holds: `total`, `ready`, `held`; within the time in which a broker's count follows."""
        deadline = time.monotonic() + self.harness.count_lag
        while any(getattr(found := self.depth(queue), name) != number for name, number in expected.items()):
            assert time.monotonic() < deadline, f"{queue!r} holds {found}, not {expected}"
            time.sleep(0.02)

    def delete(self, *queues: str) -> None:
        """Delete queues."""
        for queue in queues:
            self._witness(self.harness.foreign.delete(queue))

    def leave(self) -> None:
        """Delete the queues of this test."""
        mine = [name for name in self._witness(self.harness.foreign.queues()) if self.queue in name]
        self.delete(*mine)

    def _witness(self, asked: Coroutine[Any, Any, T]) -> T:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, asked).result()


def eventually(fact: Callable[[], object], what: str | Callable[[], str] = "", patience: float = PATIENCE) -> Any:
    """Wait until a fact is true, and return it; fail at the deadline and say what it was, such as a program's log."""
    deadline = time.monotonic() + patience
    while not (found := fact()):
        assert time.monotonic() < deadline, what() if callable(what) else what or fact
        time.sleep(0.02)
    return found


async def until(fact: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait, on an event loop, until a fact is true; fail at the deadline."""
    async with asyncio.timeout(patience):
        while not fact():  # noqa: ASYNC110 -- a fact tells nobody that it comes about
            await asyncio.sleep(0.01)


class Program:
    """A process of the command line, with its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines: all of them are JSON, but for the one line of an error."""
        return [json.loads(line) for line in self.log().splitlines() if not line.startswith("anyqueue:")]

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        return [line for line in self.lines() if line["event"] == event]

    def events_like(self, text: str) -> list[dict[str, Any]]:
        """Return the log lines whose event begins so."""
        return [line for line in self.lines() if line["event"].startswith(text)]

    def ready(self, count: int = 1) -> None:
        """Wait until so many processes of it are, or have been, ready."""
        eventually(lambda: len(self.events("ready")) >= count or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.log()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end, and return its status."""
        return self.process.wait(patience)

    def end(self) -> None:
        """Kill it (SIGKILL), if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Shop:
    """Starts programs in a folder of its own, where the module `tasks` is, and reads what handlers wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.journal.touch()
        self.environment: dict[str, str] = {"JOURNAL": str(self.journal)}
        self.programs: list[Program] = []
        (folder / "tasks.py").write_text(TASKS.read_text())

    def at(self, place: Place) -> Shop:
        """Let programs work there."""
        self.environment |= {"QUEUE_URL": place.url, "QUEUE": place.queue}
        return self

    def start(self, *arguments: str, **environment: str) -> Program:
        """Start `anyqueue ARGUMENTS`."""
        return self.python("-m", "anyqueue.cli", *arguments, **environment)

    def python(self, *arguments: str, **environment: str) -> Program:
        """Start `python ARGUMENTS`."""
        log = self.folder / f"log-{secrets.token_hex(4)}"
        command = [sys.executable, *arguments]
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 -- ours
                command, cwd=self.folder, env=os.environ | self.environment | environment, stderr=file, stdout=file
            )
        self.programs.append(Program(process, log))
        return self.programs[-1]

    def worker(self, *arguments: str, **environment: str) -> Program:
        """Start a worker and wait until it is ready."""
        program = self.start("worker", "tasks", *arguments, **environment)
        program.ready()
        return program

    def run(self, *arguments: str, **environment: str) -> str:
        """Run what ends well, and return what it printed."""
        program = self.start(*arguments, **environment)
        assert program.wait() == 0, program.log()
        return program.log()

    def fails(self, *arguments: str, **environment: str) -> str:
        """Run what fails as it should: status 1, and one line, which is returned."""
        program = self.start(*arguments, **environment)
        assert program.wait() == 1, program.log()
        said = [line for line in program.log().splitlines() if line.startswith("anyqueue:")]
        assert len(said) == 1, program.log()
        assert "Traceback" not in program.log()
        return said[0]

    def wrote(self, word: str) -> list[str]:
        """Return what follows a word in the journal, in order."""
        lines = [line.partition(" ") for line in self.journal.read_text().splitlines()]
        return [rest for first, _, rest in lines if first == word]
