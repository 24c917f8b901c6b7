"""Signals bridged to queues and back: async, blocking, and in a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import blinker
import pytest
import sqlalchemy as sa
from places import until
from sqlalchemy.orm import Session

import anyqueue
from anyqueue import ConfigError, Message, Topic, sync
from anyqueue.events import emit, forward
from anyqueue.outbox import Outbox, Relay
from anyqueue.worker import Limits, Worker

if TYPE_CHECKING:
    from places import Place

OFF = Limits(until_empty=True)


async def test_a_signal_becomes_a_message_and_a_message_a_signal(anywhere: Place) -> None:
    """There and back in one process, and no loop."""
    saved, seen, threads = blinker.Signal("user.saved"), [], []

    def receive(sender: object, **keywords: Any) -> None:
        threads.append(threading.current_thread())
        seen.append((sender, keywords))

    async def receive_too(sender: object, **keywords: Any) -> None:
        del sender
        seen.append(("async", keywords))

    worker = Worker(anywhere.url)
    worker.handler(anywhere.queue)(emit(saved))
    async with anyqueue.connect(anywhere.url) as client:
        stop = forward(saved, client.producer(anywhere.queue), headers={"event": "user.saved"})
        await saved.send_async("the service", user=7, name="ada")
        (message,) = await client.dead_letters(anywhere.queue)
        assert (message.payload, message.headers) == ({"user": 7, "name": "ada"}, {"event": "user.saved"})
        saved.connect(receive)
        saved.connect(receive_too)
        await worker.run(OFF)
        anywhere.counts(anywhere.queue, total=0)
        assert len(seen) == 2
        assert ("async", {"user": 7, "name": "ada"}) in seen
        (sender,) = [each for each, _ in seen if each != "async"]
        assert isinstance(sender, Message)
        assert sender.id == message.id
        assert threads[0] is not threading.main_thread()
        stop()
        await saved.send_async(
            "the service", user=8, _sync_wrapper=lambda f: lambda *a, **k: asyncio.to_thread(f, *a, **k)
        )
        anywhere.counts(anywhere.queue, total=0)


def test_a_blocking_producer_forwards_a_plain_send(anywhere: Place) -> None:
    saved = blinker.Signal()
    with anywhere.client() as client:
        forward(saved, client.producer(anywhere.queue), payload=lambda sender, **keywords: [sender, keywords])
        saved.send("shop", order=1)
        (message,) = client.dead_letters(anywhere.queue)
        assert message.payload == ["shop", {"order": 1}]


async def test_a_topic_carries_an_event_to_every_group(anywhere: Place) -> None:
    topic, there = Topic(anywhere.queue), {"mail": blinker.Signal(), "billing": blinker.Signal()}
    seen: list[tuple[str, object]] = []
    worker = Worker(anywhere.url)
    for group, signal in there.items():
        worker.handler(topic, group=group)(emit(signal))
        signal.connect(lambda sender, group=group, **keywords: seen.append((group, keywords)), weak=False)
    async with anyqueue.connect(anywhere.url) as client:
        running = asyncio.create_task(worker.run())
        here = blinker.Signal()
        forward(here, client.producer(topic))
        await until(lambda: worker.health().status == "ready")
        await here.send_async(None, user=7)
        await until(lambda: len(seen) == 2)
        worker.stop()
        await running
    assert sorted(seen, key=str) == [("billing", {"user": 7}), ("mail", {"user": 7})]


async def test_what_is_no_event_is_a_dead_letter(anywhere: Place) -> None:
    worker = Worker(anywhere.url)
    worker.handler(anywhere.queue)(emit(blinker.Signal()))
    async with anyqueue.connect(anywhere.url) as client:
        await client.send(anywhere.queue, [1, 2])
        await worker.run(OFF)
        (dead,) = await client.dead_letters(f"{anywhere.queue}.dead")
        assert dead.death is not None
        assert "an event's payload is an object" in dead.death.reason


async def test_an_event_in_a_transaction_is_sent_if_and_only_if_it_commits(anywhere: Place, database: str) -> None:
    engine, outbox, saved = sa.create_engine(database), Outbox(), blinker.Signal()
    outbox.create(engine)
    forward(saved, outbox.producer(anywhere.queue))
    with Session(engine) as session, session.begin():
        saved.send("service", session=session, user=1)
    with Session(engine) as session:
        saved.send("service", session=session, user=2)
        session.rollback()
    with contextlib.suppress(ZeroDivisionError), Session(engine) as session, session.begin():
        saved.send("service", session=session, user=3)
        session.flush()
        1 / 0  # noqa: B018 -- it fails
    with pytest.raises(ConfigError, match="session=session"):
        saved.send("service", user=4)
    async with anyqueue.connect(anywhere.url) as client:
        assert await Relay(engine, client).run(until_empty=True) == 1
        (message,) = await client.dead_letters(anywhere.queue)
        assert message.payload == {"user": 1}
    engine.dispose()


def test_only_producers_carry() -> None:
    with pytest.raises(TypeError, match="to a producer, not to a str"):
        forward(blinker.Signal(), "emails")  # type: ignore[arg-type]


def test_a_plain_send_of_a_signal_that_an_async_producer_carries_raises(anywhere: Place) -> None:
    """And is not silently lost."""

    async def send() -> None:
        signal = blinker.Signal()
        async with anyqueue.connect(anywhere.url) as client:
            forward(signal, client.producer(anywhere.queue))
            with pytest.raises(RuntimeError):
                signal.send("service", user=1)

    asyncio.run(send())
    assert isinstance(sync.Producer, type)
