"""Names, arguments and the steps of delays: injective, within AMQP's room, never early."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.amqp import names

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)
SECONDS = st.floats(0, names.MAX_DELAY)
NOW = 1_700_000_000.0


def test_a_queue_has_its_own_name() -> None:
    assert names.wire_name("emails") == "emails"
    assert names.wire_name("очередь") == "очередь"
    assert names.wire_name("x" * 200) == "x" * 200


@pytest.mark.parametrize("name", ["amq.direct", "🦉" * 64, "x" * 256])
def test_what_amqp_has_no_room_for_becomes_a_hash(name: str) -> None:
    assert names.wire_name(name).startswith("aq.name.")
    assert names.wire_name(name) != names.wire_name(f"{name}y")


@given(NAMES, NAMES)
def test_every_name_fits_and_no_two_are_one(first: str, second: str) -> None:
    wires = names.wire_name(first), names.wire_name(second)
    assert all(len(wire.encode()) <= names.MAX_NAME and not wire.startswith("amq.") for wire in wires)
    assert (first == second) == (wires[0] == wires[1])


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_groups_are_one(topic: str, group: str, other: str, another: str) -> None:
    queues = names.group_queue(topic, group), names.group_queue(other, another)
    assert all(len(queue.encode()) <= names.MAX_NAME for queue in queues)
    assert ((topic, group) == (other, another)) == (queues[0] == queues[1])
    assert not names.is_passing(queues[0])
    assert names.is_passing(names.passing_queue("t", "0123"))
    assert names.passing_queue(topic, "0123") != names.group_queue(topic, group)


@given(NAMES, NAMES)
def test_a_group_has_the_dead_letters_that_a_consumer_of_it_has(topic: str, group: str) -> None:
    queue = names.group_queue(topic, group)
    if ":" in queue:
        assert names.dead_letters(queue) == f"{topic}.{group}.dead"
    assert names.dead_letters(topic) == f"{topic}.dead"


@given(SECONDS)
def test_a_step_is_never_early_and_late_by_little(seconds: float) -> None:
    step = names.delay_step(seconds) / 1000
    assert step >= seconds
    assert step <= max(seconds * (1 + names.SHARE), seconds + names.STEP) + 0.001 + 1e-9


@given(SECONDS, SECONDS)
def test_steps_grow_with_delays(first: float, second: float) -> None:
    assert (names.delay_step(min(first, second))) <= names.delay_step(max(first, second))


def test_the_delays_of_retries_have_few_steps() -> None:
    steps = {names.delay_step(seconds / 100) for seconds in range(100, 30_000)}
    assert len(steps) < 180
    assert all(step % 10 == 0 for step in steps)


@given(NAMES, NAMES, st.integers(1, 10**9), st.integers(1, 10**9), st.booleans())
def test_no_two_delays_are_one(first: str, second: str, step: int, other: int, topic: bool) -> None:  # noqa: FBT001 -- drawn
    queues = (
        names.delay_queue(names.wire_name(first), step, NOW, topic=topic),
        names.delay_queue(names.wire_name(second), other, NOW, topic=topic),
    )
    assert all(len(queue.encode()) <= names.MAX_NAME for queue in queues)
    assert ((first, step) == (second, other)) == (queues[0] == queues[1])
    assert queues[0] != names.delay_queue(names.wire_name(first), step, NOW, topic=not topic)


def test_each_day_has_queues_of_its_own_that_outlive_what_is_in_them() -> None:
    today = names.delay_queue("emails", 1000, NOW, topic=False)
    assert today == f"aq.delay.1000.{int(NOW // 86400)}.emails"
    assert names.delay_queue("emails", 1000, NOW + 86400, topic=False) != today
    arguments = names.delay_arguments("emails", 1000, topic=False)
    assert arguments["x-message-ttl"] == 1000
    assert arguments["x-expires"] == 1000 + 2 * 86_400_000
    longest = names.delay_arguments("emails", names.delay_step(names.MAX_DELAY), topic=False)
    assert int(longest["x-expires"]) < 2**32, "RabbitMQ takes no longer time"


def test_a_delayed_message_goes_on_with_a_confirm() -> None:
    queue, topic = (names.delay_arguments("emails", 10, topic=topic) for topic in (False, True))
    assert (queue["x-dead-letter-exchange"], queue["x-dead-letter-routing-key"]) == ("", "emails")
    assert topic["x-dead-letter-exchange"] == "emails"
    assert "x-dead-letter-routing-key" not in topic
    for arguments in (queue, topic):
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish", "any other falls back to at-most-once, silently"


def test_queues_give_up_into_the_dead_letters() -> None:
    quorum = names.queue_arguments("emails.dead", "quorum", delivery_limit=1000, max_priority=9)
    classic = names.queue_arguments("emails.dead", "classic", delivery_limit=1000, max_priority=9)
    for arguments in (quorum, classic):
        assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("", "emails.dead")
    assert (quorum["x-delivery-limit"], quorum["x-overflow"]) == (1000, "reject-publish")
    assert "x-max-priority" not in quorum
    assert classic["x-max-priority"] == 9
    assert "x-max-priority" not in names.queue_arguments("d", "classic", delivery_limit=1, max_priority=0)


def test_the_grain_is_what_the_driver_says() -> None:
    assert names.delay_step(0) == 10
    assert names.delay_step(0.2) == 200
    assert names.delay_step(math.nextafter(0.2, 1)) == 210
