"""TLS: who is not who the URL names is refused, and nothing secret is told to it. Where a target has a network."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from anyqueue import URL, ConfigError, TransportError
from anyqueue.testing.case import case
from anyqueue.testing.load import Ways
from anyqueue.testing.proxy import Proxy
from anyqueue.testing.raising import raises

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyqueue.testing.harness import Certificate
    from anyqueue.testing.trial import Trial

STRANGERS: Final = ("expired", "wrong-host", "untrusted")


class Front:
    """A server that speaks TLS with a certificate, and hands what it hears to the broker in clear."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.heard = b""
        """What a client told it."""
        self._target = target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be between one client and the broker."""
        to_broker = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hand_on(reader, to_broker[1], heard=True))
                group.create_task(self._hand_on(to_broker[0], writer))
        except* OSError:
            pass  # one side has gone
        finally:
            writer.close()
            to_broker[1].close()

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, heard: bool = False
    ) -> None:
        while data := await reader.read(65536):
            self.heard += data if heard else b""
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def front(t: Trial, certificate: Certificate) -> AsyncIterator[tuple[Front, Proxy]]:
    """Serve TLS with a certificate, behind a proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    behind = Front(t.harness.endpoint())
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0, ssl=context)
    proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
    proxy.start()
    try:
        yield behind, proxy
    finally:
        await asyncio.to_thread(proxy.close)
        server.close()
        await server.wait_closed()


@case(
    "Y3",
    "TLS: an unknown authority, an expired certificate and a wrong host name are refused; no downgrade",
    group="Security",
    tier="fault",
    network=True,
)
async def y3(t: Trial) -> None:
    """Y3: TLS: an unknown authority, an expired certificate and a wrong host name are refused; no downgrade.

    A server with the right certificate is taken, so what is refused is refused for its certificate. Nothing is told to
    a refused one, nor in clear to one that speaks none. A target without TLS refuses its scheme with an `s`. Catches a
    context that verifies nothing, a host name that is not checked, and a client that goes on without TLS.
    """
    certificates = t.harness.certificates()
    if not certificates:
        with raises(ConfigError, "TLS where there is none"):
            t.connect(f"{URL.parse(t.url()).scheme}s://localhost:1")
        return
    queue = t.queue()
    await converses(t, t.url(tls=True), queue)
    async with front(t, certificates["server"]) as (behind, proxy):
        await converses(t, t.url(tls=True, through=proxy), queue)
        assert behind.heard, "the broker was reached by another way"
    for name in STRANGERS:
        async with front(t, certificates[name]) as (behind, proxy):
            await is_refused(t, proxy, name)
            assert not behind.heard, f"a server whose certificate is {name} was told {behind.heard[:50]!r}"
    clear = t.proxy()
    await is_refused(t, clear, "none at all")
    password = URL.parse(t.url(tls=True)).password
    assert password is None or password.reveal().encode() not in clear.overheard
    await t.counts(queue, total=0)


async def converses(t: Trial, url: str, queue: str) -> None:
    """Send and receive over TLS."""
    ways = Ways(t)
    async with t.connect(url, hooks=[ways]) as client:
        await client.send(queue, b"in private")
        async with client.consumer(queue) as messages:
            (message,) = await messages.receive()
            assert message.body == b"in private"
            await message.ack()
    assert not ways.lost


async def is_refused(t: Trial, proxy: Proxy, certificate: str) -> None:
    """Connect, which must fail at once for the certificate."""
    before = proxy.connections
    with raises(TransportError, f"a server whose certificate is {certificate}") as caught:
        async with asyncio.timeout(30), t.connect(t.url(tls=True, through=proxy), connect_timeout=20.0):
            pass
    assert proxy.connections == before + 1, "it was tried again"
    assert caught.error.__cause__ is not None
