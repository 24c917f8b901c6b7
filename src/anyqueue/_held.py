"""What one subscription has handed over and is not settled yet: counting, settling, extending leases.

A receipt belongs to the subscription that made it. When that is lost, everything it held is lost with it: a later
settlement is not sent anywhere, it is told as SettleError, and the message comes again by itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from anyqueue import hooks
from anyqueue._batcher import Batcher
from anyqueue.driver import ACCEPT, Accept, BatchSettleFailed, Delivery, Feature, Release, Settlement
from anyqueue.errors import ConnectionLost, Error, SettleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.driver import Driver, Subscription

_log = logging.getLogger(__name__)
EXTENSIONS_A_LEASE: Final = 3

Waiter = asyncio.Future[None]


class Held:
    """The unsettled deliveries of one subscription. `changed` is called whenever there are fewer."""

    def __init__(
        self,
        driver: Driver,
        subscription: Subscription,
        *,
        queue: str,
        url: str,
        settle_timeout: float,
        changed: Callable[[], None],
        lost: Callable[[Exception], None],
        tell: hooks.Hooks,
    ) -> None:
        self.driver = driver
        self.subscription = subscription
        self.unsettled: dict[Delivery, None] = {}
        self.lost: Exception | None = None
        self._queue = queue
        self._url = url
        self._timeout = settle_timeout
        self._changed = changed
        self._report_lost = lost
        self._tell = tell
        self._batcher: Batcher[tuple[Delivery, Settlement, Waiter | None]] = Batcher(
            self._carry, max_batch=driver.limits.max_batch
        )
        self._keeper: asyncio.Task[None] | None = None
        if Feature.LEASE in driver.features and driver.limits.lease:
            self._keeper = asyncio.create_task(self._extend(driver.limits.lease))

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Count these as held."""
        self.unsettled.update(dict.fromkeys(deliveries))

    def settle(self, delivery: Delivery, settlement: Settlement, waiter: Waiter | None = None) -> None:
        """Settle with the next batch. How it went is told to `waiter` if there is one, and to the report."""
        if delivery not in self.unsettled:
            self._fail(delivery, settlement, waiter, str(self.lost or "the lease ran out before it was settled"))
            return
        self._batcher.add((delivery, settlement, waiter))

    def accept_all(self, deliveries: Sequence[Delivery]) -> None:
        """Accept with the next batches."""
        for delivery in deliveries:
            if delivery not in self.unsettled:
                self.settle(delivery, ACCEPT)
        self._batcher.add_all([(each, ACCEPT, None) for each in deliveries if each in self.unsettled])

    async def settled(self, delivery: Delivery, settlement: Settlement) -> None:
        """Settle and wait until the broker knows; raise SettleError when it came too late."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self.settle(delivery, settlement, waiter)
        await waiter

    def lose(self, error: Exception) -> None:
        """Forget everything: the subscription is gone, and what it held comes again."""
        if self.lost is None:
            self.lost = error
            self.unsettled.clear()
            if self._keeper is not None:
                self._keeper.cancel()
            self._changed()

    async def flush(self) -> None:
        """Wait until what was settled is with the broker."""
        await self._batcher.flush()

    async def close(self) -> None:
        """Flush, then end the subscription: what is unsettled goes back. Never raises."""
        await self.flush()
        self.lose(SettleError("the consumer is closed", queue=self._queue))
        try:
            async with asyncio.timeout(self._timeout):
                await self.subscription.close()
        except TimeoutError:
            self._report_lost(ConnectionLost(f"closing the subscription took over {self._timeout:g} s"))

    async def _carry(self, batch: list[tuple[Delivery, Settlement, Waiter | None]]) -> None:
        late = await self._send([(delivery, settlement) for delivery, settlement, _ in batch])
        tells = bool(self._tell)
        for index, (delivery, settlement, waiter) in enumerate(batch):
            self.unsettled.pop(delivery, None)
            if index in late:
                self._fail(delivery, settlement, waiter, late[index])
                continue
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            if tells:
                identity, how = delivery.envelope.id, outcome(settlement)
                self._tell(hooks.Settled(url=self._url, queue=self._queue, id=identity, outcome=how))
        self._changed()

    async def _send(self, batch: list[tuple[Delivery, Settlement]]) -> dict[int, str]:
        """Return why the broker did not take each one that it did not, by position."""
        try:
            if self.lost is not None:
                raise self.lost
            async with asyncio.timeout(self._timeout):
                await self.subscription.settle(batch)
        except BatchSettleFailed as error:
            return dict(error.failures)
        except TimeoutError:
            lost = ConnectionLost(f"no answer to a settlement within {self._timeout:g} s", queue=self._queue)
            self._report_lost(lost)
            return dict.fromkeys(range(len(batch)), lost.what)
        except ConnectionLost as error:
            self._report_lost(error)
            return dict.fromkeys(range(len(batch)), error.what)
        except Error as error:
            return dict.fromkeys(range(len(batch)), error.what)
        return {}

    def _fail(self, delivery: Delivery, settlement: Settlement, waiter: Waiter | None, why: str) -> None:
        if waiter is not None and not waiter.done():
            what = f"message {delivery.envelope.id} was settled too late: {why}"
            hint = (
                "it will come again" if not isinstance(settlement, Accept) else "it will come again: make it idempotent"
            )
            waiter.set_exception(SettleError(what, queue=self._queue, hint=hint))
        identity = delivery.envelope.id
        _log.warning("message %s of queue %r: %s", identity, self._queue, why)
        if self._tell:
            self._tell(hooks.Dropped(url=self._url, queue=self._queue, id=identity, reason=why))

    async def _extend(self, lease: float) -> None:
        while True:
            await asyncio.sleep(lease / EXTENSIONS_A_LEASE)
            if not self.unsettled:
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    gone = await self.subscription.extend(list(self.unsettled))
            except (Error, TimeoutError) as error:
                _log.warning("the leases on queue %r could not be extended: %s", self._queue, error)
                continue
            for delivery in gone:
                self.unsettled.pop(delivery, None)
            if gone:
                _log.warning("%d leases on queue %r ran out; the messages will come again", len(gone), self._queue)
                self._changed()


def outcome(settlement: Settlement) -> str:
    """Name a settlement for people."""
    return (
        "accepted" if isinstance(settlement, Accept) else "released" if isinstance(settlement, Release) else "rejected"
    )
