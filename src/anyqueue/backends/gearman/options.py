"""What a gearman:// URL says, checked before any I/O.

gearmand has neither users nor passwords, and whoever reaches its port may stop it. So a server that is not on this
machine is reached over TLS, or the user says `insecure=1`.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.url import Host

if TYPE_CHECKING:
    from anyqueue.url import URL

PORT: Final = 4730
LEAST_POLL: Final = 0.01
_LOCAL: Final = Host("localhost")


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    durable: bool = False
    """The server keeps its queue in a store (`gearmand -q`). Only its operator knows."""
    tls: bool = False
    ca: str | None = None
    """A PEM file of the authority to trust; None: those that the system trusts."""
    insecure: bool = False
    """In clear, over a network."""
    poll: float = 0.2
    """Seconds between two looks for delayed messages that are due."""
    heartbeat: float = 30.0
    """Seconds after which an idle connection is tried; it is lost when nothing came by the next time."""
    max_packet: int = 64 * 1024 * 1024
    """Bytes that the server may announce."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect."""

    servers: tuple[tuple[str, int], ...]
    options: Options

    def context(self) -> ssl.SSLContext | None:
        """Return how to encrypt, None for in clear. Reads files; raises ConfigError."""
        if not self.options.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.options.ca)
        except OSError as error:
            raise ConfigError(f"the authority of the option ca={self.options.ca!r} cannot be read: {error}") from error


def place_of(url: URL) -> Place:
    """Return what a URL asks for, or raise ConfigError."""
    options = url.take_options(Options)
    if url.username is not None:
        hint = "leave user and password out; who may reach the port may do everything"
        raise ConfigError("gearmand knows no users", url=url, hint=hint)
    if url.path not in {"", "/"}:
        raise ConfigError("a gearman URL has no path", url=url, hint="write gearman://HOST:PORT")
    if options.poll < LEAST_POLL or options.heartbeat <= 0 or options.max_packet < 1:
        least = f"poll is at least {LEAST_POLL} s, heartbeat and max_packet are more than 0"
        raise ConfigError(least, url=url)
    if options.ca is not None and not options.tls:
        raise ConfigError("the option ca is for tls=1, which is not there", url=url, hint="add tls=1")
    hosts = url.hosts or (_LOCAL,)
    for host in hosts:
        if not (options.tls or options.insecure or _is_local(host.name)):
            hint = "use tls=1, or a tunnel to localhost, or accept it with insecure=1"
            raise ConfigError(f"the way to {host.name} is neither encrypted nor on this machine", url=url, hint=hint)
    return Place(servers=tuple((host.name, host.port or PORT) for host in hosts), options=options)


def _is_local(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == _LOCAL.name
