"""The driver: one connection that sends, and one for each consumer. See docs/backends/stomp.md for what becomes what.

A broker that is short of memory stops reading connections that send, and over STOMP what a consumer holds comes back
only when its connection ends. The connection that the driver opens with is the first consumer's, if nothing was sent
over it by then: so a client that sends and consumes has two.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections import defaultdict
from typing import TYPE_CHECKING, ClassVar

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.stomp.activemq import ActiveMQ
from anyqueue.backends.stomp.connection import Connection, connect
from anyqueue.backends.stomp.declare import Declarer
from anyqueue.backends.stomp.dialect import server_of
from anyqueue.backends.stomp.options import target_of
from anyqueue.backends.stomp.other import Other
from anyqueue.backends.stomp.probe import has_scheduler
from anyqueue.backends.stomp.rabbitmq import RabbitMQ
from anyqueue.backends.stomp.receipts import Refused
from anyqueue.backends.stomp.sending import Shipment
from anyqueue.backends.stomp.subscription import StompSubscription
from anyqueue.driver import Driver, Feature, Limits, Queue, Topic
from anyqueue.errors import AuthFailed, BatchFailed, Closed, ConnectFailed, ConnectionLost, SendError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.backends.stomp.dialect import Declared, Dialect, Place
    from anyqueue.backends.stomp.options import Target
    from anyqueue.backends.stomp.refusals import Refusal
    from anyqueue.driver import Address, Envelope, Spec
    from anyqueue.url import URL

_log = logging.getLogger(__name__)


class StompDriver(Driver):
    """A driver on one broker."""

    backend: ClassVar[str] = "stomp"

    def __init__(self, url: URL, target: Target) -> None:
        self.features = DECLARED["stomp"]
        self.limits = Limits()
        self._url = url
        self._target = target
        self._declarer = Declarer(target, url)
        self._dialect: Dialect | None = None
        self._connection: Connection | None = None
        """The one that sends, and the first consumer's until something is sent."""
        self._sent = False
        self._turn = asyncio.Lock()
        self._delays: defaultdict[str, set[str]] = defaultdict(set)
        """A queue -> the queues on the broker in which messages for it wait, as far as this driver filled them."""
        self._subscriptions: set[StompSubscription] = set()
        self._identities = itertools.count(1)
        self._token = secrets.token_hex(4)
        self._process = 0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        return cls(url, target_of(url))

    async def open(self) -> None:
        """Connect, and find out what the server is and has."""
        connection = await connect(self._target, self._url)
        try:
            dialect = await self._recognise(connection)
        except BaseException as error:
            connection.drop()
            if isinstance(error, ConnectionLost):
                raise ConnectFailed(error.what, url=self._url) from error
            raise
        self._process = os.getpid()
        self._declarer.host = connection.host
        self._connection, self._dialect = connection, dialect
        self.features, self.limits = dialect.features, dialect.limits

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Send, each with a receipt, and wait for the receipts."""
        dialect = self._check_open()
        now = time.time()
        places = self._places(dialect, address, batch, now)
        async with self._turn:
            for place in dict.fromkeys(places):
                await self._declarer.ensure(place.declares, address.name)
                if isinstance(address, Queue) and (delays := place.declares[1:]):
                    self._delays[address.name].update(each.name for each in delays)
            connection = await self._sending()
            shipment = Shipment(connection, dialect, list(zip(places, batch, strict=True)), now)
            await shipment.write()
        try:
            refused = await shipment.outcome()
        except Refused as error:
            raise self._explain(error.refusal, address) from error
        if refused:
            raise self._failed(address, len(batch), refused)

    async def subscribe(self, spec: Spec) -> StompSubscription:
        """Declare what is consumed, and begin, over a connection of its own."""
        dialect = self._check_open()
        if isinstance(spec.address, Topic) and Feature.FANOUT not in self.features:
            raise self._unsupported(Feature.FANOUT, spec.address.name)
        identity = f"{self._token}-{next(self._identities)}"
        source = dialect.source(spec, identity)
        await self._declarer.ensure(source.declares, spec.address.name)
        connection = await self._take()
        subscription = StompSubscription(connection, dialect, spec, source, self._url)
        subscription.on_gone = lambda: self._forget(source.declares)
        try:
            await subscription.begin(identity)
        except BaseException:
            connection.drop()
            raise
        self._subscriptions = {one for one in self._subscriptions if one.connection.lost is None} | {subscription}
        return subscription

    async def delete(self, queue: Queue) -> None:
        """Delete a queue, where the dialect knows how, and what waits for it as far as this driver sent it."""
        name = self._check_open().deletes(queue)
        if name is None:
            raise self._unsupported(Feature.DELETE, queue.name)
        async with self._turn:
            for each in (name, *self._delays.pop(queue.name, ())):
                await self._declarer.delete(each, queue.name)

    async def close(self) -> None:
        """Close the connections; what their consumers hold goes back."""
        connection, self._connection, self._dialect = self._connection, None, None
        if self._process != os.getpid():
            return
        await asyncio.gather(
            *(subscription.close() for subscription in self._subscriptions),
            *([connection.close()] if connection is not None else []),
        )

    async def _recognise(self, connection: Connection) -> Dialect:
        options = self._target.options
        name, version = server_of(connection.server)
        if options.server != "auto":
            name = options.server
        if name == "rabbitmq":
            return RabbitMQ(options.queue_type, version, delay_policy=options.delay_policy)
        if name == "activemq":
            return ActiveMQ(scheduler=await has_scheduler(connection))
        if options.server == "auto":
            said = connection.server or "nothing of itself"
            _log.warning("the STOMP server at %s says %r: only what all such servers do is used", self._url, said)
        return Other()

    def _places(self, dialect: Dialect, address: Address, batch: Sequence[Envelope], now: float) -> list[Place]:
        if isinstance(address, Topic) and Feature.FANOUT not in self.features:
            raise self._unsupported(Feature.FANOUT, address.name)
        times = [envelope.not_before for envelope in batch]
        if not any(times):
            return [dialect.place(address, None, now)] * len(batch)
        if Feature.DELAY not in self.features:
            raise self._unsupported(Feature.DELAY, address.name)
        return [dialect.place(address, not_before, now) for not_before in times]

    async def _sending(self) -> Connection:
        """Return the connection that sends."""
        self._sent = True
        if self._connection is None:
            self._connection = await self._connect()
        self._connection.heeds_strays = self._dialect is not None and not self._dialect.transacts
        if self._connection.lost is not None:
            raise self._connection.lost.with_traceback(None)
        return self._connection

    async def _take(self) -> Connection:
        """Return a connection for a consumer."""
        connection = self._connection
        if connection is None or self._sent:
            return await self._connect()
        if connection.lost is not None:
            raise connection.lost.with_traceback(None)
        self._connection = None
        return connection

    async def _connect(self) -> Connection:
        """Connect once more; what fails now was lost."""
        try:
            return await connect(self._target, self._url, self._declarer.host)
        except (ConnectFailed, AuthFailed) as error:
            raise ConnectionLost(f"no second connection: {error.what}", url=self._url) from error

    def _forget(self, declares: Sequence[Declared]) -> None:
        for queue in declares:
            self._declarer.forget(queue.name)

    def _explain(self, refusal: Refusal, address: Address) -> Exception:
        """Return the error for all of a batch, by a broker that does not say which message it was."""
        if refusal.is_clear:
            return refusal.of_queue("the broker does not let us send", address.name, self._url)
        return refusal.of_connection(self._url)

    def _failed(self, address: Address, count: int, refused: dict[int, Refusal]) -> Exception:
        """Return the error for the messages of a batch that were refused."""
        errors = {
            index: refusal.of_queue("the broker refused the message", address.name, self._url)
            for index, refusal in sorted(refused.items())
        }
        if len(errors) == count:
            return next(iter(errors.values()))
        failures = {
            index: SendError(error.what, queue=address.name, url=self._url, hint=error.hint)
            for index, error in errors.items()
        }
        what = f"{len(failures)} of {count} messages were refused"
        return BatchFailed(what, failures=failures, queue=address.name, url=self._url)

    def _check_open(self) -> Dialect:
        if self._dialect is None:
            raise Closed("this stomp driver is not open", url=self._url)
        if self._process != os.getpid():
            raise Closed("this stomp driver belongs to the process that this one was forked from", url=self._url)
        return self._dialect
