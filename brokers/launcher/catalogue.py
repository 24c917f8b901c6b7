"""The brokers there are. A new one: its folder in `brokers/`, its module here, one line below (docs/brokers.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from launcher.activemq import ActiveMQ
from launcher.ejabberd import Ejabberd
from launcher.gearmand import Gearmand, GearmandPair
from launcher.place import LaunchError
from launcher.prosody import Prosody
from launcher.rabbitmq import RabbitMQ, RabbitMQCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.broker import Broker, Node
    from launcher.place import Place

KINDS: Final[tuple[type[Broker], ...]] = (
    RabbitMQ,
    RabbitMQCluster,
    ActiveMQ,
    Gearmand,
    GearmandPair,
    Prosody,
    Ejabberd,
)
BROKERS: Final[dict[str, Broker]] = {kind.name: kind() for kind in KINDS}


def named(name: str) -> Broker:
    """Return a broker by its name, or by the name of a node of it."""
    try:
        return BROKERS[name.partition(":")[0]]
    except KeyError:
        raise LaunchError(f"unknown broker {name!r}; known: {', '.join(BROKERS)}") from None


def select(names: Sequence[str], place: Place) -> list[tuple[Broker, list[Node]]]:
    """Return what is meant: all brokers, whole brokers, or single nodes."""
    chosen: dict[str, list[Node]] = {}
    for name in names or BROKERS:
        broker = named(name)
        nodes = [node for node in broker.nodes(place) if name in {broker.name, node.name}]
        if not nodes:
            known = ", ".join(node.name for node in broker.nodes(place))
            raise LaunchError(f"unknown node {name!r}; {broker.name} has {known}")
        chosen.setdefault(broker.name, []).extend(nodes)
    return [(BROKERS[name], nodes) for name, nodes in chosen.items()]
