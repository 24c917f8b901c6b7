"""Call a handler, and settle by how it ended: a message at a time, or a batch.

A plain handler runs in a thread, so that it may block. What a handler raises is the policy's business; its being
cancelled from outside, KeyboardInterrupt and SystemExit are not: the message goes back.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from anyqueue._replies import asks
from anyqueue.policy import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue._message import Holder, Message
    from anyqueue.driver import Delivery

_log = logging.getLogger(__name__)
Call = Callable[[Any], Awaitable[object]]
"""An async function of a message, or of a batch."""


async def handle(message: Message, call: Call, *, typed: bool) -> None:
    """Call the handler, and settle by how it ended."""
    try:
        if is_over(message):
            return
        if typed:
            message.payload  # noqa: B018 -- reading it validates it
        result = await call(message)
    except asyncio.CancelledError as error:
        if cancelled_from_outside():
            give_back(message)
            raise
        fail(message, error)
    except Exception as error:  # noqa: BLE001 -- whatever a handler raises is the policy's business
        fail(message, error)
    except BaseException:
        give_back(message)
        raise
    else:
        if not message.settled:
            message.claim().accept_soon(message, result)


async def handle_batch(batch: Sequence[Message], call: Call) -> None:
    """Call the handler of batches; how it ended settles what it did not settle itself."""
    try:
        await call(batch)
    except asyncio.CancelledError as error:
        outside = cancelled_from_outside()
        for message in batch:
            give_back(message) if outside else fail_unsettled(message, error)
        if outside:
            raise
    except Exception as error:  # noqa: BLE001 -- as in handle()
        for message in batch:
            fail_unsettled(message, error)
    except BaseException:
        for message in batch:
            give_back(message)
        raise
    else:
        accept_unsettled(batch)


def accept_unsettled(batch: Sequence[Message]) -> None:
    """Accept those of a batch that nobody settled."""
    plain: dict[Holder, list[Delivery]] = {}
    for message in batch:
        if message.settled:
            continue
        if asks(message.delivery):
            message.claim().accept_soon(message)
        else:
            plain.setdefault(message.claim(), []).append(message.delivery)
    for holder, deliveries in plain.items():
        holder.accept_all_soon(deliveries)


def fail_unsettled(message: Message, error: BaseException) -> None:
    """Do what the policy plans for one of a batch that failed, if nobody settled it."""
    if not message.settled:
        message.claim().fail_soon(message, error)


def validates(message: Message, *, typed: bool) -> bool:
    """Say whether a message is to be handled: one that expired meanwhile, or does not validate, is given up."""
    if is_over(message):
        return False
    if typed:
        try:
            message.payload  # noqa: B018 -- reading it validates it
        except Exception as error:  # noqa: BLE001 -- Undecodable, or a defect of the type, which is the policy's too
            fail(message, error)
            return False
    return True


def is_over(message: Message) -> bool:
    """Say whether the message expired while it waited here, and give it up if so."""
    expires_at = message.delivery.envelope.expires_at
    if expires_at is None or time.time() < expires_at:
        return False
    message.claim().give_up(message, "expired")
    return True


def fail(message: Message, error: BaseException) -> None:
    """Do what the policy plans, unless the handler settled it before it failed."""
    if message.settled:
        _log.warning("a handler settled message %s and then failed: %s", message.id, describe(error))
    else:
        message.claim().fail_soon(message, error)


def give_back(message: Message) -> None:
    """Return a message whose handling never ended."""
    if not message.settled:
        message.claim().give_back(message)


def cancelled_from_outside() -> bool:
    """Say whether it is this task that was cancelled, and not something inside of a handler."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def caller(handler: Callable[[Any], object], concurrency: int) -> tuple[Call, ThreadPoolExecutor | None]:
    """Return an async function that calls the handler, and the pool of threads that a plain one needs."""
    if not callable(handler):
        raise TypeError(f"a handler is a function of one message, not {type(handler).__name__}")
    target = handler.func if isinstance(handler, functools.partial) else handler
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None)):  # noqa: B004 -- is its __call__ async, not is it callable
        return handler, None  # type: ignore[return-value]
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="anyqueue-handler")
    loop = asyncio.get_running_loop()

    async def call(message: object) -> object:
        context = contextvars.copy_context()
        result = await loop.run_in_executor(pool, context.run, handler, message)
        return await result if inspect.isawaitable(result) else result

    return call, pool
