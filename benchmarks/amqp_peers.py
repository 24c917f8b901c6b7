"""What others offer on RabbitMQ, as their documentation shows it, on a quorum queue and with confirms awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import aio_pika
import dramatiq
import kombu
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

import amqp_raw
from amqp_server import ARGUMENTS, queue_of, server
from measure import BODY

if TYPE_CHECKING:
    from measure import Stage

CONCURRENT = 1000
PREFETCH = 1000


def kombu_queue(name: str) -> kombu.Queue:
    """Describe the queue."""
    return kombu.Queue(name, durable=True, queue_arguments=ARGUMENTS)


def kombu_send(stage: Stage) -> float:
    """Publish with confirm_publish, which waits for each."""
    broker, name = server(stage), queue_of(stage)
    with kombu.Connection(broker.url, transport_options={"confirm_publish": True}) as connection:
        queue = kombu_queue(name)
        producer = connection.Producer()
        given = {"content_type": "application/data", "content_encoding": "binary", "delivery_mode": 2}
        producer.publish(BODY, routing_key=name, declare=[queue], **given)
        start = time.perf_counter()
        for _ in range(stage.size):
            producer.publish(BODY, routing_key=name, **given)
        taken = time.perf_counter() - start
    broker.clear(name)
    return stage.size / taken


def kombu_consume(stage: Stage) -> float:
    """Handle and acknowledge; `on_message` spares it the decoding."""
    broker, name = server(stage), queue_of(stage)
    broker.declare(name)
    asyncio.run(amqp_raw.fill(stage, name))
    left = stage.size

    def handle(message: kombu.Message) -> None:
        nonlocal left
        message.ack()
        left -= 1

    with kombu.Connection(broker.url) as connection:
        start = time.perf_counter()
        with connection.Consumer(kombu_queue(name), on_message=handle, prefetch_count=PREFETCH):
            while left:
                connection.drain_events(timeout=10)
        taken = time.perf_counter() - start
    broker.clear(name)
    return stage.size / taken


def aiopika_send(stage: Stage) -> float:
    """Publish from CONCURRENT tasks, each waiting for its confirm."""

    async def run() -> float:
        broker, name = server(stage), queue_of(stage)
        async with await aio_pika.connect_robust(broker.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(name, durable=True, arguments=dict(ARGUMENTS))

            async def sender() -> None:
                for _ in range(stage.size // CONCURRENT):
                    message = aio_pika.Message(BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                    await channel.default_exchange.publish(message, routing_key=name)

            start = time.perf_counter()
            await asyncio.gather(*(sender() for _ in range(CONCURRENT)))
            taken = time.perf_counter() - start
        broker.clear(name)
        return stage.size / taken

    return asyncio.run(run())


def aiopika_consume(stage: Stage) -> float:
    """Handle and acknowledge."""

    async def run() -> float:
        broker, name = server(stage), queue_of(stage)
        broker.declare(name)
        await amqp_raw.fill(stage, name)
        done, left = asyncio.Event(), stage.size

        async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal left
            async with message.process():
                left -= 1
            if not left:
                done.set()

        async with await aio_pika.connect_robust(broker.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.declare_queue(name, durable=True, arguments=dict(ARGUMENTS))
            start = time.perf_counter()
            await queue.consume(handle)
            await done.wait()
            taken = time.perf_counter() - start
        broker.clear(name)
        return stage.size / taken

    return asyncio.run(run())


def faststream_consume(stage: Stage) -> float:
    """Handle and acknowledge with a subscriber."""

    async def run() -> float:
        broker, name = server(stage), queue_of(stage)
        broker.declare(name)
        await amqp_raw.fill(stage, name)
        done, left = asyncio.Event(), stage.size
        app = RabbitBroker(broker.url, logger=None)
        queue = RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True)

        @app.subscriber(queue, channel=Channel(prefetch_count=PREFETCH))
        async def handle(body: bytes) -> None:  # noqa: ARG001 -- a handler that costs nothing
            nonlocal left
            left -= 1
            if not left:
                done.set()

        async with app:
            start = time.perf_counter()
            await app.start()
            await done.wait()
            taken = time.perf_counter() - start
        broker.clear(name)
        return stage.size / taken

    return asyncio.run(run())


class QuorumBroker(RabbitmqBroker):  # type: ignore[misc]  # its queues are classic, and there is no option
    """dramatiq's, on the same type of queue as everybody's."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), **ARGUMENTS}


def dramatiq_consume(stage: Stage) -> float:
    """Run an actor with the default worker."""
    broker, name = server(stage), queue_of(stage)
    made = QuorumBroker(url=f"{broker.url}%2F")
    done, left, lock = threading.Event(), stage.size, threading.Lock()

    def handle(body: str) -> None:  # noqa: ARG001 -- as above
        nonlocal left
        with lock:
            left -= 1
        if not left:
            done.set()

    actor = dramatiq.actor(handle, broker=made, queue_name=name, actor_name=name)
    body = "x" * len(BODY)
    for _ in range(stage.size):
        actor.send(body)
    worker = dramatiq.Worker(made)
    start = time.perf_counter()
    worker.start()
    done.wait()
    taken = time.perf_counter() - start
    worker.stop()
    made.close()
    broker.clear(name, f"{name}.DQ", f"{name}.XQ")
    return stage.size / taken
