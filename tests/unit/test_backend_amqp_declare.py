"""What a queue may differ in: the words in which RabbitMQ says it, and what is given in to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anyqueue import QueueError, QueueMismatch, QueueNotFound
from anyqueue.backends.amqp.channel import Refused, explain
from anyqueue.backends.amqp.declare import _DIFFERS, Declarer, _accepts, _give_in
from anyqueue.backends.amqp.frames import ack
from anyqueue.backends.amqp.subscription import AmqpSubscription
from anyqueue.driver import Queue

WORDS = "PRECONDITION_FAILED - inequivalent arg '{}' for queue 'q' in vhost '/': received {} but current is {}"


@pytest.mark.parametrize(
    ("name", "current", "accepted", "taken"),
    [
        ("x-dead-letter-exchange", "none", True, None),
        ("x-dead-letter-routing-key", "the value 'other' of type 'longstr'", True, "other"),
        ("x-dead-letter-routing-key", "the value '12' of type 'longstr'", True, "12"),
        ("x-overflow", "the value 'drop-head' of type 'longstr'", True, "drop-head"),
        ("x-max-in-memory-length", "the value '-5' of type 'signedint'", True, -5),
        ("x-delivery-limit", "none", True, None),
        ("x-delivery-limit", "the value '20' of type 'signedint'", True, 20),
        ("x-delivery-limit", "the value '19' of type 'signedint'", False, None),
        ("x-queue-type", "the value 'classic' of type 'longstr'", False, None),
        ("x-max-length", "the value '5' of type 'signedint'", False, None),
        ("x-message-ttl", "the value '5' of type 'signedint'", False, None),
        ("x-max-priority", "none", False, None),
        ("durable", "'false'", False, None),
        ("auto_delete", "'true'", False, None),
    ],
)
def test_what_is_said_is_understood(name: str, current: str, accepted: bool, taken: str | int | None) -> None:  # noqa: FBT001 -- a row
    differs = _DIFFERS.search(WORDS.format(name, "the value 'x' of type 'longstr'", current))
    assert differs is not None
    assert differs["name"] == name
    assert _accepts(differs) == accepted
    if accepted:
        arguments: dict[str, str | int] = {name: "ours", "x-queue-type": "quorum"}
        _give_in(arguments, differs)
        assert arguments == {"x-queue-type": "quorum", **({} if taken is None else {name: taken})}


def test_a_mismatch_names_the_argument_and_what_to_do() -> None:
    connection: Any = SimpleNamespace(url="amqp://here", wire=None)
    declarer = Declarer(connection)
    for name, hint in (("x-queue-type", "queue_type="), ("x-max-priority", "max_priority="), ("x-max-length", "never")):
        refused = Refused(406, WORDS.format(name, "none", "the value '5' of type 'signedint'"))
        error = declarer._mismatch(refused, _DIFFERS.search(refused.text), "the queue", "emails")
        assert isinstance(error, QueueMismatch)
        assert name in str(error)
        assert "it is 5" in str(error)
        assert "emails" in str(error)
        assert hint in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(403, QueueError), (404, QueueNotFound), (405, QueueMismatch), (406, QueueMismatch), (540, QueueError)],
)
def test_a_refusal_is_an_error_of_ours(code: int, kind: type[QueueError]) -> None:
    refused = Refused(code, "WORDS OF THE BROKER")
    error = explain(refused, "it cannot be", queue="emails", url="amqp://here")
    assert type(error) is kind
    assert error.__cause__ is refused
    for word in ("it cannot be", "WORDS OF THE BROKER", "emails", "amqp://here"):
        assert word in str(error)


def test_the_oldest_that_are_done_are_acknowledged_in_one_frame() -> None:
    connection: Any = SimpleNamespace(wire=SimpleNamespace(), url="amqp://here")

    def acks(unsettled: list[int], accepted: list[int]) -> list[bytes]:
        made = AmqpSubscription(connection, Queue("q"), "q", counts="broker", gone=lambda: None)
        made._unsettled = dict.fromkeys(unsettled)
        frames = made._acks(1, accepted)
        assert list(made._unsettled) == [tag for tag in unsettled if tag not in accepted]
        return frames

    assert acks([1, 2, 3], [1, 2, 3]) == [ack(1, 3, multiple=True)]
    assert acks([1, 2, 3, 4], [3, 1, 2]) == [ack(1, 3, multiple=True)]
    assert acks([1, 2, 3, 4], [1, 3]) == [ack(1, 1, multiple=True), ack(1, 3, multiple=False)]
    assert acks([1, 2, 3], [3, 2]) == [ack(1, 3, multiple=False), ack(1, 2, multiple=False)]
    assert acks([2, 5, 9], [2, 5]) == [ack(1, 5, multiple=True)]
    assert acks([1], []) == []
