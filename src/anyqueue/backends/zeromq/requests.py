"""What each request asks of the store, and what is answered once that is committed. No I/O, no clock."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.lines import Job, Lines, Subscriber
from anyqueue.driver import ACCEPT, RESERVED, Depth, Queue, Reject, Release, Spec, Topic, reply_lasts
from anyqueue.errors import Error, QueueFull, QueueNotFound
from anyqueue.store.contract import Holder, home_of
from anyqueue.store.sqlite_writer import GROUP_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyqueue.driver import Address, Envelope, Settlement
    from anyqueue.store.contract import Store

_CODES: Final[dict[type[Error], str]] = {QueueNotFound: p.NOT_FOUND, QueueFull: p.FULL}


def lease_of(subscriber: Subscriber) -> float | None:
    """Return how long a queue outlives its subscriber's last renewal; None for one that lasts."""
    own = GROUP_LEASE if subscriber.passing else reply_lasts(subscriber.holder.queue)
    return None if own is None else max(own, GROUP_LEASE)


class Desk(Protocol):
    """What a request may use of the hub."""

    lines: Lines

    def begin(self, job: Job) -> None:
        """Have it done with the next transaction."""

    def say(self, identity: bytes, message: p.Reply, *rest: bytes) -> None:
        """Have it said."""

    def drop(self, identity: bytes) -> None:
        """Forget a peer."""

    def let_go(self, subscriber: Subscriber, *, counted: bool) -> None:
        """End a subscription."""

    def health(self, request: int) -> p.Health:
        """Say how the hub is."""


class Requests:
    """Takes requests of peers that said hello."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def take(
        self, identity: bytes, subscribers: dict[int, Subscriber], message: p.Request, rest: Sequence[bytes]
    ) -> None:
        """Do what is asked, or raise Malformed."""
        match message:
            case p.Send():
                self._send(identity, message, rest)
            case p.Settle():
                self._settle(identity, subscribers.get(message.subscription), message)
            case p.Credit():
                self._credit(subscribers.get(message.subscription), message.count)
            case p.Ping():
                self._desk.say(identity, p.Pong())
            case p.Subscribe():
                self._subscribe(identity, subscribers, message)
            case p.Unsubscribe():
                self._unsubscribe(identity, subscribers, message)
            case p.Bye():
                self._desk.drop(identity)
                self._ask(identity, message.request, _nothing, _done)
            case p.Status():
                self._desk.say(identity, self._desk.health(message.request))
            case _:
                self._inspect(identity, message)

    def _ask(
        self, identity: bytes, request: int, work: Callable[[Store, float], Any], reply: Callable[[int, Any], p.Reply]
    ) -> None:
        """Have work done and answered."""
        say = self._desk.say
        self._desk.begin(
            Job(
                work,
                lambda result: say(identity, reply(request, result)),
                lambda error: say(identity, refusal(request, error)),
            )
        )

    def _send(self, identity: bytes, message: p.Send, rest: Sequence[bytes]) -> None:
        batch = p.read_envelopes(rest)
        p.check_envelopes(batch)
        if not all(envelope.id for envelope in batch):
            batch = [_named(envelope) for envelope in batch]
        address: Address = Topic(message.name) if message.topic else Queue(message.name)
        self._ask(identity, message.request, lambda store, wall: store.put(address, batch, wall), _done)

    def _subscribe(self, identity: bytes, subscribers: dict[int, Subscriber], message: p.Subscribe) -> None:
        subscriber = _subscriber(identity, message)
        if message.subscription in subscribers:
            raise p.Malformed(f"the subscription {message.subscription} is there already")
        subscribers[message.subscription] = subscriber
        queue, topic = subscriber.holder.queue, message.name

        def work(store: Store, wall: float) -> None:
            if message.topic:
                store.join(topic, queue, wall, lease_of(subscriber))
            else:
                store.listen(queue, wall, lease_of(subscriber))

        def done(_: object) -> None:
            self._desk.say(identity, p.Subscribed(message.request, queue))
            if subscribers.get(message.subscription) is subscriber:
                self._desk.lines.join(subscriber)

        def failed(error: Error) -> None:
            subscribers.pop(message.subscription, None)
            self._desk.say(identity, refusal(message.request, error))

        self._desk.begin(Job(work, done, failed))

    def _credit(self, subscriber: Subscriber | None, count: int) -> None:
        """One that is no more is no error: the queue was deleted while this was on its way."""
        if subscriber is not None:
            subscriber.credit = count
            self._desk.lines.changed(subscriber)

    def _unsubscribe(self, identity: bytes, subscribers: dict[int, Subscriber], message: p.Unsubscribe) -> None:
        subscriber = subscribers.pop(message.subscription, None)
        if subscriber is not None:
            self._desk.let_go(subscriber, counted=message.counted)
        self._ask(identity, message.request, _nothing, _done)

    def _settle(self, identity: bytes, subscriber: Subscriber | None, message: p.Settle) -> None:
        held: Mapping[int, object] = {} if subscriber is None else subscriber.held
        settled: list[tuple[int, Settlement]] = [(number, ACCEPT) for number in message.accepted]
        settled += [(one.number, _settlement(one)) for one in message.others]
        late = [number for number, _ in settled if number not in held]
        settled = [(number, settlement) for number, settlement in settled if number in held]
        pairs = [(held[number], settlement) for number, settlement in settled]
        if subscriber is None or not pairs:
            self._desk.say(identity, p.Settled(message.request, late))
            return

        def done(failures: Mapping[int, str]) -> None:
            for number, _ in settled:
                subscriber.held.pop(number, None)
            late.extend(settled[index][0] for index in failures)
            self._desk.say(identity, p.Settled(message.request, late))
            self._desk.lines.changed(subscriber)

        holder = subscriber.holder
        failed = self._refuser(identity, message.request)
        self._desk.begin(Job(lambda store, wall: store.settle(holder, pairs, wall), done, failed))

    def _refuser(self, identity: bytes, request: int) -> Callable[[Error], None]:
        return lambda error: self._desk.say(identity, refusal(request, error))

    def _inspect(self, identity: bytes, message: p.Request) -> None:
        match message:
            case p.Queues(request=request):
                self._ask(identity, request, lambda store, wall: store.queues(wall), _depths)
            case p.Measure(request=request, name=name):
                self._ask(identity, request, lambda store, wall: [(name, store.depth(name, wall))], _depths)
            case p.Purge(request=request, name=name):
                self._ask(identity, request, lambda store, wall: store.purge(name, wall), p.Done)
            case p.Delete(request=request, name=name):
                self._ask(identity, request, lambda store, _: store.delete(name), _done)
            case p.Browse():
                self._browse(identity, message)

    def _browse(self, identity: bytes, message: p.Browse) -> None:
        def done(found: list[Envelope]) -> None:
            self._desk.say(identity, p.Shown(message.request), *(frame for _, frame in p.chunks(found)))

        failed = self._refuser(identity, message.request)
        self._desk.begin(Job(lambda store, wall: store.browse(message.name, message.limit, wall), done, failed))


def refusal(request: int, error: Error) -> p.Refused:
    """Say why a request was not done."""
    return p.Refused(request, _CODES.get(type(error), p.FAILED), error.what, error.queue)


def _subscriber(identity: bytes, message: p.Subscribe) -> Subscriber:
    """Return the subscriber that a message asks for, or raise Malformed."""
    if message.group is not None and not message.topic:
        raise p.Malformed("a queue has no groups")
    if message.dead_letter is not None and message.dead_letter.startswith(RESERVED):
        raise p.Malformed(f"the dead-letter queue {message.dead_letter!r} begins with {RESERVED!r}")
    passing = message.topic and message.group is None
    address: Address = Topic(message.name) if message.topic else Queue(message.name)
    queue = home_of(Spec(address=address, group=message.group), secrets.token_hex(8))
    holder = Holder(owner=secrets.randbits(62), queue=queue, dead_letter=message.dead_letter)
    return Subscriber(identity, message.subscription, holder, prefetch=message.prefetch, passing=passing)


def _settlement(one: p.Settlement) -> Settlement:
    if one.verdict == "release":
        return Release(one.delay, one.failed_at)
    return Reject(one.reason, one.headers)


def _named(envelope: Envelope) -> Envelope:
    """Return it with an id, made up where it has none."""
    return envelope if envelope.id else msgspec.structs.replace(envelope, id=secrets.token_hex(16))


def _nothing(_: Store, __: float) -> None:
    """Ask nothing of the store, but be answered in turn."""


def _done(request: int, _: object) -> p.Done:
    return p.Done(request)


def _depths(request: int, found: list[tuple[str, Depth]]) -> p.Depths:
    return p.Depths(request, [(name, depth.ready, depth.delayed, depth.held) for name, depth in found])
