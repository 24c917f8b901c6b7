"""What an xmpp:// or xmpps:// URL asks for. Pure: files that it names are read when the driver opens.

    xmpp[s]://user:password@host[:port][,host[:port]...]/?service=pubsub.example.org[&options]

* xmpp:// begins in clear and must go over to TLS before it says who it is (STARTTLS). `insecure=true` leaves TLS out,
  on the loopback interface alone. xmpps:// is TLS from the first byte.
* The account is `user@domain`; the domain is the first host's name unless `domain=` says otherwise. A server's
  certificate must be the domain's.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.url import Host

if TYPE_CHECKING:
    from anyqueue.url import URL

PORTS: Final = {"xmpp": 5222, "xmpps": 5223}
MAX_HEARTBEAT: Final = 86400.0
MAX_ITEMS: Final = 100_000
"""Of a node: more are too many for one list, and a list is how they are found."""
MAX_JID_PART: Final = 1023
"""Bytes (RFC 7622)."""
NOT_IN_NAMES: Final = frozenset("\"&'/:<>@ ")
"""What the name of an account cannot hold (RFC 7622, 3.3.1)."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    service: str | None = None
    """The address of the pubsub service; None: `pubsub.` and the domain."""
    domain: str | None = None
    declare: Literal["always", "never"] = "always"
    heartbeat: float = 30.0
    """Seconds; a server that says nothing for twice as long is given up."""
    lease: float = 30.0
    """Seconds for which a consumer that is not heard of holds what it has."""
    max_items: int = 10_000
    """What a new node may hold; a message that has no room is refused."""
    insecure: bool = False
    ca: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and as whom."""

    hosts: tuple[Host, ...]
    username: str
    password: str
    domain: str
    service: str
    tls: Literal["direct", "starttls", "none"]
    options: Options


def target_of(url: URL) -> Target:
    """Return what a URL asks for; raise ConfigError."""
    options = url.take_options(Options)
    hosts = url.hosts or (Host("localhost"),)
    _check(url, options, hosts)
    if url.username is None or url.password is None:
        raise ConfigError("an XMPP URL needs an account", url=url, hint="write user:password@host")
    domain = hosts[0].name if options.domain is None else options.domain
    if not url.username or NOT_IN_NAMES & set(url.username) or not _is_plain(url.username):
        raise ConfigError("the user is not the name of an XMPP account", url=url, hint="write it without the domain")
    service = f"pubsub.{domain}" if options.service is None else options.service
    for name in (domain, service):
        if not name or NOT_IN_NAMES & set(name) - {":"} or not _is_plain(name):
            raise ConfigError("the domain or the service is not a domain", url=url, hint="as service=pubsub.domain")
    return Target(
        hosts=tuple(Host(host.name, host.port or PORTS[url.scheme]) for host in hosts),
        username=url.username,
        password=url.password.reveal(),
        domain=domain,
        service=service,
        tls="direct" if url.scheme == "xmpps" else "none" if options.insecure else "starttls",
        options=options,
    )


def _check(url: URL, options: Options, hosts: tuple[Host, ...]) -> None:
    if url.path not in {"", "/"}:
        raise ConfigError("an XMPP URL has no path", url=url, hint="name the service: ?service=pubsub.domain")
    bounds = {"heartbeat": (0.1, MAX_HEARTBEAT), "lease": (0.5, MAX_HEARTBEAT), "max_items": (10, MAX_ITEMS)}
    for name, (least, most) in bounds.items():
        if not least <= getattr(options, name) <= most:
            raise ConfigError(f"the option {name} is {least:g} to {most:g}", url=url)
    if not options.insecure:
        return
    if url.scheme == "xmpps" or options.ca is not None:
        raise ConfigError("insecure=true leaves out the TLS that this URL asks for", url=url, hint="choose one")
    if not all(_is_loopback(host.name) for host in hosts):
        hint = "only on the loopback interface; elsewhere xmpp:// goes over to TLS by itself"
        raise ConfigError("insecure=true would send passwords and messages in clear", url=url, hint=hint)


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_plain(text: str) -> bool:
    return text.isprintable() and len(text.encode(errors="replace")) <= MAX_JID_PART


def tls_context(target: Target, url: object) -> ssl.SSLContext | None:
    """Return the context of a TLS connection, always verifying; None without TLS. Reads the file it is given."""
    if target.tls == "none":
        return None
    try:
        context = ssl.create_default_context(cafile=target.options.ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = f"the certificate authority of this connection cannot be used: {error}"
        raise ConfigError(what, url=url, hint="ca is a PEM file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
