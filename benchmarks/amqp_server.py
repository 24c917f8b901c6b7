"""A RabbitMQ of the benchmarks' own, run by brokers/launch.py; every side of every pair gets an empty queue there."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pika

if TYPE_CHECKING:
    from measure import Stage

LAUNCH: Final = Path(__file__).parents[1] / "brokers" / "launch.py"
OFFSETS: Final = (0, 1, 2, 3, 4, 9)
"""The ports that one RabbitMQ takes of those that the launcher is given."""
HEADER: Final = b"AMQP\x00\x00\x09\x01"
ARGUMENTS: Final = {"x-queue-type": "quorum"}
"""What every side's queue is declared with."""


class Server:
    """The broker, up until the process ends."""

    def __init__(self, folder: Path) -> None:
        self._environment = {**os.environ, "ANYQUEUE_BROKERS_DIR": str(folder), "ANYQUEUE_BROKERS_PORT": str(_base())}
        self("purge")  # what a run that was killed has left
        self("up")
        atexit.register(self, "purge")
        self.url: str = json.loads(self("describe"))["urls"]["amqp"]

    def __call__(self, verb: str) -> str:
        """Run a verb of the launcher."""
        command = [sys.executable, str(LAUNCH), verb, "rabbitmq"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
        if done.returncode:
            raise SystemExit(f"this benchmark needs RabbitMQ: {done.stderr or done.stdout}")
        return done.stdout

    @property
    def parameters(self) -> pika.URLParameters:
        """How pika connects."""
        return pika.URLParameters(f"{self.url}%2F")

    def clear(self, *queues: str) -> None:
        """Delete queues with all that is in them."""
        connection = pika.BlockingConnection(self.parameters)
        for queue in queues:
            connection.channel().queue_delete(queue)
        connection.close()

    def empty(self, queue: str) -> None:
        """Drop the messages of a queue that is there."""
        connection = pika.BlockingConnection(self.parameters)
        connection.channel().queue_purge(queue)
        connection.close()

    def declare(self, queue: str) -> None:
        """Make a queue."""
        connection = pika.BlockingConnection(self.parameters)
        connection.channel().queue_declare(queue, durable=True, arguments=ARGUMENTS)
        connection.close()

    def answered(self) -> Answer:
        """Begin to ask whether it answers."""
        address = (self.parameters.host, self.parameters.port)
        return Answer(address)


class Answer(threading.Thread):
    """Ask a broker again and again, until it speaks; `at` is when, by time.perf_counter()."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.at = 0.0
        self._address = address
        self.start()

    def run(self) -> None:
        """Ask."""
        while not self.at:
            try:
                with socket.create_connection(self._address, 1) as link:
                    link.sendall(HEADER)
                    if link.recv(1):
                        self.at = time.perf_counter()
            except OSError:
                time.sleep(0.005)


@cache
def _server(folder: Path) -> Server:
    return Server(folder)


def server(stage: Stage) -> Server:
    """Return the broker of this run."""
    return _server(stage.shared.parent / "rabbitmq")


def _base() -> int:
    """Return where the ports are free: below those that Linux gives to clients."""
    for base in range(27_000, 32_000, 100):
        try:
            for offset in OFFSETS:
                socket.create_server(("127.0.0.1", base + offset)).close()
        except OSError:
            continue
        return base
    raise SystemExit("no free ports for RabbitMQ")


def queue_of(stage: Stage) -> str:
    """Name the queue of one side of one pair."""
    return f"bench-{stage.folder.name}"
