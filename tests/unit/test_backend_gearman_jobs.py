"""gearman:// as jobs: what of an envelope is where, and that everything that others submit is read."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import codecs
from anyqueue._outgoing import Given, Terms, envelope_of
from anyqueue.backends.gearman import jobs
from anyqueue.backends.gearman.jobs import MAGIC, Uniques, job_of
from anyqueue.backends.gearman.names import delayed_of, function_of
from anyqueue.backends.gearman.protocol import MAX_UNIQUE
from anyqueue.driver import Envelope, Feature, Limits
from anyqueue.errors import ConfigError

TERMS = Terms(features=Feature.NONE, limits=Limits(), backend="gearman", queue="q", url=None)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.none() | st.floats(0, 1e10, allow_nan=False)
ENVELOPES = st.builds(
    Envelope,
    id=TEXT.filter(bool) | st.just("0" * 32),
    body=st.binary(max_size=40) | st.just(b"") | st.just(MAGIC + b"{}\n") | st.just(MAGIC),
    headers=st.dictionaries(TEXT, TEXT, max_size=3),
    content_type=st.sampled_from([None, codecs.BYTES, codecs.TEXT, codecs.JSON, "image/png"]),
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    priority=st.none() | st.integers(0, 9),
    not_before=NUMBERS,
    expires_at=NUMBERS,
    timestamp=NUMBERS,
)
FRESH = Uniques().next


def sent(payload: object, now: float, **given: Any) -> Envelope:
    return envelope_of(payload, Given(**given), TERMS, now)


@given(ENVELOPES, st.booleans())
def test_an_envelope_comes_back_as_it_was(envelope: Envelope, asks: bool) -> None:  # noqa: FBT001 -- drawn
    unique, data = job_of(envelope, FRESH(), asks=asks)
    assert jobs.envelope_of(b"H:host:1", unique, data) == envelope
    assert jobs.asks(unique) == asks
    assert data, "gearmand stores no data as NULL, and then does not start"
    assert 0 < len(unique) <= MAX_UNIQUE
    assert b"\0" not in unique


@pytest.mark.parametrize("payload", [b"bytes", "text", {"json": [1, None]}, "\N{OWL}", b"\0" * 10, b"aq1", b"{}"])
@given(now=st.floats(1e9, 4e9))
def test_a_message_with_nothing_but_a_body_is_its_body(payload: object, now: float) -> None:
    envelope = sent(payload, now)
    unique, data = job_of(envelope, FRESH())
    assert data == envelope.body
    back = jobs.envelope_of(b"H:host:1", unique, data)
    assert abs((back.timestamp or 0.0) - now) < 1e-5
    assert msgspec.structs.replace(back, timestamp=now) == envelope


@pytest.mark.parametrize(
    ("payload", "given_"),
    [
        (b"", {}),
        ("", {}),
        (b"aq1 ", {}),
        (b"x", {"headers": {"a": "b"}}),
        (b"x", {"id": "given"}),
        (b"x", {"content_type": "image/png"}),
        (b"x", {"correlation_id": "c"}),
        (b"x", {"reply_to": "r"}),
        (b"x", {"expires": 5}),
    ],
)
def test_anything_more_is_a_line_of_json_before_the_body(payload: Any, given_: dict[str, Any]) -> None:
    envelope = sent(payload, time.time(), **given_)
    _, data = job_of(envelope, FRESH())
    line, _, body = data.partition(b"\n")
    assert body == envelope.body
    assert line.startswith(b"aq1 ")
    head = json.loads(line[4:])
    assert head["id"] == envelope.id
    assert head.get("headers", {}) == envelope.headers


def test_a_unique_id_is_never_used_again() -> None:
    """Also for the same message: the server would take it for the job that it has, and drop it."""
    envelope = sent(b"x", time.time())
    many = {job_of(envelope, fresh())[0] for fresh in [Uniques().next for _ in range(10)] for _ in range(100)}
    assert len(many) == 1000


@pytest.mark.parametrize(
    ("unique", "identity"),
    [
        (b"0b51a6ab-8f3c-4b4e-9f1e-7d9b8d6f0a11", "0b51a6ab-8f3c-4b4e-9f1e-7d9b8d6f0a11"),
        (b"", "H:host:7"),
        (b"-", "H:host:7"),
        (b"#", "H:host:7"),
        (b"two\nlines", "H:host:7"),
        (b"\xff\xfe", "fffe"),
        (b"aqb-of-somebody-else", "aqb-of-somebody-else"),
    ],
)
def test_a_strangers_job_is_its_body_and_its_id_is_made_of_what_it_has(unique: bytes, identity: str) -> None:
    envelope = jobs.envelope_of(b"H:host:7", unique, b"body")
    assert envelope == Envelope(id=identity, body=b"body")
    assert jobs.envelope_of(b"H:host:7", unique, b"").body == b""


@pytest.mark.parametrize(
    "junk", [b"aq1 ", b"aq1 {", b"aq1 {}", b"aq1 []\nx", b'aq1 {"id": 5}\nx', b"aq1 \xff\nx", b"aq1 " + b"[" * 100_000]
)
def test_what_begins_as_a_line_and_is_none_is_a_body(junk: bytes) -> None:
    if junk == b"aq1 {}":  # a line, of an empty body
        assert jobs.envelope_of(b"h", b"u", junk) == Envelope(id="u", body=b"")
    else:
        assert jobs.envelope_of(b"h", b"u", junk) == Envelope(id="u", body=junk)


def test_a_stranger_may_write_the_line_and_more_in_it() -> None:
    data = b'aq1 {"headers": {"Tenant": "eu"}, "of a later version": [1]}\n\0body\n'
    assert jobs.envelope_of(b"h", b"u", data) == Envelope(id="u", body=b"\0body\n", headers={"Tenant": "eu"})


def test_jobs_of_released_versions_are_read() -> None:
    """The bytes that 0.1.0 wrote. A change that breaks this loses what is stored."""
    plain = jobs.envelope_of(b"h", b"aqj066111f08f683e0000011ace962bec1c-c0ffee0", b'{"a":1}')
    assert plain == Envelope(
        id="066111f08f683e0000011ace962bec1c", body=b'{"a":1}', content_type=codecs.JSON, timestamp=1795579538.532414
    )
    line = b'aq1 {"id":"1","headers":{"a":"b"},"content_type":"text/plain; charset=utf-8","timestamp":5.0}\nbody'
    expected = Envelope(id="1", body=b"body", headers={"a": "b"}, content_type=codecs.TEXT, timestamp=5.0)
    assert jobs.envelope_of(b"h", b"aqe-c0ffee1", line) == expected


def test_a_queue_is_the_function_of_its_name_and_no_two_names_meet() -> None:
    names = ["q", "Q", "a b", "a\u00a0b", "\u00e9", "e\u0301", "%41", "App\\Jobs", "q.dead", "x" * 200]
    functions = [function for name in names for function in (function_of(name), delayed_of(name))]
    assert len(set(functions)) == 2 * len(names)
    assert function_of("App\\Jobs") == b"App\\Jobs"
    with pytest.raises(ConfigError, match="NUL"):
        function_of("a\0b")
