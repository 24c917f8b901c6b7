"""files:///PATH: a directory of files as queues, for the processes of one machine.

A queue is a folder with `ready`, `held`, `new` and `owners`; a message is a file. To claim one is to rename it, which
one process does and the others fail to. Its name keeps its place in the queue, its counts and when a handler first
failed on it (microseconds, or 0): `PLACE.ATTEMPTS.CLAIMS.FAILED`, and while it is held also `.OWNER`. An owner is a
file that its subscription keeps locked: the lock of a process that was killed is free, and whoever looks next puts
back what it held.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import itertools
import os
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from anyqueue.driver import (
    BatchSettleFailed,
    Delivery,
    Depth,
    Driver,
    Feature,
    Limits,
    Queue,
    Release,
    Subscription,
)
from anyqueue.errors import Closed, ConfigError, ConnectionLost, QueueNotFound
from anyqueue.packing import pack, unpack
from anyqueue_files.disk import files, look, move, remove, sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.driver import Address, Envelope, Settlement, Spec
    from anyqueue.url import URL

POLL = 0.02
"""Seconds between two looks into an empty queue."""
MOST = 200
"""Messages in one claim, so that a consumer does not wait for all of them before it has the first."""
PARTS = ("ready", "held", "new", "owners")


class FilesDriver(Driver):
    """A driver on a directory."""

    backend: ClassVar[str] = "files"

    def __init__(self, root: Path) -> None:
        self.features = (
            Feature.CONFIRM
            | Feature.REDELIVER
            | Feature.RELEASE
            | Feature.ATTEMPTS
            | Feature.COMPETING
            | Feature.DURABLE
            | Feature.DELETE
            | Feature.INSPECT
            | Feature.COUNT
        )
        self.limits = Limits(max_batch=100)
        self._root = root
        self._open = False
        self._sent = itertools.count()
        self._subscriptions: list[FilesSubscription] = []

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver."""
        if url.hosts or url.username is not None or url.options or len(url.path) < 2:  # noqa: PLR2004 -- more than "/"
            raise ConfigError(
                "a files URL is a path and nothing else", url=url, hint="write files:///path/of/directory"
            )
        return cls(Path(url.path))

    async def open(self) -> None:
        """Make the directory, if it is not there."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self._root} cannot be a directory of queues: {error.strerror}") from error
        self._open = True

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Write a batch; return once it is on disk."""
        folder = self.folder(address.name, declare=True)
        await asyncio.to_thread(self._write, folder, [pack(envelope) for envelope in batch])

    async def subscribe(self, spec: Spec) -> FilesSubscription:
        """Declare the queue and begin. The core asks for no topic, for FANOUT is not declared."""
        subscription = FilesSubscription(self, self.folder(spec.address.name, declare=True), spec.address.name)
        self._subscriptions.append(subscription)
        return subscription

    async def close(self) -> None:
        """End the subscriptions."""
        self._open = False
        for subscription in self._subscriptions:
            await subscription.close()

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List the queues."""
        self.check()
        names = sorted(path.read_text() for path in self._root.glob("*/name"))
        return [(name, await self.depth(Queue(name))) for name in names]

    async def depth(self, queue: Queue) -> Depth:
        """Count the files."""
        ready, held = look(self.folder(queue.name))
        return Depth(ready=len(ready), delayed=0, held=len(held))

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Read the first files."""
        ready = self.folder(queue.name) / "ready"
        return [unpack((ready / name).read_bytes()) for name in files(ready)[:limit]]

    async def purge(self, queue: Queue) -> int:
        """Delete the files that nobody holds."""
        ready = self.folder(queue.name) / "ready"
        return sum(remove(ready / name) for name in files(ready))

    async def delete(self, queue: Queue) -> None:
        """Delete the folder."""
        folder = self.folder(queue.name)
        remove(folder / "name")
        for part in PARTS:
            for name in files(folder / part):
                remove(folder / part / name)
            if (folder / part).exists():
                (folder / part).rmdir()
        if folder.exists():
            folder.rmdir()

    def check(self) -> None:
        """Raise Closed unless the driver is open."""
        if not self._open:
            raise Closed("this files driver is not open")

    def folder(self, queue: str, *, declare: bool = False) -> Path:
        """Return a queue's folder. Any name is legal, so a folder is called by the hash of it."""
        self.check()
        folder = self._root / hashlib.sha256(queue.encode()).hexdigest()
        if declare and not (folder / "name").exists():
            for part in PARTS:
                (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / "name").write_text(queue)
        return folder

    def _write(self, folder: Path, records: Sequence[bytes]) -> None:
        names = [f"{time.time_ns():020}-{next(self._sent):010}-{secrets.token_hex(4)}.0.0.0" for _ in records]
        for name, record in zip(names, records, strict=True):
            with (folder / "new" / name).open("xb") as file:
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
        for name in names:
            (folder / "new" / name).rename(folder / "ready" / name)
        sync(folder / "ready")


class FilesSubscription(Subscription):
    """A hold on one folder."""

    def __init__(self, driver: FilesDriver, folder: Path, queue: str) -> None:
        self.home = Queue(queue)
        self._driver = driver
        self._folder = folder
        self._queue = queue
        self._owner = secrets.token_hex(8)
        self._lock = os.open(folder / "owners" / self._owner, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._closed = False
        self._claiming: asyncio.Task[list[Delivery]] | None = None

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Claim what is ready, or look again soon. What is being claimed when it is cancelled is the next call's."""
        while True:
            if self._closed:
                raise ConnectionLost("the connection was closed", queue=self._queue)
            self._check()
            self._claiming = self._claiming or asyncio.create_task(asyncio.to_thread(self._claim, limit))
            await asyncio.wait([self._claiming])
            claiming, self._claiming = self._claiming, None
            if claimed := claiming.result():
                return claimed
            await asyncio.sleep(POLL)

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Delete, or rename back. A Reject finds no dead letters bound here: DEAD_LETTER is not declared."""
        self._check()
        failures = await asyncio.to_thread(self._settle, batch)
        if failures:
            raise BatchSettleFailed(failures)

    async def close(self) -> None:
        """Put back what is held, and give up the lock."""
        if self._closed:
            return
        self._closed = True
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
        for name in files(self._folder / "held"):
            if name.endswith(self._owner):
                self._release(name, Release())
        os.close(self._lock)
        remove(self._folder / "owners" / self._owner)

    def _settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> dict[int, str]:
        failures = {}
        for index, (delivery, settlement) in enumerate(batch):
            name = str(delivery.receipt)
            held = self._folder / "held" / name
            done = self._release(name, settlement) if isinstance(settlement, Release) else remove(held)
            if not done:
                failures[index] = "the queue was deleted"
        sync(self._folder / "held")
        return failures

    def _claim(self, limit: int) -> list[Delivery]:
        claimed: list[Delivery] = []
        names = files(self._folder / "ready") or self._revive()
        for name in names:
            if len(claimed) == min(limit, MOST):
                break
            place, attempts, claims, failed = name.split(".")
            held = f"{place}.{int(attempts) + 1}.{int(claims) + 1}.{failed}.{self._owner}"
            if move(self._folder / "ready" / name, self._folder / "held" / held):
                envelope = unpack((self._folder / "held" / held).read_bytes())
                claimed.append(
                    Delivery(
                        envelope=envelope,
                        receipt=held,
                        attempt=int(attempts) + 1,
                        redelivered=claims != "0",
                        first_failure=int(failed) / 1e6 or None,
                    )
                )
        return claimed

    def _release(self, name: str, release: Release) -> bool:
        place, attempts, claims, failed, _ = name.split(".")
        if release.failed_at is None:
            attempts = str(int(attempts) - 1)
        elif failed == "0":
            failed = str(int(release.failed_at * 1e6))
        back = f"{place}.{attempts}.{claims}.{failed}"
        return move(self._folder / "held" / name, self._folder / "ready" / back)

    def _revive(self) -> list[str]:
        """Put back what dead owners held, counted as an attempt; return what is ready then."""
        held = files(self._folder / "held")
        dead = {owner for owner in Counter(name.rpartition(".")[2] for name in held) if self._is_dead(owner)}
        for name in held:
            rest, _, owner = name.rpartition(".")
            if owner in dead:
                move(self._folder / "held" / name, self._folder / "ready" / rest)
        return files(self._folder / "ready") if dead else []

    def _is_dead(self, owner: str) -> bool:
        try:
            lock = os.open(self._folder / "owners" / owner, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _check(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed", queue=self._queue)
        self._driver.check()
        if not (self._folder / "owners" / self._owner).exists():
            raise QueueNotFound("the queue was deleted", queue=self._queue)
