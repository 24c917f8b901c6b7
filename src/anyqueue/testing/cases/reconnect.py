"""Reconnect: a connection that is lost is replaced, by itself, at once, and nothing is lost with it.

Each case puts the proxy between a client and the broker, and looks on through a client without one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

from anyqueue import Feature, SendError
from anyqueue.testing.acts import is_empty, running
from anyqueue.testing.case import case
from anyqueue.testing.load import DEAF, Ways, loaded
from anyqueue.testing.raising import raises
from anyqueue.testing.residue import leftover, snapshot
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Message
    from anyqueue.testing.load import Load
    from anyqueue.testing.proxy import Proxy
    from anyqueue.testing.proxy_faults import Direction
    from anyqueue.testing.residue import Snapshot
    from anyqueue.testing.trial import Trial

GROUP: Final = "Reconnect"
NEEDS: Final = Feature.CONFIRM | Feature.REDELIVER
RESUMES: Final = 2.0
"""Seconds after the broker answers again in which a client is consuming."""
HEARTBEAT: Final = 1.0
STALE: Final = 1.2
"""Seconds after which a driver looks at a queue again before it sends, where one does."""
WAYS: Final[tuple[Direction, ...]] = ("up", "down")


@case(
    "N1",
    "cut while idle and while blocked: both resume, within two seconds of the broker answering again",
    group=GROUP,
    needs=NEEDS,
    tier="fault",
    network=True,
)
async def n1(t: Trial) -> None:
    """N1: cut while idle and while blocked: both resume, within two seconds of the broker answering again.

    Idle: nothing is under way. Blocked: the consumer holds all it may, and a send waits for its confirm. Catches a
    driver that never reconnects, one that does so only when it is next used, a consumer that is not subscribed anew.
    """
    proxy, idle, blocked = t.proxy(), t.queue(), t.queue()
    async with t.connect() as beside, loaded(t, idle, t.url(through=proxy), senders=0) as load:
        await load.hears(beside, b"before")
        for number in range(3):
            await away(t, proxy, "rst" if number % 2 else "fin")
            await load.hears(beside, b"idle %d" % number, RESUMES)
            await t.history.send(load.client, idle, b"sent %d" % number)
            assert not load.failed
    await saturated(t, proxy, blocked)
    t.history.prove()


async def away(t: Trial, proxy: Proxy, how: Literal["rst", "fin"]) -> None:
    """Cut every connection, and refuse new ones for a moment; return when they are taken again."""
    t.history.ended()
    proxy.refuse()
    proxy.cut(how)
    await asyncio.sleep(t.random.uniform(0.0, 0.6))  # how long a network is away, no readiness
    proxy.accept()


async def saturated(t: Trial, proxy: Proxy, queue: str) -> None:
    """Cut while a consumer holds its whole prefetch and a send waits; both go on."""
    handled: list[Message] = []
    go = asyncio.Event()

    async def handle(message: Message) -> None:
        handled.append(t.history.took(message, "blocked"))
        await go.wait()
        async with t.history.settling(message, "accept"):
            await message.ack()

    async with t.connect(t.url(through=proxy), hooks=[Ways(t)]) as client:
        for number in range(4):
            await t.history.send(client, queue, b"held %d" % number)
        async with running(client, queue, handle, concurrency=2, prefetch=2, dead_letter=None):
            await t.eventually(lambda: len(handled) == 2)
            proxy.hold("down")
            send = asyncio.create_task(t.history.send(client, queue, b"under way"))
            await t.eventually(arrived(t, queue, 5))
            await away(t, proxy, "rst")
            proxy.heal()
            await send
            go.set()
            await t.eventually(is_empty(t, queue), what="the consumer went on")
    t.history.ended("blocked")


def arrived(t: Trial, queue: str, count: int) -> Callable[[], Awaitable[bool]]:
    """Return the fact that the broker has so many messages in a queue."""

    async def fact() -> bool:
        return await t.total(queue) >= count

    return fact


@case(
    "N2",
    "cut between a send and its confirm: it is sent again with the same id, or raises SendError with `unknown`",
    group=GROUP,
    needs=NEEDS,
    tier="fault",
    network=True,
)
async def n2(t: Trial) -> None:
    """N2: cut between a send and its confirm: it is sent again with the same id, or raises SendError with `unknown`.

    The confirms are held back until the broker has the messages. Catches a send that returns before its confirm, one
    that raises for what could be sent again, a copy under another id, and an unknown outcome told as a failure.
    """
    proxy, queue = t.proxy(), t.queue()
    async with t.connect(t.url(through=proxy), hooks=[Ways(t)]) as client:
        await t.history.send(client, queue, b"first")
        for number in range(4):
            count = t.random.randint(1, 6)
            before = await t.total(queue)
            proxy.hold("down")
            names = [f"sender {number} {twin}" for twin in range(count)]
            sends = [asyncio.create_task(t.history.send(client, queue, name.encode(), who=name)) for name in names]
            await t.eventually(arrived(t, queue, before + count))
            assert not any(send.done() for send in sends), "a send returned before its confirm"
            t.history.ended()
            proxy.cut()
            proxy.heal()
            await asyncio.gather(*sends)
    lost = await unconfirmed(t, proxy, queue)
    async with t.connect() as client:
        drained = await t.drain(client, queue)
    copies = [message.id for message in drained]
    assert max(map(copies.count, copies)) <= 2
    assert lost in copies
    t.history.prove()


async def unconfirmed(t: Trial, proxy: Proxy, queue: str) -> str:
    """Send what the broker takes and never confirms; return its id."""
    async with t.connect(t.url(through=proxy), send_timeout=4.0, hooks=[Ways(t)]) as client:
        await t.history.send(client, queue, b"confirmed")
        before = await t.total(queue)
        proxy.hold("down")
        send = asyncio.create_task(t.history.send(client, queue, b"unconfirmed", id=f"{queue}-unconfirmed"))
        await t.eventually(arrived(t, queue, before + 1))
        t.history.ended()
        proxy.refuse()
        proxy.cut()
        with raises(SendError, "a send that was never confirmed") as caught:
            await send
        assert caught.error.unknown, f"the broker has it, and the error does not say so: {caught}"
        assert caught.error.hint
        proxy.heal()
    return f"{queue}-unconfirmed"


@case("N3", "a half-open connection is noticed within two heartbeats", group=GROUP, tier="fault", network=True)
async def n3(t: Trial) -> None:
    """N3: a half-open connection is noticed within two heartbeats, and replaced.

    One whose bytes are swallowed in both directions, or only those that come. Where only what the client sends is
    swallowed it cannot know; the broker ends the connection. Catches a driver that trusts its socket.
    """
    await asyncio.gather(half_open(t, "both"), half_open(t, "down"), half_open(t, "up"))
    t.history.prove()


async def half_open(t: Trial, direction: Literal["up", "down", "both"]) -> None:
    """Swallow a client's bytes; its two connections must be found lost."""
    proxy, queue = t.proxy(), t.queue()
    url = t.url(through=proxy, **t.harness.heartbeat(HEARTBEAT))
    async with t.connect() as beside, loaded(t, queue, url, senders=0) as load:
        await t.history.send(load.client, queue, b"first")
        await load.hears(beside, b"before")
        await asyncio.sleep(STALE)  # a span of the case's own, no readiness
        t.history.ended()
        before = len(load.ways.lost)
        proxy.blackhole(direction)
        watch = Stopwatch()
        send = asyncio.create_task(t.history.send(load.client, queue, b"into the hole"))
        await t.eventually(lambda: len(load.ways.lost) >= before + 2, what=f"half-open ({direction}) was noticed")
        watch.within((10 if direction == "up" else 2) * HEARTBEAT, f"half-open ({direction}) to be noticed")
        proxy.heal()
        await load.hears(beside, b"after")
        await send


@case(
    "N5",
    "a fault during the recovery from a fault: never connected but deaf",
    group=GROUP,
    needs=NEEDS,
    tier="fault",
    network=True,
)
async def n5(t: Trial) -> None:
    """N5: a fault during the recovery from a fault: never connected but deaf.

    The connections are cut, and then the recovery is: at a drawn byte of the handshake or of the subscribing; by a
    network that swallows it, for less or more than a connect may take; by one that refuses. Each time a message that
    somebody else sends must come, and one of its own must go. Catches a driver that is connected but not subscribed,
    and one that takes a handshake that was cut for a refusal of its password.
    """
    proxy, queue = t.proxy(), t.queue()
    async with t.connect() as beside, loaded(t, queue, t.url(through=proxy), senders=0, connect_timeout=1.0) as load:
        await t.history.send(load.client, queue, b"first")
        await load.hears(beside, b"before")
        recovery = dict(proxy.bytes)
        for number in range(10):
            await disturb(t, proxy, recovery, number)
            await load.hears(beside, b"round %d" % number)
            await t.history.send(load.client, queue, b"sent %d" % number)
    t.history.prove()


async def disturb(t: Trial, proxy: Proxy, recovery: dict[Direction, int], number: int) -> None:
    """Cut, and disturb what comes after it."""
    t.history.ended()
    match number % 5:
        case 0 | 1 | 2:
            direction: Direction = t.random.choice(WAYS)
            proxy.cut()
            proxy.cut_after(t.random.randint(0, recovery[direction]), direction)
            await asyncio.sleep(t.random.uniform(0.0, 0.2))
        case 3:
            proxy.blackhole(t.random.choice(("both", "down", "up")))
            proxy.cut()
            await asyncio.sleep(t.random.choice((0.2, 1.3)))
            proxy.heal()
        case _:
            proxy.refuse()
            proxy.cut("fin")
            await asyncio.sleep(t.random.uniform(0.0, 0.5))
            proxy.accept()


@case(
    "N6", "20 cuts under load: nothing is lost, and nothing leaks", group=GROUP, needs=NEEDS, tier="fault", network=True
)
async def n6(t: Trial) -> None:
    """N6: 20 cuts under load: nothing is lost, and nothing leaks: no thread, task, descriptor or broker connection.

    At drawn moments and drawn bytes, with RST and with FIN, while two senders send and a consumer consumes. Catches a
    send that is dropped at a reconnect, a stale settlement that settles another message, a driver that is not closed.
    """
    proxy, queue = t.proxy(), t.queue()
    async with loaded(t, queue, t.url(through=proxy)) as load:
        await load.moved(20)
        before, tasks, connections = snapshot(), len(asyncio.all_tasks()), await t.harness.connections()
        for _ in range(20):
            await load.moved(t.random.randint(1, 15))
            await cut_somewhere(t, proxy, load)
        await load.moved(20)
        assert not load.failed, f"a send failed for all that its deadline was far: {load.failed[0]}"
        await t.eventually(lambda: not leaked(before), what="no thread, descriptor or child process is left")
        await t.eventually(lambda: len(asyncio.all_tasks()) <= tasks, what="no task is left")

        async def none_left() -> bool:
            return await t.harness.connections() <= connections

        await t.eventually(none_left, what="no connection is left")
    t.history.prove()


def leaked(before: Snapshot) -> list[str]:
    """Return what is left over, but for the loop's own pool of threads, which grows to its bound."""
    return [one for one in leftover(before) if not one.startswith("thread asyncio_")]


async def cut_somewhere(t: Trial, proxy: Proxy, load: Load) -> None:
    """Cut at once, or at a byte that is still to come; return when it is done."""
    lost = len(load.ways.lost)
    t.history.ended()
    if t.random.random() < 0.5:
        proxy.cut(t.random.choice(("rst", "fin")))
    else:
        proxy.cut_after(t.random.randint(0, 2000), t.random.choice(WAYS))
    await t.eventually(lambda: len(load.ways.lost) > lost, DEAF, "the cut was noticed")
    t.history.ended()
