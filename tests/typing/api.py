"""The whole public API as a type checker sees it. Checked by mypy, never run: a signature that changes shows here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_type

import anyqueue
from anyqueue import (
    DEFAULT,
    URL,
    Batch,
    Batches,
    Client,
    Consumer,
    Death,
    Default,
    Depth,
    Feature,
    Limits,
    Message,
    Messages,
    Producer,
    Progress,
    Queue,
    Retry,
    Support,
    Topic,
    connect,
    hooks,
    sync,
)
from anyqueue.worker import CallNext, Ended, Worker
from anyqueue.worker import Limits as WorkerLimits


@dataclass
class Email:
    """A payload."""

    to: str


async def opening() -> None:
    client = connect(
        "memory://typing",
        require=Feature.REDELIVER | Feature.COMPETING,
        credentials=lambda: ("user", "password"),
        hooks=[on_event],
        connect_timeout=1,
        send_timeout=1.5,
        settle_timeout=1,
        drain_timeout=1,
    )
    assert_type(client, Client)
    assert_type(connect(URL.parse("memory://typing")), Client)
    async with client as opened:
        assert_type(opened, Client)
        assert_type(opened.url, URL)
        assert_type(opened.features, Feature)
        assert_type(opened.limits, Limits)
        support = opened.support(Feature.DELAY)
        assert_type(support, Support)
        assert_type(support.note, str)
    await client.open()
    await client.close()


def on_event(event: hooks.Event) -> None:
    match event:
        case hooks.Sent() | hooks.Received():
            assert_type(event.ids, tuple[str, ...])
        case hooks.Settled():
            assert_type(event.outcome, str)
        case hooks.Retried():
            assert_type(event.delay, float)
        case hooks.DeadLettered():
            assert_type(event.dead_letter, str)
        case hooks.Dropped() | hooks.Disconnected():
            assert_type(event.reason, str)
        case hooks.Subscribed():
            assert_type(event.group, str | None)
        case hooks.Connected():
            assert_type(event.url, str)


async def sending(client: Client) -> None:
    headers: Mapping[str, str] = {"tenant": "eu"}
    sent = await client.send(
        "emails",
        {"to": "ada@example.com"},
        id="1",
        headers=headers,
        content_type="application/json",
        correlation_id="c",
        reply_to="answers",
        delay=1,
        expires=2.5,
        priority=9,
    )
    assert_type(sent, str)
    await client.send(Queue("emails"), b"bytes")
    await client.send(Topic("user.saved"), "text")
    async with client.producer("emails") as producer:
        assert_type(producer, Producer)
        assert_type(await producer.send(Email(to="ada@example.com"), delay=1), str)
        assert_type(await producer.forward((await client.browse("other"))[0]), str)
        assert_type(await producer.send_many([1, 2], headers=headers, priority=0), list[str])


async def requesting(client: Client) -> None:
    assert_type(await client.request("sum", [1, 2]), Any)
    assert_type(
        await client.request(
            Queue("sum"),
            {"a": 1},
            timeout=1,
            type=Email,
            headers={"a": "b"},
            content_type="application/json",
            priority=9,
            progress=lambda progress: assert_type(progress, Progress),
        ),
        Any,
    )


async def answering(message: Message) -> int:
    assert_type(message.is_request, bool)
    await message.reply({"a": 1})
    return 1


async def handle(message: Message) -> None:
    assert_type(message.id, str)
    assert_type(message.body, bytes)
    assert_type(message.headers, dict[str, str])
    assert_type(message.payload, Any)
    assert_type(message.content_type, str | None)
    assert_type(message.correlation_id, str | None)
    assert_type(message.reply_to, str | None)
    assert_type(message.priority, int | None)
    assert_type(message.expires_at, float | None)
    assert_type(message.timestamp, float | None)
    assert_type(message.attempt, int)
    assert_type(message.redelivered, bool)
    assert_type(message.queue, str)
    assert_type(message.native, object)
    await message.progress(3, 10, "three of ten")
    assert_type(message.death, Death | None)


def plain(message: Message) -> int:
    return message.attempt


async def consuming(client: Client) -> None:
    consumer = client.consumer(
        "emails",
        concurrency=16,
        prefetch=100,
        type=Email,
        retry=Retry(attempts=3, initial=0.1, maximum=10, factor=2, jitter=0, on=(OSError, ValueError)),
        dead_letter=Queue("emails.broken"),
        drain_timeout=5,
    )
    assert_type(consumer, Consumer)
    await consumer.run(handle)
    await client.consumer("emails", type=list[Email], retry=None, dead_letter=None).run(plain)
    await client.consumer("sum").run(answering)
    client.consumer(Topic("user.saved"), group="billing", dead_letter=DEFAULT).stop()
    async with client.consumer("emails", dead_letter="other") as messages:
        assert_type(messages, Messages)
        async for message in messages:
            assert_type(message, Message)
            async with message:
                break
        for one in await messages.receive(10, timeout=1.5):
            await one.ack()
            await one.retry()
            await one.retry(delay=1)
            await one.reject("no good")


async def batching(client: Client) -> None:
    async with client.consumer("emails", prefetch=100).batches(100, 1.5) as batches:
        assert_type(batches, Batches)
        async for batch in batches:
            assert_type(batch, Batch)
            async with batch:
                assert_type(batch[0], Message)
        assert_type(await batches.receive(), Batch)
    await client.consumer("emails").run_batches(handle_batch, max_size=10, max_wait=1)


async def handle_batch(batch: Batch) -> None:
    await batch[0].reject("no good")


def blocking_batches(client: sync.Client) -> None:
    with client.consumer("emails", prefetch=100).batches(100, 1.5) as batches:
        for batch in batches:
            with batch:
                assert_type(batch[0], sync.Message)
    client.consumer("emails").run_batches(len, max_size=10, max_wait=1)


def wants(error: BaseException) -> bool:
    return isinstance(error, TimeoutError)


async def managing(client: Client) -> None:
    assert_type(await client.progress("id"), Progress | None)
    assert_type(await client.queues(), list[tuple[str, Depth]])
    depth = await client.depth("emails")
    assert_type(depth.ready + depth.delayed + depth.held + depth.total, int)
    assert_type(depth.consumers, int | None)
    assert_type(client.limits.priorities, int)
    for message in await client.browse(Queue("emails.dead"), limit=5):
        assert_type(message.death, Death | None)
        if message.death is not None:
            assert_type(message.death.reason, str)
            assert_type(message.death.attempts, int | None)
    assert_type(await client.purge("emails"), int)
    assert_type(await client.redrive("emails.dead", to="emails", limit=5, match=is_urgent), int)
    assert_type(await client.dead_letters("emails.dead", limit=5, match=is_urgent), list[Message])
    assert_type(await client.discard("emails.dead", limit=5, match=is_urgent), int)
    await client.delete("emails")
    assert_type(Retry(on=wants).delay(3, 0.5), float)


def is_urgent(message: Message) -> bool:
    return message.priority == 9


def plain_handler(message: sync.Message) -> None:
    assert_type(message.payload, Any)


async def timed(message: Message, call_next: CallNext) -> None:
    await call_next(message)


@contextlib.asynccontextmanager
async def life(worker: Worker) -> AsyncIterator[str]:
    assert_type(worker.client, Client)
    assert_type(worker.blocking, sync.Client)
    yield "state"


async def working() -> None:
    worker = Worker("memory://typing", lifespan=life, hooks=[on_event], require=Feature.CONFIRM, drain_timeout=5)
    worker.handler("emails", type=Email, concurrency=8, retry=Retry(attempts=2), dead_letter="d")(handle)
    worker.handler(Topic("user.saved"), group="billing", dead_letter=Default.DEFAULT)(plain_handler)
    worker.batch_handler("clicks", max_size=100, max_wait=1, prefetch=300)(handle_batch)
    worker.middleware(timed)
    assert_type(await worker.run(), Ended)
    assert_type(await worker.run(WorkerLimits(until_empty=True, max_messages=5)), Ended)
    worker.stop()


def blocking() -> None:
    with sync.connect("memory://typing", require=Feature.COMPETING, hooks=[on_event], send_timeout=1) as client:
        assert_type(client, sync.Client)
        assert_type(client.send("emails", 1, delay=1, headers={"a": "b"}), str)
        assert_type(client.support(Feature.DELAY), Support)
        assert_type(client.request("sum", [1], timeout=5, type=int, progress=print), Any)
        with client.producer(Topic("t")) as producer:
            assert_type(producer.send_many([b"1", b"2"]), list[str])
        consumer = client.consumer("emails", concurrency=2, type=Email, retry=Retry(attempts=2), dead_letter=None)
        assert_type(consumer, sync.Consumer)
        consumer.run(blocking_handle)
        consumer.stop()
        with client.consumer("emails") as messages:
            for message in messages:
                with message:
                    break
            for one in messages.receive(10, timeout=1):
                one.ack()
                one.reply(one.is_request)
                one.retry(delay=1)
                one.reject("no good")
        assert_type(client.queues(), list[tuple[str, Depth]])
        assert_type(client.depth("emails").total, int)
        assert_type(client.browse("emails"), list[sync.Message])
        assert_type(client.purge("emails") + client.redrive("emails.dead"), int)
        assert_type(client.dead_letters("emails.dead"), list[sync.Message])
        assert_type(client.discard("emails.dead"), int)
        client.delete("emails")


def blocking_handle(message: sync.Message) -> None:
    assert_type(message.payload, Any)
    message.ack()


def failing(error: anyqueue.Error) -> None:
    """Every error by its place in the tree."""
    assert_type(error.transient, bool)
    match error:
        case anyqueue.Unsupported():
            assert_type(error.backend, str)
        case anyqueue.BatchFailed():
            assert_type(error.failures, Mapping[int, anyqueue.SendError])
        case anyqueue.SendError():
            assert_type(error.unknown, bool)
        case anyqueue.RemoteError():
            assert_type(error.kind, str)
        case _:
            assert_type(error.hint, str | None)
    tree: dict[type[anyqueue.Error], type[Exception]] = {
        anyqueue.ConfigError: ValueError,
        anyqueue.MissingBackend: ImportError,
        anyqueue.Closed: anyqueue.Error,
        anyqueue.ConnectFailed: anyqueue.TransportError,
        anyqueue.ConnectionLost: anyqueue.TransportError,
        anyqueue.AuthFailed: anyqueue.TransportError,
        anyqueue.ProtocolError: anyqueue.TransportError,
        anyqueue.QueueNotFound: anyqueue.QueueError,
        anyqueue.QueueMismatch: anyqueue.QueueError,
        anyqueue.QueueFull: anyqueue.QueueError,
        anyqueue.Unroutable: anyqueue.SendError,
        anyqueue.TooLarge: anyqueue.SendError,
        anyqueue.SettleError: anyqueue.Error,
        anyqueue.RequestError: anyqueue.Error,
        anyqueue.NoReply: anyqueue.RequestError,
        anyqueue.RemoteError: anyqueue.RequestError,
        anyqueue.Undecodable: anyqueue.Error,
    }
    assert tree


def steering(later: Callable[[], bool]) -> None:
    if later():
        raise anyqueue.RetryLater(5)
    raise anyqueue.Rejected("no good")


assert_type(anyqueue.__version__, str)
