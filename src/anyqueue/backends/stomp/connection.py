"""One connection to one host: log in, keep hearing of each other, frames out, receipts and messages in.

* Each side sends something within each heartbeat. A peer that is silent for two of them is gone, whatever its socket
  says; the clock is that of the last byte that came, so a connection is never lost for being busy.
* Credentials go over a connection that is encrypted, where that was asked for; and to no host but the URL's own.
* What a peer does not take is not piled up: who writes much waits for room.
* What comes is acknowledged to its sender's TCP at once. ActiveMQ writes small frames one by one and has Nagle's
  algorithm on, so it would keep a receipt back behind a message until TCP's delayed acknowledgement, 40 ms later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Final, Protocol

from anyqueue.backends.pulse import Pulse
from anyqueue.backends.stomp import frames, headers
from anyqueue.backends.stomp.options import tls_context
from anyqueue.backends.stomp.receipts import Pending, Receipts, Refused, lost_of
from anyqueue.backends.stomp.refusals import Refusal
from anyqueue.errors import ConnectFailed, ConnectionLost, Error, ProtocolError

if TYPE_CHECKING:
    import ssl

    from anyqueue.backends.stomp.frames import Raw
    from anyqueue.backends.stomp.options import Target
    from anyqueue.url import Host

_log = logging.getLogger(__name__)
HOST_TIMEOUT: Final = 3.0
"""Seconds that a host has to answer where there are others to try."""
AGAIN: Final = 1.5
"""Heartbeats that one has which has answered before: a network that swallows all is noticed by this, too."""
CLOSE_TIMEOUT: Final = 1.0
"""Seconds that the broker has to say goodbye."""
BEATS: Final = 6
"""Looks at the clock in each heartbeat."""
STUMBLED: Final = 0.2
"""Seconds that a broker has to say what it stumbled over: RabbitMQ says first that something went wrong, then what."""
HIGH_WATER: Final = 1024 * 1024
"""Bytes that may wait to be sent before who writes waits for room."""
VERSION: Final = "1.2"
QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)  # Linux has it, and forgets it


class Consumer(Protocol):
    """Who takes the messages of a connection."""

    def arrived(self, raw: Raw) -> None:
        """Take a MESSAGE."""

    def refused(self, refusal: Refusal) -> None:
        """Take it that the broker ended the subscription, and not the connection."""

    def failed(self, error: Error) -> None:
        """Take it that the connection is gone."""


class Connection(asyncio.Protocol):
    """A connection that is open, or `lost`. For one event loop."""

    def __init__(self, url: object, host: Host) -> None:
        self.host = host
        self.server = ""
        """What the server says it is."""
        self.lost: ConnectionLost | None = None
        self.consumer: Consumer | None = None
        self.heeds_strays = True
        """An ERROR about nothing that is known ends it. False: such a one is about a message in a transaction."""
        self._url = url
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._splitter = frames.Splitter()
        self._receipts = Receipts()
        self._greeting: asyncio.Future[Raw] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._room = asyncio.Event()
        self._room.set()
        self._timer: asyncio.TimerHandle | None = None
        self._stumbled: Refused | None = None
        self._written = self._loop.time()
        self._pulse = Pulse(self._written)

    async def log_in(self, target: Target) -> None:
        """Say who we are, and agree on heartbeats. Raises AuthFailed or ConnectFailed."""
        beat = round(target.options.heartbeat * 1000)
        told = {"accept-version": VERSION, "host": target.virtual_host, "heart-beat": f"{beat},{beat}"}
        if target.username is not None:
            told |= {"login": target.username, "passcode": target.password.reveal()}
        self.write(frames.connect(told, escapes=target.options.server != "other"))
        head, _ = await self._greeting
        found = dict(reversed(headers.pairs(head)))
        if found.get("version") != VERSION:
            what = f"{self.host} speaks STOMP {found.get('version', '1.0')}; {VERSION} is needed"
            raise ConnectFailed(what, url=self._url, hint="use a broker, or a listener of it, that speaks it")
        self.server = found.get("server", "")
        self._keep_hearing(beat / 1000, found.get("heart-beat", "0,0"))

    def write(self, data: bytes) -> None:
        """Send; raises ConnectionLost once it is gone."""
        if self.lost is not None or self._transport is None:
            raise self.lost or ConnectionLost("the connection is not open", url=self._url)
        self._transport.write(data)
        self._written = self._loop.time()

    async def room(self) -> None:
        """Wait until the peer takes more. Raises ConnectionLost."""
        await self._room.wait()
        if self.lost is not None:
            raise self.lost.with_traceback(None)

    def expect(self, count: int) -> Pending:
        """Give out so many numbers for receipts."""
        return self._receipts.expect(count)

    async def ask(self, command: str, told: dict[str, str]) -> None:
        """Send a frame and wait for its receipt. Raises Refused and ConnectionLost."""
        pending = self._receipts.expect(1)
        self.write(frames.control(command, {**told, "receipt": str(pending.first)}))
        refused = await pending.done
        if refused:
            raise Refused(refused[0])

    async def close(self) -> None:
        """Say goodbye if the broker listens, and end the transport. Never raises; closing twice is a no-op."""
        transport = self._transport
        if transport is None:
            return
        try:
            if self.lost is None:
                with contextlib.suppress(Refused, ConnectionLost, TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await self.ask("DISCONNECT", {})
                transport.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await asyncio.shield(self._ended)
        finally:
            self.drop()
            transport.abort()
        await self._ended

    async def ended(self) -> None:
        """Wait until it has ended, where somebody ends it."""
        await asyncio.shield(self._ended)

    def drop(self) -> None:
        """End it without a word, for one that holds nothing."""
        self.fail(ConnectionLost("the connection was closed", url=self._url))

    def fail(self, error: Error | Refused) -> None:
        """Give the connection up, and tell all who wait for something."""
        if self.lost is not None:
            return
        self.lost = error.refusal.of_connection(self._url) if isinstance(error, Refused) else lost_of(error, self._url)
        if self._timer is not None:
            self._timer.cancel()
        self._receipts.fail(error if isinstance(error, Refused) else self.lost)
        self._room.set()
        if not self._greeting.done():
            failed = ConnectFailed(f"{self.host}: {self.lost.what}", url=self._url)
            failed.__cause__ = error
            self._greeting.set_exception(failed)
            self._greeting.exception()  # seen, if nobody waits any more
        if self.consumer is not None:
            self.consumer.failed(self.lost)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- of create_connection()
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        try:
            found = self._splitter.feed(data)
            self._pulse.hear(self._loop.time(), len(data), whole=bool(found) or not self._splitter.begun)
            for raw in found:
                if self.lost is None:
                    self._take(raw)
        except ProtocolError as error:
            self.fail(error)
        if QUICKACK is not None and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def connection_lost(self, error: Exception | None) -> None:
        """Take its end."""
        what = f"the peer ended it{'' if error is None else f': {error}'}"
        self.fail(self._stumbled or ConnectionLost(f"the connection was lost: {what}", url=self._url))
        self._ended.set_result(None)

    def pause_writing(self) -> None:
        """Let who writes wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self._room.set()

    def _take(self, raw: Raw) -> None:
        head = raw[0]
        if head.startswith(b"RECEIPT\nreceipt-id:"):
            self._receipts.confirm(headers.receipt(head[19:].decode(errors="replace")))
        elif head.startswith(b"MESSAGE"):
            if self.consumer is not None:
                self.consumer.arrived(raw)
        elif head.startswith(b"CONNECTED"):
            if not self._greeting.done():
                self._greeting.set_result(raw)
        elif head.startswith(b"ERROR"):
            self._take_error(Refusal(raw))

    def _take_error(self, refusal: Refusal) -> None:
        if not self._greeting.done():
            self._greeting.set_exception(refusal.of_login(self.host, self._url))
        elif self._receipts.refuse(refusal.receipt, refusal):
            return
        elif refusal.subscription is not None and self.consumer is not None:
            self.consumer.refused(refusal)
        elif self.heeds_strays:
            self._give_up(refusal)

    def _give_up(self, refusal: Refusal) -> None:
        """End with what the broker says; a broker that stumbled may say in its next frame over what."""
        if refusal.is_crash and self._stumbled is None:
            self._stumbled = Refused(refusal)
            self._loop.call_later(STUMBLED, self.fail, self._stumbled)
        else:
            self.fail(Refused(refusal))

    def _keep_hearing(self, ours: float, theirs: str) -> None:
        """Begin to beat and to listen, as both sides want it."""
        sends, _, wants = theirs.partition(",")
        first, second = headers.number(sends) or 0.0, headers.number(wants) or 0.0
        inbound = max(ours, first / 1000) if first else None
        outbound = max(ours, second / 1000) if second else None
        if inbound is None:
            _log.warning("the server at %s sends no heartbeats: if it dies, nobody may notice", self._url)
        self._beat(inbound, outbound)

    def _beat(self, inbound: float | None, outbound: float | None) -> None:
        now = self._loop.time()
        pace = min(inbound or 3600.0, outbound or 3600.0) / BEATS
        if inbound is not None and now - self._pulse.at > 2 * inbound - pace:
            silent = now - self._pulse.at
            self.fail(ConnectionLost(f"the connection was lost: no heartbeat for {silent:.3g} s", url=self._url))
            return
        if outbound is not None and now - self._written > outbound / 3 and self._room.is_set():
            self.write(b"\n")
        self._timer = self._loop.call_later(pace, self._beat, inbound, outbound)


async def connect(target: Target, url: object, only: Host | None = None) -> Connection:
    """Connect to the first host that takes us, or once more to one alone. Cancelled, it leaves nothing behind.

    Raises AuthFailed, at once: refused credentials are tried on no other host; ConnectFailed; ConfigError.
    """
    context = tls_context(target, url)
    hosts = target.hosts if only is None else (only,)
    failure = ConnectFailed("the URL names no host", url=url)
    for number, host in enumerate(hosts, 1):
        try:
            limit = AGAIN * target.options.heartbeat if only else HOST_TIMEOUT if number < len(hosts) else None
            async with asyncio.timeout(limit):
                return await _connect(target, url, host, context)
        except TimeoutError:
            failure = ConnectFailed(f"{host} did not answer within {limit:g} s", url=url)
        except ConnectFailed as error:
            failure = error
    raise failure


async def _connect(target: Target, url: object, host: Host, context: ssl.SSLContext | None) -> Connection:
    loop = asyncio.get_running_loop()
    name = host.name if context else None
    try:
        transport, connection = await loop.create_connection(
            lambda: Connection(url, host), host.name, host.port or 0, ssl=context, server_hostname=name
        )
    except (OSError, UnicodeError) as error:
        hint = "is this its TLS port, and `ca` its authority?" if context else "is the broker running there?"
        raise ConnectFailed(f"no connection to {host}: {error}", url=url, hint=hint) from error
    try:
        if context is not None and transport.get_extra_info("ssl_object") is None:
            raise ConnectFailed(f"the connection to {host} is not encrypted", url=url)
        await connection.log_in(target)
    except BaseException:
        connection.drop()
        raise
    return connection
