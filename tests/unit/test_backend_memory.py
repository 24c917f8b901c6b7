"""memory:// alone: its URL, its doubles of weaker brokers, its rooms."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from anyqueue.backends.declared import DECLARED
from anyqueue.backends.memory import MemoryDriver
from anyqueue.driver import ACCEPT, Envelope, Feature, Queue, Reject, Release, Spec, Topic
from anyqueue.errors import Closed, ConfigError, Unsupported
from anyqueue.testing.stopwatch import Stopwatch
from anyqueue.url import URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Q = Queue("q")
ONE = [Envelope(id="1", body=b"")]


async def opened(options: str = "", name: str | None = None) -> MemoryDriver:
    """Return an open driver; on a room of its own where no name is given."""
    driver = MemoryDriver.from_url(URL.parse(f"memory://{name or uuid4().hex}{options}"))
    await driver.open()
    return driver


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> dict[str, Feature]:
    """Return profiles that each lack one feature of the whole."""
    whole = DECLARED["sqlite"]
    known = {f"no-{feature.name}": whole & ~feature for feature in Feature if feature in whole}
    monkeypatch.setattr("anyqueue.backends.memory.DECLARED", {**DECLARED, **known})
    return known


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("memory://x?as=nothing", "'nothing'.*known: .*memory.*weak"),
        ("memory://x?as=sqlite&lease=0", "lease"),
        ("memory://x?lease=-1", "lease"),
        ("memory://x?leese=1", "'leese'"),
        ("memory://x/path", "memory://NAME"),
        ("memory://x:5672", "memory://NAME"),
        ("memory://x,y", "memory://NAME"),
        ("memory://user@x", "memory://NAME"),
    ],
)
def test_a_wrong_url_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        MemoryDriver.from_url(URL.parse(url))


@pytest.mark.parametrize("profile", sorted(DECLARED))
async def test_a_double_declares_what_its_namesake_does(profile: str) -> None:
    driver = await opened(f"?as={profile}")
    assert driver.features == DECLARED[profile] & ~Feature.REPLY, "requests are made of queues here"
    assert (driver.limits.lease is not None) == (Feature.LEASE in driver.features)


async def test_names_and_profiles_are_apart_and_outlive_their_drivers() -> None:
    name = uuid4().hex
    first = await opened(name=name)
    await first.send(Q, ONE)
    await first.close()
    again, other = await opened(name=name), await opened("?as=sqlite", name)
    assert ((await again.depth(Q)).ready, (await other.depth(Q)).ready) == (1, 0)
    MemoryDriver.forget(name)
    assert (await (await opened(name=name)).depth(Q)).ready == 0


async def _settle(driver: MemoryDriver, release: Release) -> None:
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, ONE)
    (delivery,) = await subscription.receive(1)
    await subscription.settle([(delivery, release)])


async def _compete(driver: MemoryDriver) -> None:
    await driver.subscribe(Spec(address=Q))
    await driver.subscribe(Spec(address=Q))


async def _extend(driver: MemoryDriver) -> None:
    await (await driver.subscribe(Spec(address=Q))).extend([])


ASKS: dict[Feature, Callable[[MemoryDriver], Awaitable[object]]] = {
    Feature.DELAY: lambda driver: driver.send(Q, [*ONE, Envelope(id="2", body=b"", not_before=time.time() + 1)]),
    Feature.PRIORITY: lambda driver: driver.send(Q, [*ONE, Envelope(id="2", body=b"", priority=4)]),
    Feature.FANOUT: lambda driver: driver.send(Topic("t"), ONE),
    Feature.RELEASE: lambda driver: _settle(driver, Release()),
    Feature.RELEASE_DELAY: lambda driver: _settle(driver, Release(delay=1)),
    Feature.LEASE: _extend,
    Feature.INSPECT: lambda driver: driver.purge(Q),
    Feature.COUNT: lambda driver: driver.depth(Q),
    Feature.COMPETING: _compete,
}


@pytest.mark.parametrize("feature", ASKS, ids=lambda feature: feature.name)
async def test_what_a_double_lacks_is_refused(lacking: dict[str, Feature], feature: Feature) -> None:
    """The same question is answered by a double that has the feature, and refused by name where it is missing."""
    assert f"no-{feature.name}" in lacking
    await ASKS[feature](await opened("?as=sqlite"))
    with pytest.raises(Unsupported, match=str(feature.name)) as caught:
        await ASKS[feature](await opened(f"?as=no-{feature.name}"))
    assert caught.value.feature is feature


@pytest.mark.parametrize("feature", [Feature.DELAY, Feature.PRIORITY], ids=lambda feature: feature.name)
async def test_a_refused_batch_leaves_nothing(lacking: dict[str, Feature], feature: Feature) -> None:
    assert lacking
    driver = await opened(f"?as=no-{feature.name}")
    with pytest.raises(Unsupported):
        await ASKS[feature](driver)
    assert (await driver.depth(Q)).total == 0


async def test_without_redeliver_what_is_unsettled_at_close_is_lost(lacking: dict[str, Feature]) -> None:
    assert lacking
    driver = await opened("?as=no-REDELIVER")
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, ONE * 2)
    await subscription.receive(1)
    await subscription.close()
    depth = await driver.depth(Q)
    assert (depth.ready, depth.held) == (1, 0)


async def test_without_attempts_none_are_told(lacking: dict[str, Feature]) -> None:
    assert lacking
    driver = await opened("?as=no-ATTEMPTS")
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, ONE)
    (delivery,) = await subscription.receive(1)
    await subscription.settle([(delivery, Release(failed_at=1.0))])
    (again,) = await subscription.receive(1)
    assert [(one.attempt, one.redelivered) for one in (delivery, again)] == [(None, False), (None, True)]


async def test_without_expiry_expired_messages_are_delivered(lacking: dict[str, Feature]) -> None:
    assert lacking
    driver = await opened("?as=no-EXPIRY")
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, [Envelope(id="1", body=b"", expires_at=1.0)])
    assert [one.envelope.expires_at for one in await subscription.receive(1)] == [1.0]


async def test_without_dead_letters_reject_drops(lacking: dict[str, Feature]) -> None:
    assert lacking
    driver = await opened("?as=no-DEAD_LETTER")
    subscription = await driver.subscribe(Spec(address=Q, dead_letter=Queue("dead")))
    assert not subscription.dead_letters
    await driver.send(Q, ONE)
    (delivery,) = await subscription.receive(1)
    await subscription.settle([(delivery, Reject("no"))])
    assert [name for name, depth in await driver.queues()] == ["q"]


async def test_without_competing_the_queue_is_free_again_after_close(lacking: dict[str, Feature]) -> None:
    assert lacking
    driver = await opened("?as=no-COMPETING")
    for _ in range(2):
        subscription = await driver.subscribe(Spec(address=Q))
        await subscription.close()


async def test_the_weakest_still_carries_messages() -> None:
    driver = await opened("?as=weak")
    subscription = await driver.subscribe(Spec(address=Q))
    await driver.send(Q, ONE)
    (delivery,) = await subscription.receive(1)
    assert (delivery.attempt, delivery.redelivered) == (None, False)
    await subscription.settle([(delivery, ACCEPT)])


async def test_loops_of_several_threads_share_a_room() -> None:
    """A receive on one loop is woken by a send on another, both ways, without polling."""
    name = uuid4().hex
    rounds = 200

    async def play(mine: Queue, other: Queue, *, begin: bool) -> None:
        driver = await opened(name=name)
        subscription = await driver.subscribe(Spec(address=mine))
        if begin:
            await driver.send(other, ONE)
        for _ in range(rounds):
            (delivery,) = await subscription.receive(1)
            await subscription.settle([(delivery, ACCEPT)])
            await driver.send(other, ONE)
        await driver.close()

    thread = threading.Thread(target=lambda: asyncio.run(play(Queue("b"), Queue("a"), begin=False)))
    thread.start()
    async with asyncio.timeout(20):
        await play(Queue("a"), Queue("b"), begin=True)
    thread.join()


async def test_a_busy_receive_lets_the_loop_turn() -> None:
    """A consumer that never has to wait starves nobody."""
    driver = await opened()
    subscription = await driver.subscribe(Spec(address=Q))
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    watch = Stopwatch()
    while not stop.is_set():
        await driver.send(Q, ONE)
        await subscription.settle([(one, ACCEPT) for one in await subscription.receive(1)])
    watch.within(1)


async def test_a_fork_has_a_room_of_its_own() -> None:
    """In the child the parent's driver is refused, and a new one begins empty."""
    name = uuid4().hex
    driver = await opened(name=name)
    await driver.send(Q, ONE)
    assert forked(lambda: _in_child(driver, name)) == b"Closed 0"
    assert (await driver.depth(Q)).ready == 1


def forked(work: Callable[[], bytes]) -> bytes:
    """Return what `work` returns in a fork's child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, work())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


def _in_child(driver: MemoryDriver, name: str) -> bytes:
    """Run the coroutines by hand, for the loop is the parent's; nothing here waits."""
    try:
        driver.send(Q, ONE).send(None)
    except Closed as error:
        refused = type(error).__name__
    fresh = MemoryDriver.from_url(URL.parse(f"memory://{name}"))
    for step in (fresh.open(), fresh.depth(Q)):
        try:
            step.send(None)
        except StopIteration as done:
            depth = done.value
    return f"{refused} {depth.total}".encode()
