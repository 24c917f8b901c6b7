"""pika's AsyncioConnection without a library around it: the least that the same work costs with it.

Persistent messages, confirmed, IN_FLIGHT at once; consuming acknowledges each message. No reconnecting, no retry, no
check of what came back.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from amqp_server import queue_of, server
from measure import BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Stage

IN_FLIGHT: Final = 1000
PREFETCH: Final = 1000
PERSISTENT: Final = pika.BasicProperties(delivery_mode=2)


async def connect(parameters: pika.URLParameters) -> AsyncioConnection:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[AsyncioConnection] = loop.create_future()
    AsyncioConnection(
        parameters,
        on_open_callback=opened.set_result,
        on_open_error_callback=lambda _, error: opened.set_exception(error),
        custom_ioloop=loop,
    )
    return await opened


async def open_channel(connection: AsyncioConnection) -> Any:  # noqa: ANN401 -- pika is untyped
    """Open a channel."""
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection.channel(on_open_callback=opened.set_result)
    return await opened


async def call(method: Callable[..., object], *given: object, **named: object) -> None:
    """Call a method and wait for its answer."""
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    method(*given, **named, callback=answered.set_result)
    await answered


class Publisher:
    """Publish with IN_FLIGHT confirms awaited at most."""

    def __init__(self, channel: Any, queue: str) -> None:  # noqa: ANN401 -- as above
        self._channel, self._queue = channel, queue
        self._confirmed = self._sent = 0
        self._room = asyncio.Event()

    async def open(self) -> None:
        """Ask for confirms."""
        selected: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._channel.confirm_delivery(ack_nack_callback=self._on_confirm, callback=selected.set_result)
        await selected

    async def publish(self, size: int) -> None:
        """Publish so many, and wait for all confirms."""
        for _ in range(size):
            if self._sent - self._confirmed >= IN_FLIGHT:
                await self._wait()
            self._channel.basic_publish("", self._queue, BODY, PERSISTENT)
            self._sent += 1
        while self._confirmed < self._sent:
            await self._wait()

    async def _wait(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _on_confirm(self, frame: Any) -> None:  # noqa: ANN401 -- as above
        method = frame.method
        self._confirmed = method.delivery_tag if method.multiple else max(self._confirmed, method.delivery_tag)
        self._room.set()


def send(stage: Stage) -> float:
    """Return messages a second, from the first publish to the last confirm."""

    async def run() -> float:
        broker, queue = server(stage), queue_of(stage)
        broker.declare(queue)
        connection = await connect(broker.parameters)
        publisher = Publisher(await open_channel(connection), queue)
        await publisher.open()
        await publisher.publish(1)
        start = time.perf_counter()
        await publisher.publish(stage.size)
        taken = time.perf_counter() - start
        connection.close()
        broker.clear(queue)
        return stage.size / taken

    return asyncio.run(run())


def threaded_send(stage: Stage) -> float:
    """Return messages a second that a thread sends one by one over a connection in the thread of an event loop.

    The least that a blocking send can take whose connection is kept alive between its calls.
    """
    broker, queue = server(stage), queue_of(stage)
    broker.declare(queue)
    loop, confirmed = asyncio.new_event_loop(), threading.Semaphore(0)

    async def opened() -> Any:  # noqa: ANN401 -- as above
        channel = await open_channel(await connect(broker.parameters))
        await call(channel.confirm_delivery, lambda _: confirmed.release())
        return channel

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    channel = asyncio.run_coroutine_threadsafe(opened(), loop).result()
    publish = functools.partial(channel.basic_publish, "", queue, BODY, PERSISTENT)
    start = time.perf_counter()
    for _ in range(stage.size):
        loop.call_soon_threadsafe(publish)
        confirmed.acquire()
    taken = time.perf_counter() - start
    loop.call_soon_threadsafe(channel.connection.close)
    loop.call_soon_threadsafe(loop.call_later, 0.2, loop.stop)
    thread.join()
    loop.close()
    broker.clear(queue)
    return stage.size / taken


async def fill(stage: Stage, queue: str) -> None:
    """Put messages into a queue."""
    connection = await connect(server(stage).parameters)
    publisher = Publisher(await open_channel(connection), queue)
    await publisher.open()
    await publisher.publish(stage.size)
    connection.close()


def consume(stage: Stage) -> float:
    """Return messages a second, from the subscription to the last acknowledgement."""

    async def run() -> float:
        broker, queue = server(stage), queue_of(stage)
        broker.declare(queue)
        await fill(stage, queue)
        connection = await connect(broker.parameters)
        channel = await open_channel(connection)
        await call(channel.basic_qos, prefetch_count=PREFETCH)
        done, left = asyncio.Event(), stage.size

        def on_message(channel: Any, method: Any, _properties: object, _body: bytes) -> None:  # noqa: ANN401 -- as above
            nonlocal left
            channel.basic_ack(method.delivery_tag)
            left -= 1
            if not left:
                done.set()

        start = time.perf_counter()
        channel.basic_consume(queue, on_message)
        await done.wait()
        taken = time.perf_counter() - start
        connection.close()
        broker.clear(queue)
        return stage.size / taken

    return asyncio.run(run())


def latencies(stage: Stage) -> Iterator[float]:
    """Return the seconds from publish to callback of each message, one at a time, over two connections."""

    async def run() -> list[float]:
        broker, queue = server(stage), queue_of(stage)
        broker.declare(queue)
        sending, consuming = await connect(broker.parameters), await connect(broker.parameters)
        publisher = Publisher(await open_channel(sending), queue)
        await publisher.open()
        channel = await open_channel(consuming)
        await call(channel.basic_qos, prefetch_count=1)
        taken: list[float] = []
        start, done = 0.0, asyncio.Event()

        def on_message(channel: Any, method: Any, _properties: object, _body: bytes) -> None:  # noqa: ANN401 -- as above
            taken.append(time.perf_counter() - start)
            channel.basic_ack(method.delivery_tag)
            done.set()

        await call(channel.basic_consume, queue, on_message)
        for _ in range(stage.size):
            done.clear()
            start = time.perf_counter()
            await publisher.publish(1)
            await done.wait()
        for connection in (sending, consuming):
            connection.close()
        broker.clear(queue)
        return taken

    return iter(asyncio.run(run()))
