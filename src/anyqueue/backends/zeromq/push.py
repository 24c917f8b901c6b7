"""zmq+push://: PUSH/PULL, without a broker and without what a broker promises.

    zmq+push://HOST:PORT/QUEUE[?bind=receiver|sender][&linger=5][&insecure=1]

* At most once. send() returns when the library has the message and somebody to send it to; until then it waits. What
  either process had when it died is gone. A retry runs the handler again in the same process.
* A URL is one queue. One side listens, and there is one of it: the receiver, which many senders reach, or with
  `bind=sender` the sender, whose messages many receivers share.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
import zmq

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.zeromq import bare
from anyqueue.backends.zeromq.bare import BareSubscription
from anyqueue.backends.zeromq.pipe import Pipe
from anyqueue.backends.zeromq.security import endpoint_of
from anyqueue.driver import Driver, Envelope, Feature, Limits, Queue, Spec
from anyqueue.errors import Closed, ConfigError, QueueNotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.backends.zeromq.security import Endpoint
    from anyqueue.driver import Address
    from anyqueue.url import URL


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    bind: Literal["receiver", "sender"] = "receiver"
    linger: float = 5.0
    insecure: bool = False


class PushDriver(Driver):
    """A driver without a broker."""

    backend: ClassVar[str] = "zmq+push"

    def __init__(self, url: URL, endpoint: Endpoint, queue: str, options: Options) -> None:
        shared = options.bind == "sender"
        self.features = DECLARED["zmq+push"] if shared else DECLARED["zmq+push"] & ~Feature.COMPETING
        self.limits = Limits()
        self._url = url
        self._endpoint = endpoint
        self._queue = queue
        self._options = options
        self._process = 0
        self._out: Pipe | None = None
        self._subscriptions: set[BareSubscription] = set()

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        options = url.take_options(Options)
        queue = url.path.removeprefix("/")
        if not queue:
            raise ConfigError("a zmq+push URL names its queue", url=url, hint="write zmq+push://127.0.0.1:5555/QUEUE")
        return cls(url, endpoint_of(url, insecure=options.insecure, linger=options.linger), queue, options)

    async def open(self) -> None:
        """Begin. Nothing listens or connects before it is used."""
        self._process = os.getpid()

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Hand a batch to the library; wait for somebody to send it to."""
        self._check(address)
        if self._out is None:
            self._out = Pipe(zmq.PUSH, self._endpoint, listen=self._options.bind == "sender")
        for frames in bare.write(address.name, batch):
            await self._out.send(frames)

    async def subscribe(self, spec: Spec) -> BareSubscription:
        """Listen, or connect."""
        self._check(spec.address)
        if spec.dead_letter is not None:
            raise self._refuse(Feature.DEAD_LETTER, "say dead_letter=None, or use a hub: zmq://")
        if self._subscriptions and Feature.COMPETING not in self.features:
            raise self._refuse(Feature.COMPETING, "say bind=sender, or use a hub: zmq://")
        pipe = Pipe(zmq.PULL, self._endpoint, listen=self._options.bind == "receiver")
        subscription = BareSubscription(pipe, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        """Let what was handed over leave, for up to `linger` seconds."""
        if self._process != os.getpid():
            return
        self._process = 0
        for subscription in list(self._subscriptions):
            await subscription.close()
        if self._out is not None:
            await self._out.close(self._options.linger)

    def _check(self, address: Address) -> None:
        if self._process != os.getpid():
            raise Closed("this zmq+push driver is not open in this process", url=self._url)
        if address != Queue(self._queue):
            hint = "use another URL for another queue, or a hub: zmq://"
            what = f"this URL is the queue {self._queue!r} and no other"
            raise QueueNotFound(what, queue=address.name, url=self._url, hint=hint)

    def _refuse(self, feature: Feature, hint: str) -> Unsupported:
        what = f"the zmq+push backend has no {feature.name}"
        return Unsupported(what, feature=feature, backend=self.backend, queue=self._queue, url=self._url, hint=hint)
