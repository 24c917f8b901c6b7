"""Outages: the broker itself is away or frozen, and comes back on the same data.

Where a target has a network and a process of its own for the broker.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

from anyqueue import Error, Feature, SendError
from anyqueue.testing.case import case
from anyqueue.testing.load import loaded
from anyqueue.testing.stopwatch import LATE, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue import Client
    from anyqueue.testing.proxy import Proxy
    from anyqueue.testing.trial import Trial

NEEDS: Final = Feature.CONFIRM | Feature.REDELIVER | Feature.DURABLE
RESUMES: Final = 2.0
"""Seconds after the broker answers again in which a client is consuming."""
IDLE: Final = 0.05
"""Of one processor: what a client may use that has nothing to do but to try again."""
ROOM: Final = 32 * 1024 * 1024
"""Bytes that a client may grow by whose broker is away."""
TIMEOUTS: Final[dict[str, Any]] = {
    "connect_timeout": 1.0,
    "send_timeout": 1.0,
    "settle_timeout": 1.0,
    "drain_timeout": 1.0,
}
TRIES: Final = 10
"""Attempts to connect, of one connection, in a second."""


@case(
    "N7",
    "the broker is down: sends raise by their timeout, nothing piles up, attempts are few; then all goes on",
    group="Reconnect",
    needs=NEEDS,
    tier="fault",
    network=True,
)
async def n7(t: Trial) -> None:
    """N7: the broker is down: sends raise by their timeout, nothing piles up, attempts are few; then all goes on.

    Within two seconds of the broker answering, both connections are there again and the consumer consumes. Catches a
    send without a deadline, a buffer without a bound, a loop without a pause, a backoff without jitter or without end.
    """
    broker, proxy, queue = t.broker, t.proxy(), t.queue()
    async with loaded(t, queue, t.url(through=proxy), senders=0, send_timeout=1.0) as load:
        await t.history.send(load.client, queue, b"before")
        await t.eventually(lambda: load.taken == 1)
        t.history.ended()
        await asyncio.to_thread(t.random.choice((broker.kill, broker.stop)))
        await raise_in_time(t, load.client, queue)
        await pile_up(load.client, queue)
        await rests(t, proxy)
        connected = len(load.ways.connected)
        await asyncio.to_thread(broker.start)
        watch = Stopwatch()
        async with t.connect() as beside:
            await load.hears(beside, b"after", RESUMES)
        # Either may be the later one, and a send waits for its own connection no longer than its timeout.
        await t.eventually(lambda: len(load.ways.connected) >= connected + 2, what="both are connected")
        await t.history.send(load.client, queue, b"sent after")
        late = max(load.ways.connected[connected:], default=watch.begun) - watch.begun
        assert late <= RESUMES + watch.lost, f"connected {late:.2f} s after the broker answered"
    t.history.prove()


async def raise_in_time(t: Trial, client: Client, queue: str) -> None:
    """Send into nothing; each send must fail by its deadline, however many there are."""
    watch = Stopwatch()
    sends = [t.history.send(client, queue, b"lost", who=f"s{number}") for number in range(200)]
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(outcome, SendError), f"a send without a broker ended with {outcome!r}"
    watch.within(2.0, "sends with a timeout of 1 s")


async def pile_up(client: Client, queue: str) -> None:
    """Send and send: what was given up must not be kept."""
    end = time.monotonic() + 1.0

    async def press() -> None:
        while time.monotonic() < end:
            await asyncio.gather(*(client.send(queue, bytes(256 * 1024)) for _ in range(8)), return_exceptions=True)

    tracemalloc.start()
    try:
        await asyncio.gather(press(), press())
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < ROOM, f"{kept:,} bytes are kept of sends that have failed"


async def rests(t: Trial, proxy: Proxy) -> None:
    """Measure for a while what a client does whose broker is away: it tries again, seldom, and never in step."""
    seconds = t.random.uniform(1.5, 2.5)
    tries, used = proxy.connections, time.process_time()
    await asyncio.sleep(seconds)  # the window of the measurement
    used = time.process_time() - used
    tries = proxy.connections - tries
    assert used / seconds < IDLE, f"{used:.2f} s of processor in {seconds:.1f} s: it does not rest"
    assert 1 <= tries <= 2 * TRIES * seconds, f"{tries} attempts of two connections in {seconds:.1f} s"
    moments = list(proxy.moments)[-tries:]
    gaps = {round(later - earlier, 2) for earlier, later in itertools.pairwise(moments)}
    assert tries < 4 or len(gaps) > 1, f"{tries} attempts, each {gaps} s after the one before: no jitter"


@case(
    "Q4b",
    "a frozen broker: every call ends by its deadline, and when it thaws all goes on",
    group="Flow",
    needs=NEEDS,
    tier="fault",
    network=True,
)
async def q4b(t: Trial) -> None:
    """Q4b: a frozen broker (SIGSTOP): every call ends by its deadline, and when it thaws all goes on.

    Its sockets are open and its kernel answers; it does not. Catches a call without a deadline: connect, send, settle,
    consume, count, close.
    """
    broker, queue, held = t.broker, t.queue(), t.queue()
    async with t.connect() as client:
        await t.history.send(client, held, b"held")
    async with loaded(t, queue, senders=1, **TIMEOUTS) as load, t.connect(**TIMEOUTS) as other:
        await load.moved(5)
        async with other.consumer(held, dead_letter=None) as messages:
            (message,) = await messages.receive()
            t.history.took(message, "holder")
            t.history.ended()
            await asyncio.to_thread(broker.pause)
            try:
                await end_in_time(t, other, queue, lambda: t.history.ack(message))
            finally:
                await asyncio.to_thread(broker.resume)
            t.history.ended()
        await load.moved(5)
    async with t.connect() as client:
        for each in (queue, held):
            await t.drain(client, each)
    t.history.prove()


async def end_in_time(t: Trial, client: Client, queue: str, ack: Callable[[], Awaitable[None]]) -> None:
    """Make every call there is; each ends by its deadline, and those that need an answer with an error of ours."""

    async def opened() -> None:
        async with t.connect(connect_timeout=1.0):
            pass

    async def consumed() -> None:
        async with asyncio.timeout(1.0), client.consumer(t.queue()):
            pass

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "send": lambda: t.history.send(client, queue, b"into the ice", who="frozen"),
        "connect": opened,
        "consume": consumed,
    }
    if t.has(Feature.COUNT):
        calls["depth"] = lambda: client.depth(queue)
    answered = await asyncio.gather(in_time("ack", ack), *(in_time(name, call) for name, call in calls.items()))
    assert answered[1:] == [False] * len(calls), f"a frozen broker answered one of {', '.join(calls)}"


async def in_time(name: str, call: Callable[[], Awaitable[object]]) -> bool:
    """Make a call that ends by its deadline of a second; say whether it worked."""
    watch = Stopwatch()
    try:
        async with asyncio.timeout(3.0 + LATE):
            await call()
    except (Error, TimeoutError):
        worked = False
    else:
        worked = True
    watch.within(3.0, f"{name} at a frozen broker, with a deadline of 1 s,")
    return worked
