"""What a user asks to be sent -> an envelope, or a refusal before any I/O."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import ConfigError, Feature, Limits, TooLarge, Unsupported
from anyqueue._outgoing import MAX_TEXT, Given, Terms, envelope_of, new_id
from anyqueue.driver import MAX_HEADERS

NOW = 1_700_000_000.0
EVERYTHING = Feature.DELAY | Feature.PRIORITY | Feature.EXPIRY


def terms(features: Feature = EVERYTHING, **limits: Any) -> Terms:
    return Terms(features=features, limits=Limits(**limits), backend="test", queue="q", url="test://h")


def test_a_plain_message_has_an_id_and_a_time_and_nothing_else() -> None:
    envelope = envelope_of(b"x", Given(), terms(), NOW)
    assert (envelope.body, envelope.content_type, envelope.timestamp) == (b"x", "application/octet-stream", NOW)
    absent = (envelope.priority, envelope.not_before, envelope.expires_at, envelope.reply_to, envelope.correlation_id)
    assert absent == (None,) * 5
    assert envelope.headers == {}


def test_everything_that_can_be_given() -> None:
    given = Given(
        id="order-1",
        headers={"tenant": "eu"},
        content_type="image/png",
        correlation_id="c",
        reply_to="answers",
        delay=1.5,
        expires=3,
        priority=9,
    )
    envelope = envelope_of("body", given, terms(), NOW)
    assert (envelope.id, envelope.body, envelope.headers) == ("order-1", b"body", {"tenant": "eu"})
    assert (envelope.content_type, envelope.correlation_id, envelope.reply_to) == ("image/png", "c", "answers")
    assert (envelope.not_before, envelope.expires_at, envelope.priority) == (NOW + 1.5, NOW + 3, 9)


def test_ids_are_new_and_sort_by_time() -> None:
    ids = [new_id(NOW + number / 1e6) for number in range(1000)]
    assert len({*ids}) == 1000
    assert ids == sorted(ids)
    assert {len(identity) for identity in ids} == {32}
    same_time = [new_id(NOW) for _ in range(1000)]
    assert same_time == sorted(same_time)


def test_a_forked_child_makes_other_ids() -> None:
    mine = new_id(NOW)[20:]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id(NOW)[20:].encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == len(mine)
    assert theirs != mine


@pytest.mark.parametrize("field", ["id", "correlation_id", "reply_to", "content_type"])
@pytest.mark.parametrize("value", ["x" * (MAX_TEXT + 1), "a\nb", "a\r", "\0", "\x7f", "\ud800", 3, b"x", ["x"]])
def test_texts_are_checked(field: str, value: object) -> None:
    with pytest.raises((ConfigError, TypeError), match=field.split("_", maxsplit=1)[0]):
        envelope_of(b"", Given(**{field: value}), terms(), NOW)  # type: ignore[arg-type]


def test_an_id_is_not_empty() -> None:
    with pytest.raises(ConfigError, match="id"):
        envelope_of(b"", Given(id=""), terms(), NOW)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=MAX_TEXT))
def test_other_texts_are_kept(text: str) -> None:
    envelope = envelope_of(b"", Given(correlation_id=text, reply_to=text), terms(), NOW)
    assert (envelope.correlation_id, envelope.reply_to) == (text, text)


@pytest.mark.parametrize("name", ["delay", "expires"])
@pytest.mark.parametrize("value", [-1, -0.1, math.nan, math.inf, -math.inf, True, "1", [], 1j])
def test_seconds_are_checked(name: str, value: object) -> None:
    with pytest.raises((ConfigError, TypeError), match=name):
        envelope_of(b"", Given(**{name: value}), terms(), NOW)  # type: ignore[arg-type]


def test_a_delay_of_0_is_none_and_expiry_at_once_is_one() -> None:
    envelope = envelope_of(b"", Given(delay=0, expires=0), terms(Feature.NONE), NOW)
    assert (envelope.not_before, envelope.expires_at) == (None, NOW)


def test_a_delay_over_the_limit_is_refused() -> None:
    assert envelope_of(b"", Given(delay=60), terms(max_delay=60), NOW).not_before == NOW + 60
    with pytest.raises(ConfigError, match="at most 60 s"):
        envelope_of(b"", Given(delay=60.001), terms(max_delay=60), NOW)


@pytest.mark.parametrize("value", [-1, 10, True, 1.0, "1", math.nan])
def test_priorities_are_checked(value: object) -> None:
    with pytest.raises((ConfigError, TypeError), match="priority"):
        envelope_of(b"", Given(priority=value), terms(), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "feature"), [(Given(delay=1), Feature.DELAY), (Given(priority=0), Feature.PRIORITY)])
def test_what_the_backend_has_not_is_refused_by_name(given: Given, feature: Feature) -> None:
    with pytest.raises(Unsupported) as caught:
        envelope_of(b"", given, terms(Feature.NONE), NOW)
    assert (caught.value.feature, caught.value.backend, caught.value.queue) == (feature, "test", "q")
    assert caught.value.hint


def test_a_wrong_number_is_wrong_also_where_the_feature_is_not() -> None:
    for wrong in (Given(delay=-1), Given(priority=10), Given(delay=math.nan)):
        with pytest.raises(ConfigError):
            envelope_of(b"", wrong, terms(Feature.NONE), NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {1: "x"},
        {"x": 1},
        {"x": None},
        {"": "x"},
        {"aq-x": "x"},
        {"Aq-X": "x"},
        {"\ud800": "x"},
        {"x": "\ud800"},
        3,
        "xy",
    ],
)
def test_headers_are_checked(headers: object) -> None:
    with pytest.raises((ConfigError, TypeError), match="header"):
        envelope_of(b"", Given(headers=headers), terms(), NOW)  # type: ignore[arg-type]


def test_headers_are_copied() -> None:
    headers = {"a": "1", "A": "2"}
    envelope = envelope_of(b"", Given(headers=headers), terms(), NOW)
    headers["a"] = "changed"
    assert envelope.headers == {"a": "1", "A": "2"}


def test_sizes_are_exact() -> None:
    assert envelope_of(b"x" * 10, Given(), terms(max_body=10), NOW).body == b"x" * 10
    with pytest.raises(TooLarge, match=r"body .* 11 bytes, over the limit of 10"):
        envelope_of(b"x" * 11, Given(), terms(max_body=10), NOW)
    with pytest.raises(TooLarge, match="12 bytes"):
        envelope_of("ö" * 6, Given(), terms(max_body=10), NOW)
    most = {"k": "ö" * ((MAX_HEADERS - 2) // 2) + "x"}
    assert envelope_of(b"", Given(headers=most), terms(), NOW).headers == most
    with pytest.raises(TooLarge, match="headers"):
        envelope_of(b"", Given(headers={"kk": most["k"]}), terms(), NOW)


def test_a_payload_that_cannot_be_sent() -> None:
    for payload, kind in ((object(), TypeError), (math.nan, ValueError), ("\ud800", ValueError)):
        with pytest.raises(kind):
            envelope_of(payload, Given(), terms(), NOW)
