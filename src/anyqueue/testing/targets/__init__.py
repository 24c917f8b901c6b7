"""The targets of anyqueue itself: name -> where its harness is, loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyqueue.testing.harness import Harness

TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "memory": "anyqueue.testing.targets.memory:MemoryHarness",
        "memory-weak": "anyqueue.testing.targets.memory:WeakHarness",
        "amqp@rabbitmq-quorum": "anyqueue.testing.targets.amqp:QuorumHarness",
        "amqp@rabbitmq-classic": "anyqueue.testing.targets.amqp:ClassicHarness",
        "stomp@rabbitmq": "anyqueue.testing.targets.stomp_rabbitmq:StompRabbitmqHarness",
        "stomp@activemq": "anyqueue.testing.targets.stomp_activemq:StompActivemqHarness",
        "xmpp@prosody": "anyqueue.testing.targets.xmpp:ProsodyHarness",
        "xmpp@ejabberd": "anyqueue.testing.targets.xmpp:EjabberdHarness",
        "sqlite": "anyqueue.testing.targets.sqlite:SqliteHarness",
        "gearman@gearmand": "anyqueue.testing.targets.gearman:GearmanHarness",
        "zmq@hub": "anyqueue.testing.targets.zeromq:HubHarness",
        "zmq@hub-durable": "anyqueue.testing.targets.zeromq:DurableHubHarness",
        "zmq+push": "anyqueue.testing.targets.zeromq_bare:PushHarness",
        "zmq+pub": "anyqueue.testing.targets.zeromq_bare:PubHarness",
    }
)


def load_harness(target: str) -> Harness:
    """Return a new harness for the name of a target, or for `module:Class`. Raises LookupError for other names."""
    module_name, _, class_name = TARGETS.get(target, target).partition(":")
    if not class_name:
        raise LookupError(f"unknown target {target!r}; known: {', '.join(TARGETS)}, or module:Harness")
    harness: Harness = getattr(import_module(module_name), class_name)()
    return harness
