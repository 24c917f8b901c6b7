"""What a worker costs over a bare consumer, how its processes scale, and how long a drain takes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyqueue
import anyqueue.sync
import ours
from anyqueue.worker import Worker
from measure import BODY

if TYPE_CHECKING:
    from anyqueue import Client, Message
    from measure import Stage

TASKS: Final = Path(__file__).with_name("worker_tasks.py")
MANY: Final = 8
DRAIN: Final = 2.0


def handled(scheme: str, stage: Stage) -> float:
    """Return messages a second that a Worker handles and acknowledges, as `ours.consume` does without one."""
    return asyncio.run(_handled(ours.url(stage, scheme), stage.size))


async def _handled(url: str, size: int) -> float:
    async with anyqueue.connect(url) as client:
        await client.producer(ours.QUEUE).send_many([BODY] * size)
        worker, left = Worker(url), size

        @worker.handler(ours.QUEUE, concurrency=100, prefetch=ours.CONCURRENT)
        async def handle(message: Message) -> None:  # noqa: ARG001 -- a handler that costs nothing
            nonlocal left
            left -= 1
            if not left:
                worker.stop()

        start = time.perf_counter()
        await worker.run()
        return size / (time.perf_counter() - start)


async def bare(client: Client, size: int) -> float:
    """Do the same with a consumer, connecting included as a worker's run has it."""
    await client.producer(ours.QUEUE).send_many([BODY] * size)
    start = time.perf_counter()
    async with anyqueue.connect(client.url) as other:
        await ours.handle(other, size)
    return time.perf_counter() - start


def processes(count: int, stage: Stage) -> float:
    """Return messages a second of so many processes on one queue, for a handler of 1 ms of CPU."""
    url = f"sqlite:///{stage.folder / 'queue.db'}"
    with anyqueue.sync.connect(url) as client:
        client.producer("bench").send_many([b"work"] * stage.size)
        program = _start(url, "--processes", str(count)) if count > 1 else _start(url)
        try:
            _ready(program, count)
            begun, start = client.depth("bench").total, time.perf_counter()
            while client.depth("bench").total > stage.size // 10:
                time.sleep(0.02)
            return (begun - client.depth("bench").total) / (time.perf_counter() - start)
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait()


def drain(stage: Stage) -> float:
    """Return the seconds beyond the drain timeout until a loaded worker with handlers that do not end has ended."""
    url = f"sqlite:///{stage.folder / 'queue.db'}"
    with anyqueue.sync.connect(url) as client:
        client.producer("bench").send_many([b"sleep"] * stage.size)
        program = _start(url)
        while not client.depth("bench").held:
            time.sleep(0.01)
    time.sleep(0.1)  # from its hands into its handlers
    start = time.perf_counter()
    program.send_signal(signal.SIGTERM)
    program.wait()
    return time.perf_counter() - start - DRAIN


def _start(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "anyqueue.cli", "worker", "worker_tasks", "--log-format", "json", *arguments]
    environment = os.environ | {"QUEUE_URL": url, "DRAIN": str(DRAIN)}
    return subprocess.Popen(command, cwd=TASKS.parent, env=environment, stderr=subprocess.PIPE)  # noqa: S603 -- ours


def _ready(program: subprocess.Popen[bytes], count: int) -> None:
    """Read the log until all processes are ready."""
    assert program.stderr is not None  # noqa: S101 -- it is a pipe
    while count:
        line = program.stderr.readline()
        if not line:
            raise RuntimeError("the worker ended")
        if re.match(rb"\{", line):
            count -= json.loads(line)["event"] == "ready"
