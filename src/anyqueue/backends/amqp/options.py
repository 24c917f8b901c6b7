"""What an amqp:// or amqps:// URL asks for. Pure: files that it names are read when the driver opens.

    amqp[s]://[user[:password]@]host[:port][,host[:port]...][/virtual-host][?options]

* Without a user it is guest's; with a client certificate and without a user, the certificate is the user (EXTERNAL).
* An absent or empty virtual host is `/`; any other is written percent-encoded.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.url import Host

if TYPE_CHECKING:
    from anyqueue.url import URL

PORTS: Final = {"amqp": 5672, "amqps": 5671}
MAX_HEARTBEAT: Final = 65535
PRIORITIES: Final = 9
"""The highest priority of an envelope."""


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    queue_type: Literal["quorum", "classic"] = "quorum"
    declare: Literal["always", "never"] = "always"
    heartbeat: int = 60
    """Seconds; 0 switches them off."""
    delivery_limit: int = 1000
    """Of quorum queues: how often a message is brought back before the broker itself dead-letters it."""
    max_priority: int = PRIORITIES
    """Of classic queues; 0: without priorities."""
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and as whom."""

    hosts: tuple[Host, ...]
    virtual_host: str
    username: str | None
    """None: the client certificate says who."""
    password: str
    tls: bool
    options: Options


def target_of(url: URL) -> Target:
    """Return what a URL asks for; raise ConfigError."""
    options = url.take_options(Options)
    _check(url, options)
    tls = url.scheme == "amqps"
    hosts = url.hosts or (Host("localhost"),)
    username, password = _credentials(url, options)
    virtual_host = url.path[1:] or "/"
    if "\0" in f"{username}{password}{virtual_host}":
        raise ConfigError("a user, password or virtual host holds a NUL character", url=url)
    if len(virtual_host.encode(errors="replace")) > 255:  # noqa: PLR2004 -- a short string of AMQP
        raise ConfigError("a virtual host has at most 255 bytes", url=url)
    return Target(
        hosts=tuple(Host(host.name, host.port or PORTS[url.scheme]) for host in hosts),
        virtual_host=virtual_host,
        username=username,
        password=password,
        tls=tls,
        options=options,
    )


def _check(url: URL, options: Options) -> None:
    bounds = {"heartbeat": (0, MAX_HEARTBEAT), "delivery_limit": (1, 2**31 - 1), "max_priority": (0, 255)}
    for name, (least, most) in bounds.items():
        if not least <= getattr(options, name) <= most:
            raise ConfigError(f"the option {name} is {least} to {most}", url=url)
    if url.scheme == "amqp":
        given = [name for name in ("ca", "certificate", "key") if getattr(options, name) is not None]
        if given:
            raise ConfigError(f"{', '.join(given)} without TLS", url=url, hint="write amqps://")
    if options.key is not None and options.certificate is None:
        raise ConfigError("a key without its certificate", url=url, hint="add certificate=FILE")
    named = {name for name, _ in url.options}
    if "max_priority" in named and options.queue_type != "classic":
        raise ConfigError("quorum queues have no priorities", url=url, hint="add queue_type=classic")
    if "delivery_limit" in named and options.queue_type != "quorum":
        raise ConfigError("classic queues have no delivery limit", url=url, hint="leave it out")


def _credentials(url: URL, options: Options) -> tuple[str | None, str]:
    if url.username is None:
        return (None, "") if options.certificate is not None else ("guest", "guest")
    if url.password is None:
        raise ConfigError("a user without a password", url=url, hint="write user:password@host")
    return url.username, url.password.reveal()


def tls_context(target: Target, url: object) -> ssl.SSLContext | None:
    """Return the context of a TLS connection, always verifying; None without TLS. Reads the files it is given."""
    if not target.tls:
        return None
    options = target.options
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = f"the certificates of this connection cannot be used: {error}"
        raise ConfigError(what, url=url, hint="ca, certificate and key are PEM files") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
