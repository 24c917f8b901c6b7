"""What comes to a hub that is none of the protocol's: an error or silence, nothing lost, and the hub stays up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import zmq
from hubs import alive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import anyqueue
from anyqueue import ConnectFailed, ProtocolError
from anyqueue.backends.zeromq import protocol as p

if TYPE_CHECKING:
    from hubs import Hub

TEXT: Final = st.text(max_size=10)
VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
KINDS: Final = st.builds(lambda kind, fields: [kind, *fields], st.integers(0, 120), st.lists(VALUES, max_size=7))
PLAUSIBLE: Final = st.builds(
    lambda kind, request, fields: [kind, request, *fields],
    st.sampled_from([2, 3, 4, 5, 6, 7, 8, 9, 13, 14]),
    st.integers(1, 3),
    st.lists(st.sampled_from([1, 2, 0, True, False, None, "q", [1], [], {}, 5.0]), max_size=6),
)
FRAMES: Final = st.lists(
    st.binary(max_size=40) | VALUES.map(msgspec.msgpack.encode) | KINDS.map(msgspec.msgpack.encode), max_size=4
)
SPOKEN: Final = st.builds(
    lambda message, rest: [msgspec.msgpack.encode(message), *rest], KINDS | PLAUSIBLE, st.lists(st.binary(), max_size=2)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FRAMES | SPOKEN, min_size=1, max_size=8), st.booleans())
def test_random_multiparts_leave_the_hub_up(hub: Hub, messages: list[list[bytes]], greeted: bool) -> None:  # noqa: FBT001 -- drawn
    with hub.raw().connected() as beside:
        beside.put("kept", b"beside the noise", {})
        with hub.stranger() as stranger:
            first = stranger.greet() if greeted else b"AQH\x01" + p.NO_EPOCH
            for frames in messages:
                stranger.say(*([first, *frames] if greeted else frames or [b""]))
            beside.put("kept", b"after the noise", {})
        ready, _, held = beside.depth("kept")
        assert (ready, held) == (2, 0)
        beside.delete("kept")


def test_noise_of_a_stranger_is_not_answered(hub: Hub) -> None:
    with hub.stranger() as stranger:
        for frames in ([b""], [b"", b""], [b"GET / HTTP/1.1"], [b"AQH"], [b"AQH\x01"], [b"\x00" * 1000] * 3):
            stranger.say(*frames)
        assert stranger.hear(0.2) is None
        with hub.raw().connected() as peer:
            (*_, dropped), _ = peer.ask(13)
            assert dropped == 6


def test_another_version_is_told_so(hub: Hub) -> None:
    with hub.stranger() as stranger:
        stranger.say(b"AQH\x02 and whatever a later version says", b"\x00")
        assert stranger.hear() == [109, 0, "version", "this hub speaks version 1 of the protocol", None]
    assert alive(hub)


def test_a_peer_that_breaks_the_protocol_is_told_and_what_it_held_goes_back(hub: Hub) -> None:
    with hub.raw().connected() as peer:
        peer.put("q", b"held", {})
    with hub.stranger() as stranger:
        first = stranger.greet()
        stranger.say(first, msgspec.msgpack.encode([3, 1, 1, False, "q", None, 10]))
        stranger.say(first, msgspec.msgpack.encode([14, 1, 10]))
        assert stranger.hear() == [103, 1, "q"]
        assert stranger.hear() == [107, 1]
        stranger.say(first, b"nonsense")
        told = stranger.hear()
        assert told is not None
        assert told[:3] == [109, 0, "invalid"]
    with hub.raw().connected() as peer:
        assert peer.depth("q") == (1, 0, 0)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_nested_message_pack_is_no_bomb(hub: Hub, depth: int) -> None:
    with hub.stranger() as stranger:
        first = stranger.greet()
        stranger.say(first, b"\x91" * depth)
        told = stranger.hear()
        assert told is not None
        assert told[2] == "invalid"
    assert alive(hub)


def test_many_frames_are_one_message_that_is_refused(hub: Hub) -> None:
    with hub.stranger() as stranger:
        first = stranger.greet()
        stranger.say(first, msgspec.msgpack.encode([2, 1, False, "q"]), *[b"\x90"] * 20_000)
        told = stranger.hear()
        assert told is not None
        assert told[2] == "invalid"
    assert alive(hub)


def test_a_frame_over_the_limit_ends_its_connection_and_no_other(hub: Hub) -> None:
    with hub.raw().connected() as beside:
        with hub.stranger() as stranger:
            first = stranger.greet()
            stranger.say(first, msgspec.msgpack.encode([2, 1, False, "q"]), bytes(p.MAX_FRAME + 1))
            assert stranger.hear(0.5) is None
        beside.put("q", b"x", {})
        assert beside.depth("q") == (1, 0, 0)
        assert beside.peers() == 0, "the peer whose connection ended is still counted"


def test_a_peer_that_does_not_read_is_dropped_and_the_others_go_on(hub: Hub) -> None:
    """It asks for 2 GB of answers and reads none: what waits for it is bounded."""
    with hub.raw().connected() as beside:
        for _ in range(40):
            beside.put("big", bytes(100_000), {})
        with hub.stranger() as stranger:
            first = stranger.greet(3600.0)
            stranger.socket.setsockopt(zmq.SNDTIMEO, 100)
            try:
                for request in range(1, 20_000):
                    stranger.say(first, msgspec.msgpack.encode([8, request, "big", 1]))
            except zmq.Again:
                pass
            beside.put("q", b"x", {})
            assert beside.get("q") is not None


async def test_what_speaks_another_version_is_a_protocol_error(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.ROUTER) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        client = anyqueue.connect(f"zmq://127.0.0.1:{port}", connect_timeout=5)
        opening = asyncio.create_task(client.open())
        identity, *_ = await asyncio.to_thread(other.recv_multipart)
        other.send_multipart([identity, b"AQH\x02" + p.NO_EPOCH, b"\x00"])
        with pytest.raises(ProtocolError, match="version 2"):
            await opening
        await client.close()


async def test_what_is_no_hub_is_a_failed_connection(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(ConnectFailed, match=str(port)):
            async with anyqueue.connect(f"zmq://127.0.0.1:{port}", connect_timeout=2):
                pass
