"""Acknowledge a message that was handled before without calling its handler.

While the inbox cannot be reached, messages are held and wait: neither handled, which could be twice, nor given up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from anyqueue import Batch, Rejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Message
    from anyqueue.inbox import Inbox

T = TypeVar("T")
_log = logging.getLogger(__name__)
AGAIN: Final = 1.0
"""Seconds between two tries to reach the inbox."""


def once(
    queue: str, inbox: Inbox, call: Callable[[Message], Awaitable[object]]
) -> Callable[[Message], Awaitable[object]]:
    """Return the call that handles a message once."""

    async def handle(message: Message) -> object:
        ids = [message.id]
        if await _ask(lambda: inbox.seen(queue, ids)):
            _told(queue, ids)
            if message.is_request:
                raise Rejected("it was handled before, and its reply is not kept")
            return None
        result = await call(message)
        if not message.settled:  # settled by hand: it may come again on purpose
            await _ask(lambda: inbox.done(queue, ids))
        return result

    return handle


def batch_once(
    queue: str, inbox: Inbox, call: Callable[[Batch], Awaitable[object]]
) -> Callable[[Batch], Awaitable[object]]:
    """Return the call that handles each message of batches once; those that were handled before are left out."""

    async def handle(batch: Batch) -> None:
        seen = await _ask(lambda: inbox.seen(queue, [message.id for message in batch]))
        new = Batch(message for message in batch if message.id not in seen)
        if seen:
            _told(queue, sorted(seen))
        if new:
            await _accept_before(batch, new)
            await call(new)
            ids = [message.id for message in new if not message.settled]
            await _ask(lambda: inbox.done(queue, ids))

    return handle


async def _accept_before(batch: Batch, new: Batch) -> None:
    """Acknowledge what is left out first: how the handler ends is no business of theirs."""
    if len(new) < len(batch):
        ids = {message.id for message in new}
        await asyncio.gather(*(message.ack() for message in batch if message.id not in ids))


def _told(queue: str, ids: list[str]) -> None:
    _log.info("handled before", extra={"queue": queue, "ids": ids})


async def _ask(call: Callable[[], T]) -> T:
    """Call the inbox in a thread, for as long as it takes until it answers."""
    told = False
    while True:
        try:
            return await asyncio.to_thread(call)
        except OSError as error:
            if not told:
                _log.error("messages wait for their inbox: %s", error)
            told = True
            await asyncio.sleep(AGAIN)
