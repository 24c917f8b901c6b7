"""Envelopes and content headers: every envelope comes back as it was, and every stranger's message can be read."""

from __future__ import annotations

import json
import math
import struct

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.amqp import codec, properties, table
from anyqueue.driver import MAX_HEADERS, Envelope
from anyqueue.testing.targets.rabbitmq_junk import field, junk, long

TEXT = st.text(st.characters(codec="utf-8"), max_size=300)
TAKEN = st.sampled_from(["CC", "BCC", "x-death", "x-delivery-count", "x-first-death-queue", "x-received-from"])
HEADER_NAMES = TEXT.filter(lambda name: not name.startswith("aq-")) | TAKEN
TIMES = st.none() | st.floats(0, 2**40)
ENVELOPES = st.builds(
    Envelope,
    id=TEXT.filter(bool),
    body=st.binary(max_size=50),
    headers=st.dictionaries(HEADER_NAMES, TEXT, max_size=5),
    content_type=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT | st.just("amq.rabbitmq.reply-to"),
    priority=st.none() | st.integers(0, 9),
    expires_at=TIMES,
    timestamp=TIMES,
)


def foreign(*fields: bytes, flags: int = properties.HEADERS, rest: bytes = b"") -> bytes:
    """Write a content header as a stranger may."""
    return struct.pack(">H", flags) + long(b"".join(fields)) + rest


@given(ENVELOPES)
def test_what_is_sent_is_received(envelope: Envelope) -> None:
    assert codec.decode(codec.encode(envelope), envelope.body, "queue") == codec.Decoded(envelope, None)


@given(ENVELOPES)
def test_pika_reads_what_is_written(envelope: Envelope) -> None:
    read = pika.BasicProperties()
    read.decode(codec.encode(envelope))
    assert read.delivery_mode == 2
    assert read.priority == envelope.priority
    if len(envelope.id.encode()) <= 255:
        assert read.message_id == envelope.id
    headers = read.headers or {}
    assert not headers.keys() & codec._TAKEN
    named = {name: text for name, text in headers.items() if not name.startswith("aq-")}
    assert {**named, **json.loads(headers.get("aq-headers", "{}"))} == envelope.headers


@given(ENVELOPES)
def test_native_properties_are_named_as_in_amqp(envelope: Envelope) -> None:
    found = properties.properties(codec.encode(envelope))
    assert ("priority" in found) == (envelope.priority is not None)
    assert ("timestamp" in found) == (envelope.timestamp is not None)
    assert "expiration" not in found


@given(st.binary(min_size=2, max_size=120), st.binary(max_size=20))
def test_any_header_is_read(header: bytes, body: bytes) -> None:
    read = codec.decode(header, body, "queue").envelope
    assert read.body == body
    assert read.id
    assert all(time is None or math.isfinite(time) for time in (read.timestamp, read.expires_at))
    codec.encode(read)  # a retry or dead letter of it can be sent


@given(st.integers(0, 2**16 - 1), st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_any_set_of_properties_is_read(flags: int, pairs: list[tuple[bytes, bytes]]) -> None:
    codec.decode(struct.pack(">H", flags) + table.encode(pairs) + b"\x05" * 90, b"", "queue")


def test_what_a_broker_takes_of_strangers_is_read_and_can_be_sent_on() -> None:
    for body, odd in junk():
        header = b"".join(odd.encode())
        read = codec.decode(header, body, "queue")
        again = codec.decode(codec.encode(read.envelope), body, "queue")
        assert again.envelope == read.envelope


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_double_that_is_no_number_is_shown(number: float) -> None:
    header = foreign(field(b"odd", b"d", struct.pack(">d", number)))
    assert codec.decode(header, b"", "queue").envelope.headers == {"odd": str(number)}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "soon", "", "\xff"])
@pytest.mark.parametrize("name", [codec.TIMESTAMP, codec.EXPIRES])
def test_a_time_of_ours_that_a_stranger_wrote_is_none(name: str, text: str) -> None:
    header = foreign(field(name.encode(), b"S", long(text.encode("latin-1"))))
    read = codec.decode(header, b"", "queue").envelope
    assert (read.timestamp, read.expires_at, read.headers) == (None, None, {})


def test_a_time_in_milliseconds_is_a_time() -> None:
    header = struct.pack(">HQ", properties.TIME, 1_700_000_000_000)
    assert codec.decode(header, b"", "queue").envelope.timestamp == 1_700_000_000_000


def test_a_message_without_an_id_has_the_same_one_at_each_delivery() -> None:
    told = field(b"tenant", b"S", long(b"eu"))
    first = codec.decode(foreign(told), b"body", "queue").envelope
    counted = codec.decode(foreign(told, field(b"x-delivery-count", b"l", bytes(8))), b"body", "queue")
    assert counted.count == 0
    assert counted.envelope == first
    others = [
        codec.decode(foreign(told), b"other", "queue"),
        codec.decode(foreign(told), b"body", "other"),
        codec.decode(foreign(), b"body", "queue"),
    ]
    assert len({first.id, *(other.envelope.id for other in others)}) == 4


def test_headers_beyond_what_a_message_may_have_are_left_out() -> None:
    fields = [field(b"h%d" % number, b"S", long(b"\xff" * 20_000)) for number in range(4)]
    headers = codec.decode(foreign(*fields), b"", "queue").envelope.headers
    assert sum(len(name) + len(text) for name, text in headers.items()) <= MAX_HEADERS


def death(queue: str, reason: str) -> bytes:
    inner = field(b"queue", b"S", long(queue.encode())) + field(b"reason", b"S", long(reason.encode()))
    return field(b"x-death", b"A", long(b"F" + long(inner)))


def test_what_the_broker_gave_up_is_a_dead_letter() -> None:
    read = codec.decode(foreign(death("emails", "delivery_limit")), b"", "emails.dead").envelope
    assert read.headers["aq-death-origin"] == "emails"
    assert "delivery limit" in read.headers["aq-death-reason"]
    told = field(b"aq-death-reason", b"S", long(b"ours"))
    assert codec.decode(foreign(death("emails", "rejected"), told), b"", "d").envelope.headers == {
        "aq-death-reason": "ours"
    }


def test_what_has_waited_for_its_time_is_none() -> None:
    assert codec.decode(foreign(death("aq.delay.100.20782.emails", "expired")), b"", "emails").envelope.headers == {}


@pytest.mark.parametrize("odd", [b"S" + long(b"x"), b"A" + long(b""), b"A" + long(b"t\x01"), b"F" + long(b"")])
def test_an_odd_record_of_deaths_is_none(odd: bytes) -> None:
    header = foreign(bytes([7]) + b"x-death" + odd)
    assert codec.decode(header, b"", "queue").envelope.headers == {}


def test_a_bundle_that_a_stranger_wrote_is_left_out() -> None:
    for text in (b"{", b"[]", b'{"a": 1}', b"\xff"):
        header = foreign(field(b"aq-headers", b"S", long(text)))
        assert codec.decode(header, b"", "queue").envelope.headers == {}
