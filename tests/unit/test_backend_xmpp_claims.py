"""The steps of claims and settlements, cut and delayed anywhere: at least once holds, and nothing is lost.

The server is a model here, of what both servers were seen to do: two nodes, of which one of several retractions of an
item is answered that it did. Consumers run the backend's own steps on it, interleaved request by request. One whose
session is cut has had the first requests of its last call executed; the others are dropped, or executed later.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from anyqueue.backends.xmpp import codec, names, stanzas
from anyqueue.backends.xmpp.claims import Claim, Desk
from anyqueue.backends.xmpp.codec import Stored
from anyqueue.backends.xmpp.names import Ticket
from anyqueue.backends.xmpp.nodes import Nodes
from anyqueue.backends.xmpp.proof import Proof
from anyqueue.backends.xmpp.stanzas import Answer, Refusal
from anyqueue.driver import Accept, Envelope, Release
from anyqueue.errors import ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from anyqueue.driver import Settlement

QUEUE: Final = "q"
MISSING: Final = Answer(None, Refusal(stanzas.NOT_FOUND, ""))
DONE: Final = Answer(None)


class Server:
    """The pubsub service, and which sessions there are."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, str]] = {names.ready_node(QUEUE): {}, names.held_node(QUEUE): {}}
        self.sessions: set[str] = set()

    def execute(self, content: str) -> Answer:
        """Carry out one request."""
        request = ET.fromstring(content)  # noqa: S314 -- ours
        if request.tag == f"{{{stanzas.ITEMS}}}query":
            return Answer(self._listed(self.nodes[request.attrib["node"]]))
        act = request[0]
        node = self.nodes[act.attrib["node"]]
        (verb, items) = (act.tag.rpartition("}")[2], [item.attrib["id"] for item in act])
        if verb == "publish":
            node[items[0]] = ET.tostring(act[0][0], encoding="unicode")
            return DONE
        if verb == "retract":
            return MISSING if node.pop(items[0], None) is None else DONE
        return Answer(self._fetched({item: node[item] for item in items if item in node}))

    def _listed(self, node: dict[str, str]) -> ET.Element:
        query = ET.Element("query")
        for identity in node:
            ET.SubElement(query, f"{{{stanzas.ITEMS}}}item", name=identity)
        return query

    def _fetched(self, items: dict[str, str]) -> ET.Element:
        found = ET.Element("pubsub")
        for identity, payload in items.items():
            item = ET.SubElement(found, f"{{{stanzas.PUBSUB}}}item", id=identity)
            item.append(ET.fromstring(payload))  # noqa: S314 -- it was published above
        return found

    def bodies(self) -> set[bytes]:
        """Return the messages that are somewhere."""
        payloads = [item for node in self.nodes.values() for name, item in node.items() if name[:3] == "aq:"]
        return {codec.decode(ET.fromstring(payload), "").envelope.body for payload in payloads}  # noqa: S314 -- as above


class Session:
    """One session: what Desk uses of it. After `cut` more requests it is cut, and what was not executed is `late`."""

    url = "xmpp://model"

    def __init__(self, server: Server, address: str, lease: float, chance: random.Random) -> None:
        self.target = SimpleNamespace(options=SimpleNamespace(lease=lease, max_items=1000))
        self.address = address
        self.cut: int | None = None
        self.late: list[str] = []
        self._server = server
        self._chance = chance
        self._lost = False
        server.sessions.add(address)

    async def ask(self, _kind: str, content: str, to: str | None = None) -> Answer:
        """Ask the service one thing, or a session whether it is there."""
        if to is not None:
            await asyncio.sleep(0)
            return DONE if to in self._server.sessions else Answer(None, Refusal(stanzas.UNAVAILABLE, ""))
        (answer,) = await self.ask_all([("", content)])
        return answer

    async def ask_all(self, requests: Iterable[tuple[str, str]]) -> list[Answer]:
        """Have requests executed in order, with those of other sessions in between."""
        contents = [content for _, content in requests]
        answers: list[Answer] = []
        for place, content in enumerate(contents):
            for _ in range(self._chance.randrange(3)):
                await asyncio.sleep(0)
            if self.cut == 0 or self._lost:
                self.late, self._lost = contents[place:] if not self._lost else self.late, True
                raise ConnectionLost("cut")
            if self.cut is not None:
                self.cut -= 1
            answers.append(self._server.execute(content))
        return answers

    def end(self, *, executed: int) -> None:
        """Have the server take so many more of the requests that were under way, and miss the session."""
        for content in self.late[:executed]:
            self._server.execute(content)
        self._server.sessions.discard(self.address)


class World:
    """The server and those that use it."""

    def __init__(self, lease: float, seed: int) -> None:
        self.server = Server()
        self.chance = random.Random(seed)  # noqa: S311 -- a schedule
        self.lease = lease
        self.accepted: list[bytes] = []
        self.handled: list[bytes] = []
        """Also those whose acceptance came too late, or was cut."""
        self._numbers = itertools.count()

    def send(self, count: int) -> set[bytes]:
        """Put messages into the queue."""
        ready = self.server.nodes[names.ready_node(QUEUE)]
        bodies = [b"%d" % number for number in range(count)]
        for number, body in enumerate(bodies):
            ticket = Ticket(names.order_of(number), f"line{number}", 0)
            ready[names.ready_id(ticket)] = codec.encode(Stored(Envelope(id=f"{number}", body=body)))
        return set(bodies)

    def consumer(self, lease: float | None = None) -> tuple[Session, Desk]:
        """Begin a session with a consumer."""
        number = next(self._numbers)
        session = Session(self.server, f"a@b/{number}", self.lease if lease is None else lease, self.chance)
        model: Any = session
        return session, Desk(model, Nodes(model), QUEUE, f"owner{number}", Proof(atomic=True))

    async def work(self, desk: Desk, how: list[str]) -> None:
        """Look, claim and settle, as often as there are ways of settling."""
        for way in how:
            claims = await desk.claim(await desk.look())
            if way == "accept":
                self.handled += map(body, claims)
            settlement: Settlement = Accept() if way == "accept" else Release(0.0, failed_at=1.0)
            late = await desk.settle([(claim, settlement) for claim in claims])
            if way == "accept":
                self.accepted += [body(claim) for place, claim in enumerate(claims) if place not in late]

    async def recover(self) -> set[bytes]:
        """Take what a consumer finds that comes when all others have gone."""
        for address in list(self.server.sessions):
            self.server.sessions.discard(address)
        found: set[bytes] = set()
        _, desk = self.consumer(lease=60.0)
        while entries := await desk.look():
            claims = await desk.claim(entries)
            found |= {body(claim) for claim in claims}
            await desk.settle([(claim, Accept()) for claim in claims])
        return found


def body(claim: Claim) -> bytes:
    return claim.stored.envelope.body


WAYS: Final = st.lists(st.sampled_from(["accept", "release"]), min_size=1, max_size=3)
CUTS: Final = st.none() | st.integers(0, 40)
CONSUMERS: Final = st.lists(st.tuples(WAYS, CUTS, st.integers(0, 10)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(consumers=CONSUMERS, count=st.integers(1, 4), seed=st.integers(0, 10_000), lease=st.sampled_from([60.0, -1.0]))
def test_nothing_is_lost_wherever_a_stream_is_cut(
    consumers: list[tuple[list[str], int | None, int]], count: int, seed: int, lease: float
) -> None:
    """Also where every lease has run out at once, so that everybody takes from everybody; and requests run late."""

    async def run() -> None:
        world = World(lease, seed)
        sent = world.send(count)

        async def one(how: list[str], cut: int | None, executed: int) -> None:
            session, desk = world.consumer()
            session.cut = cut
            with contextlib.suppress(Error):
                await world.work(desk, how)
            for _ in range(world.chance.randrange(60)):
                await asyncio.sleep(0)
            session.end(executed=executed)

        await asyncio.gather(*(one(*consumer) for consumer in consumers))
        there = world.server.bodies()
        assert set(world.handled) | there >= sent
        assert await world.recover() == there
        assert world.server.bodies() == set()

    asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(ways=st.lists(WAYS, min_size=2, max_size=4), count=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_of_those_that_live_one_has_each_message(ways: list[list[str]], count: int, seed: int) -> None:
    async def run() -> None:
        world = World(60.0, seed)
        sent = world.send(count)
        await asyncio.gather(*(world.work(world.consumer()[1], how) for how in ways))
        assert len(world.accepted) == len(set(world.accepted))
        assert set(world.accepted) | world.server.bodies() == sent
        assert not set(world.accepted) & world.server.bodies()

    asyncio.run(run())


def test_attempts_are_counted_over_a_killed_consumer() -> None:
    async def run() -> None:
        world = World(60.0, 0)
        world.send(1)
        for attempt in (1, 2, 3):
            session, desk = world.consumer()
            (claim,) = await desk.claim(await desk.look())
            assert (claim.stored.attempts, claim.stored.redelivered) == (attempt, attempt > 1)
            session.end(executed=0)

    asyncio.run(run())


def test_a_claim_that_was_overtaken_leaves_the_others_alone() -> None:
    """Its lease ran out between two of its steps; who took the message meanwhile keeps it."""

    async def run() -> None:
        world = World(-1.0, 0)
        world.send(1)
        session, slow = world.consumer()
        taken, listing = asyncio.Event(), asyncio.Event()
        execute = session.ask_all

        async def held_up(requests: Iterable[tuple[str, str]]) -> list[Answer]:
            contents = list(requests)
            takes = [each for each in contents if "<retract" in each[1] and "aq.held." not in each[1]]
            if not takes:
                return await execute(contents)
            answers = await execute(takes)
            taken.set()
            await listing.wait()
            return answers + await execute(contents[len(takes) :])

        session.ask_all = held_up  # type: ignore[method-assign]  # the pause of a process that is stopped
        claiming = asyncio.create_task(slow.claim(await slow.look()))
        _, quick = world.consumer(60.0)
        await taken.wait()
        claims = await quick.claim(await quick.look())
        assert len(claims) == 1
        listing.set()
        overtaken = await claiming
        assert await slow.settle([(claim, Release()) for claim in overtaken]) != {}
        assert await quick.settle([(claim, Accept()) for claim in claims]) == {}
        assert world.server.bodies() == set()

    asyncio.run(run())


def test_a_release_that_is_refused_keeps_what_is_held() -> None:
    async def run() -> None:
        world = World(60.0, 0)
        world.send(1)
        session, desk = world.consumer()
        claims = await desk.claim(await desk.look())
        execute = session.ask_all

        async def refusing(requests: Iterable[tuple[str, str]]) -> list[Answer]:
            contents = list(requests)
            if any("<publish" in content for _, content in contents):
                return [Answer(None, Refusal("resource-constraint", "")) for _ in contents]
            return await execute(contents)

        session.ask_all = refusing  # type: ignore[method-assign]  # a server that is full
        with contextlib.suppress(ConnectionLost):
            await desk.settle([(claim, Release()) for claim in claims])
            raise AssertionError("the refusal was not told")
        session.end(executed=0)
        assert await world.recover() == {b"0"}

    asyncio.run(run())


def test_an_item_whose_copy_no_stanza_carries_stays_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        world = World(60.0, 0)
        world.send(1)
        ready = world.server.nodes[names.ready_node(QUEUE)]
        ready["theirs"] = f"<note xmlns='urn:other'>{'x' * 200_000}</note>"
        _, desk = world.consumer()
        assert [body(claim) for claim in await desk.claim(await desk.look())] == [b"0"]
        assert await desk.look() == []
        assert list(ready) == ["theirs"]

    asyncio.run(run())
    assert "'theirs' of queue 'q'" in caplog.text
    assert "too large to be claimed" in caplog.text
