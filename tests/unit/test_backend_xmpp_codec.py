"""Messages as XML and back, ids and nodes as names, requests as text: whatever is in them."""

from __future__ import annotations

import math
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.xmpp import claims, codec, driver, names, stanzas
from anyqueue.backends.xmpp.codec import Stored
from anyqueue.backends.xmpp.names import Ticket
from anyqueue.driver import Envelope

ANY: Final = st.characters(exclude_categories=["Cs"])
TEXT: Final = st.text(ANY | st.sampled_from("<>&'\"%\0\t\n\r\x0b\x85\u2028\ufffe]]>"), max_size=40)
TIME: Final = st.none() | st.floats(0, 1e11)
FOREIGN: Final = st.text(ANY.filter(lambda each: each.isprintable()), max_size=40)
ENVELOPES: Final = st.builds(
    Envelope,
    id=TEXT.filter(bool),
    body=st.binary(max_size=300),
    headers=st.dictionaries(TEXT, TEXT, max_size=4),
    content_type=st.none() | TEXT,
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    not_before=TIME,
    expires_at=TIME,
    timestamp=TIME,
)


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 -- what this package wrote


@given(ENVELOPES, st.integers(0, 10**8), st.booleans(), TIME)
def test_a_message_comes_back_as_it_was(
    envelope: Envelope,
    attempts: int,
    redelivered: bool,  # noqa: FBT001 -- drawn
    first: float | None,
) -> None:
    stored = Stored(envelope, attempts, redelivered, first)
    text = codec.encode(stored)
    assert not set(text) & {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))}
    assert codec.decode(parsed(text), "other") == stored


@pytest.mark.block("docs/backends/xmpp.md", "<header name='tenant'>")
def test_the_item_of_the_page_is_as_we_write_it(block: str) -> None:
    """But for the white space between its elements."""
    stored = codec.decode(parsed(block), "the item's")
    assert stored == Stored(
        Envelope(
            id="0661...",
            body=b'{"to": "ada@example.com"}',
            headers={"tenant": "eu"},
            content_type="application/json",
            timestamp=1764053093.1,
        )
    )
    assert codec.encode(stored) == "".join(line.strip() for line in block.splitlines())


@given(TEXT)
def test_whatever_is_in_a_text_the_parser_gives_it_back(text: str) -> None:
    """In attributes, where a parser changes line ends, and between tags, where `]]>` may not stand."""
    escaped = codec.escape(text)
    element = parsed(f"<a b='{escaped}'>{escaped}</a>")
    assert (codec.unescape(element.get("b", "")), codec.unescape(element.text or "")) == (text, text)


@pytest.mark.parametrize(
    ("text", "written"),
    [("\0", "%00"), ("\x0b", "%0B"), ("\x7f", "%7F"), ("\x85", "%C2%85"), ("\ufffe", "%EF%BF%BE"), ("%", "%25")],
)
def test_what_xml_cannot_carry_is_percent_encoded(text: str, written: str) -> None:
    assert codec.escape(text) == written


def test_a_lone_surrogate_is_never_written() -> None:
    """Or slixmpp would lose the stanza, and all that stands behind it."""
    with pytest.raises(UnicodeEncodeError):
        codec.escape("a\ud800")


@pytest.mark.parametrize(
    "payload",
    [
        "<entry xmlns='http://www.w3.org/2005/Atom'><title>news &amp; more</title></entry>",
        "<message xmlns='urn:anyqueue:2'><body>YQ==</body></message>",
        "<message xmlns='urn:anyqueue:1'><body>no base64</body></message>",
        "<message xmlns='urn:anyqueue:1'><body>YQ=</body></message>",
        "<message xmlns='urn:anyqueue:1'><body>\u2603</body></message>",
    ],
)
def test_what_others_sent_is_their_xml(payload: str) -> None:
    envelope = codec.decode(parsed(payload), "theirs").envelope
    assert (envelope.id, envelope.content_type) == ("theirs", "application/xml")
    body = ET.canonicalize(envelope.body.decode(), rewrite_prefixes=True)
    assert body == ET.canonicalize(payload, rewrite_prefixes=True)


def test_only_the_body_is_needed() -> None:
    payload = parsed("<message xmlns='urn:anyqueue:1'>\n <body>\n  YQ==\n </body>\n</message>")
    assert codec.decode(payload, "theirs") == Stored(Envelope(id="theirs", body=b"a"))
    assert codec.decode(None, "theirs") == Stored(Envelope(id="theirs", body=b""))


@pytest.mark.parametrize("odd", ["nan", "inf", "-inf", "soon", ""])
def test_odd_times_are_none(odd: str) -> None:
    payload = parsed(f"<message xmlns='urn:anyqueue:1' not-before='{odd}' timestamp='{odd}'><body/></message>")
    envelope = codec.decode(payload, "theirs").envelope
    assert (envelope.not_before, envelope.timestamp) == (None, None)


@pytest.mark.parametrize("odd", ["-1", "1.5", "9" * 20, "\u0663", ""])
def test_odd_counts_are_nothing(odd: str) -> None:
    payload = parsed(f"<message xmlns='urn:anyqueue:1' attempts='{odd}'><body/></message>")
    assert codec.decode(payload, "theirs").attempts == 0


def test_the_greatest_body_has_room_in_a_stanza() -> None:
    stored = Stored(Envelope(id="x" * 36, body=bytes(driver.MAX_BODY), headers={"a": "b" * 64 * 1024}))
    assert len(codec.encode(stored)) <= claims.MAX_ITEM - driver.SPARE


# Names


@given(TEXT, TEXT)
def test_two_queues_are_two_nodes(one: str, two: str) -> None:
    nodes = [names.ready_node(one), names.ready_node(two)]
    assert (nodes[0] == nodes[1]) is (one == two)
    assert all(each.isascii() and each.isprintable() and not set(each) & set(" <>&'\"") for each in nodes)
    assert names.held_beside(nodes[0]) == names.held_node(one)


@given(TEXT.filter(lambda name: not name.startswith("aq.")))
def test_a_queue_is_known_by_its_node(name: str) -> None:
    assert names.queue_of(names.ready_node(name)) == name
    assert names.queue_of(names.held_node(name)) is None


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_two_groups_are_two_queues(one: tuple[str, str], two: tuple[str, str]) -> None:
    assert (names.group_queue(*one) == names.group_queue(*two)) is (one == two)


@given(st.integers(0, 2**55), st.integers(0, 10**6), TIME, st.from_regex("[0-9a-f]{16}", fullmatch=True))
def test_an_id_says_what_there_is_to_decide(moment: int, step: int, due: float | None, owner: str) -> None:
    order = names.order_of(moment)
    ready, held = Ticket(order, "line1", step, due), Ticket(order, "line1", step, None, owner)
    assert names.read_ready(names.ready_id(ready), "0") == ready
    assert names.read_held(names.held_id(held)) == held


@given(FOREIGN)
def test_any_other_id_is_another_programs_item(identity: str) -> None:
    ticket = names.read_ready(identity, "order")
    assert ticket.due is None or math.isfinite(ticket.due)
    assert ticket == names.read_ready(identity, "order")
    assert names.read_held(f"aq:{identity}") is None or identity.count(":") == 3


@pytest.mark.parametrize("identity", ["aq", "aq:1:2", "aq:1:2:x", "aq:1:2:3:soon", "aq:1:2:3:nan", "aq:1:2:\u0663", ""])
def test_an_id_that_only_looks_like_ours_is_not(identity: str) -> None:
    ticket = names.read_ready(identity, "order")
    assert (ticket.order, ticket.step, ticket.due) == ("order", 0, None)
    assert ticket.line.startswith("x")


def test_orders_sort_by_time() -> None:
    moments = [0, 1, 15, 16, 10**15, 2 * 10**15]
    assert sorted(map(names.order_of, reversed(moments))) == list(map(names.order_of, moments))


# Requests


@given(FOREIGN, FOREIGN)
def test_names_of_others_stand_in_requests_as_they_are(node: str, identity: str) -> None:
    publish = parsed(stanzas.publish(node, identity, "<x/>"))[0]
    assert (publish.get("node"), publish[0].get("id")) == (node, identity)
    retract = parsed(stanzas.retract(node, identity))[0]
    assert (retract.get("node"), retract[0].get("id")) == (node, identity)
    assert parsed(stanzas.list_ids(node)).get("node") == node
    assert parsed(stanzas.delete(node))[0].get("node") == node


@given(FOREIGN, st.floats(0, 1e11))
def test_a_record_of_an_owner_comes_back(address: str, until: float) -> None:
    assert claims.read_owner(parsed(claims.write_owner(address, until))) == (address, until)


@pytest.mark.parametrize(
    "record", ["<owner/>", "<owner xmlns='urn:anyqueue:1'/>", "<o xmlns='urn:anyqueue:1' until='9'/>"]
)
def test_a_record_that_is_damaged_ended_long_ago(record: str) -> None:
    assert claims.read_owner(parsed(record)) == ("", 0.0)
    assert claims.read_owner(None) == ("", 0.0)


def test_a_refusal_says_its_condition_and_text() -> None:
    error = (
        "<iq xmlns='jabber:client' type='error'><error type='auth'>"
        "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>owners only</text>"
        "<unsupported xmlns='http://jabber.org/protocol/pubsub#errors' feature='retract-items'/></error></iq>"
    )
    refusal = stanzas.read_answer(parsed(error)).refusal
    assert refusal is not None
    assert (refusal.condition, refusal.text) == ("forbidden", "owners only; unsupported retract-items")
    assert str(stanzas.read_answer(parsed("<iq xmlns='jabber:client' type='error'/>")).refusal) == "undefined-condition"


def test_a_notification_may_have_several_items() -> None:
    event = (
        "<message xmlns='jabber:client'><event xmlns='http://jabber.org/protocol/pubsub#event'>"
        "<items node='n'><item id='1'><a/></item><item id='2'/><retract id='3'/></items></event></message>"
    )
    assert [(node, identity) for node, identity, _ in stanzas.read_news(parsed(event))] == [("n", "1"), ("n", "2")]
    assert not stanzas.read_news(parsed("<message xmlns='jabber:client'><body>hello</body></message>"))
