"""zmq+pub://: PUB/SUB, without a broker and without what a broker promises.

    zmq+pub://HOST:PORT[?linger=5][&insecure=1]

* At most once, and only to who is there: a topic keeps nothing, and its groups have no names.
* There is one publisher: the process that sends. It listens from its first send on. A subscriber waits for it, and
  subscribe() returns when the publisher has said that it knows the subscription; what is sent from then on comes.
* A subscriber that cannot keep up makes the publisher wait. Nothing is dropped while both live.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
import zmq

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.zeromq import bare
from anyqueue.backends.zeromq.bare import BareSubscription
from anyqueue.backends.zeromq.pipe import Pipe
from anyqueue.backends.zeromq.security import endpoint_of
from anyqueue.driver import Driver, Envelope, Feature, Limits, Spec, Topic
from anyqueue.errors import Closed, ConfigError, ConnectionLost, QueueNotFound, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.backends.zeromq.security import Endpoint
    from anyqueue.driver import Address
    from anyqueue.url import URL

TOKEN: Final = b"\0aq:"
"""How the subscription begins by which a subscriber asks to be told that it is known. No topic begins so."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    linger: float = 5.0
    insecure: bool = False


class PubDriver(Driver):
    """A driver without a broker."""

    backend: ClassVar[str] = "zmq+pub"

    def __init__(self, url: URL, endpoint: Endpoint, options: Options) -> None:
        self.features = DECLARED["zmq+pub"]
        self.limits = Limits()
        self._url = url
        self._endpoint = endpoint
        self._options = options
        self._process = 0
        self._out: Pipe | None = None
        self._answering: asyncio.Task[None] | None = None
        self._subscriptions: set[BareSubscription] = set()

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        options = url.take_options(Options)
        if url.path not in {"", "/"}:
            raise ConfigError("a zmq+pub URL has no path", url=url, hint="topics are named where they are used")
        return cls(url, endpoint_of(url, insecure=options.insecure, linger=options.linger), options)

    async def open(self) -> None:
        """Begin. Nothing listens or connects before it is used."""
        self._process = os.getpid()

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Hand a batch to the library for every subscriber; wait for one that cannot keep up."""
        self._check(address)
        if self._out is None:
            self._out = Pipe(zmq.XPUB, self._endpoint, listen=True, options={zmq.XPUB_NODROP: 1})
            self._answering = asyncio.create_task(_answer(self._out))
        for frames in bare.write(address.name, batch):
            await self._out.send(frames)

    async def subscribe(self, spec: Spec) -> BareSubscription:
        """Wait for the publisher, and until it knows."""
        if not isinstance(spec.address, Topic):
            raise self._refuse(Feature.COMPETING, "consume Topic(name), or use zmq+push:// or a hub: zmq://")
        self._check(spec.address)
        if spec.group is not None:
            raise self._refuse(Feature.DURABLE, "leave group out, or use a hub: zmq://")
        if spec.dead_letter is not None:
            raise self._refuse(Feature.DEAD_LETTER, "say dead_letter=None, or use a hub: zmq://")
        name, token = spec.address.name.encode(), TOKEN + secrets.token_bytes(16)
        pipe = Pipe(zmq.SUB, self._endpoint, listen=False)
        subscription = BareSubscription(pipe, self._subscriptions.discard, only=name)
        try:
            pipe.subscribe(name)
            pipe.subscribe(token)  # the publisher knows of them in this order
            while (frames := await pipe.receive())[0] != token:
                subscription.put(frames)
        except BaseException:
            await pipe.close()
            raise
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        """Let what was handed over leave, for up to `linger` seconds."""
        if self._process != os.getpid():
            return
        self._process = 0
        for subscription in list(self._subscriptions):
            await subscription.close()
        if self._answering is not None:
            self._answering.cancel()
        if self._out is not None:
            await self._out.close(self._options.linger)

    def _check(self, address: Address) -> None:
        if self._process != os.getpid():
            raise Closed("this zmq+pub driver is not open in this process", url=self._url)
        if not isinstance(address, Topic):
            hint = "write Topic(name), or use zmq+push:// or a hub: zmq://"
            raise QueueNotFound("zmq+pub has topics, and no queues", queue=address.name, url=self._url, hint=hint)

    def _refuse(self, feature: Feature, hint: str) -> Unsupported:
        what = f"the zmq+pub backend has no {feature.name}"
        return Unsupported(what, feature=feature, backend=self.backend, url=self._url, hint=hint)


async def _answer(pipe: Pipe) -> None:
    """Tell who asks that its subscription is known, until the socket is closed."""
    try:
        while True:
            (frame, *_) = await pipe.receive()
            if frame[:1] == b"\x01" and frame[1:].startswith(TOKEN):
                await pipe.send([frame[1:], bare.GREETING])
    except ConnectionLost:
        return
