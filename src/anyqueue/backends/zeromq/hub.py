"""The hub's mind: who is there, who is heard, who is gone. No I/O, no clock.

How it works:

* `receive()` takes what a peer said. What it asks of the store becomes a Job (see `requests`); who runs the hub does
  the jobs, many in one transaction, and calls each one's `done` or `failed` after the commit. So nothing is told
  before it is stored. What is to be said is collected in `out`.
* A peer is there from its Hello until its Bye, until it was silent for LIVENESS heartbeats, or until it cannot be
  reached. Then what it held goes back, counted as delivered. After that it is a stranger until it says hello again.
* `now` is a monotonic clock's, `wall` is Unix seconds.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.lines import Job, Lines, Subscriber
from anyqueue.backends.zeromq.requests import Requests, lease_of
from anyqueue.driver import MAX_BODY
from anyqueue.store.sqlite_writer import GROUP_LEASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.driver import Delivery
    from anyqueue.errors import Error
    from anyqueue.store.contract import Store

LIVENESS: Final = 3
"""Heartbeats that a peer may miss."""
LOOK: Final = 0.25
"""Seconds between two looks for peers that are silent, and until what could not be let go is tried again."""
AWAY: Final = 1.0
"""Seconds after which the hub itself was away (stopped, swapped out), and no peer is to blame for its silence."""
RENEWAL: Final = GROUP_LEASE / 4


class Peer:
    """Someone who said hello."""

    __slots__ = ("heard", "patience", "subscribers")

    def __init__(self, heartbeat: float, now: float) -> None:
        self.patience = LIVENESS * heartbeat
        self.heard = now
        self.subscribers: dict[int, Subscriber] = {}


class Hub:
    """A broker without its socket and its store."""

    def __init__(self, *, durable: bool, now: float, agent: str = "") -> None:
        self.epoch = secrets.token_bytes(p.EPOCH)
        self.jobs: list[Job] = []
        self.out: list[tuple[bytes, list[bytes]]] = []
        """(identity, frames)."""
        self.lines = Lines(self.begin, self._hand, self._gone)
        self.peers: dict[bytes, Peer] = {}
        self.dropped = 0
        """Messages that were none of the protocol's."""
        self._requests = Requests(self)
        self._durable = durable
        self._agent = agent
        self._started = self._looked = self._renewed = now
        self._now = now
        self._again: list[Job] = []
        """What must be done, and could not be yet."""

    def begin(self, job: Job) -> None:
        """Have it done with the next transaction."""
        self.jobs.append(job)

    def say(self, identity: bytes, message: p.Reply, *rest: bytes) -> None:
        """Have it said."""
        self.out.append((identity, p.write(self.epoch, message, *rest)))

    def receive(self, identity: bytes, frames: Sequence[bytes], now: float) -> None:
        """Take what a peer said."""
        self._now = now
        peer = self.peers.get(identity)
        try:
            epoch, message, rest = p.read_request(frames)
        except p.Malformed as error:
            self._reject(identity, peer, error)
            return
        if isinstance(message, p.Hello):
            self._welcome(identity, message, now)
        elif peer is None or epoch != self.epoch:
            self.drop(identity)
            what = "say hello first: this hub has started since, or has heard nothing of you for too long"
            self.say(identity, p.Refused(0, p.STRANGER, what))
        else:
            peer.heard = now
            try:
                self._requests.take(identity, peer.subscribers, message, rest)
            except p.Malformed as error:
                self._reject(identity, peer, error)

    def tick(self, now: float, wall: float) -> None:
        """Do what is due by the clocks. Before anything is received: a group must be renewed before it is sent to."""
        self._now = now
        if now - self._renewed >= RENEWAL:
            self._renewed = now
            self._renew()
        self.lines.tick(wall)

    def judge(self, now: float) -> None:
        """Drop who was silent for too long. After everything that has arrived was received."""
        gap = now - self._looked
        if gap < LOOK:
            return
        self._looked = now
        self.jobs += self._again
        self._again.clear()
        for identity, peer in list(self.peers.items()):
            if gap > AWAY:
                peer.heard += gap
            elif now - peer.heard > peer.patience:
                self.drop(identity)
                self.say(identity, p.Refused(0, p.STRANGER, f"nothing was heard of you for {peer.patience:g} s"))

    def next_look(self) -> float | None:
        """When judge() has something to do, by the monotonic clock; None: it has nothing."""
        return self._looked + LOOK if self.peers or self._again else None

    def drop(self, identity: bytes) -> None:
        """Forget a peer; what it held goes back. A stranger is no error."""
        peer = self.peers.pop(identity, None)
        if peer is not None:
            for subscriber in peer.subscribers.values():
                self.let_go(subscriber, counted=True)
            peer.subscribers.clear()

    def probe(self) -> None:
        """Say something to everybody, so that who cannot be reached is found."""
        for identity in self.peers:
            self.say(identity, p.Pong())

    def let_go(self, subscriber: Subscriber, *, counted: bool) -> None:
        """End a subscription: what it held goes back. It is tried until it is done."""
        self.lines.leave(subscriber)

        def work(store: Store, wall: float) -> None:
            if subscriber.passing:
                store.delete(subscriber.holder.queue)
            else:
                store.release_all(subscriber.holder, wall, counted=counted)
                store.leave(subscriber.holder.queue, wall)

        job = Job(work, lambda _: subscriber.held.clear(), lambda _: self._again.append(job))
        self.begin(job)

    def drain(self) -> None:
        """Hand out nothing more; what is held may still be settled."""
        self.lines.stopped = True

    def end(self) -> None:
        """Say goodbye to all; what is still held goes back, not counted: that it was not settled is nobody's fault."""
        self.lines.stopped = True
        for identity, peer in self.peers.items():
            for subscriber in peer.subscribers.values():
                self.let_go(subscriber, counted=False)
            self.say(identity, p.Goodbye())
        self.peers.clear()

    @property
    def held(self) -> int:
        """How many deliveries are held."""
        return sum(len(one.held) for peer in self.peers.values() for one in peer.subscribers.values())

    def health(self, request: int) -> p.Health:
        """Say how it is."""
        return p.Health(request, self._now - self._started, len(self.peers), self.held, self.dropped)

    def _reject(self, identity: bytes, peer: Peer | None, error: p.Malformed) -> None:
        """Answer no stranger's noise; a version is answered, and a peer is told and dropped."""
        self.dropped += 1
        if isinstance(error, p.OtherVersion):
            self.say(identity, p.Refused(0, p.OTHER_VERSION, f"this hub speaks version {p.VERSION} of the protocol"))
        elif peer is not None:
            self.say(identity, p.Refused(0, p.INVALID, str(error)))
        self.drop(identity)

    def _welcome(self, identity: bytes, hello: p.Hello, now: float) -> None:
        self.drop(identity)
        if self.lines.stopped:
            self.say(identity, p.Goodbye())
            return
        self.peers[identity] = Peer(hello.heartbeat, now)
        self.say(identity, p.Welcome(hello.heartbeat, self._durable, MAX_BODY, p.MAX_BATCH, self._agent))

    def _hand(self, subscriber: Subscriber, deliveries: list[Delivery]) -> None:
        if subscriber.line is None:
            return  # it has left; what was claimed for it goes back with what it held
        number_of = subscriber.number_of
        handed: list[p.Handed] = [
            (number_of(one.receipt), one.attempt, one.redelivered, one.first_failure, one.envelope)
            for one in deliveries
        ]
        for frame in p.write_deliveries(handed):
            self.say(subscriber.identity, p.Deliver(subscriber.number), frame)

    def _gone(self, subscriber: Subscriber) -> None:
        peer = self.peers.get(subscriber.identity)
        if peer is not None and peer.subscribers.pop(subscriber.number, None) is not None:
            self.say(subscriber.identity, p.Gone(subscriber.number, subscriber.holder.queue))

    def _renew(self) -> None:
        subscribers = [one for peer in self.peers.values() for one in peer.subscribers.values()]
        leases = {one.holder.queue: lease for one in subscribers if (lease := lease_of(one)) is not None}

        def work(store: Store, wall: float) -> None:
            for queue, lease in leases.items():
                store.renew([queue], wall, lease)

        if leases:
            self.begin(Job(work, _ignore, _later))


def _ignore(_: object) -> None:
    """It is done."""


def _later(_: Error) -> None:
    """The next renewal is soon enough: a group lives for several."""
