"""One connection to one of the hosts, with errors that are ours.

The hosts of the URL are tried in turn. Refused credentials end that: no other host is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import pika
from pika import exceptions

from anyqueue.backends.amqp.options import tls_context
from anyqueue.backends.amqp.wire import MAX_FRAME, Ears, Wire
from anyqueue.errors import AuthFailed, ConfigError, ConnectFailed, ConnectionLost, Error

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from anyqueue.backends.amqp.options import Target
    from anyqueue.url import Host

_log = logging.getLogger(__name__)
HOST_TIMEOUT: Final = 3.0
"""Seconds that a host has to answer where there are others to try."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds that the broker has to say goodbye."""
ACCESS_REFUSED, NOT_ALLOWED = 403, 530
_VERSION: Final = (3, 10)
"""Of RabbitMQ: the first whose quorum queues delay, expire and dead-letter with a confirm."""


class Connection:
    """A connection that is open, or `lost`. For one event loop."""

    def __init__(self, target: Target, url: object) -> None:
        self.lost: ConnectionLost | None = None
        self.url = url
        self._target = target
        self._wire: Wire | None = None
        self._watchers: set[Callable[[ConnectionLost], None]] = set()
        self._closing = False

    @property
    def wire(self) -> Wire:
        """Return what carries the frames; raises ConnectionLost once it is gone."""
        if self._wire is None or self.lost is not None:
            raise self.lost or ConnectionLost("the connection is not open", url=self.url)
        return self._wire

    async def open(self) -> None:
        """Connect to the first host that takes us. Cancelled, it leaves nothing behind."""
        context = tls_context(self._target, self.url)
        failure = ConnectFailed("the URL names no host", url=self.url)
        for number, host in enumerate(self._target.hosts, 1):
            last = number == len(self._target.hosts)
            try:
                async with asyncio.timeout(None if last else HOST_TIMEOUT):
                    return await self._open(host, context)
            except TimeoutError:
                failure = ConnectFailed(f"{host} did not answer within {HOST_TIMEOUT:g} s", url=self.url)
            except ConnectFailed as error:
                failure = error
        raise failure

    async def _open(self, host: Host, context: ssl.SSLContext | None) -> None:
        wire = Wire(_parameters(self._target, host), self._on_wire_lost)
        try:
            await self._shake_hands(wire, host, context)
            self._check(wire, host)
        except BaseException:
            wire.cut()
            raise
        wire.add_on_connection_blocked_callback(self._on_blocked)
        wire.add_on_connection_unblocked_callback(self._on_unblocked)
        self._wire = wire

    async def _shake_hands(self, wire: Wire, host: Host, context: ssl.SSLContext | None) -> None:
        loop, name = asyncio.get_running_loop(), host.name if context else None
        try:
            await loop.create_connection(
                lambda: Ears(wire), host.name, host.port or 0, ssl=context, server_hostname=name
            )
            await wire.opened
        except (OSError, UnicodeError) as error:
            hint = "is this its TLS port, and `ca` its authority?" if context else "is the broker running there?"
            raise ConnectFailed(f"no connection to {host}: {error}", url=self.url, hint=hint) from error
        except exceptions.AMQPError as error:
            raise self._refusal(wire, host, error) from error
        except Exception as error:
            raise ConnectFailed(f"{host} does not speak AMQP 0-9-1: {error}", url=self.url) from error

    def _refusal(self, wire: Wire, host: Host, error: Exception) -> Error:
        """Say why the broker did not take the connection."""
        code, text = wire.refusal or (0, "it ended the connection in the middle of the handshake")
        if code == ACCESS_REFUSED or isinstance(error, exceptions.AuthenticationError):
            hint = "check user and password; guest is taken from the broker's own machine alone"
            return AuthFailed(f"{host} refused the credentials: {text or error}", url=self.url, hint=hint)
        if code == NOT_ALLOWED and "not found" in text:
            return ConfigError(f"{host} has no such virtual host: {text}", url=self.url, hint="rabbitmqctl add_vhost")
        if code == NOT_ALLOWED:
            hint = "see rabbitmqctl list_permissions"
            return AuthFailed(f"{host} refused the virtual host: {text}", url=self.url, hint=hint)
        return ConnectFailed(f"{host} did not take the connection: {text}", url=self.url)

    def _check(self, wire: Wire, host: Host) -> None:
        """Refuse a broker that cannot keep what is declared."""
        said = wire.server_properties
        version = str(said.get("version", ""))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if said.get("product") == "RabbitMQ" and len(numbers) == len(_VERSION) and numbers < _VERSION:
            what = f"{host} is RabbitMQ {version}; its quorum queues neither delay nor expire"
            raise ConfigError(what, url=self.url, hint="RabbitMQ 3.10 or newer is needed")

    def watch(self, lost: Callable[[ConnectionLost], None]) -> None:
        """Have it called when the connection is lost or closed."""
        self._watchers.add(lost)

    def unwatch(self, lost: Callable[[ConnectionLost], None]) -> None:
        """Have it called no more."""
        self._watchers.discard(lost)

    async def close(self) -> None:
        """Say goodbye if the broker listens, and end the transport. Never raises; closing twice is a no-op."""
        wire, self._wire, self._closing = self._wire, None, True
        if wire is None:
            return
        try:
            with contextlib.suppress(exceptions.AMQPError, TimeoutError):
                if wire.is_open:
                    wire.close()
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await asyncio.shield(wire.ended)
        finally:
            wire.cut()
            self.on_lost(ConnectionAbortedError("closed"))
        await wire.ended

    def _on_wire_lost(self, wire: Wire, error: Exception) -> None:
        if wire is self._wire:  # not one that did not get as far
            self.on_lost(error)

    def on_lost(self, error: Exception) -> ConnectionLost:
        """Note that it is lost, tell the watchers, and return the error that says so."""
        if self.lost is None:
            what = "the connection was closed" if self._closing else f"the connection was lost: {_why(error)}"
            self.lost = ConnectionLost(what, url=self.url)
            self.lost.__cause__ = error
            watchers, self._watchers = self._watchers, set()
            for watcher in watchers:
                watcher(self.lost)
        return self.lost

    def _on_blocked(self, _wire: object, frame: Any) -> None:  # noqa: ANN401 -- pika is untyped
        _log.warning("the broker at %s takes no messages: %s", self.url, frame.method.reason)

    def _on_unblocked(self, _wire: object, _frame: object) -> None:
        _log.warning("the broker at %s takes messages again", self.url)


def _why(error: Exception) -> str:
    """Say what pika says, without what it adds."""
    text = str(error.args[0]) if isinstance(error, exceptions.StreamLostError) and error.args else str(error)
    return text or type(error).__name__


def _parameters(target: Target, host: Host) -> pika.ConnectionParameters:
    external = target.username is None
    return pika.ConnectionParameters(
        host=host.name,
        port=host.port,
        virtual_host=target.virtual_host,
        credentials=pika.credentials.ExternalCredentials()
        if external
        else pika.PlainCredentials(target.username, target.password),
        heartbeat=target.options.heartbeat,
        frame_max=MAX_FRAME,
        client_properties={"product": "anyqueue", "information": "with pika"},
    )
