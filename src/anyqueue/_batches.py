"""Batches: as many messages as are here, up to a size, waiting a while for more; each settled on its own.

One batch is gathered at a time, so that messages that trickle in do not end in several half-full ones. A suspect (see
`policy.SUSPECT_SLACK`) is a batch of its own: the neighbours of one that kills its consumer are not counted for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyqueue._arguments import check_seconds, count_of
from anyqueue._handling import accept_unsettled, fail_unsettled, validates
from anyqueue._message import Message
from anyqueue.errors import Closed, ConfigError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from anyqueue._reception import Reception


class Batch(list[Message]):
    """Messages to be handled together. Settle each by hand, or use `async with batch:`, which does it for the rest.

    At its end what is not settled is accepted; on an exception the retry policy decides for each of them.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            accept_unsettled(self)
            return False
        if not isinstance(error, Exception):
            return False
        for message in self:
            fail_unsettled(message, error)
        return True


class Gatherer:
    """Gathers the batches of one consumer."""

    def __init__(self, max_size: int, max_wait: float, *, prefetch: int, typed: bool) -> None:
        self._most = count_of(max_size, "max_size")
        self._wait = check_seconds(max_wait, "max_wait")
        self._typed = typed
        self._turn = asyncio.Lock()
        if self._most > prefetch:
            what = f"a batch of {self._most} is more than this consumer holds: its prefetch is {prefetch}"
            raise ConfigError(what, hint=f"ask for batches of at most {prefetch}, or for more prefetch")

    async def next(self, reception: Reception) -> tuple[Batch, bool] | None:
        """Wait for a message and, for up to max_wait seconds, for more; say whether it is a suspect, alone.

        None once the reception was stopped. Cancelling loses nothing. A batch may be empty: everything in it was over.
        """
        async with self._turn:
            first = await reception.next()
            if first is None:
                return None
            batch, suspect = Batch([first]), reception.is_suspect(first)
            if not suspect:
                await self._fill(reception, batch)
        typed = self._typed
        return Batch([message for message in batch if validates(message, typed=typed)]), suspect

    async def _fill(self, reception: Reception, batch: Batch) -> None:
        try:
            async with asyncio.timeout(self._wait):
                while len(batch) < self._most and (message := await reception.next()) is not None:
                    if reception.is_suspect(message):
                        reception.put_back(message)
                        return
                    batch.append(message)
                    batch += reception.ready_ones(self._most - len(batch))
        except TimeoutError:
            return
        except BaseException:
            for message in reversed(batch):
                reception.put_back(message)
            raise


class Batches:
    """What `async with consumer.batches()` gives: batches, to be settled by hand."""

    def __init__(self, reception: Reception, gatherer: Gatherer) -> None:
        self._reception = reception
        self._gatherer = gatherer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        return await self.receive()

    async def receive(self) -> Batch:
        """Wait for the next batch. Cancelling loses nothing. Raises Closed, and what ended the subscription."""
        while True:
            found = await self._gatherer.next(self._reception)
            if found is None:
                raise Closed("the consumer is closed")
            if found[0]:
                return found[0]
