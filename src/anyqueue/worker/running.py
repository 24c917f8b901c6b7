"""Run a worker on this event loop: connect, set up, consume every queue, drain, tear down, disconnect.

The order of the end: no handler begins any more, in any queue; handlers finish, up to the drain timeout; consumers
settle and end, leases being extended until then; the lifespan is left; the client closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Final

import anyqueue
from anyqueue import Feature, Queue, sync
from anyqueue.worker.calls import caller
from anyqueue.worker.health import Health
from anyqueue.worker.meter import Ended, Limits, Meter

if TYPE_CHECKING:
    from anyqueue import Client, Consumer
    from anyqueue.worker.app import Worker
    from anyqueue.worker.handlers import Handler

_log = logging.getLogger(__name__)
LOOK: Final = 0.1
"""Seconds between two looks at whether the queues are empty."""
QUIET: Final = 0.5
"""Seconds without a message after which a queue that counts none is empty: they may be on their way."""
SILENCE: Final = 2.0
"""The same where the backend cannot count."""


class Run:
    """One run of a worker."""

    def __init__(self, worker: Worker, limits: Limits) -> None:
        self._worker = worker
        self._limits = limits
        self._ended: Ended | None = None
        self._stopping = asyncio.Event()
        self._consumers: list[Consumer] = []
        self.meter = Meter(limits.max_messages, lambda: self.stop(Ended.FULL))
        self.health = Health(self.meter, len(worker.handlers), self._say_ready)
        self.client: Client = anyqueue.connect(
            worker.url,
            require=worker.require,
            credentials=worker.credentials,
            hooks=[*worker.hooks, self.health],
            drain_timeout=worker.drain_timeout,
        )
        self.twins = sync.Twins(self.client)

    def stop(self, why: Ended) -> None:
        """Begin no more messages, and drain. The first reason stays."""
        self._ended = self._ended or why
        self.health.draining = True
        self._stopping.set()
        for consumer in self._consumers:
            consumer.stop()

    async def run(self) -> Ended:
        """Run until stopped, and say why it ended. Raises what ends a consumer."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.client)
            self._worker.state = await self._set_up(stack)
            stack.callback(setattr, self._worker, "state", None)
            tasks = [self._begin(handler, stack) for handler in self._worker.handlers]
            beside = [asyncio.create_task(self._watch())] if self._limits.until_empty else []
            if self._worker.entries:
                beside.append(asyncio.create_task(self._schedule()))
            try:
                await self._until_stopped([*tasks, *beside])
            finally:
                await self._end(beside)
                await self._drain(tasks)
        for task in [*beside, *tasks]:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return self._ended or Ended.ASKED

    async def _set_up(self, stack: AsyncExitStack) -> object:
        if self._worker.lifespan is None:
            return None
        lifespan = self._worker.lifespan(self._worker)
        if isinstance(lifespan, AbstractAsyncContextManager):
            return await stack.enter_async_context(lifespan)
        return stack.enter_context(lifespan)

    def _begin(self, handler: Handler, stack: AsyncExitStack) -> asyncio.Task[None]:
        consumer = self.client.consumer(
            handler.address,
            group=handler.group,
            concurrency=handler.concurrency,
            prefetch=prefetch_of(handler),
            type=handler.type,
            retry=handler.retry,
            dead_letter=handler.dead_letter,
        )
        call, pool = caller(handler, self._worker.middlewares, self.meter, self.twins)
        if handler.inbox is not None:
            stack.callback(handler.inbox.close)
        if pool is not None:
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        self._consumers.append(consumer)
        if self._stopping.is_set():
            consumer.stop()
        batching = handler.batching
        if batching is None:
            return asyncio.create_task(consumer.run(call), name=handler.queue)
        batches = consumer.run_batches(call, max_size=batching.max_size, max_wait=batching.max_wait)
        return asyncio.create_task(batches, name=handler.queue)

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _end(self, beside: list[asyncio.Task[None]]) -> None:
        """End what runs beside the consumers, first of all: what the clock sends now is for the next process."""
        self.stop(Ended.ASKED)
        for task in beside:
            task.cancel()
        if beside:
            await asyncio.wait(beside)

    async def _schedule(self) -> None:
        from anyqueue.worker.cron import scheduler_of  # noqa: PLC0415 -- needs cronsim, which may be missing

        await scheduler_of(self._worker, self.client).run()

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        if self.meter.running:
            _log.info("draining", extra={"running": self.meter.running, "timeout": self._worker.drain_timeout})
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
        if self.meter.cancelled:
            _log.warning("the drain timeout is over: messages go back", extra={"count": self.meter.cancelled})

    async def _watch(self) -> None:
        """Stop once nothing is ready, nothing is being handled, and nothing has come for a while."""
        loop = asyncio.get_running_loop()
        counts = Feature.COUNT in self.client.features and all(
            isinstance(handler.address, Queue) for handler in self._worker.handlers
        )
        begun, since = self.meter.begun, loop.time()
        while True:
            await asyncio.sleep(LOOK)
            if self.meter.running or begun != self.meter.begun:
                begun, since = self.meter.begun, loop.time()
            elif loop.time() - since > (QUIET if counts else SILENCE) and (not counts or await self._empty()):
                self.stop(Ended.EMPTY)
                return

    async def _empty(self) -> bool:
        with contextlib.suppress(anyqueue.Error):  # the broker is away: ask again
            depths = [await self.client.depth(handler.address.name) for handler in self._worker.handlers]
            return not any(depth.ready + depth.held for depth in depths)
        return False

    def _say_ready(self) -> None:
        queues = [handler.queue for handler in self._worker.handlers]
        _log.info("ready", extra={"url": str(self._worker.url), "queues": queues})


def prefetch_of(handler: Handler) -> int | None:
    """Return how many messages to hold: of a handler of batches, one batch more than it handles at once."""
    if handler.batching is None or handler.prefetch is not None:
        return handler.prefetch
    return handler.batching.max_size * (handler.concurrency + 1)
