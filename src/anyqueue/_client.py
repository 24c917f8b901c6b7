"""connect() and Client: the owner of the links, producers and consumers of one broker.

A client has two connections: one for sending, opened by `async with`, and one for consuming, opened by the first
consumer; so a broker that blocks senders does not block settlements.

This file is longer than others because the client's whole API, wide and documented, stands in one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyqueue import codecs, hooks, registry
from anyqueue._arguments import (
    DEFAULT,
    Default,
    address_of,
    check_match,
    check_name,
    check_one,
    check_seconds,
    count_of,
    dead_letter_of,
    queue_of,
    timeouts_of,
)
from anyqueue._consumer import Consumer
from anyqueue._dead_letters import discard, listed, redrive
from anyqueue._keeper import Terms as KeeperTerms
from anyqueue._link import Link
from anyqueue._message import Message
from anyqueue._outgoing import Given, Terms, check_now, envelope_of
from anyqueue._producer import Producer
from anyqueue._progress import Trackers
from anyqueue._reception import Reception
from anyqueue._replies import as_request, check_report, check_timeout, read
from anyqueue._requests import Requests, ignore
from anyqueue._sending import Outbox
from anyqueue.capability import Support, check_required, support
from anyqueue.driver import Address, Delivery, Depth, Driver, Feature, Limits, Progress, Queue, Spec, Topic
from anyqueue.errors import Closed, ConfigError, ConnectionLost
from anyqueue.policy import Retry
from anyqueue.url import COMMON_OPTIONS, URL

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Credentials = Callable[[], tuple[str, str] | Awaitable[tuple[str, str]]]
ResultT = TypeVar("ResultT")
LEAST_PREFETCH: Final = 10
MAX_OUTBOXES: Final = 1000


def connect(  # noqa: PLR0913 -- each is its own, optional, keyword
    url: str | URL,
    *,
    require: Feature = Feature.NONE,
    credentials: Credentials | None = None,
    hooks: Iterable[hooks.Hook] = (),
    progress: str | None = None,
    connect_timeout: float | None = None,
    send_timeout: float | None = None,
    settle_timeout: float | None = None,
    drain_timeout: float | None = None,
) -> Client:
    """Return an unopened client for the broker at `url`. No I/O until `async with`.

    `require` names features that must be native: Unsupported is raised where one is not. `credentials` is called for
    (user, password) at every connect. `progress`: where reports are kept if the broker has none, a path or the URL of a
    database (default: the environment's ANYQUEUE_PROGRESS, or a SQLite file of this user). Timeouts in seconds; they
    may also be options of the URL (an argument wins):
    connect 10, send 30, settle 10, drain 30. Raises ConfigError, MissingBackend, Unsupported or TypeError.
    """
    given = {
        "connect_timeout": connect_timeout,
        "send_timeout": send_timeout,
        "settle_timeout": settle_timeout,
        "drain_timeout": drain_timeout,
    }
    if not isinstance(require, Feature):
        raise TypeError(f"require is a Feature, not {type(require).__name__}")
    if credentials is not None and not callable(credentials):
        raise TypeError(f"credentials is a function, not {type(credentials).__name__}")
    if progress is not None and not isinstance(progress, str):
        raise TypeError(f"progress is a path or a URL, not {type(progress).__name__}")
    parsed = url if isinstance(url, URL) else URL.parse(url)
    tell, trackers = _hooks(hooks), Trackers(progress)
    return Client(parsed, require=require, credentials=credentials, tell=tell, trackers=trackers, timeouts=given)


_hooks = hooks.Hooks


class Client:
    """One broker: send to it, consume from it. Made by connect(); used in `async with`, on one event loop."""

    def __init__(
        self,
        url: URL,
        *,
        require: Feature,
        credentials: Credentials | None,
        tell: hooks.Hooks,
        trackers: Trackers,
        timeouts: Mapping[str, float | None],
    ) -> None:
        ours, self._driver_url = url.split_options(COMMON_OPTIONS)
        self._timeouts = timeouts_of(ours, timeouts)
        self.url = url
        self._class = registry.load(url.scheme)
        self._require = require
        self._credentials = credentials
        self._tell = tell
        self._trackers = trackers
        most = self._class.from_url(self._driver_url)
        self._backend = most.backend
        self._check(most)
        self._sending = self._link()
        self._consuming = self._link()
        self._requests = Requests(
            self._sending,
            receive=lambda spec: self._reception(spec, None, None),
            outbox=self._outbox,
            lasts=self._timeouts.reply_lasts,
        )
        self._driver: Driver | None = None
        self._closed = False
        self._pid = os.getpid()
        self._outboxes: dict[Address, Outbox] = {}
        self._receptions: weakref.WeakSet[Reception] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except asyncio.CancelledError:  # nobody will leave what was not entered
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect. Raises ConnectFailed, AuthFailed, Unsupported for `require`, or Closed."""
        self._check_alive(opened=False)
        self._driver = await self._sending.driver()

    async def close(self) -> None:
        """Confirm what was sent, give back what is held, disconnect. Closing twice is a no-op."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._requests.close()
            for reception in list(self._receptions):
                await reception.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.send_timeout):
                    await asyncio.gather(*(outbox.flush() for outbox in self._outboxes.values()))
                    await self._requests.leave()
        finally:
            for outbox in self._outboxes.values():
                outbox.close()
            try:
                await self._consuming.close()
            finally:  # also where this is cancelled
                await self._sending.close()
                self._trackers.close()

    @property
    def features(self) -> Feature:
        """What the live broker does by itself."""
        return self._live().features

    @property
    def limits(self) -> Limits:
        """What the live broker takes."""
        return self._live().limits

    def support(self, feature: Feature) -> Support:
        """Say whether one feature is native, emulated (with the weaker guarantee) or refused here.

        Raises TypeError or ConfigError for what is not one feature.
        """
        check_one(feature)
        return support(feature, self.features)

    async def send(  # noqa: PLR0913 -- each is its own, optional, keyword
        self,
        address: str | Address,
        payload: object,
        *,
        id: str | None = None,  # noqa: A002 -- the field's own word
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> str:
        """Send one message to a queue (a str) or Topic and return its id once the broker has confirmed it.

        As Producer.send().
        """
        return await self.producer(address).send(
            payload,
            id=id,
            headers=headers,
            content_type=content_type,
            correlation_id=correlation_id,
            reply_to=reply_to,
            delay=delay,
            expires=expires,
            priority=priority,
        )

    async def request(
        self,
        queue: str | Queue,
        payload: object,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 -- the deadline of the reply, told in the error
        type: Any = None,  # noqa: A002, ANN401 -- the field's own word; any type msgspec knows
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        priority: int | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Any:  # noqa: ANN401 -- what the handler returned
        """Send a message and return its reply: what the handler that takes it returns, validated with `type`.

        `progress` is called on the event loop with the handler's reports, and must not block. Raises NoReply after
        `timeout` seconds, RemoteError where the handler failed, Undecodable for a reply that is not of the `type`, and
        as send(). Over a lost connection the request may be handled twice.
        """
        target = queue_of(queue)
        self._check_alive()
        seconds = check_timeout(timeout)
        check_report(progress)
        if type is not None:
            codecs.decoder(type)
        given = Given(headers=headers, content_type=content_type, priority=priority)
        now = time.time()
        envelope = envelope_of(payload, given, self._outbox(target).terms, now)
        if Feature.REPLY not in self.features:
            replies = self._requests.queue.name
            envelope = as_request(envelope, replies, by=now + seconds, reports=progress is not None)
        reply = await self._requests.ask(target, envelope, progress or ignore, seconds)
        return read(reply, type, queue=target.name, url=self.url)

    def producer(self, address: str | Address) -> Producer:
        """Return a producer for one queue or topic. Raises Unsupported for a topic where there are none."""
        target = address_of(address)
        self._check_alive()
        return Producer(self._outbox(target))

    def consumer(
        self,
        address: str | Address,
        *,
        group: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        type: Any = None,  # noqa: A002, ANN401 -- the field's own word; any type msgspec knows
        retry: Retry | None = Retry(),  # noqa: B008 -- immutable
        dead_letter: str | Queue | Default | None = DEFAULT,
        drain_timeout: float | None = None,
    ) -> Consumer:
        """Return a consumer of a queue, or of a topic's group (named: durable; None: only while it is there).

        At most `concurrency` handlers run at once and at most `prefetch` messages are held (None: twice the
        concurrency, at least 10). With `type`, payloads are validated, and what fails is dead-lettered. A message
        given up goes to `dead_letter` (DEFAULT: NAME.dead; None: it is dropped, logged and hooked).
        """
        target = address_of(address)
        self._check_alive()
        concurrency = count_of(concurrency, "concurrency")
        prefetch = max(LEAST_PREFETCH, 2 * concurrency) if prefetch is None else count_of(prefetch, "prefetch")
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry is a Retry or None, not {retry!r}")
        if type is not None:
            codecs.decoder(type)
        most = self.limits.max_unsettled
        spec = Spec(
            address=target,
            group=self._group(target, group),
            prefetch=prefetch if most is None else min(prefetch, most),
            dead_letter=dead_letter_of(target, group, dead_letter),
        )
        drain = self._timeouts.drain_timeout if drain_timeout is None else check_seconds(drain_timeout, "drain_timeout")
        return Consumer(
            lambda: self._reception(spec, retry, type),
            concurrency=concurrency,
            prefetch=spec.prefetch,
            typed=type is not None,
            drain_timeout=drain,
        )

    async def progress(self, identity: str) -> Progress | None:
        """Return the last report on the message with this id; None where there was none. Raises OSError."""
        self._check_alive()
        if not isinstance(identity, str):
            raise TypeError(f"an id is a str, not {type(identity).__name__}")
        if Feature.PROGRESS in self.features:
            return await self._ask(None, lambda driver: driver.progress(identity))
        return await self._trackers.read(identity)

    async def queues(self) -> list[tuple[str, Depth]]:
        """List the queues and how many messages each holds, by name. Raises Unsupported without COUNT."""
        return list(await self._inspect(None, lambda driver: driver.queues(), Feature.COUNT))

    async def depth(self, queue: str | Queue) -> Depth:
        """Count the messages of a queue; an unknown one has none. Raises Unsupported without COUNT."""
        target = queue_of(queue)
        return await self._inspect(target, lambda driver: driver.depth(target), Feature.COUNT)

    async def browse(self, queue: str | Queue, limit: int = 100) -> list[Message]:
        """Look at up to `limit` messages, the next first, changing nothing. Raises Unsupported without INSPECT."""
        target, most = queue_of(queue), count_of(limit, "limit")
        found = await self._inspect(target, lambda driver: driver.browse(target, most))
        return [Message(Delivery(envelope=envelope, receipt=None), target.name, None) for envelope in found]

    async def purge(self, queue: str | Queue) -> int:
        """Delete the messages that nobody holds; return how many. Raises Unsupported without INSPECT."""
        target = queue_of(queue)
        return await self._inspect(target, lambda driver: driver.purge(target))

    async def delete(self, queue: str | Queue) -> None:
        """Delete a queue and every message in it, held ones too; an unknown queue is no error.

        Without DELETE, what nobody holds and is due is thrown away, as by discard(), and the queue's name stays.
        """
        target = queue_of(queue)
        self._check_alive()
        if Feature.DELETE in self.features:
            await self._ask(target, lambda driver: driver.delete(target))
        else:
            await self.discard(target)

    async def dead_letters(
        self, queue: str | Queue, *, limit: int = 100, match: Callable[[Message], bool] | None = None
    ) -> list[Message]:
        """Look at up to `limit` dead letters in `queue` that match, changing nothing; why is in their `death`.

        Without INSPECT they are taken and put back, at the place where a released message goes. As redrive() and
        discard(), it works on every backend.
        """
        self._check_alive()
        check_match(match)
        return await listed(self, queue_of(queue), limit=count_of(limit, "limit"), match=match)

    async def discard(
        self, queue: str | Queue, *, limit: int | None = None, match: Callable[[Message], bool] | None = None
    ) -> int:
        """Throw up to `limit` messages of `queue` that match away; return how many. On every backend."""
        self._check_alive()
        check_match(match)
        most = None if limit is None else count_of(limit, "limit")
        return await discard(self, queue_of(queue), limit=most, match=match)

    async def redrive(
        self,
        queue: str | Queue,
        *,
        to: str | Queue | None = None,
        limit: int | None = None,
        match: Callable[[Message], bool] | None = None,
    ) -> int:
        """Send the dead letters in `queue` back to where they came from (or `to`); return how many went.

        They become what they were before they failed: the same id, body and headers, attempts from 1, no expiry.
        Interrupted, it loses nothing; a batch may have gone twice. Raises ConfigError for a message that is no dead
        letter of anyqueue's and no `to` is given, SendError where a copy was not confirmed (the dead letter stays).
        """
        self._check_alive()
        check_match(match)
        source, target = queue_of(queue), None if to is None else queue_of(to)
        return await redrive(
            self,
            self._outbox,
            source,
            to=target,
            limit=None if limit is None else count_of(limit, "limit"),
            match=match,
        )

    def _outbox(self, address: Address) -> Outbox:
        """Return the one outbox of an address, anyqueue's own included. Also while closing: what is held goes back."""
        outbox = self._outboxes.get(address)
        if outbox is None:
            terms = self._terms(address)
            if isinstance(address, Topic):
                check_now(Feature.FANOUT, terms, "use queues, or choose a backend that has topics")
            self._forget_idle()
            outbox = Outbox(
                self._sending, address, terms=terms, send_timeout=self._timeouts.send_timeout, tell=self._tell
            )
            self._outboxes[address] = outbox
        return outbox

    def _forget_idle(self) -> None:
        if len(self._outboxes) >= MAX_OUTBOXES:
            self._outboxes = {address: outbox for address, outbox in self._outboxes.items() if outbox.busy}

    def _reception(self, spec: Spec, retry: Retry | None, kind: Any) -> Reception:  # noqa: ANN401 -- any type msgspec knows
        self._check_alive()
        terms = KeeperTerms(
            queue=spec.address.name,
            url=str(self.url),
            retry=retry,
            dead_letter=spec.dead_letter,
            outbox=self._outbox,
            trackers=self._trackers,
            tell=self._tell,
        )
        reception = Reception(
            self._consuming,
            spec,
            terms,
            kind=kind,
            connect_timeout=self._timeouts.connect_timeout,
            settle_timeout=self._timeouts.settle_timeout,
        )
        self._receptions.add(reception)
        return reception

    def _group(self, address: Address, group: str | None) -> str | None:
        terms = self._terms(address)
        if isinstance(address, Topic):
            check_now(Feature.FANOUT, terms, "use queues, or choose a backend that has topics")
            return None if group is None else check_name(group, "group")
        if group is not None:
            raise ConfigError(
                "only a topic has groups", queue=address.name, hint="write Topic(name), or leave group out"
            )
        return None

    async def _inspect(
        self, queue: Queue | None, ask: Callable[[Driver], Awaitable[ResultT]], needs: Feature = Feature.INSPECT
    ) -> ResultT:
        """Ask the live driver, over reconnects, for as long as a send may take. What is asked may be asked twice."""
        self._check_alive()
        check_now(needs, self._terms(queue), "use the broker's own tools")
        return await self._ask(queue, ask)

    async def _ask(self, queue: Queue | None, ask: Callable[[Driver], Awaitable[ResultT]]) -> ResultT:
        seconds = self._timeouts.send_timeout
        try:
            async with asyncio.timeout(seconds):
                while True:
                    driver = await self._sending.driver()
                    try:
                        return await ask(driver)
                    except ConnectionLost as error:
                        self._sending.lost(driver, error)
        except TimeoutError as error:
            what = f"no answer within {seconds:g} s"
            raise ConnectionLost(what, queue=queue.name if queue else None, url=self.url) from error

    def _terms(self, address: Address | None) -> Terms:
        driver = self._driver or self._live()
        return Terms(
            features=driver.features,
            limits=driver.limits,
            backend=self._backend,
            queue=address.name if address else None,
            url=self.url,
        )

    def _live(self) -> Driver:
        self._check_alive()
        if self._driver is None:
            raise Closed("the client is not open", url=self.url, hint="use it in `async with`")
        return self._driver

    def _check_alive(self, *, opened: bool = True) -> None:
        if self._closed:
            raise Closed("the client is closed", url=self.url)
        if os.getpid() != self._pid:
            hint = "connect again in the child process"
            raise Closed("the client was opened in another process", url=self.url, hint=hint)
        if opened and self._driver is None:
            raise Closed("the client is not open", url=self.url, hint="use it in `async with`")

    def _link(self) -> Link:
        return Link(
            self._make,
            url=self.url,
            connect_timeout=self._timeouts.connect_timeout,
            check=self._check,
            tell=self._tell,
        )

    async def _make(self) -> Driver:
        if self._credentials is None:
            return self._class.from_url(self._driver_url)
        found = self._credentials()
        username, password = await found if inspect.isawaitable(found) else found
        return self._class.from_url(self._driver_url.with_credentials(username, password))

    def _check(self, driver: Driver) -> None:
        check_required(self._require, driver.features, backend=driver.backend, url=self.url)
