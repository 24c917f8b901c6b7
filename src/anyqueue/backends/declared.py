"""What each backend at most declares, by name: for the backend itself and for its double, `memory://?as=NAME`.

A live broker may have less than its entry says; a driver then lowers `features` in open().
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from anyqueue.driver import Delivery, Feature

if TYPE_CHECKING:
    from collections.abc import Mapping

_STORE: Final = (
    Feature.CONFIRM
    | Feature.REDELIVER
    | Feature.RELEASE
    | Feature.RELEASE_DELAY
    | Feature.ATTEMPTS
    | Feature.DEAD_LETTER
    | Feature.DELAY
    | Feature.PRIORITY
    | Feature.EXPIRY
    | Feature.COMPETING
    | Feature.FANOUT
    | Feature.INSPECT
    | Feature.COUNT
    | Feature.DELETE
)

_RABBITMQ: Final = (
    Feature.CONFIRM
    | Feature.REDELIVER
    | Feature.RELEASE
    | Feature.DELAY
    | Feature.DURABLE
    | Feature.COMPETING
    | Feature.FANOUT
    | Feature.DELETE
)

_STOMP: Final = (
    Feature.CONFIRM | Feature.REDELIVER | Feature.DELAY | Feature.DURABLE | Feature.COMPETING | Feature.FANOUT
)
_STOMP_RABBITMQ: Final = _STOMP | Feature.ATTEMPTS | Feature.DELETE
_STOMP_ACTIVEMQ: Final = _STOMP | Feature.DEAD_LETTER
_XMPP: Final = (
    Feature.CONFIRM
    | Feature.REDELIVER
    | Feature.RELEASE
    | Feature.RELEASE_DELAY
    | Feature.ATTEMPTS
    | Feature.DELAY
    | Feature.DURABLE
    | Feature.LEASE
    | Feature.COMPETING
    | Feature.FANOUT
    | Feature.DELETE
)

DECLARED: Final[Mapping[str, Feature]] = MappingProxyType(
    {
        "weak": Feature.NONE,
        "memory": _STORE,
        "amqp": _RABBITMQ | Feature.ATTEMPTS,
        "amqp-classic": _RABBITMQ | Feature.PRIORITY,
        "stomp": _STOMP_RABBITMQ | _STOMP_ACTIVEMQ,
        "stomp-rabbitmq": _STOMP_RABBITMQ,
        "stomp-activemq": _STOMP_ACTIVEMQ,
        "xmpp": _XMPP,
        "sqlite": _STORE | Feature.DURABLE | Feature.LEASE,
        "gearman": Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.ATTEMPTS
        | Feature.DELAY
        | Feature.DURABLE
        | Feature.COMPETING
        | Feature.PRIORITY
        | Feature.REPLY
        | Feature.COUNT,
        "zmq": _STORE | Feature.DURABLE,
        "zmq+push": Feature.COMPETING,
        "zmq+pub": Feature.FANOUT,
    }
)


def refused(features: Feature) -> list[tuple[str, Feature]]:
    """Name the fields of an envelope that ask for a feature which is not there, with that feature."""
    needs = {"not_before": Feature.DELAY, "priority": Feature.PRIORITY}
    return [(field, feature) for field, feature in needs.items() if feature not in features]


def dimmed(delivery: Delivery, features: Feature) -> Delivery:
    """Return a delivery without what a weaker broker would not say of it."""
    return Delivery(
        envelope=delivery.envelope,
        receipt=delivery.receipt,
        attempt=delivery.attempt if Feature.ATTEMPTS in features else None,
        redelivered=delivery.redelivered and Feature.REDELIVER in features,
        first_failure=delivery.first_failure,
    )
