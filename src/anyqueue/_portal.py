"""An event loop in a thread of its own, and calls into it from other threads.

User code never runs on the loop's thread. A call from the loop's own thread would wait for itself: it raises at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from anyqueue.errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """A running event loop. Any thread but its own may call into it, many at once."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._waits: set[_Wait[Any]] = set()
        """Begun and not ended; for the loop's thread, and after its end."""
        self._handing_over = threading.Lock()  # so that what is handed over is begun before the loop stops

    @property
    def running(self) -> bool:
        """Say whether it can be called, in this process."""
        return self._loop is not None and self._pid == os.getpid()

    def start(self) -> None:
        """Start the thread, and return when its loop runs."""
        running = threading.Event()
        loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=_serve, args=(loop, running), name="anyqueue-loop", daemon=True)
        self._thread.start()
        running.wait()
        self._loop = loop

    def stop(self) -> None:
        """Cancel what runs, end the loop and wait for the thread. Stopping twice is a no-op."""
        if not self.running:
            return
        with self._handing_over:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if loop is not None and self._thread is not None:
            self._thread.join()
            for wait in tuple(self._waits):
                wait.end()

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function on the loop and return its result, or raise what it raises.

        KeyboardInterrupt while waiting cancels the call, waits for its end (a consumer drains), and goes on. Raises
        Closed when the portal does not run, and RuntimeError on its own thread.
        """
        self._check()
        call = _Call(function(*args, **kwargs))
        try:
            loop = self._hand_over(call.begin)
        except BaseException:
            call.work.close()
            raise
        try:
            call.ended.acquire()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(call.cancel)
            call.ended.acquire()
            raise
        return call.result()

    def await_end(self, begin: Callable[[Callable[[], None]], T]) -> T:
        """Run a plain function on the loop, and return what it returned once it has called what it was given.

        For what ends in a callback: no task is made, and the loop turns less often. KeyboardInterrupt stops only the
        waiting. Raises what the function raises; Closed, where the loop ended first; otherwise as call().
        """
        wait = _Wait(begin, self._waits)
        self._hand_over(wait.begin)
        wait.ended.acquire()
        return wait.result()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a plain function on the loop and return its result, or raise what it raises."""

        async def call() -> T:
            return function(*args, **kwargs)

        return self.call(call)

    def _hand_over(self, begin: Callable[[], None]) -> asyncio.AbstractEventLoop:
        with self._handing_over:
            loop = self._check()
            loop.call_soon_threadsafe(begin)
        return loop

    def _check(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise Closed("the client is not open", hint="use it in `with`")
        if self._pid != os.getpid():
            raise Closed("the client was opened in another process", hint="connect again in the child process")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call on anyqueue's own event loop would wait for itself")
        return self._loop


class BorrowedPortal(Portal):
    """Calls from other threads into the loop that runs here, which is its owner's to end."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._thread = threading.current_thread()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Do nothing: it runs."""

    def stop(self) -> None:
        """Do nothing: its owner ends it."""


class _Call(Generic[T]):
    """One call: a task on the loop, and a bare lock for its end, which wakes a thread faster than an Event."""

    __slots__ = ("_task", "ended", "work")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.work = work
        self.ended = threading.Lock()
        self.ended.acquire()
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start the task. On the loop's thread, as is cancel()."""
        self._task = asyncio.get_running_loop().create_task(self.work)
        self._task.add_done_callback(lambda _: self.ended.release())

    def cancel(self) -> None:
        """Cancel the task; it may take its time to end."""
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """Return or raise what the task did. After its end."""
        if self._task is None or self._task.cancelled():
            raise Closed("the client was closed under the call")
        return self._task.result()


class _Wait(Generic[T]):
    """One wait for a callback, with a lock for its end as _Call has. All but result() on the loop's thread."""

    __slots__ = ("_among", "_begin", "_begun", "_called", "_failure", "_value", "ended")

    def __init__(self, begin: Callable[[Callable[[], None]], T], among: set[_Wait[Any]]) -> None:
        self._begin = begin
        self._among = among
        self._begun = self._called = False
        self._value: T | None = None
        self._failure: BaseException | None = Closed("the client was closed under the call")
        self.ended = threading.Lock()
        self.ended.acquire()

    def begin(self) -> None:
        """Call the function, which may call back at once."""
        self._among.add(self)
        try:
            self._value = self._begin(self._call_back)
        except BaseException as error:  # noqa: BLE001 -- raised in the thread that waits
            self._failure = error
            self.end()
        else:
            self._begun = True
            self._end_if_both()

    def _call_back(self) -> None:
        self._called = True
        self._end_if_both()

    def _end_if_both(self) -> None:
        if self._begun and self._called:
            self._failure = None
            self.end()

    def end(self) -> None:
        """Wake the thread that waits. Ending twice is a no-op."""
        if self in self._among:
            self._among.discard(self)
            self.ended.release()

    def result(self) -> T:
        """Return or raise what the function did. After its end."""
        if self._failure is not None:
            raise self._failure
        return cast("T", self._value)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _serve(loop: asyncio.AbstractEventLoop, running: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    loop.call_soon(running.set)
    try:
        loop.run_forever()
        while tasks := [task for task in asyncio.all_tasks(loop) if not task.done()]:  # their end may begin others
            loop.run_until_complete(_cancel(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
