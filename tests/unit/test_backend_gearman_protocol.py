"""gearman:// as bytes: packets, jobs, counts. pygearman's codec is the second opinion."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from gearman import protocol as pygearman
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.gearman import counting, protocol
from anyqueue.backends.gearman.protocol import HEADER, TEXT, Malformed, Packet, Reader, completion, pack, submission
from anyqueue.errors import ConfigError

MOST = 1000
BODIES = st.binary(max_size=60)
WORDS = st.binary(min_size=1, max_size=30).filter(lambda word: b"\0" not in word)


def response(command: int, body: bytes) -> bytes:
    return HEADER.pack(b"\0RES", command, len(body)) + body


@given(st.lists(st.tuples(st.integers(1, 40), BODIES), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_is_cut_into_its_packets_however_it_comes(packets: list[Packet], sizes: list[int]) -> None:
    stream, reader, found, turn = b"".join(response(*packet) for packet in packets), Reader(MOST), [], 0
    while stream:
        size = sizes[turn % len(sizes)]
        found += reader.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert found == packets


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_of_the_admin_protocol_come_between_packets(size: int) -> None:
    stream = response(10, b"") + b"H:a:1\t0\t0\t1\nH:a:2\t1\t0\t1\n.\n" + response(17, b"\n.\n") + b".\n" + b"OK\r\n"
    reader, found = Reader(MOST), list[Packet]()
    reader.texts = 3
    for start in range(0, len(stream), size):
        found += reader.feed(stream[start : start + size])
    assert found == [
        (10, b""),
        (TEXT, b"H:a:1\t0\t0\t1\nH:a:2\t1\t0\t1\n.\n"),
        (17, b"\n.\n"),
        (TEXT, b".\n"),
        (TEXT, b"OK\r\n"),
    ]


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400", b"\0REQ\0\0\0\x0a\0\0\0\0", b"\0REX", b"OK\n", b"."])
def test_what_is_no_gearman_server_is_told_by_its_first_bytes(junk: bytes) -> None:
    with pytest.raises(Malformed, match="no Gearman server"):
        Reader(MOST).feed(junk)


@pytest.mark.parametrize("size", [MOST + 1, 0xFFFFFFFF])
def test_a_packet_that_is_too_large_is_refused_when_it_is_announced(size: int) -> None:
    with pytest.raises(Malformed, match=f"{size:,} bytes is announced, over the limit of {MOST:,}"):
        Reader(MOST).feed(HEADER.pack(b"\0RES", 31, size))


def test_a_text_without_an_end_is_refused() -> None:
    reader = Reader(MOST)
    reader.texts = 1
    reader.feed(b"x" * MOST)
    with pytest.raises(Malformed, match="over 1,000 bytes"):
        reader.feed(b"x")


def test_a_large_packet_is_not_copied_with_every_chunk() -> None:
    body = bytes(8 * 1024 * 1024)
    stream, reader, found = response(31, body), Reader(len(body)), list[Packet]()
    for start in range(0, len(stream), 4096):
        found += reader.feed(stream[start : start + 4096])
        assert len(reader._chunks) <= start // 4096 + 1
    assert found == [(31, body)]


def test_an_argument_with_a_nul_is_refused_but_for_the_last() -> None:
    assert pack(protocol.CAN_DO, b"a\0b").endswith(b"a\0b")
    with pytest.raises(ConfigError, match="NUL"):
        pack(protocol.SUBMIT_JOB_BG, b"a\0b", b"unique", b"data")


@given(WORDS, WORDS, BODIES)
def test_pygearman_reads_what_we_write(function: bytes, unique: bytes, data: bytes) -> None:
    for packet in (
        submission(protocol.SUBMIT_JOB_BG, function, unique, data),
        pack(protocol.SUBMIT_JOB_BG, function, unique, data),
    ):
        command, arguments, size = read(packet)
        assert (command, size) == (pygearman.GEARMAN_COMMAND_SUBMIT_JOB_BG, len(packet))
        assert arguments == {"task": function, "unique": unique, "data": data}
    command, arguments, _ = read(completion(unique, data))
    assert (command, arguments) == (pygearman.GEARMAN_COMMAND_WORK_COMPLETE, {"job_handle": unique, "data": data})
    assert read(protocol.GRAB)[0] == pygearman.GEARMAN_COMMAND_GRAB_JOB_UNIQ
    assert read(protocol.SLEEP)[0] == pygearman.GEARMAN_COMMAND_PRE_SLEEP
    assert read(protocol.ECHO)[0] == pygearman.GEARMAN_COMMAND_ECHO_REQ


def read(packet: bytes) -> Any:
    return pygearman.parse_binary_command(array("B", packet), is_response=False)


@given(WORDS, WORDS, BODIES)
def test_we_read_what_pygearman_writes(handle: bytes, function: bytes, data: bytes) -> None:
    arguments = {"job_handle": handle, "task": function, "unique": b"u", "data": data}
    packet = pygearman.pack_binary_command(protocol.JOB_ASSIGN_UNIQ, arguments, is_response=True)
    ((command, body),) = Reader(MOST).feed(packet)
    assert (command, body.split(b"\0", 3)) == (protocol.JOB_ASSIGN_UNIQ, [handle, function, b"u", data])


def test_our_numbers_are_pygearmans() -> None:
    """But for those it does not know, and the text that has none."""
    theirs = {name.removeprefix("GEARMAN_COMMAND_"): number for name, number in vars(pygearman).items()}
    ours = {name: number for name, number in vars(protocol).items() if name.isupper() and type(number) is int}
    unknown = {"SUBMIT_JOB_EPOCH", "GET_STATUS_UNIQUE", "STATUS_RES_UNIQUE"}
    for name in ours.keys() - unknown - {"TEXT", "MAX_UNIQUE", "MIDDLE"}:
        assert ours[name] == theirs[name], name


def test_only_what_is_unusual_is_read_of_the_list_of_jobs() -> None:
    reply = b"H:h:1\t0\t0\t1\nH:h:2\t3\t0\t1\nH:h:3\t0\t0\t0\nH:h:4\t1\t1\t0\nH:h:5\t0\t1\t1\nH:h:10\t0\t0\t1\n.\n"
    assert counting.read(reply) == {
        b"H:h:2": counting.Known(lost=3, background=True),
        b"H:h:3": counting.Known(lost=0, background=False),
        b"H:h:4": counting.Known(lost=1, background=False),
    }
    assert counting.read(b".\n") == {}


def test_looking_takes_a_tenth_of_the_time_where_there_is_much_to_look_at() -> None:
    looks = counting.Looks()
    assert looks.wanted(100.0)
    looks.took(b"\n" * 2000, 1.0, 100.0)
    assert looks.wanted(100.0)
    looks.took(b"\n" * 2001, 1.0, 100.0)
    assert not looks.wanted(108.9)
    assert looks.wanted(109.1)
