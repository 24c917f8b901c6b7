"""Children of a target that lives in this process: clients in threads, and what "killing" one means there.

Nobody can SIGKILL a part of a process. What a kill of a consumer's process does to its broker is this: at one moment
no further byte comes, and the kernel closes the sockets. So, on the child's own loop and between two of its steps:

1. its drivers are closed from outside, as the kernel closes sockets: no settlement, no drain, no goodbye of the client;
2. from then on every attempt of its client to reach the broker fails, and it can open no other connection;
3. its tasks are cancelled, and what they still try reaches nobody.

This is the worst that can happen to a consumer in the broker's own process. It is less than SIGKILL: it comes between
two steps of the event loop, never in the middle of one, and what the child had put under the broker's lock is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

from anyqueue import ConnectFailed
from anyqueue.testing.children import Child
from anyqueue.testing.history import Journal
from anyqueue.testing.play import Player
from anyqueue.testing.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyqueue.driver import Driver
    from anyqueue.testing.children import Script
    from anyqueue.testing.history import Record


class Kernel:
    """What knows the open drivers of each thread, and cuts them. For driver classes whose close() never waits."""

    def __init__(self, kind: type[Driver]) -> None:
        self._kind = kind
        self._open = kind.open
        self._drivers: dict[int, weakref.WeakSet[Driver]] = {}
        self._dead: set[int] = set()

    def install(self) -> None:
        """Watch the driver class."""
        kernel = self

        async def watched(driver: Driver) -> None:
            thread = threading.get_ident()
            if thread in kernel._dead:
                raise ConnectFailed("this child was killed")
            await kernel._open(driver)
            kernel._drivers.setdefault(thread, weakref.WeakSet()).add(driver)

        self._kind.open = watched  # type: ignore[method-assign,assignment]

    def remove(self) -> None:
        """Watch no more."""
        self._kind.open = self._open  # type: ignore[method-assign]

    def cut(self) -> None:
        """Close the drivers of this thread, and let it open no other."""
        thread = threading.get_ident()
        self._dead.add(thread)
        for driver in list(self._drivers.pop(thread, ())):
            _step(driver.close())

    def forget(self, thread: int) -> None:
        """A thread's number may be used again."""
        self._dead.discard(thread)
        self._drivers.pop(thread, None)


def _step(coroutine: object) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]  # close() is a coroutine
    except StopIteration:
        return
    raise AssertionError("close() waits: this driver cannot be cut between two steps")


class MortalJournal(Journal):
    """A journal that takes nothing more once its writer is dead."""

    dead = False

    def write(self, record: Record) -> None:
        """Append a record while alive."""
        if not self.dead:
            super().write(record)


class ThreadChild(Child):
    """A client on an event loop in a thread."""

    def __init__(self, name: str, journal: Path, url: str, script: Script, kernel: Kernel) -> None:
        super().__init__(name, journal)
        self._url = url
        self._script = script
        self._kernel = kernel
        self._writer = MortalJournal(journal)
        self._loop = asyncio.new_event_loop()
        self._player: Player | None = None
        self._asked = False
        self._frozen = threading.Event()
        self._frozen.set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"child {name}")
        self._thread.start()
        self._ready.wait()

    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._thread.is_alive()

    async def kill(self) -> None:
        """Cut it off between two steps of its loop."""
        self._frozen.set()
        self._call(self._die)
        await self.wait()

    async def terminate(self) -> None:
        """Ask it to end."""
        assert self._player is not None
        self._call(self._player.stop)
        await self.wait()

    def ask(self) -> None:
        """Ask it to end; the second time cut it off, as os._exit() would."""
        assert self._player is not None
        self._call(self._die if self._asked else self._player.stop)
        self._asked = True

    async def freeze(self) -> None:
        """Stop its loop where it is."""
        self._frozen.clear()
        self._call(self._frozen.wait)

    async def thaw(self) -> None:
        """Let it go on."""
        self._frozen.set()

    def _call(self, act: Callable[[], object]) -> None:
        if self.alive():
            self._loop.call_soon_threadsafe(act)

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with self._writer as journal:
                task = self._loop.create_task(self._play(Recorder(journal)))
                with contextlib.suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(task)
                self._bury()
        finally:
            self._kernel.cut()  # what it left open, as at the end of a process
            self._kernel.forget(threading.get_ident())
            self._loop.close()

    async def _play(self, history: Recorder) -> None:
        self._player = Player(self.name, self._script, history, self._die_inside)
        self._ready.set()
        await self._player.play(self._url)

    def _die_inside(self) -> None:
        self._die()
        raise asyncio.CancelledError

    def _die(self) -> None:
        self._kernel.cut()
        self._writer.dead = True
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _bury(self) -> None:
        """Let what is left of a killed client end; its calls reach nobody."""
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(_gone(tasks))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())


async def _gone(tasks: set[asyncio.Task[object]]) -> None:
    await asyncio.wait(tasks, timeout=0.1)
