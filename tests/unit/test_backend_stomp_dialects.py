"""Dialects of STOMP: what each broker is sent, what is read from it, and that no header is more than a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import Feature
from anyqueue.backends.stomp import headers, names
from anyqueue.backends.stomp.activemq import ActiveMQ
from anyqueue.backends.stomp.dialect import accept, server_of
from anyqueue.backends.stomp.other import Other
from anyqueue.backends.stomp.rabbitmq import RabbitMQ
from anyqueue.driver import Envelope, Queue, Spec, Topic

if TYPE_CHECKING:
    from anyqueue.backends.stomp.dialect import Dialect

NOW = 1_750_000_000.25
VERSION = (3, 10)
DIALECTS: list[Any] = [RabbitMQ("quorum", VERSION, delay_policy=True), ActiveMQ(scheduler=True), Other()]
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ODD = ["", "content-type", "receipt", "persistent", "transaction", "AMQ_SCHEDULED_DELAY", "JMSXGroupID", "x-death"]
HOSTILE = st.one_of(TEXTS, st.text(st.sampled_from("\\\r\n:\0cn é🦉"), max_size=30), st.sampled_from(ODD))
LONG = st.sampled_from([300, 3000]).map(lambda size: "\n" * size)
TIMES = st.none() | st.floats(min_value=1, max_value=2e9)
ENVELOPES = st.builds(
    Envelope,
    id=TEXTS.filter(lambda text: text != "" and "\0" not in text),
    body=st.binary(max_size=60) | st.just(b"\0" * 20),
    headers=st.dictionaries(HOSTILE.filter(lambda name: not name.startswith("aq-")) | LONG, HOSTILE | LONG, max_size=4),
    content_type=st.none() | st.sampled_from(["text/plain", "a:b\nc"]),
    correlation_id=st.none() | st.text("a:\n/é", min_size=1, max_size=9),
    reply_to=st.none() | st.sampled_from(["answers", "/queue/answers", "a/b:c\nd"]),
    priority=st.none() | st.integers(0, 9).filter(lambda priority: priority != 4),
    expires_at=TIMES,
    timestamp=TIMES,
)


def as_a_broker(frame: bytes, dialect: Dialect) -> tuple[bytes, bytes]:
    """Return the MESSAGE that a SEND becomes: RabbitMQ sends the properties last."""
    head, _, rest = frame.partition(b"\n\n")
    pairs = headers.pairs(head)
    body = rest[:-1]
    if dialect.name == "rabbitmq":
        last = [*reversed(("content-type", "priority", "correlation-id", "reply-to", "amqp-message-id", "timestamp"))]
        own = [
            pair for pair in pairs if pair[0] not in {*last, "destination", "persistent", "receipt", "content-length"}
        ]
        pairs = own + sorted((pair for pair in pairs if pair[0] in last), key=lambda pair: last.index(pair[0]))
    told = [
        ("subscription", "s"),
        ("destination", "/queue/q"),
        ("message-id", "m"),
        ("redelivered", "false"),
        ("ack", "a"),
    ]
    if dialect.name != "rabbitmq":
        pairs = [pair for pair in pairs if pair[0] not in {"destination", "receipt"}]
    lines = [headers.line(headers.escape(name), text) for name, text in [*told, *pairs]]
    return f"MESSAGE\n{''.join(lines)}".rstrip("\n").encode(), body


@each_dialect
@given(envelope=ENVELOPES)
def test_an_envelope_is_one_frame_and_comes_back(dialect: Dialect, envelope: Envelope) -> None:
    frame = dialect.frame(dialect.place(Queue("q"), None, NOW), envelope, 7, NOW)
    head, _, rest = frame.partition(b"\n\n")
    told = headers.pairs(head)
    assert rest == envelope.body + b"\0", "the body is what was given, and nothing behind it"
    assert b"\0" not in head
    assert [text for name, text in told if name == "receipt"] == ["aq-7"]
    assert [text for name, text in told if name == "destination"] == [told[0][1]]
    assert [text for name, text in told if name == "content-length"] == [str(len(envelope.body))]
    assert ("persistent", "true") in told
    read = dialect.read(as_a_broker(frame, dialect), "q").envelope
    assert {name: getattr(read, name) for name in read.__struct_fields__} == {
        name: getattr(envelope, name) for name in envelope.__struct_fields__
    } | ({"priority": read.priority} if dialect.name == "other" else {})


@each_dialect
@given(head=st.binary(max_size=100).map(lambda noise: b"MESSAGE\n" + noise), body=st.binary(max_size=20))
def test_a_strangers_message_never_raises(dialect: Dialect, head: bytes, body: bytes) -> None:
    read = dialect.read((head, body), "q")
    assert read.envelope.body == body
    assert not {name for name in read.envelope.headers if "\n" in name and name.startswith("aq-")}


def test_a_count_of_deliveries_that_is_none_counts_nothing() -> None:
    for count in ("9" * 5000, "x", "-1", "1.5", ""):
        assert DIALECTS[0].read((f"MESSAGE\nx-delivery-count:{count}".encode(), b""), "q").attempt == 1


@each_dialect
def test_a_tuple_is_no_headers_text(dialect: Dialect) -> None:
    """The core lets only text through; stomp.py would write a tuple as it is, line ends and all."""
    envelope = Envelope(id="i", body=b"", headers={"h": ("a", "x\ny:z")})  # type: ignore[dict-item]  # it is the point
    with pytest.raises((TypeError, AttributeError)):
        dialect.frame(dialect.place(Queue("q"), None, NOW), envelope, 1, NOW)


@each_dialect
@pytest.mark.parametrize("prefetch", [1, 10])
def test_every_subscription_bounds_what_it_holds_and_settles_one_by_one(dialect: Dialect, prefetch: int) -> None:
    asked = dialect.source(Spec(address=Queue("q"), prefetch=prefetch), "t").headers
    assert asked["ack"] == "client-individual"
    assert str(prefetch) in {asked.get("prefetch-count"), asked.get("activemq.prefetchSize")}


# Which broker it is


@pytest.mark.parametrize(
    ("said", "name", "version"),
    [
        ("RabbitMQ/3.10.8", "rabbitmq", (3, 10)),
        ("RabbitMQ/4.1.0-rc.1", "rabbitmq", (4, 1)),
        ("ActiveMQ/5.17.2", "activemq", (5, 17)),
        ("ActiveMQ-Artemis/2.28.0 ActiveMQ Artemis Messaging Engine", "other", (0, 0)),
        ("CoilMQ/1.0", "other", (0, 0)),
        ("", "other", (0, 0)),
        ("a\nRabbitMQ/3.10", "other", (0, 0)),
    ],
)
def test_a_broker_is_known_by_what_it_says(said: str, name: str, version: tuple[int, int]) -> None:
    assert server_of(said) == (name, version)


def test_features_are_what_the_broker_has() -> None:
    rabbitmq, classic = RabbitMQ("quorum", VERSION, delay_policy=True), RabbitMQ("classic", VERSION, delay_policy=False)
    assert Feature.ATTEMPTS in rabbitmq.features
    assert Feature.ATTEMPTS not in classic.features
    assert Feature.DELAY in rabbitmq.features
    assert Feature.DELAY not in classic.features, "nobody has said that delay queues have their policy"
    assert classic.limits.max_delay is None
    assert not (Feature.RELEASE | Feature.DEAD_LETTER) & rabbitmq.features
    scheduled, unscheduled = ActiveMQ(scheduler=True), ActiveMQ(scheduler=False)
    assert scheduled.features == unscheduled.features | Feature.DELAY
    assert unscheduled.limits.max_delay is None
    assert Other().features == Feature.CONFIRM | Feature.REDELIVER | Feature.COMPETING


def test_a_later_rabbitmq_takes_smaller_frames() -> None:
    assert (
        RabbitMQ("quorum", (3, 13), delay_policy=True).limits.max_body
        < RabbitMQ("quorum", VERSION, delay_policy=True).limits.max_body
    )


def test_activemq_is_never_sent_a_nack() -> None:
    """It would send the message to the broker's own dead-letter queue."""
    assert ActiveMQ(scheduler=True).drop("1") == accept("1") == b"ACK\nid:1\n"
    assert Other().drop("1") == accept("1")
    assert RabbitMQ("quorum", VERSION, delay_policy=True).drop("1") == b"NACK\nid:1\nrequeue:false\n"


# Where it goes


def test_a_delay_on_rabbitmq_waits_in_a_queue_that_dies_into_the_target() -> None:
    place = DIALECTS[0].place(Queue("q"), NOW + 2.0, NOW)
    target, waits = place.declares
    assert target.name == "q"
    assert dict(waits.arguments)["x-message-ttl"] == "2000"
    assert dict(waits.arguments)["x-dead-letter-routing-key"] == "q"
    assert int(dict(waits.arguments)["x-expires"]) > 2 * 86_400_000
    assert waits.name in place.prefix.decode()


def test_a_delay_on_activemq_is_a_header_and_only_a_future_one() -> None:
    dialect = ActiveMQ(scheduler=True)
    place = dialect.place(Queue("q"), NOW + 2, NOW)
    later = dialect.frame(place, Envelope(id="i", body=b"", not_before=NOW + 2.0001), 1, NOW)
    assert b"\nAMQ_SCHEDULED_DELAY:2001\n" in later, "rounded up: never early"
    assert b"SCHEDULED" not in dialect.frame(place, Envelope(id="i", body=b"", not_before=NOW - 1), 1, NOW)


def test_a_reply_on_activemq_expires_with_its_queue_and_nothing_else_does() -> None:
    dialect, envelope = ActiveMQ(scheduler=True), Envelope(id="i", body=b"", expires_at=NOW + 5)
    reply = dialect.frame(dialect.place(Queue("aq.reply.300.token"), None, NOW), envelope, 1, NOW)
    assert b"\nexpires:%d\n" % round((NOW + 300) * 1000) in reply
    for other in (Queue("q"), Queue("aq.reply.x"), Topic("aq.reply.300.token")):
        assert b"\nexpires:" not in dialect.frame(dialect.place(other, None, NOW), envelope, 1, NOW)


@given(st.floats(min_value=0.0001, max_value=40 * 86400))
def test_a_delay_is_never_early_and_late_by_its_share(seconds: float) -> None:
    step = names.delay_step(seconds) / 1000
    assert step >= seconds
    assert step <= max(seconds * (1 + names.SHARE), seconds + names.STEP) + 0.002


def test_there_are_few_delay_queues() -> None:
    assert len({names.delay_step(0.5 + number / 1000) for number in range(99_500)}) < 200


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.text("%2F5Ea.*> ?,:/#", min_size=1, max_size=8),
    st.sampled_from(
        ["amq.x", "ActiveMQ.DLQ", "ActiveMQ.Advisory.x", "Consumer.g.VirtualTopic.t", "VirtualTopic.t", "é" * 200]
    ),
)


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
@pytest.mark.parametrize(
    "spell",
    [names.rabbit_queue, names.rabbit_key, names.active_queue, names.active_topic, names.other_part],
    ids=lambda spell: spell.__name__,
)
def test_two_names_never_meet(spell: Any, two: list[str]) -> None:
    first, second = map(spell, two)
    assert first != second


@given(NAMES, NAMES, NAMES, NAMES)
def test_two_groups_never_meet(topic: str, group: str, other_topic: str, other_group: str) -> None:
    for spell in (names.rabbit_group, lambda one, two: names.active_queue(names.active_home(one, two))):
        same = (topic, group) == (other_topic, other_group)
        assert (spell(topic, group) == spell(other_topic, other_group)) is same  # type: ignore[no-untyped-call]


@given(NAMES)
def test_a_name_is_no_pattern_option_or_list(name: str) -> None:
    assert not {*",?*>:"} & {*names.active_queue(name)}
    assert names.active_name(names.active_queue(name)) == name
    assert not {*"*#"} & {*names.rabbit_key(name)}
    assert len(names.rabbit_queue(name).encode()) <= 255


def test_a_queue_of_the_user_is_never_anothers_group() -> None:
    assert names.active_queue("Consumer.g.VirtualTopic.t") != names.active_queue(names.active_home("t", "g"))
    assert names.active_queue("ActiveMQ.DLQ") == "ActiveMQ.DLQ", "what others gave up can be consumed"
    assert names.active_queue("ActiveMQ.Advisory.Queue") == "%41ctiveMQ.Advisory.Queue"


# What the brokers say of a delivery


def test_rabbitmq_tells_a_senders_header_from_a_property_by_its_place() -> None:
    told = b"subscription:1\ndestination:/queue/q\nmessage-id:m\nredelivered:true\nack:a:1\nx-delivery-count:2\n"
    head = (
        b"MESSAGE\n"
        + told.replace(b"a:1", rb"a\c1")
        + b"content-type:mine\nh:1\nmessage-id:theirs\ncontent-type:text/plain"
    )
    read = DIALECTS[0].read((head, b""), "q")
    assert (read.attempt, read.redelivered, read.ack) == (3, True, r"a\c1")
    assert read.envelope.headers == {"content-type": "mine", "h": "1", "message-id": "theirs"}
    assert read.envelope.content_type == "text/plain"


def test_a_message_without_an_id_has_the_same_one_each_time() -> None:
    told = "MESSAGE\nsubscription:{0}\ndestination:/queue/q\nmessage-id:T_{0}\nredelivered:{1}\nack:{0}\n{2}h:1"
    first, again = told.format(1, "false", "").encode(), told.format(2, "true", "x-delivery-count:1\n").encode()
    ids = {DIALECTS[0].read((head, b"body"), "q").envelope.id for head in (first, again)}
    assert len(ids) == 1
    assert DIALECTS[0].read((first, b"body"), "other").envelope.id not in ids


def test_what_activemq_gave_up_says_where_it_came_from_and_why() -> None:
    head = b"MESSAGE\nmessage-id:m\noriginal-destination:/queue/a%2Cb\ndlqDeliveryFailureCause:poison"
    read = ActiveMQ(scheduler=True).read((head, b""), "ActiveMQ.DLQ").envelope
    assert (read.headers["aq-death-reason"], read.headers["aq-death-origin"]) == ("poison", "a,b")


def test_a_topic_without_a_group_has_no_home_on_activemq() -> None:
    dialect = ActiveMQ(scheduler=True)
    assert dialect.source(Spec(address=Topic("t")), "x").home is None
    named = dialect.source(Spec(address=Topic("t"), group="g.h"), "x")
    assert named.headers["destination"] == "/queue/Consumer.g%2Eh.VirtualTopic.t"
    assert named.home is not None
    assert f"/queue/{names.active_queue(named.home.name)}" == named.headers["destination"]
