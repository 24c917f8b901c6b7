"""Codecs: exact, or refused; and nothing that a message brings is run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import math
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import ConfigError, Undecodable
from anyqueue.codecs import BYTES, JSON, MAX_DEPTH, TEXT, decode, decoder, encode

TEXTS = st.text(st.characters(codec="utf-8"))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@given(st.binary())
def test_bytes_travel_as_they_are(payload: bytes) -> None:
    assert encode(payload) == (payload, BYTES)
    assert encode(bytearray(payload)) == (payload, BYTES)
    assert encode(memoryview(payload)) == (payload, BYTES)
    assert decode(payload, BYTES) == payload


@given(TEXTS)
def test_text_travels_as_utf_8(payload: str) -> None:
    body, content_type = encode(payload)
    assert (body, content_type) == (payload.encode(), TEXT)
    assert decode(body, content_type) == payload
    assert decode(body, content_type, str) == payload


@given(TREES.filter(lambda tree: not isinstance(tree, str)))
def test_plain_objects_travel_as_json(payload: object) -> None:
    body, content_type = encode(payload)
    assert content_type == JSON
    assert decode(body, content_type) == payload


def test_a_tuple_is_a_list_in_json() -> None:
    assert encode((1, (2,)))[0] == b"[1,[2]]"


def test_the_content_type_can_be_given() -> None:
    assert encode(b"%PDF", "application/pdf") == (b"%PDF", "application/pdf")
    assert encode("<x/>", "application/xml") == (b"<x/>", "application/xml")
    assert encode({}, "application/vnd.x+json") == (b"{}", "application/vnd.x+json")
    assert decode(b'{"a":1}', "application/vnd.x+json; v=1") == {"a": 1}
    assert decode(b'{"a":1}', "Application/JSON ; charset=utf-8") == {"a": 1}


class Point(msgspec.Struct):
    """A Struct."""

    x: int
    at: dt.datetime | None = None


@dataclasses.dataclass
class Pair:
    """A dataclass."""

    left: Point
    right: list[decimal.Decimal]


def test_typed_objects_bring_back_what_their_type_says() -> None:
    now = dt.datetime.now(dt.UTC)
    for payload in (Point(1, now), Pair(Point(2), [decimal.Decimal("1.10")])):
        body, content_type = encode(payload)
        assert decode(body, content_type, type(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "kind", "where"),
    [
        ({"a": [1, {"b": math.nan}]}, ValueError, "payload.a[1].b is nan"),
        ([math.inf], ValueError, "payload[0]"),
        (-math.inf, ValueError, "payload"),
        ({"a": {1: 2}}, TypeError, "payload.a has the key 1"),
        ({None: 2}, TypeError, "payload has the key None"),
        ({"d": dt.date(2026, 1, 1)}, TypeError, "payload.d is a date"),
        ([{1, 2}], TypeError, "payload[0] is a set"),
        ({"b": b"x"}, TypeError, "payload.b is a bytes"),
        (uuid.UUID(int=0), TypeError, "payload is a UUID"),
        (decimal.Decimal(1), TypeError, "payload is a Decimal"),
        (object(), TypeError, "payload is a object"),
        ([Pair(Point(1), math.nan)], ValueError, "right"),  # type: ignore[arg-type]
        ("\ud800", ValueError, "UTF-8"),
        ({"a": "\ud800"}, ValueError, "JSON"),
        ({"\ud800": 1}, ValueError, "JSON"),
        pytest.param(10**5000, ValueError, "digits", id="a long number"),
        (type, TypeError, "payload"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_place(payload: object, kind: type[Exception], where: str) -> None:
    with pytest.raises(kind) as caught:
        encode(payload)
    assert where in str(caught.value)


def test_depth_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert decode(*encode(deep)) == deep
    with pytest.raises(ValueError, match="nested more than"):
        encode([[deep]])
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested more than"):
        encode(loop)


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"{", JSON, None),
        (b"", JSON, None),
        (b"NaN", JSON, None),
        (b'"\xff"', JSON, None),
        (b"[" * 100_000, JSON, None),
        (b"[" * 50_000 + b"]" * 50_000, JSON, None),
        (b"\xff", TEXT, None),
        (b"\xff", "text/plain", str),
        (b'{"x":"one"}', JSON, Point),
        (b"{}", JSON, Point),
        (b"1", JSON, str),
        (b"{}", BYTES, Point),
        (b"{}", None, Point),
        (b"{}", "application/x-python-serialize", dict),
    ],
)
def test_what_is_not_what_it_says_is_undecodable(body: bytes, content_type: str | None, kind: type | None) -> None:
    with pytest.raises(Undecodable):
        decode(body, content_type, kind)


@given(st.binary(max_size=200), st.sampled_from([JSON, TEXT, BYTES, None, "x/y", "a+json"]))
def test_any_body_decodes_or_is_undecodable(body: bytes, content_type: str | None) -> None:
    for kind in (None, str, bytes, Point, dict[str, int]):
        try:
            decode(body, content_type, kind)
        except Undecodable:
            continue


def test_other_content_types_stay_bytes() -> None:
    for content_type in (None, "", "application/xml", "application/x-python-serialize", "text/html", "nonsense"):
        assert decode(b"\x80\x04", content_type) == b"\x80\x04"
        assert decode(b"\x80\x04", content_type, bytes) == b"\x80\x04"
    assert decode(b'{"a":1}', JSON, bytes) == b'{"a":1}'


@pytest.mark.parametrize("kind", [3, "int", object()])
def test_a_type_that_cannot_be_decoded_into_is_refused(kind: object) -> None:
    with pytest.raises(ConfigError, match="cannot be decoded into"):
        decoder(kind)
