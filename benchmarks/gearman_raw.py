"""Raw asyncio sockets to gearmand, replies pipelined: the least that the same work costs. Nothing is checked twice."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from gearman_server import gearmand
from measure import BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from measure import Side, Stage

QUEUE: Final = b"bench"
BATCH: Final = 500
CAN_DO, PRE_SLEEP, NOOP, SUBMIT_JOB, JOB_CREATED, NO_JOB = 1, 4, 6, 7, 8, 10
WORK_COMPLETE, ECHO_REQ, SUBMIT_JOB_BG, GRAB_JOB_UNIQ, JOB_ASSIGN_UNIQ = 13, 16, 18, 30, 31


def packet(command: int, *arguments: bytes) -> bytes:
    """Return a request."""
    body = b"\0".join(arguments)
    return struct.pack(">4sII", b"\0REQ", command, len(body)) + body


class Wire:
    """A connection; read() returns at least so many packets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._left = b""

    async def read(self, count: int) -> list[tuple[int, bytes]]:
        """Read packets."""
        packets: list[tuple[int, bytes]] = []
        buffer = self._left
        while len(packets) < count:
            buffer += await self._reader.read(1 << 18)
            position, end = 0, len(buffer)
            while end - position >= 12:  # noqa: PLR2004 -- a header
                command, size = struct.unpack_from(">II", buffer, position + 4)
                if end - position < 12 + size:
                    break
                packets.append((command, buffer[position + 12 : position + 12 + size]))
                position += 12 + size
            buffer = buffer[position:]
        self._left = buffer
        return packets


def side(work: Callable[[int, int], Coroutine[Any, Any, float]], *, durable: bool = False) -> Side:
    """Make a side of an async function of a port and a size that returns the figure."""

    def run(stage: Stage) -> float:
        with gearmand(stage, durable=durable) as port:
            return asyncio.run(work(port, stage.size))

    return run


async def connect(port: int) -> Wire:
    """Connect."""
    return Wire(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))


async def submit(wire: Wire, size: int) -> None:
    """Submit background jobs, BATCH on the way."""
    start = uuid.uuid4().hex.encode()
    for first in range(0, size, BATCH):
        count = min(BATCH, size - first)
        jobs = (packet(SUBMIT_JOB_BG, QUEUE, b"%b%d" % (start, first + index), BODY) for index in range(count))
        wire.writer.write(b"".join(jobs))
        created = await wire.read(count)
        assert all(command == JOB_CREATED for command, _ in created)  # noqa: S101 -- a benchmark


async def send(port: int, size: int) -> float:
    """Return messages submitted a second."""
    wire = await connect(port)
    start = time.perf_counter()
    await submit(wire, size)
    return size / (time.perf_counter() - start)


async def consume(port: int, size: int) -> float:
    """Return messages grabbed and completed a second, each batch known to be."""
    wire = await connect(port)
    await submit(wire, size)
    wire.writer.write(packet(CAN_DO, QUEUE))
    done = 0
    start = time.perf_counter()
    while done < size:
        wire.writer.write(packet(GRAB_JOB_UNIQ) * BATCH)
        jobs = [body for command, body in await wire.read(BATCH) if command == JOB_ASSIGN_UNIQ]
        reports = (packet(WORK_COMPLETE, job.split(b"\0", 3)[0], b"") for job in jobs)
        wire.writer.write(b"".join(reports) + packet(ECHO_REQ, b"x"))
        await wire.read(1)
        done += len(jobs)
    return size / (time.perf_counter() - start)


async def latency(port: int, size: int) -> float:
    """Return the median of the milliseconds from submitting a job, one at a time, to a sleeping worker's having it."""
    sender, worker = await connect(port), await connect(port)
    start, taken, done = 0.0, list[float](), asyncio.Event()

    async def work() -> None:
        worker.writer.write(packet(CAN_DO, QUEUE) + packet(GRAB_JOB_UNIQ))
        for command, body in await worker.read(1):
            assert (command, body) == (NO_JOB, b"")  # noqa: S101 -- a benchmark
        while True:
            worker.writer.write(packet(PRE_SLEEP))
            await worker.read(1)
            worker.writer.write(packet(GRAB_JOB_UNIQ))
            ((_, job),) = await worker.read(1)
            taken.append(time.perf_counter() - start)
            done.set()
            worker.writer.write(packet(WORK_COMPLETE, job.split(b"\0", 3)[0], b"") + packet(ECHO_REQ, b"x"))
            await worker.read(1)

    working = asyncio.create_task(work())
    for number in range(size):
        await asyncio.sleep(0.001)  # the worker is asleep again
        done.clear()
        start = time.perf_counter()
        sender.writer.write(packet(SUBMIT_JOB_BG, QUEUE, b"%d" % number, BODY))
        await sender.read(1)
        await done.wait()
    working.cancel()
    return statistics.median(taken) * 1000


async def request(port: int, size: int) -> float:
    """Return the median of the milliseconds from submitting a foreground job to its result, from a sleeping worker."""
    sender, worker, taken = await connect(port), await connect(port), list[float]()

    async def work() -> None:
        worker.writer.write(packet(CAN_DO, QUEUE) + packet(GRAB_JOB_UNIQ))
        await worker.read(1)
        while True:
            worker.writer.write(packet(PRE_SLEEP))
            await worker.read(1)
            worker.writer.write(packet(GRAB_JOB_UNIQ))
            ((_, job),) = await worker.read(1)
            worker.writer.write(packet(WORK_COMPLETE, job.split(b"\0", 3)[0], BODY) + packet(ECHO_REQ, b"x"))
            await worker.read(1)

    working = asyncio.create_task(work())
    for number in range(size):
        await asyncio.sleep(0.001)  # the worker is asleep again
        start, replies = time.perf_counter(), 0
        sender.writer.write(packet(SUBMIT_JOB, QUEUE, b"%d" % number, BODY))
        while replies < 2:  # noqa: PLR2004 -- it is created, it is complete
            replies += len(await sender.read(1))
        taken.append(time.perf_counter() - start)
    working.cancel()
    return statistics.median(taken) * 1000


async def confirm(port: int, size: int) -> float:
    """Return the median of the milliseconds from submitting a job to knowing that it is created."""
    wire, taken = await connect(port), list[float]()
    for number in range(size):
        start = time.perf_counter()
        wire.writer.write(packet(SUBMIT_JOB_BG, QUEUE, b"%d" % number, BODY))
        await wire.read(1)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000
