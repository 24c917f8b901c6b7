"""Frames: whatever is written is read again, in pieces of any size, and what is no AMQP is said to be none."""

from __future__ import annotations

import struct
from itertools import pairwise

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.amqp import frames

LEAST = frames.LEAST_FRAME_MAX
PROPERTIES = b"\x10\x00\x02"
CHANNELS = st.integers(1, 65535)
TAGS = st.integers(1, 2**64 - 1)


def short(raw: bytes) -> bytes:
    return bytes([len(raw)]) + raw


def method(channel: int, name: int, arguments: bytes) -> bytes:
    payload = struct.pack(">I", name) + arguments
    return struct.pack(">BHI", frames.METHOD, channel, len(payload)) + payload + b"\xce"


def deliver(channel: int, tag: int, body: bytes, frame_max: int = LEAST) -> bytes:
    arguments = short(b"consumer") + struct.pack(">Q?", tag, tag % 2) + short(b"exchange") + short(b"key")
    return method(channel, frames.DELIVER, arguments) + frames.content(channel, PROPERTIES, body, frame_max)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[frames.Event], bytes]:
    """Draw what a broker sends, and the events that it must make."""
    events: list[frames.Event] = []
    stream = b""
    for _ in range(draw(st.integers(1, 5))):
        channel, tag = draw(CHANNELS), draw(TAGS)
        kind = draw(st.sampled_from(["ack", "nack", "deliver", "heartbeat", "other"]))
        if kind == "ack":
            multiple = draw(st.booleans())
            stream += frames.ack(channel, tag, multiple=multiple)
            events.append(frames.Confirmed(channel, tag, multiple, taken=True))
        elif kind == "nack":
            stream += frames.release(channel, [tag])
            events.append(frames.Confirmed(channel, tag, multiple=False, taken=False))
        elif kind == "deliver":
            size = draw(st.sampled_from([0, 1, 100, LEAST - 9, LEAST - 8, LEAST - 7, 3 * LEAST]))
            raw = deliver(channel, tag, bytes(size))
            stream += raw
            (found,) = frames.Reader(LEAST).feed(raw)
            events.append(found)
        else:
            raw = b"\x08\0\0\0\0\0\0\xce" if kind == "heartbeat" else method(channel, 20 << 16 | 11, bytes(4))
            stream += raw
            events.append(frames.Other(raw))
    return events, stream


@given(streams(), st.lists(st.integers(0, 20_000), max_size=8))
def test_a_stream_is_read_whatever_its_pieces(drawn: tuple[list[frames.Event], bytes], cuts: list[int]) -> None:
    events, stream = drawn
    reader = frames.Reader(LEAST)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    read = [event for start, stop in pairwise(places) for event in reader.feed(stream[start:stop])]
    assert read == events


def test_a_stream_is_read_byte_by_byte() -> None:
    stream = deliver(7, 5, b"body") + frames.ack(7, 1, multiple=True)
    reader = frames.Reader(LEAST)
    read = [event for byte in stream for event in reader.feed(bytes([byte]))]
    assert [type(event) for event in read] == [frames.Arrived, frames.Confirmed]


@given(CHANNELS, TAGS, st.binary(max_size=3 * LEAST), st.integers(LEAST, 131072))
def test_a_message_comes_back(channel: int, tag: int, body: bytes, frame_max: int) -> None:
    raw = deliver(channel, tag, body, frame_max)
    (event,) = frames.Reader(frame_max).feed(raw)
    assert event == frames.Arrived(channel, returned=False, method=event.method, header=PROPERTIES, body=body)
    assert frames.tag_of(event.method) == (tag, bool(tag % 2))
    told = frames.delivered(event.method)
    assert told == frames.Delivered(b"consumer", tag, bool(tag % 2), b"exchange", b"key")


@given(CHANNELS, st.text(max_size=60), st.text(max_size=60), st.booleans(), st.binary(max_size=2 * LEAST))
def test_pika_reads_what_is_published(channel: int, exchange: str, key: str, mandatory: bool, body: bytes) -> None:  # noqa: FBT001 -- drawn
    raw = frames.publish_method(channel, exchange, key, mandatory=mandatory)
    raw += frames.content(channel, PROPERTIES, body, LEAST)
    found = []
    while raw:
        assert len(raw) <= LEAST or struct.unpack_from(">I", raw, 3)[0] <= LEAST - 8
        size, frame = pika.frame.decode_frame(raw)
        found.append(frame)
        raw = raw[size:]
    publish, header, *pieces = found
    assert (publish.channel_number, publish.method.exchange, publish.method.routing_key) == (channel, exchange, key)
    assert publish.method.mandatory == mandatory
    assert (header.body_size, header.properties.delivery_mode) == (len(body), 2)
    assert b"".join(piece.fragment for piece in pieces) == body


@given(CHANNELS, TAGS, st.booleans())
def test_pika_reads_what_is_settled(channel: int, tag: int, multiple: bool) -> None:  # noqa: FBT001 -- drawn
    _, ack = pika.frame.decode_frame(frames.ack(channel, tag, multiple=multiple))
    assert (ack.channel_number, ack.method.delivery_tag, ack.method.multiple) == (channel, tag, multiple)
    _, nack = pika.frame.decode_frame(frames.release(channel, [tag]))
    assert (nack.method.delivery_tag, nack.method.multiple, nack.method.requeue) == (tag, False, True)


def test_a_return_says_why() -> None:
    arguments = struct.pack(">H", 312) + short(b"NO_ROUTE") + short(b"exchange") + short(b"key")
    raw = method(3, frames.RETURN, arguments) + frames.content(3, PROPERTIES, b"body", LEAST)
    (event,) = frames.Reader(LEAST).feed(raw)
    assert isinstance(event, frames.Arrived)
    assert event.returned
    assert frames.returned(event.method) == frames.Returned(312, "NO_ROUTE", b"key")


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    reader = frames.Reader(LEAST)
    try:
        reader.feed(raw)
    except frames.BrokenStream:
        return
    assert len(reader._rest) <= len(raw)


@given(st.binary(max_size=60))
def test_any_arguments_are_read_or_refused(raw: bytes) -> None:
    for read in (frames.delivered, frames.returned):
        try:
            read(raw)
        except frames.BrokenStream:
            continue


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of type 72"),
        (b"\x16\x03\x03\x00\x7a\x02\x00\x00", "a frame of type 22"),
        (struct.pack(">BHI", 1, 1, LEAST + 1) + b"x", "speaks no AMQP"),
        (frames.ack(1, 1, multiple=False)[:-1] + b"\xcd", "without its end"),
        (method(1, frames.ACK, b"\0\0"), "a confirm that is cut off"),
        (frames.content(1, PROPERTIES, b"", LEAST), "a content header that belongs to nothing"),
        (struct.pack(">BHI", 3, 1, 1) + b"x\xce", "a content body that belongs to nothing"),
        (deliver(1, 1, b"12")[:-10] + struct.pack(">BHI", 3, 1, 3) + b"123\xce", "a content body that belongs"),
        (deliver(1, 1, b"x")[:-9] + frames.content(1, PROPERTIES, b"", LEAST), "a content header that belongs"),
    ],
)
def test_what_is_no_amqp_is_said_to_be_none(raw: bytes, why: str) -> None:
    with pytest.raises(frames.BrokenStream, match=why):
        frames.Reader(LEAST).feed(raw)


def test_a_channel_that_closed_is_forgotten() -> None:
    reader = frames.Reader(LEAST)
    assert reader.feed(deliver(1, 1, b"xx")[:-10]) == []
    reader.forget(1)
    assert len(reader.feed(deliver(1, 2, b"another"))) == 1
