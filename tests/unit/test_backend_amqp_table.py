"""Header tables of AMQP: text comes back as it was, and nothing that a stranger writes raises an error."""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.amqp import table
from anyqueue.testing.targets.rabbitmq_junk import ODD, field, long

NAMES = st.binary(max_size=255)
PAIRS = st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=6)


def value_of(kind: bytes, value: bytes) -> object:
    return table.decode(field(b"odd", kind, value)).get("odd", "unread")


@given(PAIRS)
def test_what_is_written_is_read(pairs: list[tuple[bytes, bytes]]) -> None:
    written = table.encode(pairs)
    assert struct.unpack_from(">I", written)[0] == len(written) - 4
    assert table.strings(written[4:]) == pairs


@given(st.dictionaries(st.text(max_size=60), st.text(max_size=40), max_size=6))
def test_text_is_read_as_text_by_the_reader_of_strangers_too(headers: dict[str, str]) -> None:
    written = table.encode((name.encode(), text.encode()) for name, text in headers.items())
    assert table.decode(written[4:]) == headers


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_far_as_they_are_a_table(raw: bytes) -> None:
    for value in table.decode(raw).values():
        assert isinstance(table.text_of(value), str)
    table.strings(raw)


@given(PAIRS, st.integers(0, 400))
def test_a_table_that_is_cut_off_keeps_its_beginning(pairs: list[tuple[bytes, bytes]], cut: int) -> None:
    written = table.encode(pairs)[4:]
    whole, part = table.decode(written), table.decode(written[:cut])
    assert part.keys() <= whole.keys()
    assert cut >= len(written) or table.strings(written[:cut]) != pairs or not pairs


@given(st.floats())
def test_every_double_is_read_and_shown(number: float) -> None:
    value = value_of(b"d", struct.pack(">d", number))
    assert isinstance(value, float)
    assert value == number or (math.isnan(value) and math.isnan(number))
    assert table.text_of(value) == str(number)
    assert json.loads(table.text_of([value])) == [number if math.isfinite(number) else str(number)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("double", -1.5e308, "-1.5e+308"),
        ("single", 1.5, "1.5"),
        ("far timestamp", 1_700_000_000_000, "1700000000000"),
        ("last timestamp", 2**63, "9223372036854775808"),
        ("least integer", -(2**63), "-9223372036854775808"),
        ("short", -1, "-1"),
        ("octet", -128, "-128"),
        ("truth", True, "true"),
        ("decimal", Decimal(5).scaleb(-255), "5E-255"),
        ("void", None, ""),
        ("bytes", b"\x00\xff", "\x00\\xff"),
        ("no UTF-8", b"\xff\xfe\x80", "\\xff\\xfe\\x80"),
        ("NUL", "a\x00b", "a\x00b"),
        ("table", {"inner": {"x": "deep"}}, '{"inner":{"x":"deep"}}'),
        ("array", [False, "text", []], '[false,"text",[]]'),
        ("much", "x" * 30_000, "x" * 30_000),
    ],
)
def test_every_type_of_a_stranger_is_read_and_shown(name: str, value: object, text: str) -> None:
    read = value_of(*ODD[name])
    assert (read, type(read)) == (value, type(value))
    assert table.text_of(read) == text


def test_every_odd_type_is_in_the_table_above() -> None:
    (mark,) = test_every_type_of_a_stranger_is_read_and_shown.pytestmark
    assert {row[0] for row in mark.args[1]} == ODD.keys()


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_what_is_nested_without_end_is_left_out(kind: bytes) -> None:
    inner = b""
    for _ in range(2000):
        inner = field(b"", b"F", long(inner)) if kind == b"F" else b"A" + long(inner)
    shown = table.text_of(value_of(kind, long(inner)))
    assert 20 < len(shown) < 500


def test_a_type_that_nobody_knows_ends_the_reading() -> None:
    known, unknown = field(b"a", b"S", long(b"known")), field(b"b", b"?", b"")
    assert table.decode(known + unknown + known) == {"a": "known"}
    assert table.strings(known + unknown) is None
