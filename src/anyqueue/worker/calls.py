"""A handler -> the async function that a consumer calls: middleware around it, a thread for a plain one, counted.

What this costs a message is the worker's whole cost over a bare consumer: without middleware, one more await.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from anyqueue import Batch
from anyqueue.worker.duplicates import batch_once, once
from anyqueue.worker.handlers import Handler, is_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue import Message
    from anyqueue.sync import Twins
    from anyqueue.worker.meter import Meter

_log = logging.getLogger(__name__)
CallNext = Callable[[Any], Awaitable[object]]
Middleware = Callable[[Any, CallNext], Awaitable[object]]
"""Called around every handler with the message (or batch) and what comes next; the first one is outermost."""
THREADS: str = "anyqueue-handler"
"""How the names of the threads begin in which plain handlers run."""


def caller(
    handler: Handler, middleware: Sequence[Middleware], meter: Meter, twins: Twins
) -> tuple[CallNext, ThreadPoolExecutor | None]:
    """Return what the consumer calls, and the pool of threads that a plain handler needs."""
    call, pool = _plain(handler, twins)
    if handler.inbox is not None:
        call = (once if handler.batching is None else batch_once)(handler.queue, handler.inbox, call)
    for around in reversed(middleware):
        call = _around(around, call)
    if _log.isEnabledFor(logging.DEBUG):
        call = _logged(handler, call)
    return _counted(call, meter) if handler.batching is None else _counted_batch(call, meter), pool


def _plain(handler: Handler, twins: Twins) -> tuple[CallNext, ThreadPoolExecutor | None]:
    """Let a plain function run in a thread, with the blocking twin of the message."""
    function: Any = handler.function
    if is_async(function):
        return function, None
    pool = ThreadPoolExecutor(handler.concurrency, thread_name_prefix=THREADS)
    loop = asyncio.get_running_loop()
    twin: Callable[[Any], object] = twins.message if handler.batching is None else twins.batch

    async def call(given: Message | Batch) -> object:
        context = contextvars.copy_context()
        result = await loop.run_in_executor(pool, context.run, function, twin(given))
        return await result if isinstance(result, Awaitable) else result

    return call, pool


def _around(middleware: Middleware, call: CallNext) -> CallNext:
    def wrapped(given: Message | Batch) -> Awaitable[object]:
        if not isinstance(given, Batch) and given.is_request:
            return _replied(middleware, given, call)
        return middleware(given, call)

    return wrapped


async def _replied(middleware: Middleware, request: Message, call: CallNext) -> object:
    """Let the handler's value be the reply, also where a middleware returns nothing."""
    value = None

    async def kept(given: Message) -> object:
        nonlocal value
        value = await call(given)
        return value

    returned = await middleware(request, kept)
    return value if returned is None else returned


def _counted(call: CallNext, meter: Meter) -> CallNext:
    async def handle(message: Message) -> object:
        meter.begun += 1
        if meter.begun == meter.limit:
            meter.full()
        try:
            return await call(message)
        except asyncio.CancelledError:
            meter.cancelled += 1
            raise
        except BaseException:
            meter.failed += 1
            raise
        finally:
            meter.ended += 1

    return handle


def _counted_batch(call: CallNext, meter: Meter) -> CallNext:
    async def handle(batch: Batch) -> None:
        count = len(batch)
        meter.begun += count
        if meter.limit is not None and meter.begun >= meter.limit:
            meter.full()
        try:
            await call(batch)
        except asyncio.CancelledError:
            meter.cancelled += count
            raise
        except BaseException:
            meter.failed += count
            raise
        finally:
            meter.ended += count

    return handle


def _logged(handler: Handler, call: CallNext) -> CallNext:
    async def timed(given: Message | Batch) -> object:
        start = time.perf_counter()
        outcome = "failed"
        try:
            result = await call(given)
            outcome = "handled"
        finally:
            seconds = round(time.perf_counter() - start, 6)
            for message in given if isinstance(given, Batch) else [given]:
                facts = {"queue": handler.queue, "id": message.id, "attempt": message.attempt, "seconds": seconds}
                _log.debug("message %s", outcome, extra=facts)
        return result

    return timed
