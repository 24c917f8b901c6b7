"""Endpoints: what answers at a host and port, or does not, or lets nobody in. Where a target has a network."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed, Error, Feature, QueueError, SendError
from anyqueue.testing.acts import running
from anyqueue.testing.case import case
from anyqueue.testing.load import Ways, loaded
from anyqueue.testing.proxy import Proxy
from anyqueue.testing.raising import raises
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyqueue import Message
    from anyqueue.testing.trial import Trial

DEADLINE: Final = 3.0
RESUMES: Final = 2.0
QUIET: Final = 0.6
"""Seconds in which a client that must not try again would have."""
Answer = bytes | None
"""What an endpoint says to whoever connects, and hangs up; None: it says nothing, for ever."""
ENDPOINTS: Final[dict[str, Answer]] = {
    "silent": None,
    "hanging up at once": b"",
    "speaking HTTP": b"HTTP/1.1 400 Bad Request\r\nServer: other\r\nContent-Length: 11\r\n\r\nBad Request",
    "speaking SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "speaking noise": bytes(range(256)) * 64,
}


@contextlib.asynccontextmanager
async def endpoint(answer: Answer) -> AsyncIterator[Proxy]:
    """Listen as something that is no broker, behind a proxy that counts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if answer is None:
                while await reader.read(65536):
                    pass
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
    proxy.start()
    try:
        yield proxy
    finally:
        await asyncio.to_thread(proxy.close)
        server.close()
        await server.wait_closed()


@case(
    "C3",
    "an endpoint that is closed, silent, no broker or hangs up midway: ConnectFailed by its deadline, and where",
    group="Connect",
    tier="fault",
    network=True,
)
async def c3(t: Trial) -> None:
    """C3: an endpoint that is closed, silent, no broker or hangs up midway: ConnectFailed by its deadline, and where.

    It names the host and port and keeps the cause, and no second attempt is made. Catches a connect without a deadline,
    the client library's own errors let through, and a broken handshake that is taken for a refused password.
    """
    proxy = t.proxy()
    for sentence, answer in ENDPOINTS.items():
        async with endpoint(answer) as other:
            await fails(t, other, sentence)
    async with t.connect(t.url(through=proxy), connect_timeout=DEADLINE):
        said = proxy.bytes["down"]
    for _ in range(8):
        byte = t.random.randrange(said)
        proxy.cut_after(byte, "down")
        await fails(t, proxy, f"cut after byte {byte} of {said}", may_be_over=byte >= said // 2)
        proxy.heal()
    proxy.hold("down")
    await fails(t, proxy, "a broker that does not answer")
    proxy.heal()
    proxy.refuse()
    await fails(t, proxy, "closed")


async def fails(t: Trial, proxy: Proxy, sentence: str, *, may_be_over: bool = False) -> None:
    """Connect, which must fail once, by its deadline, with an error that helps; unless the handshake may be over."""
    watch, before = Stopwatch(), proxy.connections
    error = await outcome(lambda: connected(t, proxy))
    if error is None and may_be_over:
        return
    assert isinstance(error, ConnectFailed), f"{sentence}: {error!r} instead of ConnectFailed"
    watch.within(DEADLINE + 1.0, sentence)
    assert proxy.connections - before <= 1, f"{sentence}: {proxy.connections - before} attempts"
    assert str(proxy.port) in str(error), f"{sentence}: {error} does not name the port"
    assert error.__cause__ is not None, f"{sentence}: {error} has lost its cause"


async def connected(t: Trial, proxy: Proxy) -> None:
    """Connect, and hang up."""
    async with t.connect(t.url(through=proxy), connect_timeout=DEADLINE):
        pass


@case(
    "C6",
    "several hosts in a URL: the first that answers, at the first connect and at every other",
    group="Connect",
    needs=Feature.CONFIRM | Feature.REDELIVER,
    tier="fault",
    network=True,
)
async def c6(t: Trial) -> None:
    """C6: several hosts in a URL: the first that answers, at the first connect and at every other.

    Catches a driver that knows one host, one that stays with the host that is down, and one that waits its whole
    deadline for a host that is silent while others answer.
    """
    first, second, queue = t.proxy(), t.proxy(), t.queue()
    hosts = [host for proxy in (first, second) for host in URL.parse(t.url(through=proxy)).hosts]
    url = dataclasses.replace(URL.parse(t.url(through=first)), hosts=tuple(hosts)).reveal()
    first.refuse()
    async with t.connect() as beside, loaded(t, queue, url, senders=0) as load:
        assert second.connections
        await load.hears(beside, b"by the second")
        for number, (up, down) in enumerate(((first, second), (second, first), (first, second))):
            t.history.ended()
            up.accept()
            down.refuse()
            down.cut(t.random.choice(("rst", "fin")))
            await load.hears(beside, b"moved %d" % number, RESUMES)
            await t.history.send(load.client, queue, b"sent %d" % number)
    second.heal()
    first.heal()
    first.hold("down")
    async with t.connect(url) as client:
        await t.history.send(client, queue, b"past the silent one")
        await t.drain(client, queue)
    first.heal()
    for proxy in (first, second):
        proxy.refuse()
    with raises(ConnectFailed, "several hosts, all closed") as caught:
        async with t.connect(url, connect_timeout=5.0):
            pass
    assert all(str(proxy.port) in str(caught) for proxy in (first, second)), f"{caught} does not name the hosts"
    t.history.prove()


@case(
    "Y1",
    "bad credentials: one attempt, and AuthFailed; also when they have become bad",
    group="Security",
    tier="fault",
    network=True,
)
async def y1(t: Trial) -> None:
    """Y1: bad credentials: one attempt, and AuthFailed; also when they have become bad.

    Counted by the connections that were made. A broker that knows no users refuses them before any. Catches a driver
    that tries again until the account is locked, and one that takes a refusal for a lost connection.
    """
    proxy, queue = t.proxy(), t.queue()
    wrong = URL.parse(t.url(through=proxy, credentials="wrong"))
    refused = await outcome(lambda: opened(t, wrong))
    if isinstance(refused, ConfigError):
        assert not proxy.connections
        return
    assert isinstance(refused, AuthFailed), f"a wrong password: {refused!r} instead of AuthFailed"
    assert secret(wrong)[1] not in str(refused).replace("is wrong", "")
    await settled(proxy, 1)
    with raises(AuthFailed, "a consumer whose password is good no more"):
        await become_bad(t, proxy, queue, [secret(URL.parse(t.url())), secret(wrong)])


def secret(url: URL) -> tuple[str, str]:
    """Return the user and the password."""
    assert url.username is not None
    assert url.password is not None
    return url.username, url.password.reveal()


async def opened(t: Trial, url: URL) -> None:
    """Connect, and hang up."""
    async with t.connect(url.reveal()):
        pass


async def become_bad(t: Trial, proxy: Proxy, queue: str, known: list[tuple[str, str]]) -> None:
    """Reconnect with a password that is good no more: whoever waits is told, and nobody tries again."""
    calls = 0

    def credentials() -> tuple[str, str]:
        nonlocal calls
        calls += 1
        return known[0] if calls <= 2 else known[1]

    consuming = asyncio.Event()

    async def handle(message: Message) -> None:
        del message
        consuming.set()

    async with t.connect(t.url(through=proxy), credentials=credentials) as client:
        await client.send(queue, b"before")
        async with running(client, queue, handle):
            await t.eventually(consuming.is_set)
            assert calls == 2
            made = proxy.connections
            proxy.cut()
            with raises(SendError, "a send with a password that is good no more") as caught:
                await client.send(queue, b"after")
            assert isinstance(caught.error.__cause__, AuthFailed)
            await t.eventually(lambda: calls == 4, what="both connections have asked for a password again")
            await settled(proxy, made + 2)


async def settled(proxy: Proxy, connections: int) -> None:
    """Prove that so many connections were made, and that no more are."""
    await asyncio.sleep(QUIET)  # an absence that nothing else can show
    assert proxy.connections == connections, f"{proxy.connections} attempts instead of {connections}"


@case(
    "Y4",
    "a forbidden destination: an error that says so, and the connection lives",
    group="Security",
    tier="fault",
    network=True,
)
async def y4(t: Trial) -> None:
    """Y4: a forbidden destination: an error that says so, at once, and the connection lives.

    Sending to it and consuming it are refused; what is allowed goes on over the same connection. Where the broker knows
    no permissions there is nothing to forbid. Catches a driver that reconnects for ever, and one whose other messages
    are lost with the refused one.
    """
    forbidden = await t.harness.forbidden()
    if forbidden is None:
        return
    ways = Ways(t)
    async with t.connect(forbidden.url, hooks=[ways]) as client, client.consumer(forbidden.allowed) as messages:
        for number in range(3):
            sends = [client.send(forbidden.allowed, b"%d" % number), client.send(forbidden.queue, b"never")]
            async with asyncio.timeout(30):
                allowed, refused = await asyncio.gather(*sends, return_exceptions=True)
            assert isinstance(allowed, str), f"what is allowed ended with {allowed!r}"
            told(refused, forbidden.queue)
            async with asyncio.timeout(30):
                told(await outcome(lambda: consumed(t, forbidden.url, forbidden.queue)), forbidden.queue)
                (message,) = await messages.receive()
                await message.ack()
    assert not ways.lost, "the connection was lost"
    assert len(ways.connected) == 2
    await t.counts(forbidden.queue, total=0)
    await t.foreign.delete(forbidden.allowed)


async def consumed(t: Trial, url: str, queue: str) -> None:
    """Consume a queue by a client of its own: its refusal must be the consumer's alone."""
    async with t.connect(url) as client, client.consumer(queue):
        pass


async def outcome(act: Callable[[], Awaitable[object]]) -> object:
    """Return what an act returns or raises."""
    (found,) = await asyncio.gather(act(), return_exceptions=True)
    return found


def told(error: object, queue: str) -> None:
    """Prove that an error is one of ours that says what was refused."""
    assert isinstance(error, SendError | QueueError), f"a forbidden queue ended with {error!r}"
    assert not getattr(error, "unknown", False), f"{error} does not know whether it was refused"
    assert isinstance(error, Error)
    assert queue in str(error), f"{error} does not name the queue"
