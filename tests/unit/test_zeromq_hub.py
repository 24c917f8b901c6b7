"""The hub against a model: any schedule of peers, faults and clocks; nothing confirmed is lost, no credit broken.

The store is real and in memory, the clocks are the test's, and peers are what they say and hear.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.hub import AWAY, LOOK, Hub
from anyqueue.backends.zeromq.lines import PAUSE
from anyqueue.driver import Envelope
from anyqueue.errors import Error, QueueFull
from anyqueue.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT: Final = 2.0
QUEUES: Final = ("a", "b", "a.dead")


class Place:
    """A hub, its store and its clocks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000.0
        self.store = MemoryStore()
        self.hub = Hub(durable=False, now=self.now)
        self.heard: dict[bytes, list[p.Read[p.Reply]]] = {}

    def say(self, identity: bytes, message: p.Request, *rest: bytes, epoch: bytes | None = None) -> None:
        """Let a peer say something."""
        frames = p.write(self.hub.epoch if epoch is None else epoch, message, *rest)
        self.hub.receive(identity, frames, self.now)

    def perform(self, error: Error | None = None) -> None:
        """Do the jobs as one transaction does, or fail them all."""
        jobs, self.hub.jobs = self.hub.jobs, []
        if error is not None:
            for job in jobs:
                job.failed(error)
            return
        results: list[tuple[Callable[[Any], None], Any]] = []
        for job in jobs:
            try:
                results.append((job.done, job.work(self.store, self.wall)))
            except Error as refused:
                results.append((job.failed, refused))
        for told, result in results:
            told(result)
        self.hub.lines.stir(self.store.take_stirred())

    def deliver(self) -> None:
        """Let everybody hear what was said."""
        out, self.hub.out = self.hub.out, []
        for identity, frames in out:
            self.heard.setdefault(identity, []).append(p.read_reply(frames))

    def settle_down(self) -> None:
        """Go on until there is nothing to do."""
        while self.hub.jobs:
            self.perform()
        self.deliver()

    def take(self, identity: bytes) -> list[p.Reply]:
        """Return what a peer has heard since."""
        return [read.message for read in self.heard.pop(identity, [])]

    def pass_time(self, seconds: float) -> None:
        """Let it be later."""
        self.now += seconds
        self.wall += seconds
        self.hub.tick(self.now, self.wall)
        self.hub.judge(self.now)


def batch(*bodies: bytes) -> bytes:
    ((_, frame),) = p.chunks([Envelope(id=body.decode(), body=body) for body in bodies])
    return frame


class Peer:
    """What one connection knows."""

    def __init__(self, place: Place, heartbeat: float = HEARTBEAT) -> None:
        self.identity = secrets.token_bytes(16)
        self.place = place
        self.requests = 0
        self.prefetch: dict[int, int] = {}
        self.held: dict[int, dict[int, Envelope]] = {}
        self.settling: dict[int, tuple[int, int, str, str]] = {}
        """Request -> subscription, number, verdict, id."""
        self.sending: dict[int, list[str]] = {}
        self.confirmed: set[str] = set()
        self.accepted: set[str] = set()
        self.rejected: set[str] = set()
        self.over = False
        place.say(self.identity, p.Hello(heartbeat), epoch=p.NO_EPOCH)

    def ask(self, make: Callable[[int], p.Request], *rest: bytes) -> int:
        """Say something that is answered."""
        self.requests += 1
        self.place.say(self.identity, make(self.requests), *rest)
        return self.requests

    def hear(self) -> None:
        """Take what has come; credit is broken if more is held than was granted."""
        for read in self.place.heard.pop(self.identity, []):
            message = read.message
            match message:
                case p.Deliver(subscription=number) if number in self.held:
                    handed = p.read_handed(read.rest)
                    self.held[number] |= {delivery[0]: delivery[4] for delivery in handed}
                    assert len(self.held[number]) <= self.prefetch[number]
                case p.Done(request=request) if request in self.sending:
                    self.confirmed |= set(self.sending.pop(request))
                case p.Settled(request=request, late=late):
                    number, settled, verdict, identity = self.settling.pop(request)
                    held = self.held.get(number, {}).pop(settled, None)
                    assert not late or held is None, "what is held is not late"
                    if verdict == "accept" and not late:
                        self.accepted.add(identity)
                case p.Refused(request=0) | p.Goodbye():
                    self.over = True
                case p.Refused(request=request):
                    self.sending.pop(request, None)
                    self.settling.pop(request, None)
                case p.Gone(subscription=number):
                    self.held.pop(number, None)
                case _:
                    pass


class _AnySchedule(RuleBasedStateMachine):
    """Peers that come, ask, vanish and lie; a store that fails now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.peers: list[Peer] = [Peer(self.place)]
        self.gone: list[Peer] = []
        self.number = 0

    @rule()
    def come(self) -> None:
        if len(self.peers) < 4:
            self.peers.append(Peer(self.place))

    @rule(data=st.data(), queue=st.sampled_from(QUEUES), count=st.integers(1, 5))
    def send(self, data: st.DataObject, queue: str, count: int) -> None:
        peer = self._one(data)
        bodies = [f"m{self.number + index}".encode() for index in range(count)]
        self.number += count
        request = peer.ask(lambda number: p.Send(number, False, queue), batch(*bodies))  # noqa: FBT003 -- on the wire
        peer.sending[request] = [body.decode() for body in bodies]

    @rule(data=st.data(), queue=st.sampled_from(QUEUES[:2]), most=st.integers(1, 4), dead=st.booleans())
    def subscribe(self, data: st.DataObject, queue: str, most: int, dead: bool) -> None:  # noqa: FBT001 -- drawn
        peer = self._one(data)
        number = len(peer.prefetch) + 1
        peer.prefetch[number], peer.held[number] = most, {}
        where = "a.dead" if dead else None
        peer.ask(lambda request: p.Subscribe(request, number, False, queue, None, most, where))  # noqa: FBT003 -- as above

    @rule(data=st.data(), count=st.integers(0, 6))
    def give_credit(self, data: st.DataObject, count: int) -> None:
        peer = self._one(data)
        if peer.held:
            number = data.draw(st.sampled_from(sorted(peer.held)))
            self.place.say(peer.identity, p.Credit(number, count))

    @rule(data=st.data(), verdict=st.sampled_from(["accept", "release", "later", "reject"]))
    def settle(self, data: st.DataObject, verdict: str) -> None:
        peer = self._one(data)
        busy = {(number, one) for number, one, _, _ in peer.settling.values()}
        held = {(number, one) for number, all_of_it in peer.held.items() for one in all_of_it}
        if not held - busy:
            return
        number, one = data.draw(st.sampled_from(sorted(held - busy)))
        others = {
            "accept": [],
            "release": [p.Settlement(one, "release")],
            "later": [p.Settlement(one, "release", 5.0, self.place.wall)],
            "reject": [p.Settlement(one, "reject", reason="no", headers={"why": "no"})],
        }[verdict]
        request = peer.ask(lambda asked: p.Settle(asked, number, [] if others else [one], others))
        peer.settling[request] = (number, one, verdict, peer.held[number][one].id)
        if verdict == "reject":
            peer.rejected.add(peer.held[number][one].id)

    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        peer = self._one(data)
        if peer.held:
            number = data.draw(st.sampled_from(sorted(peer.held)))
            del peer.held[number]
            peer.ask(lambda request: p.Unsubscribe(request, number))

    @rule(data=st.data(), how=st.sampled_from(["bye", "unreachable", "silent"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        if len(self.peers) < 2:
            return
        peer = self._one(data)
        self.peers.remove(peer)
        self.gone.append(peer)
        if how == "bye":
            peer.ask(p.Bye)
        elif how == "unreachable":
            self.place.hub.drop(peer.identity)

    @rule(data=st.data(), frames=st.lists(st.binary(max_size=8).filter(lambda frame: frame[:3] != p.MAGIC), max_size=3))
    def babble(self, data: st.DataObject, frames: list[bytes]) -> None:
        stranger = data.draw(st.binary(min_size=1, max_size=4))
        self.place.hub.receive(stranger, frames, self.place.now)
        told = [identity for identity, _ in self.place.hub.out]
        assert stranger not in told, "noise is not answered"

    @rule()
    def commit(self) -> None:
        self.place.perform()

    @rule()
    def fail(self) -> None:
        self.place.perform(QueueFull("the disk is full"))

    @rule()
    def listen(self) -> None:
        self.place.deliver()
        for peer in [*self.peers, *self.gone]:
            peer.hear()

    @rule(seconds=st.sampled_from([0.1, LOOK, 0.9, PAUSE]))
    def wait(self, seconds: float) -> None:
        for peer in self.peers:
            self.place.say(peer.identity, p.Ping())
        self.place.pass_time(seconds)

    @precondition(lambda self: self.place.hub.jobs)
    @rule()
    def hurry(self) -> None:
        self.place.settle_down()

    @invariant()
    def credit_holds(self) -> None:
        for peer in self.place.hub.peers.values():
            for subscriber in peer.subscribers.values():
                assert subscriber.credit >= 0
                assert len(subscriber.held) <= subscriber.prefetch

    @invariant()
    def no_living_peer_was_dropped(self) -> None:
        assert all(peer.identity in self.place.hub.peers for peer in self.peers)

    def teardown(self) -> None:
        """Whoever is left takes everything: what was confirmed and not accepted is there, once."""
        place = self.place
        place.settle_down()
        self.listen()
        for peer in self.peers:
            peer.ask(p.Bye)
        for _ in range(20):
            place.pass_time(AWAY / 2)
            place.settle_down()
        place.settle_down()
        self.listen()
        assert not place.hub.held
        left = {name: [one.id for one in place.store.browse(name, 10_000, place.wall)] for name in QUEUES}
        ids = [one for found in left.values() for one in found]
        held = sum(depth.held for _, depth in place.store.queues(place.wall))
        everybody = [*self.peers, *self.gone]
        confirmed = {one for peer in everybody for one in peer.confirmed}
        accepted = {one for peer in everybody for one in peer.accepted}
        perhaps = {one for peer in everybody for _, _, _, one in peer.settling.values()}
        perhaps |= {one for peer in everybody for one in peer.rejected}
        assert held == 0
        assert len(ids) == len(set(ids)), "a message is there twice"
        assert confirmed - accepted - perhaps <= set(ids), "a confirmed message was lost"
        assert not accepted & set(ids), "an accepted message came back"

    def _one(self, data: st.DataObject) -> Peer:
        return data.draw(st.sampled_from(self.peers))


TestAnySchedule = _AnySchedule.TestCase
TestAnySchedule.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
