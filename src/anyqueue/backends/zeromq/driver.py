"""zmq://: a hub over the network. One driver is one connection to one hub.

    zmq://HOST:PORT[,HOST:PORT...][?heartbeat=5][&key=FILE&hub_key=FILE][&insecure=1][&serve=1&store=STORE]

The hosts are tried in turn. With `serve`, the process that finds nobody listening becomes the hub (see `serving`).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, TypeVar

import msgspec

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.security import Endpoint, Keys, endpoints_of, read_pair, read_public
from anyqueue.backends.zeromq.serving import serve
from anyqueue.backends.zeromq.session import Answer, Ask, Session, error_of
from anyqueue.backends.zeromq.subscription import ZeromqSubscription
from anyqueue.backends.zeromq.vault import MEMORY, check_store
from anyqueue.driver import Depth, Driver, Envelope, Feature, Limits, Queue, Spec, Topic
from anyqueue.errors import (
    BatchFailed,
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Error,
    ProtocolError,
    SendError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.driver import Address
    from anyqueue.url import URL

ReplyT = TypeVar("ReplyT")
AGENT: Final = "anyqueue"
TURN: Final = 3.0
"""Seconds that a host has to answer before the next one is tried, where there are several."""
FAREWELL: Final = 1.0
"""Seconds that closing waits for the hub's answer."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    heartbeat: float = 5.0
    key: str = ""
    hub_key: str = ""
    insecure: bool = False
    serve: bool = False
    store: str = ""


class ZeromqDriver(Driver):
    """A driver on a hub."""

    backend: ClassVar[str] = "zmq"

    def __init__(self, url: URL, endpoints: Sequence[Endpoint], options: Options) -> None:
        self.features = DECLARED["zmq"]
        self.limits = Limits(max_sends=64)
        self._url = url
        self._endpoints = endpoints
        self._options = options
        self._session: Session | None = None
        self._process = 0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        options = url.take_options(Options)
        if not 0 < options.heartbeat <= p.MAX_HEARTBEAT:
            what = f"the option heartbeat is more than 0 and at most {p.MAX_HEARTBEAT:g} seconds"
            raise ConfigError(what, url=url)
        if bool(options.key) != bool(options.hub_key):
            raise ConfigError("the options key and hub_key go together", url=url, hint="make keys: anyqueue hub keygen")
        endpoints = endpoints_of(url, insecure=options.insecure, secured=bool(options.key))
        if options.serve and (len(endpoints) > 1 or options.key):
            what = "serve=1 starts a hub on one host, without keys"
            raise ConfigError(what, url=url, hint="run `anyqueue hub` for more")
        if options.store and not options.serve:
            raise ConfigError("the option store is for the hub that serve=1 starts", url=url)
        if url.path not in {"", "/"}:
            raise ConfigError("a zmq URL has no path", url=url, hint="write zmq://127.0.0.1:5555")
        check_store(options.store or MEMORY)
        return cls(url, endpoints, options)

    async def open(self) -> None:
        """Say hello to the first hub that answers."""
        self._process = os.getpid()
        keys = self._keys()
        *others, last = self._endpoints
        failed: list[str] = []
        for endpoint in others:
            try:
                await self._greet(endpoint, keys, TURN)
            except ConnectFailed as error:
                failed.append(str(error))
            except TimeoutError:
                failed.append(f"no answer within {TURN:g} s (at {endpoint})")
            else:
                return
        try:
            await self._greet(last, keys, None)
        except ConnectFailed as error:
            if not failed:
                raise
            raise ConnectFailed("; ".join([*failed, str(error)])) from error

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Send a batch; return once the hub has stored it."""
        session, topic, name = self._live(), isinstance(address, Topic), address.name
        parts = [
            (count, session.ask(lambda request: p.Send(request, topic, name), frame))
            for count, frame in p.chunks(batch)
        ]
        first, failures = 0, dict[int, Error]()
        for count, answer in parts:
            try:
                _expect(await answer, p.Done, session)
            except ConnectionLost:
                raise  # nobody knows what became of the batch
            except Error as error:
                failures |= dict.fromkeys(range(first, first + count), error)
            first += count
        if failures:
            self._fail(name, failures, len(batch))

    def _fail(self, name: str, failures: dict[int, Error], count: int) -> NoReturn:
        first = failures[min(failures)]
        if len(failures) == count:
            raise first
        what = f"{len(failures)} of {count} messages were refused: {first.what}"
        each = {index: SendError(error.what, queue=name, url=self._url) for index, error in failures.items()}
        raise BatchFailed(what, failures=each, queue=name, url=self._url) from first

    async def subscribe(self, spec: Spec) -> ZeromqSubscription:
        """Have the hub hand out what comes. Cancelled, it takes that back."""
        session = self._live()
        number = next(session.numbers)
        dead_letter = None if spec.dead_letter is None else spec.dead_letter.name
        subscription = ZeromqSubscription(session, number, dead_letters=dead_letter is not None)
        session.subscriptions[number] = subscription
        topic, name, group = isinstance(spec.address, Topic), spec.address.name, spec.group
        prefetch = min(spec.prefetch, p.MAX_PREFETCH)
        answer = session.ask(lambda request: p.Subscribe(request, number, topic, name, group, prefetch, dead_letter))
        try:
            subscribed, _ = _expect(await answer, p.Subscribed, session)
        except BaseException:
            subscription.abandon()
            raise
        subscription.begin(subscribed.home)
        return subscription

    async def close(self) -> None:
        """Say goodbye. A subscription still open was not ended: what it held counts as delivered."""
        session, self._session = self._session, None
        if session is None or self._process != os.getpid():
            return
        try:
            async with asyncio.timeout(FAREWELL):
                await session.ask(p.Bye)
        except TimeoutError:
            pass  # the end of the connection says it too
        finally:
            session.close()

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List the queues."""
        found, _ = await self._ask(p.Queues, p.Depths)
        return [(name, Depth(ready=ready, delayed=late, held=held)) for name, ready, late, held in found.queues]

    async def depth(self, queue: Queue) -> Depth:
        """Count the messages of a queue."""
        found, _ = await self._ask(lambda request: p.Measure(request, queue.name), p.Depths)
        _, ready, delayed, held = found.queues[0]
        return Depth(ready=ready, delayed=delayed, held=held)

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Return messages, changing nothing; at most as many as a hub shows at once (10,000)."""
        most = min(limit, p.MAX_BROWSE)
        _, frames = await self._ask(lambda request: p.Browse(request, queue.name, most), p.Shown)
        return p.read_envelopes(frames)

    async def purge(self, queue: Queue) -> int:
        """Delete what nobody holds."""
        done, _ = await self._ask(lambda request: p.Purge(request, queue.name), p.Done)
        return done.count

    async def delete(self, queue: Queue) -> None:
        """Delete a queue."""
        await self._ask(lambda request: p.Delete(request, queue.name), p.Done)

    async def _ask(self, ask: Ask, kind: type[ReplyT]) -> tuple[ReplyT, Sequence[bytes]]:
        session = self._live()
        return _expect(await session.ask(ask), kind, session)

    def _live(self) -> Session:
        if self._session is None:
            raise Closed("this zmq driver is not open", url=self._url)
        if self._process != os.getpid():
            raise Closed("this zmq driver belongs to the process that this one was forked from", url=self._url)
        return self._session

    def _keys(self) -> Keys | None:
        options = self._options
        return Keys(read_pair(options.key), read_public(options.hub_key)) if options.key else None

    async def _greet(self, endpoint: Endpoint, keys: Keys | None, seconds: float | None) -> None:
        try:
            await self._hello(endpoint, keys, seconds)
        except ConnectFailed:
            if not self._options.serve:
                raise
            serve(endpoint, self._options.store or MEMORY)
            await self._hello(endpoint, keys, seconds)

    async def _hello(self, endpoint: Endpoint, keys: Keys | None, seconds: float | None) -> None:
        session = Session(endpoint, keys, self._options.heartbeat, AGENT)
        try:
            async with asyncio.timeout(seconds):
                welcome = await session.greeted()
        except ConnectionLost as error:
            raise ConnectFailed(error.what, url=error.url, hint=error.hint) from error
        except BaseException:
            session.close()
            raise
        self._session = session
        if not welcome.durable:
            self.features &= ~Feature.DURABLE


def _expect(answer: Answer, kind: type[ReplyT], session: Session) -> tuple[ReplyT, Sequence[bytes]]:
    """Return the answer if it is of this kind, or raise what it says."""
    if isinstance(answer, Error):
        raise answer.with_traceback(None)
    reply, rest = answer
    if isinstance(reply, kind):
        return reply, rest
    if isinstance(reply, p.Refused):
        raise error_of(reply, session.where)
    raise session.lose(ProtocolError(f"the hub answered with {type(reply).__name__}", url=session.where))
