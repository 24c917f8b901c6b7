"""memory:// and its weakest double, where every feature is off and every fallback runs.

The witness looks at the store itself, under its lock: nothing outside this process can.
"""

from __future__ import annotations

import itertools
import secrets
import time
from typing import TYPE_CHECKING, ClassVar

from anyqueue import URL, ConfigError, Feature, Limits
from anyqueue.backends.memory import MemoryDriver
from anyqueue.driver import ACCEPT, Envelope, Queue
from anyqueue.store.contract import Holder
from anyqueue.testing.harness import Count, Expected, Failure, Foreign, Harness, Seen, query
from anyqueue.testing.threads import Kernel, ThreadChild

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anyqueue.testing.children import Child, Script


class MemoryForeign(Foreign):
    """The store behind a memory URL."""

    def __init__(self, url: str) -> None:
        self._url = URL.parse(url)
        self._number = itertools.count(1)

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Put a bare envelope."""
        driver = await self._driver()
        await driver.send(Queue(queue), [Envelope(id=f"foreign-{next(self._number)}", body=body, headers=headers)])

    async def get(self, queue: str) -> Seen | None:
        """Claim the next and accept it."""
        room = (await self._driver()).room()
        holder = Holder(owner=room.new_owner(), queue=queue)
        with room.lock:
            if queue not in dict(room.store.queues(time.time())):
                return None
            for delivery in room.store.claim(holder, 1, time.time()):
                room.store.settle(holder, [(delivery.receipt, ACCEPT)], time.time())
                envelope = delivery.envelope
                return Seen(body=envelope.body, headers=envelope.headers, id=envelope.id)
        return None

    async def count(self, queue: str) -> Count:
        """Count by state."""
        room = (await self._driver()).room()
        with room.lock:
            depth = room.store.depth(queue, time.time())
        return Count(waiting=depth.ready + depth.delayed, unacked=depth.held)

    async def queues(self) -> set[str]:
        """Name the queues."""
        room = (await self._driver()).room()
        with room.lock:
            return {name for name, _ in room.store.queues(time.time())}

    async def delete(self, queue: str) -> None:
        """Delete a queue."""
        room = (await self._driver()).room()
        with room.lock:
            room.store.delete(queue)

    async def _driver(self) -> MemoryDriver:
        driver = MemoryDriver.from_url(self._url)
        await driver.open()
        return driver


class MemoryHarness(Harness):
    """The target memory://."""

    name: ClassVar[str] = "memory"
    crosses_processes: ClassVar[bool] = False
    expected: ClassVar[Expected] = Expected(
        features=Feature.CONFIRM
        | Feature.REDELIVER
        | Feature.RELEASE
        | Feature.RELEASE_DELAY
        | Feature.ATTEMPTS
        | Feature.DEAD_LETTER
        | Feature.DELAY
        | Feature.PRIORITY
        | Feature.EXPIRY
        | Feature.COMPETING
        | Feature.FANOUT
        | Feature.INSPECT
        | Feature.COUNT
        | Feature.DELETE,
        limits=Limits(
            max_body=16 * 1024 * 1024,
            max_batch=1000,
            max_sends=64,
            max_unsettled=None,
            delay_step=0.0,
            max_delay=None,
            lease=None,
        ),
        released="in place",
        unheard="dropped",
        unknown="created",
    )
    _options: ClassVar[dict[str, object]] = {}

    def start(self, folder: Path) -> None:
        """Make a room of its own."""
        self._folder = folder
        self._room = f"contract-{secrets.token_hex(4)}"
        self._children = itertools.count(1)
        self.foreign = MemoryForeign(self.url())
        self._kernel = Kernel(MemoryDriver)
        self._kernel.install()

    def stop(self) -> None:
        """Forget the room."""
        self._kernel.remove()
        MemoryDriver.forget(self._room)

    def url(self, **options: object) -> str:
        """Return memory://ROOM."""
        return f"memory://{self._room}{query({**self._options, **options})}"

    def failures(self) -> Sequence[Failure]:
        """Return what a memory URL can get wrong; nothing else can fail."""
        return [
            Failure(sentence="an unknown profile", url=f"{self.url()}?as=mainframe", error=ConfigError),
            Failure(sentence="a path", url="memory://name/path", error=ConfigError),
            Failure(sentence="a port", url="memory://name:5672", error=ConfigError),
            Failure(sentence="two names", url="memory://one,two", error=ConfigError),
            Failure(sentence="a user", url="memory://ada@name", error=ConfigError),
            Failure(sentence="a lease of no time", url="memory://name?lease=0", error=ConfigError),
        ]

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a thread."""
        journal = self._folder / f"{self._room}-{next(self._children)}.jsonl"
        return ThreadChild(name, journal, url or self.url(), script, self._kernel)


class WeakHarness(MemoryHarness):
    """The target memory://?as=weak."""

    name: ClassVar[str] = "memory-weak"
    expected: ClassVar[Expected] = Expected(
        features=Feature.NONE,
        limits=MemoryHarness.expected.limits,
        released="at the end",
        unheard="refused",
        unknown="created",
    )
    _options: ClassVar[dict[str, object]] = {"as": "weak"}
