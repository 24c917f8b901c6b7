"""Sending: what a queue refuses while it starts goes again, alone, over new channels, and the others after it in order.

Which channel is refused, and for how long, is written here: a real broker does it when a leader dies, in a moment that
nobody can choose (tests/brokers kills leaders, and waits for none).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from anyqueue.backends.amqp import sender as module
from anyqueue.backends.amqp.lane import NACKED
from anyqueue.backends.amqp.sender import Sender
from anyqueue.driver import Envelope, Queue
from anyqueue.errors import BatchFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.backends.amqp.lane import Parcel

QUEUE = Queue("emails")


class Lane:
    """A channel that takes what `takes(number, id)` says; it remembers what it was given."""

    takes: Callable[[int, str], bool]
    made: list[Lane]

    def __init__(self, connection: object) -> None:
        del connection
        self.number = len(self.made)
        self.made.append(self)
        self.broken = None
        self.busy = False
        self.started: set[str] = set()
        self.given: list[list[str]] = []
        self.dropped = False
        self.channel = SimpleNamespace(number=self.number, frame_max=131072, drop=self.drop)

    async def open(self) -> Lane:
        """Open it."""
        return self

    def drop(self) -> None:
        """Close it."""
        self.dropped = True

    def start(self, queue: str) -> None:
        """Note a queue."""
        self.started.add(queue)

    async def publish(self, parcels: Sequence[Parcel]) -> dict[int, str]:
        """Take what is to be taken."""
        assert all(b"\x00" + bytes([self.number]) in parcel.method[:4] for parcel in parcels), "of another channel"
        self.given.append([parcel.id for parcel in parcels])
        return {at: NACKED for at, parcel in enumerate(parcels) if not self.takes(self.number, parcel.id)}


class Topology:
    """Everything is declared."""

    declares = True

    def has(self, address: object) -> bool:
        """Say so."""
        return bool(address)

    async def address(self, address: object) -> None:
        """Have nothing to do."""


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    monkeypatch.setattr(module, "Lane", Lane)
    monkeypatch.setattr(Lane, "made", [], raising=False)
    monkeypatch.setattr(module, "START_PAUSE", 0.001)
    monkeypatch.setattr(module, "START_TIMEOUT", 0.05)
    return Lane.made


def made(monkeypatch: pytest.MonkeyPatch, takes: Callable[[int, str], bool]) -> Sender:
    monkeypatch.setattr(Lane, "takes", staticmethod(takes), raising=False)
    connection: Any = SimpleNamespace(url="amqp://here")
    topology: Any = Topology()
    return Sender(connection, topology)


def envelopes(*names: str) -> list[Envelope]:
    return [Envelope(id=name, body=b"") for name in names]


async def test_the_first_message_goes_alone_and_once(monkeypatch: pytest.MonkeyPatch, lanes: list[Lane]) -> None:
    sender = made(monkeypatch, lambda _number, _id: True)
    await sender.send(QUEUE, envelopes("a", "b", "c"))
    await sender.send(QUEUE, envelopes("d", "e"))
    assert [lane.given for lane in lanes] == [[["a"], ["b", "c"], ["d", "e"]]]


async def test_a_channel_that_is_refused_is_replaced(monkeypatch: pytest.MonkeyPatch, lanes: list[Lane]) -> None:
    sender = made(monkeypatch, lambda number, _id: number == 2)
    await sender.send(QUEUE, envelopes("a", "b", "c"))
    await sender.send(QUEUE, envelopes("d"))
    assert [lane.given for lane in lanes] == [[["a"], ["a"]], [["a"]], [["a"], ["b", "c"], ["d"]]]
    assert [lane.dropped for lane in lanes] == [True, True, False]


async def test_a_channel_that_others_wait_for_is_closed_when_they_have_done(
    monkeypatch: pytest.MonkeyPatch, lanes: list[Lane]
) -> None:
    sender = made(monkeypatch, lambda number, _id: number == 2)
    await sender._lane("")
    lanes[0].busy = True
    await sender.send(QUEUE, envelopes("a"))
    assert [lane.dropped for lane in lanes] == [False, True, False]
    lanes[0].busy = False
    sender._retire("", lanes[2])
    assert [lane.dropped for lane in lanes] == [True, True, True]


async def test_a_queue_that_takes_nothing_fails_the_send(monkeypatch: pytest.MonkeyPatch, lanes: list[Lane]) -> None:
    sender = made(monkeypatch, lambda _number, name: name != "a")
    with pytest.raises(BatchFailed, match="1 of 3") as caught:
        await sender.send(QUEUE, envelopes("a", "b", "c"))
    assert caught.value.failures.keys() == {0}
    assert "its queue is full, or has failed" in str(caught.value.failures[0])
    assert lanes[-1].given[-1] == ["b", "c"]


async def test_what_is_refused_later_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, lanes: list[Lane]) -> None:
    sender = made(monkeypatch, lambda _number, name: name != "b")
    with pytest.raises(BatchFailed) as caught:
        await sender.send(QUEUE, envelopes("a", "b", "c"))
    assert caught.value.failures.keys() == {1}
    assert [lane.given for lane in lanes] == [[["a"], ["b", "c"]]]
