"""Play a Script: what a child does, in a process of its own (`python -m anyqueue.testing.play`) or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

import anyqueue
from anyqueue import Retry, SendError
from anyqueue.testing.children import Script
from anyqueue.testing.faults import at, between
from anyqueue.testing.history import Journal
from anyqueue.testing.recorder import Recorder

if TYPE_CHECKING:
    from anyqueue import Client, Consumer, Message

Die = Callable[[], None]
ABORTED: Final = 70
"""The exit status after a second SIGTERM."""


class Player:
    """One client that plays one script. `die` ends it at once."""

    def __init__(self, name: str, script: Script, history: Recorder, die: Die) -> None:
        self._name = name
        self._script = script
        self._history = history
        self._die = die
        self._done = 0
        self._stopping = asyncio.Event()
        self._consumer: Consumer | None = None
        self._left: Client | None = None

    def stop(self) -> None:
        """Send no more, or drain; then play() returns."""
        self._stopping.set()
        if self._consumer is not None:
            self._consumer.stop()

    async def play(self, url: str) -> None:
        """Connect and play until the end of the script or stop()."""
        client = anyqueue.connect(url)
        if self._script.die_at is not None:
            between(client, at(self._script.die_at, self._end))
        if self._script.role == "leaver":
            await self._leave(client)
        else:
            async with client:
                await self._parts[self._script.role](self, client)
        self._history.ended(self._name)

    async def _produce(self, client: Client) -> None:
        script = self._script
        for number in range(script.count):
            if self._stopping.is_set():
                return
            body = f"{self._name}:{number}:".encode().ljust(script.size, b".")
            with contextlib.suppress(SendError):  # it is in the journal
                await self._history.send(client, script.queue, body, who=self._name, delay=script.delay)
            self._count()
            if script.pace:
                await asyncio.sleep(script.pace)

    async def _consume(self, client: Client) -> None:
        script = self._script
        retry = (
            None
            if script.attempts is None
            else Retry(attempts=script.attempts, initial=script.initial, factor=1.0, jitter=0.0)
        )
        self._consumer = client.consumer(
            script.queue,
            concurrency=script.concurrency,
            prefetch=script.prefetch,
            retry=retry,
            dead_letter=f"{script.queue}.dead" if script.dead_letter else None,
        )
        if self._stopping.is_set():
            self._consumer.stop()
        await self._consumer.run(self._handle)

    async def _request(self, client: Client) -> None:
        await client.request(self._script.queue, self._name, timeout=60)

    async def _redrive(self, client: Client) -> None:
        await client.redrive(f"{self._script.queue}.dead")

    async def _leave(self, client: Client) -> None:
        """Let go of everything as it is."""
        self._left = client
        await client.open()
        await self._produce(client)
        if self._script.handler == "hold":
            self._consumer = client.consumer(self._script.queue)
            messages = await self._consumer.__aenter__()
            for number in range(2):
                (message,) = await messages.receive()
                self._history.took(message, self._name)
                if not number:
                    await self._history.ack(message)

    _parts: ClassVar[dict[str, Callable[[Player, Client], Awaitable[None]]]] = {
        "producer": _produce,
        "consumer": _consume,
        "redriver": _redrive,
        "requester": _request,
    }

    async def _handle(self, message: Message) -> None:
        if self._script.die_unseen and message.body.startswith(self._script.die_on or b"\0"):
            self._die()
        self._history.took(message, self._name)
        try:
            await self._settle(message)
        except asyncio.CancelledError:  # what it held goes back
            self._history.ended(self._name)
            raise

    async def _settle(self, message: Message) -> None:
        script, history = self._script, self._history
        if script.die_on is not None and message.body.startswith(script.die_on):
            self._end()
        if script.pace:
            await asyncio.sleep(script.pace)
        match script.handler:
            case "hold":
                await asyncio.Event().wait()
            case "fail":
                async with history.settling(message, "release"):
                    await message.retry()
            case "ack":
                await history.ack(message)
        self._count()

    def _count(self) -> None:
        self._done += 1
        if self._done == self._script.die_after:
            self._end()

    def _end(self) -> None:
        self._history.ended(self._name)
        self._die()


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent writes to a child process."""

    url: str
    script: Script


def kill_myself() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


async def main(name: str, path: Path) -> None:
    """Play what stands on the standard input. SIGTERM drains; a second one exits at once."""
    start = msgspec.json.decode(sys.stdin.buffer.read(), type=Start)
    with Journal(path) as journal:
        history = Recorder(journal)
        player = Player(name, start.script, history, kill_myself)
        asked = itertools.count()

        def ask() -> None:
            if next(asked):
                os._exit(ABORTED)
            player.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ask)
        await player.play(start.url)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
