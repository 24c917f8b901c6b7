"""What a stomp:// or stomps:// URL asks for. Pure: files that it names are read when the driver opens.

    stomp[s]://[user[:password]@]host[:port][,host[:port]...][/virtual-host][?options]

* Without a user it is guest's; with a client certificate and without a user, the certificate says who it is.
* An absent or empty virtual host is `/`; any other is written percent-encoded. ActiveMQ has none and ignores it.
* The frame that logs in has no escapes that every broker reads, so line ends and NUL are refused in what it carries.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.url import Host, Secret

if TYPE_CHECKING:
    from anyqueue.url import URL

PORTS: Final = {"stomp": 61613, "stomps": 61614}
MIN_HEARTBEAT, MAX_HEARTBEAT = 1.0, 3600.0
_FORBIDDEN: Final = frozenset("\r\n\0")

Server = Literal["auto", "rabbitmq", "activemq", "other"]


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    heartbeat: float = 10.0
    """Seconds in which each side is heard of; a side that is silent for twice as long is gone."""
    server: Server = "auto"
    """Which dialect to speak; `auto`: what the server says it is."""
    queue_type: Literal["quorum", "classic"] = "quorum"
    """Of RabbitMQ."""
    delay_policy: bool = False
    """Of RabbitMQ: the operator says that delay queues have their policy there. Nothing in the protocol tells."""
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and as whom."""

    hosts: tuple[Host, ...]
    virtual_host: str
    username: str | None
    """None: the client certificate says who."""
    password: Secret
    tls: bool
    options: Options


def target_of(url: URL) -> Target:
    """Return what a URL asks for; raise ConfigError."""
    options = url.take_options(Options)
    tls = url.scheme == "stomps"
    if not MIN_HEARTBEAT <= options.heartbeat <= MAX_HEARTBEAT:
        what = f"the option heartbeat is {MIN_HEARTBEAT:g} to {MAX_HEARTBEAT:g} seconds"
        raise ConfigError(
            what, url=url, hint="they cannot be switched off: nothing else tells a dead peer from a quiet one"
        )
    _check_tls(url, options, tls=tls)
    _check_server(url, options)
    username, password = _credentials(url, options)
    virtual_host = url.path[1:] or "/"
    if _FORBIDDEN & {*(username or ""), *password.reveal(), *virtual_host}:
        raise ConfigError("a user, password or virtual host holds a line end or a NUL character", url=url)
    hosts = url.hosts or (Host("localhost"),)
    return Target(
        hosts=tuple(Host(host.name, host.port or PORTS[url.scheme]) for host in hosts),
        virtual_host=virtual_host,
        username=username,
        password=password,
        tls=tls,
        options=options,
    )


def _check_server(url: URL, options: Options) -> None:
    given = [name for name, _ in url.options if name in {"queue_type", "delay_policy"}]
    if given and options.server in {"activemq", "other"}:
        raise ConfigError(f"the option {given[0]} is RabbitMQ's", url=url, hint="leave it out")


def _check_tls(url: URL, options: Options, *, tls: bool) -> None:
    given = [name for name in ("ca", "certificate", "key") if getattr(options, name) is not None]
    if given and not tls:
        raise ConfigError(f"{', '.join(given)} without TLS", url=url, hint="write stomps://")
    if options.key is not None and options.certificate is None:
        raise ConfigError("a key without its certificate", url=url, hint="add certificate=FILE")


def _credentials(url: URL, options: Options) -> tuple[str | None, Secret]:
    if url.username is None:
        return (None, Secret("")) if options.certificate is not None else ("guest", Secret("guest"))
    if url.password is None:
        raise ConfigError("a user without a password", url=url, hint="write user:password@host")
    return url.username, url.password


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
