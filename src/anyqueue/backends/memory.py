"""memory://NAME: queues in this process, and doubles of weaker brokers (`?as=PROFILE`).

* The queues of a NAME live in a room, shared by all its drivers, on any event loop of any thread, until the process
  ends or `MemoryDriver.forget(NAME)`. A fork's child has none of them. One lock a room, held for one batch.
* A double declares what its namesake declares, and truly lacks the rest: what is asked for beyond that is refused.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from anyqueue.backends.declared import DECLARED, dimmed, refused
from anyqueue.driver import (
    BatchSettleFailed,
    Delivery,
    Depth,
    Driver,
    Envelope,
    Feature,
    Limits,
    Queue,
    Release,
    Settlement,
    Spec,
    Subscription,
    Topic,
)
from anyqueue.errors import Closed, ConfigError, ConnectionLost
from anyqueue.store.contract import FOREVER, Holder, home_of
from anyqueue.store.room import Room, wake

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.driver import Address
    from anyqueue.url import URL

_BREATH: Final = 0.005
"""Seconds after which a call that need not wait lets the event loop turn once."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    profile: str = msgspec.field(default="memory", name="as")
    lease: float = 30.0


class MemoryDriver(Driver):
    """A driver on a room."""

    backend: ClassVar[str] = "memory"
    _rooms: ClassVar[dict[tuple[str, str], Room]] = {}

    def __init__(self, name: str, options: Options) -> None:
        self.features = DECLARED[options.profile] & ~Feature.REPLY  # its namesake's own way is no store's
        self.limits = Limits(max_sends=64, lease=options.lease if Feature.LEASE in self.features else None)
        self._key = (name, options.profile)
        self._room: Room | None = None
        self._subscriptions: list[MemorySubscription] = []
        self._refused = refused(self.features)
        self._breath = 0.0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        options = url.take_options(Options)
        if options.profile not in DECLARED:
            known = ", ".join(sorted(DECLARED))
            raise ConfigError(f"there is no profile {options.profile!r} to double", hint=f"known: {known}")
        if options.lease <= 0:
            raise ConfigError("the option lease is a positive number of seconds", url=url)
        if len(url.hosts) > 1 or any(host.port for host in url.hosts) or url.path or url.username is not None:
            raise ConfigError("a memory URL has a name and options only", url=url, hint="write memory://NAME")
        return cls(url.hosts[0].name if url.hosts else "", options)

    @classmethod
    def forget(cls, name: str) -> None:
        """Drop the queues of a NAME, in all its profiles. Drivers still open on it keep what they have."""
        for key in [key for key in cls._rooms if key[0] == name]:
            del cls._rooms[key]

    async def open(self) -> None:
        """Enter the room."""
        expiry = Feature.EXPIRY in self.features
        room = self._rooms.get(self._key)
        if room is None or room.process != os.getpid():
            room = self._rooms[self._key] = Room(expiry=expiry)
        self._room = room

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Put a batch."""
        room = self.room()
        if self._refused or isinstance(address, Topic):
            self._check(address, batch)
        now = time.time()
        with room.lock:
            room.store.put(address, batch, now)
            woken = room.woken()
        wake(woken)
        if now - self._breath > _BREATH:
            self._breath = now
            await asyncio.sleep(0)

    async def subscribe(self, spec: Spec) -> MemorySubscription:
        """Declare the queue or the group, and begin."""
        room = self.room()
        passing = isinstance(spec.address, Topic) and spec.group is None
        queue = home_of(spec, secrets.token_hex(8))
        with room.lock:
            if isinstance(spec.address, Topic):
                self.need(Feature.FANOUT, spec.address.name)
                room.store.join(spec.address.name, queue, time.time(), None)
            else:
                room.store.listen(queue, time.time(), FOREVER)
            if room.consumers.get(queue):
                self.need(Feature.COMPETING, queue)
            room.consumers[queue] = room.consumers.get(queue, 0) + 1
        bound = spec.dead_letter if Feature.DEAD_LETTER in self.features else None
        holder = Holder(
            owner=room.new_owner(),
            queue=queue,
            dead_letter=None if bound is None else bound.name,
            lease=self.limits.lease,
        )
        subscription = MemorySubscription(self, room, holder, passing=passing)
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        """Leave the room. A subscription still open was not ended: what it held counts as delivered."""
        for subscription in list(self._subscriptions):
            subscription.end(counted=True)
        self._room = None

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List the queues."""
        room = self._inspected(Feature.COUNT)
        with room.lock:
            return room.store.queues(time.time())

    async def depth(self, queue: Queue) -> Depth:
        """Count the messages of a queue."""
        room = self._inspected(Feature.COUNT)
        with room.lock:
            return room.store.depth(queue.name, time.time())

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Return messages, changing nothing."""
        room = self._inspected()
        with room.lock:
            return room.store.browse(queue.name, limit, time.time())

    async def purge(self, queue: Queue) -> int:
        """Delete what nobody holds."""
        room = self._inspected()
        with room.lock:
            return room.store.purge(queue.name, time.time())

    async def delete(self, queue: Queue) -> None:
        """Delete a queue."""
        room = self._inspected(Feature.DELETE)
        with room.lock:
            room.store.delete(queue.name)
            woken = room.woken()
        wake(woken)

    def room(self) -> Room:
        """Return the room, or raise Closed."""
        room = self._room
        if room is None:
            raise Closed("this memory driver is not open")
        if room.process != os.getpid():
            raise Closed("this memory driver belongs to the process that this one was forked from")
        return room

    def discard(self, subscription: MemorySubscription) -> None:
        """Forget a subscription that closed."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def need(self, feature: Feature, queue: str | None = None) -> None:
        """Raise Unsupported for what this double truly lacks."""
        if feature not in self.features:
            raise self._unsupported(feature, queue)

    def _inspected(self, feature: Feature = Feature.INSPECT) -> Room:
        self.need(feature)
        return self.room()

    def _check(self, address: Address, batch: Sequence[Envelope]) -> None:
        if isinstance(address, Topic):
            self.need(Feature.FANOUT, address.name)
        for field, feature in self._refused:
            if any(getattr(envelope, field) is not None for envelope in batch):
                raise self._unsupported(feature, address.name)


class MemorySubscription(Subscription):
    """A hold on one queue of a room."""

    def __init__(self, driver: MemoryDriver, room: Room, holder: Holder, *, passing: bool) -> None:
        self.home = Queue(holder.queue)
        self.dead_letters = holder.dead_letter is not None
        self._driver = driver
        self._room = room
        self._holder = holder
        self._passing = passing
        self._closed = False
        self._breath = 0.0
        self._plain = (Feature.ATTEMPTS | Feature.REDELIVER) in driver.features

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what is ready, or wait for it."""
        self._check_open()
        room, holder = self._room, self._holder
        while not self._closed:
            now = time.time()
            if now - self._breath > _BREATH:
                self._breath = now
                await asyncio.sleep(0)
            with room.lock:
                claimed = room.store.claim(holder, limit, now)
                woken = room.woken()
                waiter = None if claimed else room.wait(holder.queue, now)
            wake(woken)
            if waiter is None:
                return claimed if self._plain else [dimmed(one, self._driver.features) for one in claimed]
            try:
                await waiter.future
            finally:
                room.forget(holder.queue, waiter)
        raise ConnectionLost("the subscription was closed while it waited", queue=holder.queue)

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by receipt."""
        self._check_open()
        features = self._driver.features
        if Feature.RELEASE not in features or Feature.RELEASE_DELAY not in features:
            self._check(batch)
        room = self._room
        with room.lock:
            pairs = [(delivery.receipt, settlement) for delivery, settlement in batch]
            failures = room.store.settle(self._holder, pairs, time.time())
            woken = room.woken()
        wake(woken)
        if failures:
            raise BatchSettleFailed(failures)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Renew the leases."""
        self._check_open()
        self._driver.need(Feature.LEASE, self._holder.queue)
        with self._room.lock:
            receipts = [delivery.receipt for delivery in deliveries]
            lost = self._room.store.extend(self._holder, receipts, time.time())
        return [deliveries[index] for index in lost]

    async def close(self) -> None:
        """Give back what is unsettled; where the double has no REDELIVER, it is lost."""
        self.end(counted=False)

    def end(self, *, counted: bool) -> None:
        """Close, and count what is given back as delivered, or not."""
        if self._closed:
            return
        self._closed = True
        self._driver.discard(self)
        room, queue = self._room, self._holder.queue
        if room.process != os.getpid():
            return
        with room.lock:
            room.consumers[queue] -= 1
            if self._passing:
                room.store.delete(queue)
            elif Feature.REDELIVER in self._driver.features:
                room.store.release_all(self._holder, time.time(), counted=counted)
            else:
                room.store.drop_all(self._holder)
            room.store.leave(queue, time.time())
            woken = room.woken(queue)
        wake(woken)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self._holder.queue)
        self._driver.room()

    def _check(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        for _, settlement in batch:
            if isinstance(settlement, Release):
                feature = Feature.RELEASE_DELAY if settlement.delay else Feature.RELEASE
                self._driver.need(feature, self._holder.queue)
