"""The hub's protocol: what is written reads the same, and whatever else comes is Malformed, never another exception."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anyqueue.backends.zeromq import protocol as p
from anyqueue.driver import MAX_BODY, MAX_HEADERS, Envelope

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
NUMBERS = st.integers(1, 2**53)
TIMES = st.floats(0, 1e12)
HEADERS = st.dictionaries(TEXT, TEXT, max_size=3)
ENVELOPES = st.builds(
    Envelope,
    id=TEXT,
    body=st.binary(max_size=50),
    headers=HEADERS,
    content_type=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    priority=st.none() | st.integers(0, 9),
    not_before=st.none() | TIMES,
    expires_at=st.none() | TIMES,
    timestamp=st.none() | TIMES,
)
SETTLEMENTS = st.builds(
    p.Settlement,
    number=NUMBERS,
    verdict=st.sampled_from(["release", "reject"]),
    delay=TIMES,
    failed_at=st.none() | TIMES,
    reason=TEXT,
    headers=HEADERS,
)
REQUESTS = st.one_of(
    st.builds(p.Hello, st.floats(0.01, p.MAX_HEARTBEAT), TEXT),
    st.builds(p.Send, NUMBERS, st.booleans(), NAMES),
    st.builds(
        p.Subscribe,
        request=NUMBERS,
        subscription=NUMBERS,
        topic=st.booleans(),
        name=NAMES,
        group=st.none() | NAMES,
        prefetch=st.integers(1, p.MAX_PREFETCH),
        dead_letter=st.none() | NAMES,
    ),
    st.builds(p.Settle, NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=5), st.lists(SETTLEMENTS, max_size=3)),
    st.builds(p.Unsubscribe, NUMBERS, NUMBERS, st.booleans()),
    st.builds(p.Queues, NUMBERS),
    st.builds(p.Measure, NUMBERS, NAMES),
    st.builds(p.Browse, NUMBERS, NAMES, st.integers(1, p.MAX_BROWSE)),
    st.builds(p.Purge, NUMBERS, NAMES),
    st.builds(p.Delete, NUMBERS, NAMES),
    st.just(p.Ping()),
    st.builds(p.Bye, NUMBERS),
    st.builds(p.Status, NUMBERS),
    st.builds(p.Credit, NUMBERS, st.integers(0, p.MAX_PREFETCH)),
)
REPLIES = st.one_of(
    st.builds(p.Welcome, TIMES, st.booleans(), NUMBERS, NUMBERS, TEXT),
    st.builds(p.Done, NUMBERS, st.integers(0, 2**53)),
    st.builds(p.Subscribed, NUMBERS, NAMES),
    st.builds(p.Settled, NUMBERS, st.lists(NUMBERS, max_size=5)),
    st.builds(p.Depths, NUMBERS, st.lists(st.tuples(TEXT, NUMBERS, NUMBERS, NUMBERS), max_size=3)),
    st.builds(p.Shown, NUMBERS),
    st.builds(p.Deliver, NUMBERS),
    st.builds(p.Gone, NUMBERS, NAMES),
    st.builds(p.Refused, st.integers(0, 2**53), TEXT, TEXT, st.none() | NAMES),
    st.just(p.Pong()),
    st.just(p.Goodbye()),
    st.builds(p.Health, NUMBERS, TIMES, NUMBERS, NUMBERS, NUMBERS),
)
EPOCHS = st.binary(min_size=p.EPOCH, max_size=p.EPOCH)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(EPOCHS, REQUESTS, st.lists(st.binary(max_size=5), max_size=3))
def test_a_request_reads_as_it_was_written(epoch: bytes, message: p.Request, rest: list[bytes]) -> None:
    assert p.read_request(p.write(epoch, message, *rest)) == (epoch, message, rest)


def test_every_kind_is_drawn() -> None:
    kinds = [kind for union in (p.Request, p.Reply) for kind in get_args(union)]
    assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds) == 26


@given(EPOCHS, REPLIES)
def test_a_reply_reads_as_it_was_written(epoch: bytes, message: p.Reply) -> None:
    assert p.read_reply(p.write(epoch, message)) == (epoch, message, [])


@given(st.lists(ENVELOPES, min_size=1, max_size=5))
def test_a_batch_reads_as_it_was_written(batch: list[Envelope]) -> None:
    frames = list(p.chunks(batch))
    assert p.read_envelopes([frame for _, frame in frames]) == batch
    assert sum(count for count, _ in frames) == len(batch)
    p.check_envelopes(batch)


@given(st.lists(st.tuples(NUMBERS, st.none() | st.integers(1, 99), st.booleans(), st.none() | TIMES, ENVELOPES)))
def test_deliveries_read_as_they_were_written(deliveries: list[p.Handed]) -> None:
    assert p.read_handed(list(p.write_deliveries(deliveries))) == deliveries


def test_a_batch_is_cut_into_frames_of_about_a_chunk() -> None:
    batch = [Envelope(id=str(number), body=bytes(1024)) for number in range(1000)]
    frames = list(p.chunks(batch))
    assert len(frames) == 4
    assert all(p.CHUNK <= len(frame) <= 1.1 * p.CHUNK for _, frame in frames[:-1])
    many = [Envelope(id="", body=b"", headers={"name": "x" * 60_000})] * 8
    assert [count for count, _ in p.chunks(many)] == [5, 3]
    assert [count for count, _ in p.chunks([Envelope(id="", body=b"")] * 2500)] == [1000, 1000, 500]


def test_the_largest_message_there_may_be_fits_into_a_frame() -> None:
    headers = {f"n{number}": "\U0001f989" * 16_000 for number in range(2)}
    envelope = Envelope(id="\U0001f989" * 200, body=bytes(MAX_BODY), headers=headers)
    ((_, frame),) = p.chunks([envelope])
    assert len(frame) < p.MAX_FRAME


@given(st.lists(st.binary(max_size=30), max_size=4))
@example([])
@example([b""])
@example([b"AQH"])
@example([p.GREETING + p.NO_EPOCH])
@example([p.GREETING + p.NO_EPOCH, b""])
@example([p.GREETING + p.NO_EPOCH, b"\x91\x0b\x00"])
@example([p.GREETING + b"short", b"\x91\x0b"])
@example([p.GREETING + p.NO_EPOCH, b"\x91" * 100_000])
def test_any_frames_are_a_message_or_malformed(frames: list[bytes]) -> None:
    for read in (p.read_request, p.read_reply):
        reads_or_is_malformed(read, frames)


@given(ANYTHING)
def test_any_message_pack_is_a_message_or_malformed(value: object) -> None:
    frame = msgspec.msgpack.encode(value)
    for read in (p.read_request, p.read_reply):
        reads_or_is_malformed(read, [p.GREETING + p.NO_EPOCH, frame])
    reads_or_is_malformed(p.read_envelopes, [frame])
    reads_or_is_malformed(p.read_handed, [frame])


@given(REQUESTS, st.data())
def test_a_damaged_request_is_a_message_or_malformed(message: p.Request, data: st.DataObject) -> None:
    frames = p.write(p.NO_EPOCH, message)
    index = data.draw(st.integers(0, 1))
    place = data.draw(st.integers(0, len(frames[index]) - 1))
    damaged = bytearray(frames[index])
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    frames[index] = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    reads_or_is_malformed(p.read_request, frames)


def reads_or_is_malformed(read: Callable[[list[bytes]], object], frames: list[bytes]) -> None:
    with suppress(p.Malformed):
        read(frames)


def test_another_version_is_told_from_noise() -> None:
    frames = [p.MAGIC + b"\x02" + b"anything at all", b"\x01"]
    with pytest.raises(p.OtherVersion, match="version 2 of the protocol, this is version 1"):
        p.read_request(frames)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ([1, 0.0], ">"),
        ([1, float("nan")], ">"),
        ([2, 0, False, "q"], ">= 1"),
        ([2, 1, False, ""], "length >= 1"),
        ([2, 1, False, "x" * 5000], "length <= 4096"),
        ([2, 1, False, "line\nend"], "regex"),
        ([2, 1, False, "nul\0"], "regex"),
        ([2, 1, 1, "q"], "bool"),
        ([3, 1, 1, False, "q", None, 0], ">= 1"),
        ([3, 1, 1, False, "q", None, p.MAX_PREFETCH + 1], f"<= {p.MAX_PREFETCH}"),
        ([4, 1, 1, [0]], ">= 1"),
        ([4, 1, 1, [1] * (p.MAX_BATCH + 1)], f"length <= {p.MAX_BATCH}"),
        ([4, 1, 1, [], [[1, "accept"]]], "regex"),
        ([4, 1, 1, [], [[1, "release", -1.0]]], ">= 0.0"),
        ([4, 1, 1, [], [[1, "release", float("nan")]]], ">= 0.0"),
        ([4, 1, 1, [], [[1, "release", float("inf")]]], "<="),
        ([4, 1, 1, [], [[1, "reject", 0.0, None, "why", {"name": 5}]]], "str"),
        ([8, 1, "q", p.MAX_BROWSE + 1], f"<= {p.MAX_BROWSE}"),
        ([99, 1], "99"),
        ([101, 5.0, True, 1, 1], "101"),
    ],
)
def test_a_message_out_of_bounds_says_why(fields: list[object], what: str) -> None:
    with pytest.raises(p.Malformed, match=what):
        p.read_request([p.GREETING + p.NO_EPOCH, msgspec.msgpack.encode(fields)])


def test_fields_of_a_later_version_of_a_kind_are_left_alone() -> None:
    frames = [p.GREETING + p.NO_EPOCH, msgspec.msgpack.encode([7, 1, "q", "a field that is not there yet", 5])]
    assert p.read_request(frames).message == p.Measure(1, "q")


@pytest.mark.parametrize(
    ("envelope", "what"),
    [
        (Envelope(id="", body=bytes(MAX_BODY + 1)), "a body of"),
        (Envelope(id="", body=b"", headers={"name": "x" * 2 * MAX_HEADERS}), "headers over"),
        (Envelope(id="", body=b"", not_before=float("nan")), "a time of nan"),
        (Envelope(id="", body=b"", expires_at=float("inf")), "a time of inf"),
        (Envelope(id="x" * 5000, body=b""), "an id of 5000"),
    ],
)
def test_an_envelope_that_no_store_may_be_given_says_why(envelope: Envelope, what: str) -> None:
    with pytest.raises(p.Malformed, match=what):
        p.check_envelopes([Envelope(id="good", body=b""), envelope])


def test_a_message_has_at_least_one_envelope_and_not_too_many() -> None:
    for count in (0, p.MAX_BATCH + 1):
        with pytest.raises(p.Malformed, match=f"{count} envelopes"):
            p.check_envelopes([Envelope(id="", body=b"")] * count)
