"""Load: senders and a consumer that go on while the case breaks things under them, every step of theirs recorded.

They are one client, so both of its connections are under the same fault; the case looks on through another.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from anyqueue import SendError, SettleError
from anyqueue.hooks import Connected, Disconnected, Event
from anyqueue.testing.acts import is_empty, running
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyqueue import Client, Message
    from anyqueue.testing.trial import Trial

DEAF: Final = 30.0
"""Seconds without a message after which a consumer that should be consuming is deaf."""


class Ways:
    """What a client's hooks tell of its connections. When one is found lost, what was held or under way may come twice.

    Give it to connect(hooks=[...]).
    """

    def __init__(self, t: Trial) -> None:
        self._history = t.history
        self.connected: list[float] = []
        """When, by time.monotonic()."""
        self.lost: list[float] = []

    def __call__(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, Connected):
            self.connected.append(time.monotonic())
        elif isinstance(event, Disconnected):
            self._history.ended()
            self.lost.append(time.monotonic())


class Load:
    """What goes through one queue while the block runs."""

    def __init__(self, t: Trial, client: Client, queue: str, ways: Ways, pace: float) -> None:
        self.client = client
        self.ways = ways
        self.confirmed = 0
        self.failed: list[SendError] = []
        self.bodies: set[bytes] = set()
        """Of the messages that were received."""
        self.taken = 0
        """How many were received and accepted."""
        self._t = t
        self._queue = queue
        self._pace = pace
        self._stopping = asyncio.Event()

    async def moved(self, messages: int, timeout: float = DEAF) -> None:  # noqa: ASYNC109 -- a deadline of the case's own
        """Wait until so many more have been received and accepted, and so many more confirmed."""
        taken, confirmed = self.taken + messages, self.confirmed + messages
        what = f"{messages} more went through"
        await self._t.eventually(lambda: self.taken >= taken and self.confirmed >= confirmed, timeout, what)

    async def hears(self, client: Client, body: bytes, within: float = DEAF) -> None:
        """Send a message by another client, and wait until it is received here, in so many seconds."""
        watch = Stopwatch()
        await self._t.history.send(client, self._queue, body, who="beside")
        await self._t.eventually(lambda: body in self.bodies, DEAF, f"{body!r} was received")
        watch.within(within, f"{body!r} to be received")

    async def send(self, who: str) -> None:
        """Be one sender, until the block ends."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            try:
                await self._t.history.send(self.client, self._queue, f"{who} {number}".encode(), who=who)
            except SendError as error:
                self.failed.append(error)
            else:
                self.confirmed += 1
            await asyncio.sleep(self._pace)

    async def handle(self, message: Message) -> None:
        """Take a message. One whose connection was lost meanwhile comes again."""
        self._t.history.took(message, "load")
        self.bodies.add(message.body)
        with contextlib.suppress(SettleError):
            await self._t.history.ack(message)
            self.taken += 1

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()


@contextlib.asynccontextmanager
async def loaded(
    t: Trial,
    queue: str,
    url: str | None = None,
    *,
    senders: int = 2,
    pace: float = 0.002,
    **arguments: Any,  # noqa: ANN401 -- whatever connect() takes
) -> AsyncIterator[Load]:
    """Send to a queue and consume it, over `url`; at the end stop sending, and wait until the broker counts none."""
    ways = Ways(t)
    async with t.connect(url, hooks=[ways], **arguments) as client:
        load = Load(t, client, queue, ways, pace)
        async with running(client, queue, load.handle, concurrency=4, prefetch=20, dead_letter=None):
            tasks = [asyncio.create_task(load.send(f"sender {number}")) for number in range(senders)]
            try:
                yield load
            finally:
                load.stop()
                await asyncio.gather(*tasks)
            await t.eventually(is_empty(t, queue), what=f"{queue} is empty")
