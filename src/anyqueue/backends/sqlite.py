"""sqlite://: queues in a file, shared by the processes of one machine.

* `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`. All work is done by one thread a file and process
  (see store/sqlite_writer.py); the event loop never waits for the disk.
* send() returns once the commit is on disk (`durability=full`).
* A delivery is held for `lease` seconds. What a killed process held comes back when its leases end.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeVar

import msgspec

from anyqueue.backends.declared import DECLARED
from anyqueue.driver import (
    BatchSettleFailed,
    Delivery,
    Depth,
    Driver,
    Envelope,
    Limits,
    Queue,
    Settlement,
    Spec,
    Subscription,
    reply_lasts,
)
from anyqueue.errors import Closed, ConfigError, ConnectionLost
from anyqueue.store.contract import Holder, home_of
from anyqueue.store.sqlite_file import Settings
from anyqueue.store.sqlite_writer import GROUP_LEASE, Watcher, Writer
from anyqueue.store.sqlite_writers import WRITERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from anyqueue.driver import Address
    from anyqueue.store.sqlite import SqliteStore
    from anyqueue.url import URL

T = TypeVar("T")
Claim = tuple[list[Delivery], float | None, float]
"""What was claimed, when to try again if nothing was, and the time of it."""
_NAP: Final = 3600.0
"""The longest sleep of a receive() that knows when to look next."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    lease: float = 30.0
    durability: Literal["full", "process"] = "full"
    poll: float = 0.1
    busy_timeout: float = 10.0


class SqliteDriver(Driver):
    """A driver on a file."""

    backend: ClassVar[str] = "sqlite"

    def __init__(self, path: str, options: Options) -> None:
        self.features = DECLARED["sqlite"]
        self.limits = Limits(max_sends=64, lease=options.lease)
        self._path = path
        self._settings = Settings(durability=options.durability, busy_timeout=options.busy_timeout, poll=options.poll)
        self._writer: Writer | None = None
        self._finalizer: weakref.finalize[..., SqliteDriver] | None = None
        self._process = 0
        self._subscriptions: set[SqliteSubscription] = set()
        self.watchers: set[Watcher] = set()
        """Those of the open subscriptions."""

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        options = url.take_options(Options)
        for name in ("lease", "poll", "busy_timeout"):
            if getattr(options, name) <= 0:
                raise ConfigError(f"the option {name} is a positive number of seconds", url=url)
        if url.hosts or url.username is not None:
            hint = "write sqlite:///relative/path.db or sqlite:////absolute/path.db"
            raise ConfigError("a sqlite URL has no host and no user", url=url, hint=hint)
        path = url.path.removeprefix("/")
        if not path or path.endswith("/") or "\0" in path:
            raise ConfigError("a sqlite URL names a file", url=url, hint="write sqlite:///path.db")
        return cls(path, options)

    async def open(self) -> None:
        """Open the file, making it if it is not there."""
        path = Path(self._path)
        writer = WRITERS.acquire(str(path.parent.resolve() / path.name), self._settings)
        try:
            await asyncio.wrap_future(writer.opened)
        except BaseException:
            WRITERS.release(writer)
            if writer.opened.done() and writer.opened.exception() is not None:
                writer.join(1.0)
            raise
        self._writer, self._process = writer, os.getpid()
        self._finalizer = weakref.finalize(self, _let_go, writer, self.watchers)

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Put a batch; return once it is committed."""
        await self.submit(lambda store, now: store.put(address, batch, now))

    async def subscribe(self, spec: Spec) -> SqliteSubscription:
        """Declare the queue or the group, and begin."""
        writer = self._open_writer()
        passing = not isinstance(spec.address, Queue) and spec.group is None
        queue = home_of(spec, secrets.token_hex(8))
        if isinstance(spec.address, Queue):
            await self.submit(lambda store, now: store.listen(queue, now))
        else:
            topic, lease = spec.address.name, GROUP_LEASE if passing else None
            await self.submit(lambda store, now: store.join(topic, queue, now, lease))
        holder = Holder(
            owner=secrets.randbits(62),
            queue=queue,
            dead_letter=None if spec.dead_letter is None else spec.dead_letter.name,
            lease=self.limits.lease,
        )
        subscription = SqliteSubscription(self, writer, holder, passing=passing)
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        """Close the subscriptions, and the file where no other driver of this process has it open.

        A subscription still open was not ended: what it held counts as delivered.
        """
        writer, self._writer = self._writer, None
        if writer is None or self._process != os.getpid():
            return
        for subscription in list(self._subscriptions):
            await subscription.end(counted=True)
        if self._finalizer is not None:
            self._finalizer()
        if writer.stopping:
            await asyncio.wrap_future(writer.closed)
            writer.join(1.0)  # it has nothing left to do

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List the queues."""
        return await self.submit(lambda store, now: store.queues(now))

    async def depth(self, queue: Queue) -> Depth:
        """Count the messages of a queue."""
        return await self.submit(lambda store, now: store.depth(queue.name, now))

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Return messages, changing nothing."""
        return await self.submit(lambda store, now: store.browse(queue.name, limit, now))

    async def purge(self, queue: Queue) -> int:
        """Delete what nobody holds."""
        return await self.submit(lambda store, now: store.purge(queue.name, now))

    async def delete(self, queue: Queue) -> None:
        """Delete a queue."""
        await self.submit(lambda store, _: store.delete(queue.name))

    def submit(self, work: Callable[[SqliteStore, float], T]) -> asyncio.Future[T]:
        """Have the writer do it. Raises Closed."""
        return self._open_writer().submit(work)

    def discard(self, subscription: SqliteSubscription) -> None:
        """Forget a subscription that closed."""
        self._subscriptions.discard(subscription)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise Closed("this sqlite driver is not open")
        if self._process != os.getpid():
            raise Closed("this sqlite driver belongs to the process that this one was forked from")
        return self._writer


class SqliteSubscription(Subscription):
    """A hold on one queue of the file."""

    def __init__(self, driver: SqliteDriver, writer: Writer, holder: Holder, *, passing: bool) -> None:
        self.home = Queue(holder.queue)
        self.dead_letters = holder.dead_letter is not None
        self._driver = driver
        self._writer = writer
        self._holder = holder
        self._passing = passing
        self._closed = False
        self._claim: asyncio.Future[Claim] | None = None
        self._surplus: list[Delivery] = []
        """Claimed by a call that was cancelled, and not handed out yet."""
        self._surplus_until = 0.0
        """When its leases end: it is back in the queue then."""
        lease = GROUP_LEASE if passing else reply_lasts(holder.queue)
        self._watcher = Watcher(holder.queue, lease)
        driver.watchers.add(self._watcher)
        writer.watch(self._watcher)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Claim what is ready, or wait for it."""
        self._check_open()
        while not self._closed:
            if self._surplus and time.time() < self._surplus_until:
                return self._take(limit)
            if self._claim is None:
                self._watcher.changed.clear()
                self._claim = self._begin(limit)
            await asyncio.wait((self._claim,))  # cancelled here, the claim is left to the next call
            claim, self._claim = self._claim, None
            self._surplus, due, now = claim.result()
            self._surplus_until = now + (self._holder.lease or 0.0)
            if not self._surplus:
                await self._rest(due, now)
        raise ConnectionLost("the subscription was closed while it waited", queue=self._holder.queue)

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by receipt; return once it is committed."""
        self._check_open()
        pairs = [(delivery.receipt, settlement) for delivery, settlement in batch]
        failures = await self._driver.submit(lambda store, now: store.settle(self._holder, pairs, now))
        if failures:
            raise BatchSettleFailed(failures)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Renew the leases."""
        self._check_open()
        receipts = [delivery.receipt for delivery in deliveries]
        lost = await self._driver.submit(lambda store, now: store.extend(self._holder, receipts, now))
        return [deliveries[index] for index in lost]

    async def close(self) -> None:
        """Give back what is unsettled; a group of its own ends."""
        await self.end(counted=False)

    async def end(self, *, counted: bool) -> None:
        """Close, and count what is given back as delivered, or not."""
        if self._closed:
            return
        self._closed = True
        self._driver.discard(self)
        self._driver.watchers.discard(self._watcher)
        self._writer.unwatch(self._watcher)
        self._watcher.changed.set()
        holder = self._holder
        with suppress(Exception):  # the leases end all the same
            if self._passing:
                await self._writer.submit(lambda store, _: store.delete(holder.queue))
            else:
                await self._writer.submit(lambda store, now: store.release_all(holder, now, counted=counted))

    def _begin(self, limit: int) -> asyncio.Future[Claim]:
        holder = self._holder

        def work(store: SqliteStore, now: float) -> Claim:
            claimed = store.claim(holder, limit, now)
            return claimed, None if claimed else store.next_due(holder.queue, now), now

        claim = self._driver.submit(work)
        claim.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if nobody asks
        return claim

    def _take(self, limit: int) -> list[Delivery]:
        taken, self._surplus = self._surplus[:limit], self._surplus[limit:]
        return taken

    async def _rest(self, due: float | None, now: float) -> None:
        """Sleep until the queue changed or something in it falls due."""
        timer = None
        if due is not None:
            delay = min(max(due - max(now, time.time()), 0.0), _NAP)
            timer = asyncio.get_running_loop().call_later(delay, self._watcher.changed.set)
        try:
            await self._watcher.changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self._holder.queue)


def _let_go(writer: Writer, watchers: set[Watcher]) -> None:
    """Leave the writer, for a driver that was closed or collected."""
    for watcher in list(watchers):
        writer.unwatch(watcher)
    WRITERS.release(writer)
