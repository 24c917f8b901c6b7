"""Confirms: whatever their order, each message gets its own verdict, and no more is under way than the window holds.

What a broker sends is written here, for a real one sends most of it seldom and never on request.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.amqp import codec, frames
from anyqueue.backends.amqp.channel import Refused
from anyqueue.backends.amqp.lane import CHUNK, NACKED, WINDOW, Lane, Parcel
from anyqueue.driver import Envelope
from anyqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

RETURN = b"\x01\x38\x08NO_ROUTE\x00"


class Wire:
    """Keep what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def emit(self, data: bytes) -> None:
        """Take what a channel sends."""
        self.written.append(data)


def lane() -> tuple[Lane, Wire]:
    wire = Wire()
    connection: Any = SimpleNamespace(wire=wire, url="amqp://here")
    return Lane(connection), wire


def parcel(identity: str, key: str = "queue", size: int = 10) -> Parcel:
    return Parcel(b"<publish>", key, identity, bytes(size))


def confirm(lane: Lane, tag: int, *, multiple: bool = False, taken: bool = True) -> None:
    lane.confirmed(frames.Confirmed(1, tag, multiple, taken))


def bring_back(lane: Lane, identity: str, key: str = "queue") -> None:
    header = codec.encode(Envelope(id=identity, body=b""))
    method = RETURN + bytes([len(key)]) + key.encode()
    lane.arrived(frames.Arrived(1, returned=True, method=method, header=header, body=b""))


async def begun(lane: Lane, *batches: Sequence[Parcel]) -> list[asyncio.Task[dict[int, str]]]:
    """Begin to publish, in order."""
    tasks = [asyncio.create_task(lane.publish(batch)) for batch in batches]
    await settled()
    return tasks


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, bool, bool]], dict[int, bool]]:
    """Draw sizes of batches, confirms in any order, and what each tag must be told."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    left = set(range(1, sum(sizes) + 1))
    confirms: list[tuple[int, bool, bool]] = []
    verdicts: dict[int, bool] = {}
    while left:
        tag = draw(st.sampled_from(sorted(left)))
        multiple, taken = draw(st.booleans()), draw(st.booleans())
        confirms.append((tag, multiple, taken))
        for one in [each for each in left if each == tag or (multiple and each < tag)]:
            verdicts[one] = taken
            left.discard(one)
    return sizes, confirms, verdicts


@given(answers())
def test_each_message_gets_its_own_verdict(
    drawn: tuple[list[int], list[tuple[int, bool, bool]], dict[int, bool]],
) -> None:
    sizes, confirms, verdicts = drawn

    async def run() -> None:
        made, _ = lane()
        tasks = await begun(made, *([parcel(f"{size}-{n}") for n in range(size)] for size in sizes))
        for tag, multiple, taken in confirms:
            confirm(made, tag, multiple=multiple, taken=taken)
        first = 1
        for size, task in zip(sizes, tasks, strict=True):
            wanted = {position: NACKED for position in range(size) if not verdicts[first + position]}
            assert await task == wanted
            first += size
        assert not made.busy
        assert made._bytes == 0
        assert made._lowest == made._next

    asyncio.run(run())


async def test_a_batch_is_done_with_its_last_confirm_and_no_sooner() -> None:
    made, _ = lane()
    (task,) = await begun(made, [parcel("a"), parcel("b"), parcel("c")])
    for tag in (3, 1):
        confirm(made, tag)
        await settled()
        assert not task.done()
    confirm(made, 2)
    assert await task == {}


async def test_a_confirm_of_everything_and_confirms_of_nothing() -> None:
    """Tag 0 with `multiple` is all there is; what is confirmed twice, or was never sent, is nobody's."""
    made, _ = lane()
    (task,) = await begun(made, [parcel("a"), parcel("b")])
    confirm(made, 99)
    confirm(made, 1)
    confirm(made, 1, taken=False)
    confirm(made, 0, multiple=True)
    confirm(made, 99, multiple=True)
    assert await task == {}
    (task,) = await begun(made, [parcel("c")])
    confirm(made, 3, taken=False)
    assert await task == {0: NACKED}


async def test_a_return_is_told_apart_by_id_and_way() -> None:
    made, _ = lane()
    parcels = [parcel("same", "here"), parcel("same", "there"), parcel("other", "there"), parcel("same", "there")]
    (task,) = await begun(made, parcels)
    bring_back(made, "same", "there")
    bring_back(made, "same", "there")
    confirm(made, 4, multiple=True)
    assert await task == {1: "NO_ROUTE", 3: "NO_ROUTE"}


async def test_returns_of_many_batches_find_theirs() -> None:
    made, _ = lane()
    tasks = await begun(made, *([parcel(f"{batch}-{n}") for n in range(3)] for batch in range(4)))
    for identity in ("0-1", "2-0", "2-2", "3-1"):
        bring_back(made, identity)
    bring_back(made, "nobody's")
    confirm(made, 12, multiple=True)
    assert [await task for task in tasks] == [{1: "NO_ROUTE"}, {}, {0: "NO_ROUTE", 2: "NO_ROUTE"}, {1: "NO_ROUTE"}]


async def test_a_return_of_an_id_that_amqp_has_no_room_for() -> None:
    made, _ = lane()
    (task,) = await begun(made, [parcel("a"), parcel("i" * 300)])
    bring_back(made, "i" * 300)
    confirm(made, 2, multiple=True)
    assert await task == {1: "NO_ROUTE"}


async def test_messages_are_written_in_order_and_together() -> None:
    made, wire = lane()
    parcels = [Parcel(b"<%d>" % n, "queue", str(n), b"(%d)" % n) for n in range(3)]
    await begun(made, parcels, parcels)
    assert wire.written == [b"<0>(0)<1>(1)<2>(2)"] * 2


async def test_no_more_is_under_way_than_the_window() -> None:
    """Large messages wait for room, in chunks; a batch behind them waits for its turn."""
    made, wire = lane()
    size = CHUNK
    first, second = await begun(made, [parcel(str(n), size=size) for n in range(WINDOW // size + 3)], [parcel("last")])
    assert made._bytes == WINDOW
    assert len(wire.written) == WINDOW // size
    confirm(made, 1)
    confirm(made, 2)
    await settled()
    assert made._bytes == WINDOW
    confirm(made, WINDOW // size + 2, multiple=True)
    await settled()
    confirm(made, 1000, multiple=True)
    assert await first == {}
    assert await second == {}
    assert sum(map(len, wire.written)) == (WINDOW // size + 3) * (size + 9) + 19


@pytest.mark.parametrize("reason", [Refused(406, "no"), ConnectionLost("gone")])
async def test_when_the_channel_ends_everybody_hears_why(reason: Refused | ConnectionLost) -> None:
    made, _ = lane()
    confirmed, *others = await begun(made, [parcel("a")], [parcel("b"), parcel("c")], [parcel("d", size=WINDOW)])
    (waiting,) = await begun(made, [parcel("e", size=1), parcel("f")])
    confirm(made, 1)
    made._on_closed(reason)
    assert await confirmed == {}
    assert await refusals(*others, waiting) == [reason] * 3
    assert await refusals(asyncio.create_task(made.publish([parcel("late")]))) == [reason]


async def refusals(*tasks: Awaitable[object]) -> list[object]:
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("act", [lambda lane: confirm(lane, 1), lambda lane: bring_back(lane, "a")])
async def test_a_cancelled_batch_is_in_nobodys_way(act: Callable[[Lane], None]) -> None:
    made, _ = lane()
    gone, other = await begun(made, [parcel("a")], [parcel("b")])
    gone.cancel()
    await settled()
    act(made)
    confirm(made, 2, multiple=True)
    assert await other == {}
    assert not made.busy
