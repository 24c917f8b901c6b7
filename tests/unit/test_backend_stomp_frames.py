"""Frames and headers of STOMP: whatever is sent is one frame, and whatever arrives is read however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import ProtocolError
from anyqueue.backends.stomp import frames, headers
from anyqueue.backends.stomp.frames import Splitter
from anyqueue.testing.stopwatch import Stopwatch

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HOSTILE = st.one_of(TEXTS, st.text(st.sampled_from("\\\r\n:\0cn é🦉"), max_size=40))
NAMES = HOSTILE.filter(lambda name: "\0" not in name)
BODIES = st.one_of(st.binary(max_size=300), st.text("\0\n:", max_size=20).map(str.encode))


def message(body: bytes, *lines: bytes, length: bool = True) -> bytes:
    told = b"".join(b"%b\n" % line for line in lines)
    counted = b"content-length:%d\n" % len(body) if length else b""
    return b"MESSAGE\n%b%b\n%b\0" % (told, counted, body)


@given(HOSTILE)
def test_what_is_escaped_is_one_line_and_comes_back(text: str) -> None:
    escaped = headers.escape(text)
    assert not {*"\r\n:\0"} & {*escaped}
    assert headers.unescape(escaped) == text.replace("\0", "\ufffd"), "STOMP cannot say a NUL"


@given(st.dictionaries(NAMES, NAMES, max_size=5))
def test_a_frame_has_the_headers_that_were_given_and_no_others(given: dict[str, str]) -> None:
    frame = frames.control("SUBSCRIBE", given)
    head, _, body = frame.partition(b"\n\n")
    assert body == b"\0", "a second frame was smuggled in"
    assert dict(headers.pairs(head)) == given


@pytest.mark.parametrize("text", [r"\t", r"a\b", "\\", r"\\n"])
def test_an_escape_that_stomp_does_not_have_is_one_header_and_no_end(text: str) -> None:
    """Such a header is a stranger's: its text stays as it came, but for what is a real escape."""
    assert headers.unescape(text) == text.replace("\\\\", "\\")


def test_the_first_of_repeated_headers_counts() -> None:
    assert headers.pairs(b"MESSAGE\nfoo:first\nfoo:second")[0] == ("foo", "first")


def test_headers_that_are_no_text_are_read_without_an_error() -> None:
    assert headers.pairs(b"MESSAGE\nname:\xff\xfe\nnocolon\n:empty") == [
        ("name", r"\xff\xfe"),
        ("nocolon", ""),
        ("", "empty"),
    ]


@given(st.dictionaries(HOSTILE, HOSTILE, max_size=4))
def test_a_bundle_is_a_line_that_comes_back(given: dict[str, str]) -> None:
    found: dict[str, str] = {}
    line = headers.line(headers.BUNDLE, headers.bundled(given))
    assert line.count("\n") == 1
    assert "\0" not in line
    headers.unbundle(headers.unescape(line[len(headers.BUNDLE) + 1 : -1]), found)
    assert found == given


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "[" * 5000, '{"a":"\\ud800"}'])
def test_a_bundle_that_is_none_adds_nothing(text: str) -> None:
    found: dict[str, str] = {}
    headers.unbundle(text, found)
    assert not {name for name in found if name != "a"}


@pytest.mark.parametrize("text", [None, "", "x", "nan", "inf", "-inf", "1e999", "0x1"])
def test_a_number_that_is_none_is_none(text: str | None) -> None:
    assert headers.number(text) is None


@pytest.mark.parametrize("password", ["a:b", "a\\b", "é🦉", "", "\\c"])
def test_a_password_travels_as_these_brokers_read_it(password: str) -> None:
    frame = frames.connect({"passcode": password}, escapes=True)
    assert frame.startswith(b"CONNECT\npasscode:" + password.replace("\\", "\\\\").encode() + b"\n")
    assert frames.connect({"passcode": password}, escapes=False) == b"CONNECT\npasscode:%b\n\n\0" % password.encode()


# What arrives


@given(st.lists(BODIES, min_size=1, max_size=5), st.data())
def test_frames_are_read_however_they_were_cut(bodies: list[bytes], data: st.DataObject) -> None:
    """With beats of the heart between them, and line ends of either kind."""
    stream = b"".join(
        b"\n" * data.draw(st.integers(0, 3)) + message(body, b"subscription:1") + b"\r\n" for body in bodies
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = Splitter()
    found: list[frames.Raw] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.feed(stream[start:end])
    assert [body for _, body in found] == bodies
    assert all(head.startswith(b"MESSAGE\nsubscription:1") for head, _ in found)


@given(BODIES.filter(lambda body: b"\0" not in body))
def test_a_body_without_a_length_ends_at_its_nul(body: bytes) -> None:
    splitter = Splitter()
    assert splitter.feed(message(body, length=False) + message(b"next")) == [
        (b"MESSAGE", body),
        (b"MESSAGE\ncontent-length:4", b"next"),
    ]


def test_carriage_returns_before_line_ends_are_no_part_of_a_header() -> None:
    (raw,) = Splitter().feed(b"MESSAGE\r\nfoo:bar\r\ncontent-length:1\r\n\r\nx\0")
    assert raw[1] == b"x"
    assert dict(headers.pairs(raw[0])) == {"foo": "bar", "content-length": "1"}


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mail.example ESMTP\r\n",
        b"AMQP\0\0\x09\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"SEND\ndestination:x\n\n\0",
        b"MESS\n",
    ],
)
def test_a_peer_that_speaks_something_else_is_told_at_once(said: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not speak STOMP"):
        Splitter().feed(said)


def test_a_body_longer_than_it_says_is_no_frame() -> None:
    with pytest.raises(ProtocolError, match="longer than it says"):
        Splitter().feed(b"MESSAGE\ncontent-length:1\n\nxy\0")


@pytest.mark.parametrize("length", [b"600000000", b"999999999999"])
def test_a_length_beyond_reason_is_refused_before_it_comes(length: bytes) -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        Splitter().feed(b"MESSAGE\ncontent-length:%b\n\n" % length)


def test_headers_without_an_end_are_refused() -> None:
    splitter = Splitter()
    assert splitter.feed(b"MESSAGE\na:" + b"x" * 2_000_000) == []
    with pytest.raises(ProtocolError):
        splitter.feed(b"x" * 100_000)


@given(st.binary(max_size=200))
def test_noise_is_frames_or_a_protocol_error(noise: bytes) -> None:
    splitter = Splitter()
    try:
        splitter.feed(noise)
        splitter.feed(b"MESSAGE\n\n\0" + noise)
    except ProtocolError:
        return


def test_a_great_body_full_of_nul_costs_each_byte_once() -> None:
    """What stomp.py reads again for each 16 KiB that arrive, which takes minutes."""
    stream = message(bytes(16 * 1024 * 1024))
    splitter = Splitter()
    watch = Stopwatch()
    found = [raw for at in range(0, len(stream), 16384) for raw in splitter.feed(stream[at : at + 16384])]
    assert len(found) == 1
    watch.within(2)
