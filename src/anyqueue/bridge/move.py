"""Move messages from one client to another: receive, send, acknowledge, many at once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anyqueue import ConfigError, Error, Feature, Queue, Retry, SettleError, Topic, Unroutable, Unsupported

if TYPE_CHECKING:
    from anyqueue import Client, Message, Messages, Producer

_log = logging.getLogger(__name__)
WINDOW: Final = 500
"""Messages that are on their way at most."""
BATCH: Final = 100
IDLE: Final = 1.0
"""Seconds without a message after which a source that counts none is empty."""
AGAIN: Final = 1.0
"""Seconds between two tries to send one message."""
FOR_EVER: Final = Retry(attempts=10**9)
"""However often a bridge was killed with a message in its hands: that is no reason to give it up."""


@dataclass(slots=True)
class Moved:
    """What a bridge did."""

    moved: int = 0
    rejected: int = 0
    """Messages that the target cannot take, now dead letters of the source."""


class Bridge:
    """Moves the messages of one queue, or of one group of a topic. Both clients are open."""

    def __init__(
        self, source: Client, address: Queue | Topic, target: Client, to: Queue | Topic, *, group: str | None = None
    ) -> None:
        if source.url == target.url and address == to:
            raise ConfigError("a bridge from a queue to itself has no end", queue=to.name, hint="name another with to")
        self._source = source
        self._address = address
        self._target = target
        self._to = to
        self._group = group
        self._stopping = asyncio.Event()
        self._told = False
        self.moved = Moved()

    def stop(self) -> None:
        """Take no more messages; run() returns once those on their way have arrived, or are given back."""
        self._stopping.set()

    async def run(self, *, until_empty: bool = False, limit: int | None = None) -> Moved:
        """Move messages until stop(), the source is empty, or `limit` were taken. Raises what ends the consumer."""
        if self._target.support(Feature.PRIORITY).kind == "refused":
            _log.warning("priorities are left out: the target has none", extra={"target": str(self._target.url)})
        consumer = self._source.consumer(self._address, group=self._group, prefetch=WINDOW, retry=FOR_EVER)
        async with consumer as messages, self._target.producer(self._to) as producer:
            tasks: set[asyncio.Task[None]] = set()
            try:
                await self._take(messages, producer, tasks, until_empty=until_empty, limit=limit)
            finally:
                self._stopping.set()
                if tasks:
                    await asyncio.wait(tasks)
        return self.moved

    async def _take(
        self,
        messages: Messages,
        producer: Producer,
        tasks: set[asyncio.Task[None]],
        *,
        until_empty: bool,
        limit: int | None,
    ) -> None:
        left = limit
        while left is None or left > 0:
            batch = await self._receive(messages, BATCH if left is None else min(BATCH, left))
            if self._stopping.is_set() and not batch:
                return
            if not batch and until_empty and not tasks and await self._empty():
                return
            for message in batch:
                task = asyncio.create_task(self._move(message, producer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            left = None if left is None else left - len(batch)

    async def _receive(self, messages: Messages, limit: int) -> list[Message]:
        """Wait a while for messages, or until stopped."""
        receiving = asyncio.create_task(messages.receive(limit))
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([receiving, stopping], timeout=IDLE, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if receiving not in done:
            receiving.cancel()
            await asyncio.wait([receiving])
        return [] if receiving.cancelled() else receiving.result()

    async def _move(self, message: Message, producer: Producer) -> None:
        try:
            if await self._send(message, producer):
                await message.ack()
                self.moved.moved += 1
        except SettleError as error:
            _log.warning("a message was moved and will be moved again: %s", error, extra={"id": message.id})
        except (ValueError, Unroutable, Unsupported) as error:
            await message.reject(f"the bridge cannot send it to {self._to.name!r}: {error}")
            self.moved.rejected += 1

    async def _send(self, message: Message, producer: Producer) -> bool:
        """Send one for as long as it takes; False once stopped without success. Raises what will never be better."""
        while not self._stopping.is_set() or not self._told:
            try:
                await producer.forward(message)
            except (ValueError, Unroutable, Unsupported):
                raise
            except Error as error:
                self._tell(error)
                await self._pause()
            else:
                self._told = False
                return True
        return False

    def _tell(self, error: Error) -> None:
        if not self._told:
            _log.warning("messages wait for their target: %s", error)
        self._told = True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(AGAIN):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _empty(self) -> bool:
        if Feature.COUNT not in self._source.features or isinstance(self._address, Topic):
            return True
        depth = await self._source.depth(self._address)
        return depth.ready + depth.held == 0
