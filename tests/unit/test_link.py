"""Link: one live driver at a time, replaced when lost; producers and consumers over it.

The broker here is the real memory store, which outlives its drivers; the fault is injected in front of it: a cut
driver raises ConnectionLost from every call, before or after the call took effect.

This file is longer than others: the driver that can be cut in every way is part of it.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anyqueue
from anyqueue import (
    AuthFailed,
    Closed,
    ConnectFailed,
    ConnectionLost,
    Feature,
    Retry,
    SendError,
    SettleError,
    hooks,
    registry,
)
from anyqueue._link import MAX_BACKOFF, backoff
from anyqueue.backends.memory import MemoryDriver, MemorySubscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.driver import Address, Delivery, Envelope, Spec
    from anyqueue.store.room import Room

_names = itertools.count()


class CutDriver(MemoryDriver):
    """A memory driver whose connection can be cut."""

    live: ClassVar[list[CutDriver]] = []
    refuse: ClassVar[Exception | None] = None
    """What open() raises."""
    silent: ClassVar[bool] = False
    """open() and send() never answer."""
    cut_sends: ClassVar[int] = 0
    """How many sends take effect and then lose the connection."""
    cut_subscribes: ClassVar[int] = 0
    """How many times subscribe() loses the connection."""
    silent_subscribes: ClassVar[int] = 0
    """How many times subscribe() never answers."""
    is_cut = False

    async def open(self) -> None:
        """Open, refuse or stay silent."""
        if CutDriver.refuse is not None:
            raise CutDriver.refuse
        if CutDriver.silent:
            await asyncio.Event().wait()
        await super().open()
        CutDriver.live.append(self)

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Send, stay silent, or lose the connection after the send took effect."""
        if CutDriver.silent:
            await asyncio.Event().wait()
        await super().send(address, batch)
        if CutDriver.cut_sends:
            CutDriver.cut_sends -= 1
            raise ConnectionLost("cut after it was taken")

    async def subscribe(self, spec: Spec) -> MemorySubscription:
        """Subscribe, stay silent, or lose the connection."""
        if CutDriver.silent_subscribes:
            CutDriver.silent_subscribes -= 1
            await asyncio.Event().wait()
        if CutDriver.cut_subscribes:
            CutDriver.cut_subscribes -= 1
            self.is_cut = True
        self.room()
        subscription = await super().subscribe(spec)
        receive = subscription.receive

        async def over_this_connection(limit: int) -> Sequence[Delivery]:
            self.room()
            return await receive(limit)

        subscription.receive = over_this_connection  # type: ignore[method-assign]
        return subscription

    def room(self) -> Room:
        """Raise what a cut connection raises."""
        if self.is_cut:
            raise ConnectionLost("cut")
        return super().room()

    @classmethod
    async def cut(cls) -> None:
        """End every connection, as a broker's restart would."""
        drivers, cls.live = cls.live, []
        for driver in drivers:
            driver.is_cut = True
            await driver.close()


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(CutDriver, "live", [])
    monkeypatch.setattr(CutDriver, "refuse", None)
    monkeypatch.setattr(CutDriver, "silent", False)
    monkeypatch.setattr(CutDriver, "cut_sends", 0)
    monkeypatch.setattr(CutDriver, "cut_subscribes", 0)
    monkeypatch.setattr(CutDriver, "silent_subscribes", 0)
    monkeypatch.setattr(registry, "load", lambda _scheme: CutDriver)
    return f"memory://link-{next(_names)}"


@given(tries=st.integers(1, 10**6), chance=st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_under_a_bound(tries: int, chance: float) -> None:
    assert 0 <= backoff(tries, chance) <= min(MAX_BACKOFF, 0.1 * 2 ** min(tries, 20))


async def test_the_first_open_tries_once_and_raises(url: str) -> None:
    CutDriver.refuse = ConnectFailed("nobody listens", url=url)
    with pytest.raises(ConnectFailed, match="nobody listens"):
        async with anyqueue.connect(url):
            pytest.fail("it opened")


async def test_a_silent_broker_is_connect_failed_by_the_deadline(url: str) -> None:
    CutDriver.silent = True
    with pytest.raises(ConnectFailed, match=r"no answer within 0\.05 s"):
        async with anyqueue.connect(url, connect_timeout=0.05):
            pytest.fail("it opened")


async def test_a_client_whose_opening_is_cancelled_goes_on_opening_nothing(url: str) -> None:
    CutDriver.silent = True
    client = anyqueue.connect(url)
    entering = asyncio.create_task(client.__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_consumer_that_begins_while_its_client_closes_is_closed_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, subscribes, sends = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def subscribe(self: CutDriver, spec: Spec) -> MemorySubscription:
        begun.set()
        await subscribes.wait()
        return await MemoryDriver.subscribe(self, spec)

    async def send(self: CutDriver, address: Address, batch: Sequence[Envelope]) -> None:
        await sends.wait()
        await MemoryDriver.send(self, address, batch)

    monkeypatch.setattr(CutDriver, "subscribe", subscribe)
    monkeypatch.setattr(CutDriver, "send", send)
    client = anyqueue.connect(url)
    await client.open()
    sending = asyncio.create_task(client.send("other", b"is flushed while the client closes"))
    starting = asyncio.create_task(client.consumer("q").__aenter__())
    await begun.wait()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0.01)
    subscribes.set()
    with pytest.raises(Closed):
        await starting
    sends.set()
    await asyncio.gather(closing, sending)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_consumer_goes_on_after_twenty_cuts(url: str) -> None:
    seen: set[bytes] = set()

    async def handle(message: anyqueue.Message) -> None:
        seen.add(message.body)
        came.set()

    came = asyncio.Event()
    events: list[hooks.Event] = []
    async with anyqueue.connect(url, hooks=[events.append]) as client:
        consumer = client.consumer("jobs")
        running = asyncio.create_task(consumer.run(handle))
        for number in range(20):
            await client.send("jobs", str(number).encode())
            async with asyncio.timeout(10):
                while len(seen) <= number:
                    came.clear()
                    await came.wait()
            await CutDriver.cut()
        await client.send("jobs", b"last")
        async with asyncio.timeout(10):
            while b"last" not in seen:
                came.clear()
                await came.wait()
            while (await client.depth("jobs")).total:  # noqa: ASYNC110 -- one that was cut too often is handled later
                await asyncio.sleep(0.01)
        consumer.stop()
        await running
    assert any(isinstance(event, hooks.Disconnected) for event in events)


@pytest.mark.parametrize("fault", ["cut_subscribes", "silent_subscribes"])
async def test_a_consumer_whose_subscribing_is_cut_or_silent_subscribes_over_another_connection(
    url: str, fault: str
) -> None:
    async with anyqueue.connect(url, connect_timeout=0.5) as client, asyncio.timeout(10):
        if fault == "cut_subscribes":
            CutDriver.cut_subscribes = 2
        async with client.consumer("jobs") as messages:
            for body in (b"first", b"second"):
                await client.send("jobs", body)
                (message,) = await messages.receive()
                assert message.body == body
                await message.ack()
                setattr(CutDriver, fault, 2)
                await CutDriver.cut()


async def test_subscribing_ends_at_the_connect_timeout(url: str) -> None:
    async with anyqueue.connect(url, connect_timeout=0.2) as client, asyncio.timeout(10):
        CutDriver.silent_subscribes = 1
        with pytest.raises(ConnectionLost, match=r"no subscription within 0\.2 s"):
            await client.consumer("jobs").run(print)
        async with client.consumer("jobs") as messages:
            await client.send("jobs", b"after")
            (message,) = await messages.receive()
            await message.ack()


async def test_a_send_cut_before_its_confirm_is_sent_again_with_the_same_id(url: str) -> None:
    async with anyqueue.connect(url) as client:
        CutDriver.cut_sends = 2
        identity = await client.send("jobs", b"x")
        copies = await client.browse("jobs")
        assert [copy.id for copy in copies] == [identity] * 3


async def test_a_send_that_may_have_been_taken_says_so_at_its_deadline(url: str) -> None:
    async with anyqueue.connect(url, send_timeout=0.2) as client:
        CutDriver.cut_sends = 10**6
        with pytest.raises(SendError) as caught:
            await client.send("jobs", b"x")
        assert caught.value.unknown
        CutDriver.cut_sends = 0


async def test_a_send_that_was_never_written_is_not_unknown(url: str) -> None:
    async with anyqueue.connect(url, send_timeout=0.2) as client:
        CutDriver.refuse = ConnectFailed("still down", url=url)
        driver = client._driver
        assert driver is not None
        client._sending.lost(driver, ConnectionLost("cut"))
        with pytest.raises(SendError) as caught:
            await client.send("jobs", b"x")
        assert not caught.value.unknown
        CutDriver.refuse = None


async def test_a_silent_send_ends_at_its_deadline_and_the_next_connection_works(url: str) -> None:
    async with anyqueue.connect(url, send_timeout=0.2) as client:
        CutDriver.silent = True
        with pytest.raises(SendError, match=r"not confirmed within 0\.2 s") as caught:
            await client.send("jobs", b"x")
        assert caught.value.unknown
        CutDriver.silent = False
    async with anyqueue.connect(url) as client:
        assert await client.send("jobs", b"y")


async def test_an_error_that_time_cannot_mend_ends_the_link(url: str) -> None:
    async with anyqueue.connect(url) as client:
        CutDriver.refuse = AuthFailed("no such user", url=url)
        driver = client._driver
        assert driver is not None
        client._sending.lost(driver, ConnectionLost("cut"))
        for _ in range(2):
            with pytest.raises(SendError, match="no such user") as caught:
                await client.send("jobs", b"x")
            assert isinstance(caught.value.__cause__, AuthFailed)


async def test_a_settlement_of_a_lost_connection_is_told_and_the_message_comes_again(url: str) -> None:
    async with anyqueue.connect(url) as client:
        await client.send("jobs", b"x")
        async with client.consumer("jobs") as messages:
            (message,) = await messages.receive()
            await CutDriver.cut()
            (again,) = await messages.receive()
            with pytest.raises(SettleError, match="too late"):
                await message.ack()
            assert (again.id, again.redelivered) == (message.id, True)
            await again.ack()
        assert (await client.depth("jobs")).total == 0


async def test_a_cut_while_the_retry_copy_is_sent_leaves_one_or_two_copies_never_none(url: str) -> None:
    bodies: list[bytes] = []

    async def handle(message: anyqueue.Message) -> None:
        bodies.append(message.body)
        if len(bodies) == 1:
            CutDriver.cut_sends = 1
            raise ValueError
        twice.set()

    twice = asyncio.Event()
    weak = url + "?as=weak"
    async with anyqueue.connect(weak) as client:
        await client.send("jobs", b"x")
        consumer = client.consumer("jobs", retry=Retry(initial=0.0))
        running = asyncio.create_task(consumer.run(handle))
        async with asyncio.timeout(10):
            await twice.wait()
        consumer.stop()
        await running
    assert set(bodies) == {b"x"}


async def test_require_is_checked_again_on_every_connection(url: str) -> None:
    async with anyqueue.connect(url, require=Feature.DELAY) as client:
        assert Feature.DELAY in client.features


async def test_a_closed_client_refuses(url: str) -> None:
    client = anyqueue.connect(url)
    with pytest.raises(Closed, match="not open"):
        await client.send("jobs", b"x")
    async with client:
        await client.send("jobs", b"x")
    with pytest.raises(Closed, match="closed"):
        await client.send("jobs", b"x")
    await client.close()


async def test_credentials_are_asked_for_at_every_connection(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    asked: list[str] = []

    class Seen(CutDriver):
        @classmethod
        def from_url(cls, url: anyqueue.URL) -> Seen:
            if url.username:
                assert url.password is not None
                asked.append(f"{url.username}:{url.password.reveal()}")
            return super().from_url(anyqueue.URL(scheme=url.scheme, hosts=url.hosts))

    monkeypatch.setattr(registry, "load", lambda _scheme: Seen)
    async with anyqueue.connect(url, credentials=lambda: ("ada", f"secret{len(asked)}")) as client:
        driver = client._driver
        assert driver is not None
        client._sending.lost(driver, ConnectionLost("cut"))
        await client.send("jobs", b"x")
    assert asked == ["ada:secret0", "ada:secret1"]
