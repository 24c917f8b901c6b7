"""A raw client of gearmand, and a reader of its store: what the suite trusts to count. It never imports anyqueue's own.

The packets are written here by hand, as any other program writes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import struct
import uuid
from typing import TYPE_CHECKING, Final

from anyqueue.testing.harness import Count, Foreign, Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.harness import Broker

CAN_DO: Final = 1
SUBMIT_JOB: Final = 7
JOB_CREATED: Final = 8
NO_JOB: Final = 10
WORK_COMPLETE: Final = 13
ECHO_REQ: Final = 16
SUBMIT_JOB_BG: Final = 18
GRAB_JOB_UNIQ: Final = 30
DELAYED: Final = "aq.delay."
LINE: Final = b"aq1 "
PLAIN: Final = re.compile(rb"aq[btj]([0-9A-Za-z]{32})-")
"""The unique id of a message that is nothing but a body: the message's id is in it."""
MANY: Final = 500
"""Jobs that are deleted one by one; more are deleted from the store, while the server is down."""
PATIENCE: Final = 2.0
"""Seconds until a worker that hung up has given back its jobs."""
PAUSE: Final = 0.02


class Wire:
    """A connection to gearmand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, command: int, *arguments: bytes) -> None:
        """Write a packet."""
        body = b"\0".join(arguments)
        self._writer.write(struct.pack(">4sII", b"\0REQ", command, len(body)) + body)

    async def read(self) -> tuple[int, bytes]:
        """Read a packet."""
        magic, command, size = struct.unpack(">4sII", await self._reader.readexactly(12))
        assert magic == b"\0RES", magic
        return command, await self._reader.readexactly(size)

    async def ask(self, command: int, *arguments: bytes) -> tuple[int, bytes]:
        """Write a packet and read one."""
        self.write(command, *arguments)
        return await self.read()

    async def lines(self, line: str) -> list[bytes]:
        """Give a command of the admin protocol, and read up to the line of a dot."""
        self._writer.write(f"{line}\n".encode())
        lines: list[bytes] = []
        while (answer := await self._reader.readline()) not in {b".\n", b""}:
            lines.append(answer.rstrip(b"\n"))
        return lines

    async def line(self, line: str) -> bytes:
        """Give a command of the admin protocol that is answered by one line."""
        self._writer.write(f"{line}\n".encode())
        return await self._reader.readline()


class GearmanForeign(Foreign):
    """The witness of one gearmand, whose store is a file."""

    def __init__(self, port: int, store: Path, broker: Broker) -> None:
        self._port = port
        self._store = store
        self._broker = broker

    @contextlib.asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """Connect."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**26)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Submit a background job; headers go into the documented line in front of the body."""
        data = LINE + json.dumps({"headers": dict(headers)}).encode() + b"\n" + body if headers else body
        async with self.wire() as wire:
            command, _ = await wire.ask(SUBMIT_JOB_BG, queue.encode(), str(uuid.uuid4()).encode(), data)
            assert command == JOB_CREATED

    async def get(self, queue: str) -> Seen | None:
        """Be a worker for one job."""
        async with self.wire() as wire:
            taken = await self._grab(wire, queue)
            if taken is None:
                return None
            handle, unique, data = taken
            wire.write(WORK_COMPLETE, handle, b"")
            await wire.ask(ECHO_REQ, b"")
        if not data.startswith(LINE):
            ours = PLAIN.match(unique)
            return Seen(body=data, headers={}, id=unique.decode() if ours is None else ours[1].decode())
        line, _, body = data.removeprefix(LINE).partition(b"\n")
        head = json.loads(line)
        return Seen(body=body, headers=head.get("headers", {}), id=head.get("id"))

    async def count(self, queue: str) -> Count:
        """Count the rows of the store, and what the server says is in workers' hands."""
        names = (queue, DELAYED + queue)
        running = await self._running(names)
        with self._rows() as store:
            counted = "SELECT count(*) FROM gearman_queue WHERE function_name IN (?, ?)"
            ((total,),) = store.execute(counted, names).fetchall()
        return Count(waiting=total - running, unacked=running)

    async def queues(self) -> set[str]:
        """Name the functions that have jobs or workers."""
        functions = await self.status()
        return {name.removeprefix(DELAYED) for name, (total, _, workers) in functions.items() if total or workers}

    async def delete(self, queue: str) -> None:
        """Take its jobs, and cancel those that are not due yet. From a worker's hand only a restart takes one."""
        names = (queue, DELAYED + queue)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while await self._running(names):
            if asyncio.get_running_loop().time() > deadline:
                return await self._delete_rows(names)
            await asyncio.sleep(PAUSE)
        if (await self.count(queue)).total > MANY:
            return await self._delete_rows(names)
        async with self.wire() as wire:
            for name in names:
                await self._take_all(wire, name)
            await self._cancel(wire, DELAYED + queue)
        return None

    async def connections(self) -> int:
        """Count the connections, without the one that asks."""
        async with self.wire() as wire:
            return len(await wire.lines("workers")) - 1

    async def status(self) -> dict[str, tuple[int, int, int]]:
        """Return for each function its jobs, those in workers' hands, and its workers."""
        async with self.wire() as wire:
            found = [line.rsplit(b"\t", 3) for line in await wire.lines("status")]
        return {name.decode(): (int(total), int(running), int(workers)) for name, total, running, workers in found}

    async def _running(self, functions: Sequence[str]) -> int:
        status = await self.status()
        return sum(status[name][1] for name in functions if name in status)

    @contextlib.contextmanager
    def _rows(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._store, isolation_level=None)) as store:
            store.execute("PRAGMA busy_timeout = 10000")
            yield store

    async def _grab(self, wire: Wire, *functions: str) -> tuple[bytes, bytes, bytes] | None:
        for function in functions:
            wire.write(CAN_DO, function.encode())
        command, body = await wire.ask(GRAB_JOB_UNIQ)
        if command == NO_JOB:
            return None
        handle, _, unique, data = body.split(b"\0", 3)
        return handle, unique, data

    async def _take_all(self, wire: Wire, function: str) -> None:
        while (taken := await self._grab(wire, function)) is not None:
            wire.write(WORK_COMPLETE, taken[0], b"")
        await wire.ask(ECHO_REQ, b"")

    async def _cancel(self, wire: Wire, function: str) -> None:
        """Submit each again: the server answers with the handle of the one that it has. Then cancel that."""
        with self._rows() as store:
            select = "SELECT unique_key, data FROM gearman_queue WHERE function_name = ?"
            rows: Sequence[tuple[str, bytes]] = store.execute(select, (function,)).fetchall()
        for unique, data in rows:
            _, handle = await wire.ask(SUBMIT_JOB_BG, function.encode(), unique.encode(), data)
            await wire.line(f"cancel job {handle.decode()}")

    async def _delete_rows(self, functions: Sequence[str]) -> None:
        await asyncio.to_thread(self._broker.stop)
        with self._rows() as store:
            for name in functions:
                store.execute("DELETE FROM gearman_queue WHERE function_name = ?", (name,))
        await asyncio.to_thread(self._broker.start)
