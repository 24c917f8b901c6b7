"""Consumer: hand messages to a handler, or to an `async for` by hand; drain when it ends.

The order of an end: receive no more and give back what was not begun; let handlers finish, up to `drain_timeout`;
cancel the rest, whose messages go back; settle; end the subscription. Nothing is accepted that a handler did not
finish.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from anyqueue._arguments import check_seconds
from anyqueue._batches import Batch, Batches, Gatherer
from anyqueue._gate import Gate
from anyqueue._handling import Call, caller, give_back, handle, handle_batch, validates
from anyqueue.errors import Closed, ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from anyqueue._message import Message
    from anyqueue._reception import Reception

Handler = Callable[["Message"], Awaitable[object] | object]
BatchHandler = Callable[[Batch], Awaitable[object] | object]

TURN: Final = 100
"""Messages a worker handles before it lets the event loop have a turn, where its handler never waits."""


class Consumer:
    """Messages of one queue, or of one group of a topic. Made by Client.consumer(); used once, by run() or by hand."""

    def __init__(
        self,
        make: Callable[[], Reception],
        *,
        concurrency: int,
        prefetch: int,
        typed: bool,
        drain_timeout: float,
    ) -> None:
        self._make = make
        self._prefetch = prefetch
        self._concurrency = concurrency
        self._typed = typed
        self._drain_timeout = drain_timeout
        self._reception: Reception | None = None
        self._stop: asyncio.Event | None = None
        self._gate = Gate()

    async def run(self, handler: Handler) -> None:
        """Handle messages with at most `concurrency` handlers at once, until stop() or cancelled; then drain.

        An async handler runs on the event loop; a plain one in a thread, so that it may block. What a handler raises
        is the policy's business; KeyboardInterrupt and SystemExit end the run. Raises what ends the subscription.
        """
        call, pool = caller(handler, self._concurrency)
        await self._run(lambda reception: self._work(reception, call), pool)

    async def run_batches(self, handler: BatchHandler, *, max_size: int, max_wait: float) -> None:
        """Handle batches of up to `max_size` messages, at most `concurrency` at once; else as run().

        A batch waits up to `max_wait` seconds for more than its first message. The handler may settle single messages;
        how it ended settles the others. Raises ConfigError where `prefetch` is less than `max_size`.
        """
        call, pool = caller(handler, self._concurrency)
        gatherer = Gatherer(max_size, max_wait, prefetch=self._prefetch, typed=self._typed)
        await self._run(lambda reception: self._work_batches(reception, call, gatherer), pool)

    def batches(self, max_size: int, max_wait: float) -> AbstractAsyncContextManager[Batches]:
        """Take batches by hand: `async with consumer.batches(100, 1.0) as batches: async for batch in batches`."""
        self._check_unused()
        return self._taking(Gatherer(max_size, max_wait, prefetch=self._prefetch, typed=self._typed))

    @contextlib.asynccontextmanager
    async def _taking(self, gatherer: Gatherer) -> AsyncIterator[Batches]:
        reception = await self._open()
        try:
            yield Batches(reception, gatherer)
        finally:
            await reception.close()

    async def _run(
        self, work: Callable[[Reception], Coroutine[object, object, None]], pool: ThreadPoolExecutor | None
    ) -> None:
        reception = await self._open()
        workers = [asyncio.create_task(work(reception)) for _ in range(self._concurrency)]
        try:
            await self._until_stopped(workers)
        finally:
            try:
                await self._drain(reception, workers)
            finally:
                if pool is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                raise error

    def stop(self) -> None:
        """Begin no more messages; make run() drain and return. On the event loop; before run(), it returns at once."""
        self._stop = self._stop or asyncio.Event()
        self._stop.set()

    async def __aenter__(self) -> Messages:
        return Messages(await self._open(), typed=self._typed, prefetch=self._prefetch)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reception is not None:
            await self._reception.close()

    async def _open(self) -> Reception:
        self._check_unused()
        reception = self._reception = self._make()
        try:
            await reception.start()
        except BaseException:
            await reception.close()
            raise
        return reception

    def _check_unused(self) -> None:
        if self._reception is not None:
            raise Closed("a consumer is used once", hint="make another with client.consumer()")

    async def _until_stopped(self, workers: list[asyncio.Task[None]]) -> None:
        self._stop = self._stop or asyncio.Event()
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([stopping, *workers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _drain(self, reception: Reception, workers: list[asyncio.Task[None]]) -> None:
        try:
            await reception.stop(draining=True)
            await asyncio.wait(workers, timeout=self._drain_timeout)
        finally:
            for worker in workers:
                worker.cancel()
        try:
            await asyncio.wait(workers)
        finally:
            await reception.close()

    async def _work_batches(self, reception: Reception, call: Call, gatherer: Gatherer) -> None:
        while (found := await gatherer.next(reception)) is not None:
            batch, suspect = found
            if self._stop is not None and self._stop.is_set():
                for message in batch:
                    give_back(message)
                return
            if batch:
                await self._gate.enter(alone=suspect)
                try:
                    await handle_batch(batch, call)
                finally:
                    self._gate.leave()

    async def _work(self, reception: Reception, call: Call) -> None:
        gate = self._gate
        turns = 0
        while (message := await reception.next()) is not None:
            if self._stop is not None and self._stop.is_set():
                reception.put_back(message)
                return
            await gate.enter(alone=reception.is_suspect(message))
            try:
                await handle(message, call, typed=self._typed)
            finally:
                gate.leave()
            turns += 1
            if turns % TURN == 0:
                await asyncio.sleep(0)


class Messages:
    """What `async with consumer` gives: the messages, to be taken and settled by hand."""

    def __init__(self, reception: Reception, *, typed: bool, prefetch: int) -> None:
        self._reception = reception
        self._typed = typed
        self._prefetch = prefetch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return (await self.receive())[0]

    async def receive(self, limit: int = 1, timeout: float | None = None) -> list[Message]:  # noqa: ASYNC109 -- a deadline for a full batch, not for the call
        """Return up to `limit` messages (at most `prefetch`), oldest first.

        `timeout` None: wait for the first, and return it with those that are here. Else wait that many seconds for a
        full batch and return what has come, perhaps nothing; 0 waits for nothing. Cancelling loses nothing. Raises
        Closed after the end of `async with`, and what ended the subscription.
        """
        _check_receive(limit, timeout)
        wanted = min(limit, self._prefetch)
        taken: list[Message] = []
        try:
            async with asyncio.timeout(timeout):
                while len(taken) < wanted and (timeout is not None or not taken or self._reception.ready):
                    taken += await self._take(wanted - len(taken), wait=timeout != 0)
                    if timeout == 0 and not self._reception.ready:
                        break
        except TimeoutError:
            return taken
        except BaseException:
            for message in reversed(taken):
                self._reception.put_back(message)
            raise
        return taken

    async def _take(self, limit: int, *, wait: bool) -> list[Message]:
        """Take what is here, or wait for one message if `wait`; leave out what is expired or does not validate."""
        reception = self._reception
        if not reception.ready and not wait:
            reception.check()
            return []
        first = await reception.next()
        if first is None:
            raise Closed("the consumer is closed")
        ready = reception.ready
        batch = [first, *(ready.popleft() for _ in range(min(limit - 1, len(ready))))]
        return [message for message in batch if validates(message, typed=self._typed)]


def _check_receive(limit: object, timeout: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is an int, not {type(limit).__name__}")
    if limit < 1:
        raise ConfigError(f"limit is at least 1, not {limit}")
    if timeout is not None:
        check_seconds(timeout, "timeout")
