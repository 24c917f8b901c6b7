"""Raw pyzmq: the least that the same work costs. What answers is run as a process: zeromq_raw.py PART [SIZE]."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import zmq
import zmq.asyncio

import zeromq_server
from measure import BODY

if TYPE_CHECKING:
    from measure import Stage

WINDOW: Final = 1000
"""Messages on the way that are not answered yet."""
CONFIRMED: Final = b"ok"


async def broker() -> None:
    """Keep what is sent, answer each; hand out one for each empty message, and answer each acknowledgement."""
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.set_hwm(0)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    kept: deque[bytes] = deque()
    while True:
        identity, kind, body = await router.recv_multipart()
        if kind == b"send":
            kept.append(body)
            await router.send_multipart([identity, CONFIRMED])
        elif kind == b"get":
            await router.send_multipart([identity, kept.popleft()])
        else:
            await router.send_multipart([identity, CONFIRMED])


async def ask(dealer: zmq.asyncio.Socket, size: int, kind: bytes, body: bytes) -> None:
    """Ask so often, WINDOW at once, until all is answered."""
    answered, room = 0, asyncio.Semaphore(WINDOW)

    async def listen() -> None:
        nonlocal answered
        while answered < size:
            await dealer.recv_multipart()
            answered += 1
            room.release()

    listening = asyncio.create_task(listen())
    for _ in range(size):
        await room.acquire()
        await dealer.send_multipart([kind, body])
    await listening


async def consume_one_by_one(dealer: zmq.asyncio.Socket, size: int) -> None:
    """Ask for messages and acknowledge each, WINDOW at once, until all is answered."""
    answered, room = 0, asyncio.Semaphore(WINDOW)

    async def listen() -> None:
        nonlocal answered
        while answered < size:
            (body,) = await dealer.recv_multipart()
            if body == CONFIRMED:
                answered += 1
                room.release()
            else:
                await dealer.send_multipart([b"ack", b""])

    listening = asyncio.create_task(listen())
    for _ in range(size):
        await room.acquire()
        await dealer.send_multipart([b"get", b""])
    await listening


def _dealing(port: int) -> zmq.asyncio.Socket:
    dealer = zmq.asyncio.Context.instance().socket(zmq.DEALER)
    dealer.set_hwm(0)
    dealer.connect(f"tcp://127.0.0.1:{port}")
    return dealer


def send(stage: Stage) -> float:
    """Return messages confirmed a second."""

    async def run(port: int) -> float:
        with _dealing(port) as dealer:
            await ask(dealer, 1, b"send", BODY)
            start = time.perf_counter()
            await ask(dealer, stage.size, b"send", BODY)
            return stage.size / (time.perf_counter() - start)

    with zeromq_server.raw("broker") as port:
        return asyncio.run(run(port))


def consume(stage: Stage) -> float:
    """Return messages handed out and acknowledged a second."""

    async def run(port: int) -> float:
        with _dealing(port) as dealer:
            await ask(dealer, stage.size, b"send", BODY)
            start = time.perf_counter()
            await consume_one_by_one(dealer, stage.size)
            return stage.size / (time.perf_counter() - start)

    with zeromq_server.raw("broker") as port:
        return asyncio.run(run(port))


def echo() -> None:
    """Answer everything with itself, blocking."""
    router = zmq.Context().socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    while True:
        router.send_multipart(router.recv_multipart())


def round_trip(stage: Stage) -> float:
    """Return the median of the milliseconds that DEALER to ROUTER and back takes, blocking."""
    taken: list[float] = []
    with zeromq_server.raw("echo") as port, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(stage.size):
            time.sleep(0.001)  # both sides are asleep again
            start = time.perf_counter()
            dealer.send(BODY)
            dealer.recv()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


async def echo_asyncio() -> None:
    """Answer everything with itself, on an event loop."""
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    print(router.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    while True:
        await router.send_multipart(await router.recv_multipart())


def round_trip_asyncio(stage: Stage) -> float:
    """Return the median of the milliseconds that it takes with zmq.asyncio on both sides."""
    taken: list[float] = []

    async def run(port: int) -> None:
        with _dealing(port) as dealer:
            for _ in range(stage.size):
                await asyncio.sleep(0.001)  # both sides are asleep again
                start = time.perf_counter()
                await dealer.send(BODY)
                await dealer.recv()
                taken.append(time.perf_counter() - start)

    with zeromq_server.raw("echo-asyncio") as port:
        asyncio.run(run(port))
    return statistics.median(taken) * 1000


def push(port: int, size: int) -> None:
    """Send so many, blocking."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(size + 1):
            socket.send(BODY)


def push_pull(stage: Stage) -> float:
    """Return messages a second from a blocking PUSH to a blocking PULL."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with zeromq_server.started(__file__, "push", port, stage.size):
            socket.recv()
            start = time.perf_counter()
            for _ in range(stage.size):
                socket.recv()
            return stage.size / (time.perf_counter() - start)


if __name__ == "__main__":
    if sys.argv[1] == "broker":
        asyncio.run(broker())
    elif sys.argv[1] == "echo":
        echo()
    elif sys.argv[1] == "echo-asyncio":
        asyncio.run(echo_asyncio())
    else:
        push(int(sys.argv[2]), int(sys.argv[3]))
