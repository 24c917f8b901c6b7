"""Properties inside a case: hypothesis draws the examples, the case's own event loop runs them.

Hypothesis is synchronous, so it runs in a thread of its own and hands each example to the loop; one connection serves
all examples. The seed is the trial's: the same seed draws the same examples. A failure names its example and seed.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import hypothesis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


class _Stopped(BaseException):
    """The case was cancelled: hypothesis is to end at once."""


class _Search(Generic[T]):
    """One search for a counterexample, shared by the loop and hypothesis' thread."""

    def __init__(self, strategy: SearchStrategy[T], check: Callable[[T], Awaitable[None]]) -> None:
        self.loop = asyncio.get_running_loop()
        self.failed: list[T] = []
        self._strategy = strategy
        self._check = check
        self._stopped = threading.Event()
        self._current: Future[None] | None = None

    def stop(self) -> None:
        """Cancel the example under way, and let the thread end."""
        self._stopped.set()
        if self._current is not None:
            self._current.cancel()

    def run(self, examples: int, seed: int) -> BaseException | None:
        """Search; return what was found. In the thread."""

        def example(value: T) -> None:
            if self._stopped.is_set():
                raise _Stopped
            try:
                self._current = asyncio.run_coroutine_threadsafe(self._one(value), self.loop)
                self._current.result()
            except CancelledError as error:
                raise _Stopped from error
            except Exception:
                self.failed.append(value)
                raise
            except BaseException as error:
                raise _Stopped from error

        settings = hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=False,
        )
        search: Any = hypothesis.given(self._strategy)(example)
        try:
            settings(hypothesis.seed(seed)(search))()
        except BaseException as error:  # noqa: BLE001 -- it is raised again in the case
            return error
        return None

    async def _one(self, value: T) -> None:
        await self._check(value)


async def for_all(
    strategy: SearchStrategy[T],
    check: Callable[[T], Awaitable[None]],
    *,
    examples: int,
    seed: int,
) -> None:
    """Run `check` on this loop for each of at most `examples` drawn values; raise for the smallest that fails."""
    search = _Search(strategy, check)
    ended: asyncio.Future[BaseException | None] = search.loop.create_future()

    def work() -> None:
        found = search.run(examples, seed)
        search.loop.call_soon_threadsafe(ended.set_result, found)

    thread = threading.Thread(target=work, name="hypothesis", daemon=True)
    thread.start()
    try:
        error = await asyncio.shield(ended)
    except asyncio.CancelledError:
        search.stop()
        await ended
        if search.failed:
            raise AssertionError(f"seed {seed}: failed for {search.failed[-1]!r}, and then took too long") from None
        raise
    finally:
        thread.join(5)
    if error is not None:
        smallest = repr(search.failed[-1])[:500] if search.failed else "no example"
        raise AssertionError(f"seed {seed}: failed for {smallest}: {type(error).__name__}: {error}") from error
