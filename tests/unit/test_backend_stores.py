"""What both backends on a store do, driven through the driver's own contract.

This file is longer than others: it follows driver.py method by method.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from anyqueue.backends.memory import MemoryDriver
from anyqueue.backends.sqlite import SqliteDriver
from anyqueue.driver import ACCEPT, BatchSettleFailed, Envelope, Feature, Queue, Reject, Release, Spec, Topic
from anyqueue.errors import Closed, ConnectionLost, QueueNotFound
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.url import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from anyqueue.driver import Delivery, Driver, Subscription

    Make = Callable[[], Driver]

Q = Queue("q")
T = Topic("t")
DEAD = Queue("q.dead")


@pytest.fixture(params=["memory", "memory-as-sqlite", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a maker of unopened drivers that share their queues."""
    urls = {
        "memory": f"memory://{uuid4().hex}",
        "memory-as-sqlite": f"memory://{uuid4().hex}?as=sqlite&lease=2",
        "sqlite": f"sqlite:///{tmp_path}/q.db?lease=2&durability=process",
    }
    url = URL.parse(urls[request.param])
    return lambda: (SqliteDriver if url.scheme == "sqlite" else MemoryDriver).from_url(url)


@pytest.fixture
async def driver(make: Make) -> AsyncIterator[Driver]:
    """Return an open driver."""
    driver = make()
    await driver.open()
    yield driver
    await driver.close()


def some(number: int, **given: object) -> list[Envelope]:
    return [Envelope(id=str(index), body=b"%d" % index, **given) for index in range(number)]  # type: ignore[arg-type]  # as given


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


async def turn() -> None:
    """Let what is scheduled run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def take(subscription: Subscription, number: int) -> list[Delivery]:
    """Receive exactly this many."""
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < number:
            taken += await subscription.receive(number - len(taken))
    return taken


async def test_a_batch_arrives_once_in_order_and_whole(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    sent = [
        Envelope(id="a", body=b"\0\xff", headers={"k": "v\n"}, content_type="t", correlation_id="c", reply_to="r"),
        *some(99, timestamp=1.5),
    ]
    await driver.send(Q, sent)
    got = await take(subscription, 100)
    assert [delivery.envelope for delivery in got] == sent
    assert {(delivery.attempt, delivery.redelivered) for delivery in got} == {(1, False)}
    await subscription.settle([(delivery, ACCEPT) for delivery in got])
    assert (await driver.depth(Q)).total == 0


async def test_a_waiting_receive_is_woken_by_a_send(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(take(subscription, 1))
    await turn()
    await driver.send(Q, some(1))
    assert ids(await waiting) == ["0"]


async def test_a_cancelled_receive_loses_nothing(driver: Driver) -> None:
    """Cancelled at whatever moment, what was claimed is returned by the next call, in order."""
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(50))
    got: list[Delivery] = []
    for turns in range(200):
        task = asyncio.ensure_future(subscription.receive(2))
        for _ in range(turns % 7):
            await asyncio.sleep(0)
        task.cancel()
        try:
            got += await task
        except asyncio.CancelledError:
            continue
    got += await take(subscription, 50 - len(got))
    assert ids(got) == [str(index) for index in range(50)]
    assert {delivery.attempt for delivery in got} == {1}


async def test_close_gives_back_uncounted(make: Make, driver: Driver) -> None:
    """What is unsettled at close comes back at once, first, redelivered, and as no attempt."""
    first = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(4))
    held = await take(first, 2)
    other = make()
    await other.open()
    second = await other.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(take(second, 4))
    await turn()
    await first.close()
    await first.close()
    got = await waiting
    assert {one.envelope.id: (one.attempt, one.redelivered) for one in got} == {
        "0": (1, True),
        "1": (1, True),
        "2": (1, False),
        "3": (1, False),
    }
    with pytest.raises(Closed):
        await first.settle([(held[0], ACCEPT)])
    await other.close()


async def test_release_now_keeps_the_place_and_counts_as_asked(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(3))
    a, b = await take(subscription, 2)
    await subscription.settle([(b, Release(failed_at=7.0)), (a, Release())])
    got = await take(subscription, 3)
    assert ids(got) == ["0", "1", "2"]
    assert [(one.attempt, one.first_failure) for one in got] == [(1, None), (2, 7.0), (1, None)]
    await subscription.settle([(got[1], Release(failed_at=9.0))])
    (again,) = await take(subscription, 1)
    assert (again.attempt, again.first_failure, again.redelivered) == (3, 7.0, True)


async def test_release_later_is_not_early(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(1))
    (delivery,) = await take(subscription, 1)
    watch, before = Stopwatch(), time.time()
    await subscription.settle([(delivery, Release(delay=0.15, failed_at=before))])
    assert (await driver.depth(Q)).delayed == 1
    await take(subscription, 1)
    assert time.time() >= before + 0.15
    watch.within(1)


async def test_delays_are_independent_and_never_early(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    watch, now = Stopwatch(), time.time()
    await driver.send(Q, [Envelope(id="late", body=b"", not_before=now + 60)])
    await driver.send(Q, [Envelope(id="soon", body=b"", not_before=now + 0.1)])
    assert ids(await take(subscription, 1)) == ["soon"]
    assert time.time() >= now + 0.1
    watch.within(1)
    assert (await driver.depth(Q)).delayed == 1


async def test_a_send_with_a_shorter_delay_moves_the_alarm(driver: Driver) -> None:
    """A receive that sleeps until a far time wakes for a nearer one."""
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, [Envelope(id="late", body=b"", not_before=time.time() + 60)])
    waiting = asyncio.create_task(take(subscription, 1))
    await turn()
    await driver.send(Q, [Envelope(id="soon", body=b"", not_before=time.time() + 0.1)])
    assert ids(await waiting) == ["soon"]


async def test_priority_then_order(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    levels = [0, None, 9, 4, 5, 9, 3]
    await driver.send(Q, [Envelope(id=str(index), body=b"", priority=level) for index, level in enumerate(levels)])
    assert ids(await take(subscription, 7)) == ["2", "5", "4", "1", "3", "6", "0"]


async def test_expired_is_dead_lettered_while_somebody_waits(driver: Driver) -> None:
    """Also behind one that is not expired; never delivered, never counted as ready."""
    subscription = await driver.subscribe(Spec(address=Q, dead_letter=DEAD))
    past = time.time() - 1
    await driver.send(
        Q,
        [
            Envelope(id="fresh", body=b"", expires_at=past + 60),
            Envelope(id="stale", body=b"x", headers={"k": "v"}, expires_at=past),
        ],
    )
    assert (await driver.depth(Q)).ready == 1
    assert [one.id for one in await driver.browse(Q, 9)] == ["fresh"]
    assert ids(await take(subscription, 1)) == ["fresh"]
    (dead,) = await driver.browse(DEAD, 9)
    assert (dead.id, dead.body, dead.expires_at) == ("stale", b"x", None)
    assert dead.headers == {"k": "v", "aq-death-reason": "expired", "aq-death-origin": "q"}


async def test_reject_moves_in_one_step(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q, dead_letter=DEAD))
    assert subscription.dead_letters
    await driver.send(Q, [Envelope(id="x", body=b"b", headers={"a": "1"}, priority=7)])
    (delivery,) = await take(subscription, 1)
    await subscription.settle([(delivery, Reject("bad", {"aq-why": "bad"}))])
    assert (await driver.depth(Q)).total == 0
    dead = await driver.subscribe(Spec(address=DEAD))
    (got,) = await take(dead, 1)
    assert got.envelope == Envelope(id="x", body=b"b", headers={"a": "1", "aq-why": "bad"}, priority=7)
    assert (got.attempt, got.redelivered) == (1, False)


async def test_reject_without_dead_letters_is_gone(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    assert not subscription.dead_letters
    await driver.send(Q, some(1))
    (delivery,) = await take(subscription, 1)
    await subscription.settle([(delivery, Reject("bad"))])
    assert [depth.total for _, depth in await driver.queues()] == [0]


async def test_a_second_settlement_fails_alone(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(3))
    a, b, c = await take(subscription, 3)
    await subscription.settle([(b, ACCEPT)])
    with pytest.raises(BatchSettleFailed) as caught:
        await subscription.settle([(a, ACCEPT), (b, Release()), (c, ACCEPT)])
    assert list(caught.value.failures) == [1]
    assert (await driver.depth(Q)).total == 0


async def test_leases_end_and_are_extended(driver: Driver) -> None:
    """What is not extended comes back counted; its first holder can no longer settle it."""
    if Feature.LEASE not in driver.features:
        with pytest.raises(Exception, match="LEASE"):
            await (await driver.subscribe(Spec(address=Q))).extend([])
        return
    first = await driver.subscribe(Spec(address=Q))
    second = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, some(2))
    a, b = await take(first, 2)
    waiting = asyncio.create_task(take(second, 1))
    for _ in range(5):
        await asyncio.sleep(0.5)
        assert list(await first.extend([a])) == []
    (again,) = await waiting
    assert (again.envelope.id, again.attempt, again.redelivered) == ("1", 2, True)
    assert list(await first.extend([a, b])) == [b]
    with pytest.raises(BatchSettleFailed) as caught:
        await first.settle([(a, ACCEPT), (b, ACCEPT)])
    assert list(caught.value.failures) == [1]
    await second.settle([(again, ACCEPT)])
    assert (await driver.depth(Q)).total == 0


async def test_every_group_gets_every_message(driver: Driver) -> None:
    await driver.send(T, some(1))
    durable = await driver.subscribe(Spec(address=T, group="g"))
    passing = await driver.subscribe(Spec(address=T))
    twin = await driver.subscribe(Spec(address=T, group="g"))
    assert durable.home == twin.home != passing.home
    await driver.send(T, some(2))
    assert ids(await take(passing, 2)) == ["0", "1"]
    assert ids([*await take(durable, 1), *await take(twin, 1)]) == ["0", "1"]
    assert passing.home is not None
    await driver.send(passing.home, [Envelope(id="retry", body=b"")])
    assert ids(await take(passing, 1)) == ["retry"]
    await passing.close()
    assert [name for name, _ in await driver.queues()] == ["aq.group:t:g"]
    with pytest.raises(QueueNotFound):
        await driver.send(passing.home, some(1))
    await durable.close()
    await twin.close()
    await driver.send(T, [Envelope(id="meanwhile", body=b"")])
    back = await driver.subscribe(Spec(address=T, group="g"))
    assert "meanwhile" in ids(await take(back, 3))
    await driver.delete(Queue("aq.group:t:g"))
    await driver.send(T, some(1))
    assert list(await driver.queues()) == []


async def test_group_names_are_injective(driver: Driver) -> None:
    pairs = [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("*", "*"), ("é", "/ ")]
    homes = {(await driver.subscribe(Spec(address=Topic(topic), group=group))).home for topic, group in pairs}
    assert len(homes) == len(pairs)


async def test_deleting_a_queue_tells_who_waits(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(subscription.receive(1))
    await turn()
    await driver.delete(Q)
    with pytest.raises(QueueNotFound):
        await asyncio.wait_for(waiting, 30)


async def test_closing_the_driver_ends_a_waiting_receive(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    waiting = asyncio.create_task(subscription.receive(1))
    await turn()
    await driver.close()
    await driver.close()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(waiting, 30)
    for call in (driver.send(Q, some(1)), driver.depth(Q), driver.subscribe(Spec(address=Q)), subscription.receive(1)):
        with pytest.raises(Closed):
            await call


async def test_purge_leaves_what_is_held(driver: Driver) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, [*some(3), Envelope(id="later", body=b"", not_before=time.time() + 60)])
    (held,) = await take(subscription, 1)
    assert await driver.purge(Q) == 3
    assert (await driver.depth(Q)).total == (await driver.depth(Q)).held == 1
    await subscription.settle([(held, ACCEPT)])


async def test_competing_consumers_share_without_doubles(make: Make, driver: Driver) -> None:
    await driver.send(Q, some(500))
    got: list[str] = []

    async def consume() -> None:
        mine = make()
        await mine.open()
        try:
            subscription = await mine.subscribe(Spec(address=Q))
            while len(got) < 500:
                batch = await subscription.receive(7)
                got.extend(one.envelope.id for one in batch)
                await subscription.settle([(one, ACCEPT) for one in batch])
            done.set()
        finally:
            await mine.close()

    done = asyncio.Event()
    tasks = [asyncio.create_task(consume()) for _ in range(4)]
    await asyncio.wait_for(done.wait(), 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(got, key=int) == [str(index) for index in range(500)]
