"""The driver: one connection to RabbitMQ. See docs/backends/amqp.md for what becomes what on the broker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Final

from anyqueue.backends.amqp import names
from anyqueue.backends.amqp.connection import Connection
from anyqueue.backends.amqp.options import target_of
from anyqueue.backends.amqp.sender import Sender
from anyqueue.backends.amqp.subscription import AmqpSubscription
from anyqueue.backends.amqp.topology import Topology
from anyqueue.backends.declared import DECLARED
from anyqueue.driver import Driver, Feature, Limits, Topic
from anyqueue.errors import Closed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.backends.amqp.options import Options, Target
    from anyqueue.backends.amqp.subscription import Counts
    from anyqueue.driver import Address, Envelope, Queue, Spec
    from anyqueue.url import URL

MAX_BATCH: Final = 200
MAX_SENDS: Final = 16
MAX_PREFETCH: Final = 65535


class AmqpDriver(Driver):
    """A driver on one connection."""

    backend: ClassVar[str] = "amqp"

    def __init__(self, url: URL, target: Target) -> None:
        self.features = _features(target.options)
        delays = Feature.DELAY in self.features
        self.limits = Limits(
            max_batch=MAX_BATCH,
            max_sends=MAX_SENDS,
            max_unsettled=MAX_PREFETCH,
            delay_step=names.STEP if delays else 0.0,
            max_delay=names.MAX_DELAY if delays else None,
        )
        self._url = url
        self._connection = Connection(target, url)
        self._topology = Topology(self._connection, target.options)
        self._sender = Sender(self._connection, self._topology)
        self._process = 0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        return cls(url, target_of(url))

    async def open(self) -> None:
        """Connect."""
        self._process = os.getpid()
        await self._connection.open()

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Publish, and wait for the confirms."""
        self._check_open()
        await self._sender.send(address, batch)

    async def subscribe(self, spec: Spec) -> AmqpSubscription:
        """Declare the queue or group and its dead letters, and consume."""
        self._check_open()
        passing = isinstance(spec.address, Topic) and spec.group is None
        counting: Counts = "here" if passing else "broker"
        home = await self._topology.subscription(spec)
        subscription = AmqpSubscription(
            self._connection,
            home,
            names.wire_name(home.name),
            counts=counting if Feature.ATTEMPTS in self.features else "nobody",
            gone=lambda: self._topology.forget(home),
        )
        await subscription.begin(spec.prefetch)
        return subscription

    async def delete(self, queue: Queue) -> None:
        """Delete a queue, and the delay queues that this connection has filled for it; others' expire by themselves."""
        self._check_open()
        await self._topology.delete(queue)

    async def close(self) -> None:
        """Close the connection: subscriptions end with it."""
        mine, self._process = self._process == os.getpid(), 0
        if mine:
            await self._connection.close()

    def _check_open(self) -> None:
        if not self._process:
            raise Closed("this amqp driver is not open", url=self._url)
        if self._process != os.getpid():
            raise Closed("this amqp driver belongs to the process that this one was forked from", url=self._url)


def _features(options: Options) -> Feature:
    features = DECLARED["amqp" if options.queue_type == "quorum" else "amqp-classic"]
    if not options.max_priority:
        features &= ~Feature.PRIORITY
    if options.declare == "never":
        features &= ~Feature.DELAY
    return features
