"""Scheme -> driver class, imported only when a URL asks for it. The one global of anyqueue.

A third party adds a scheme with an entry point in the group `anyqueue.backends`: its name is the scheme, its value
`module:DriverClass`. A scheme of anyqueue's own is never taken over by one.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from anyqueue.driver import Driver
from anyqueue.errors import ConfigError, MissingBackend

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoints

GROUP: Final = "anyqueue.backends"
BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "amqp": "anyqueue.backends.amqp.driver:AmqpDriver",
        "amqps": "anyqueue.backends.amqp.driver:AmqpDriver",
        "memory": "anyqueue.backends.memory:MemoryDriver",
        "sqlite": "anyqueue.backends.sqlite:SqliteDriver",
        "stomp": "anyqueue.backends.stomp.driver:StompDriver",
        "stomps": "anyqueue.backends.stomp.driver:StompDriver",
        "gearman": "anyqueue.backends.gearman.driver:GearmanDriver",
        "xmpp": "anyqueue.backends.xmpp.driver:XmppDriver",
        "xmpps": "anyqueue.backends.xmpp.driver:XmppDriver",
        "zmq": "anyqueue.backends.zeromq.driver:ZeromqDriver",
        "zmq+pub": "anyqueue.backends.zeromq.pub:PubDriver",
        "zmq+push": "anyqueue.backends.zeromq.push:PushDriver",
    }
)
EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "amqp": "amqp",
        "amqps": "amqp",
        "stomp": "stomp",
        "stomps": "stomp",
        "xmpp": "xmpp",
        "xmpps": "xmpp",
        "zmq": "zeromq",
        "zmq+pub": "zeromq",
        "zmq+push": "zeromq",
    }
)
"""Scheme -> the extra that installs its client library, for the built-in ones that need one."""


def _entry_points() -> EntryPoints:
    """Return the installed entry points of our group."""
    from importlib import metadata  # noqa: PLC0415 -- it takes 20 ms, and built-in schemes do not need it

    return metadata.entry_points(group=GROUP)


def schemes() -> list[str]:
    """List the schemes known here, installed or not."""
    return sorted({*BUILT_IN, *(found.name for found in _entry_points())})


def load(scheme: str) -> type[Driver]:
    """Import and return the driver class of a scheme.

    Raises ConfigError for an unknown scheme and for an entry point that is no driver, MissingBackend where a client
    library is not installed.
    """
    target = BUILT_IN.get(scheme) or _third_party(scheme)
    module_name, _, class_name = target.partition(":")
    try:
        found = getattr(import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise _missing(scheme, error) from error
    except AttributeError as error:
        raise ConfigError(f"the backend of {scheme}:// names {target}, which does not exist") from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise ConfigError(f"the backend of {scheme}:// names {target}, which is no anyqueue Driver")
    return found


def _third_party(scheme: str) -> str:
    found = [point.value for point in _entry_points() if point.name == scheme]
    if not found:
        raise ConfigError(f"unknown scheme {scheme!r}", hint=f"known are: {', '.join(schemes())}")
    if len(set(found)) > 1:
        raise ConfigError(f"several packages claim {scheme}://: {', '.join(sorted(set(found)))}", hint="uninstall one")
    return found[0]


def _missing(scheme: str, error: ModuleNotFoundError) -> MissingBackend:
    extra = EXTRAS.get(scheme)
    hint = f"pip install 'anyqueue[{extra}]'" if extra else "install the package that provides it"
    return MissingBackend(f"{scheme}:// needs the module {error.name!r}, which is not installed", hint=hint)
