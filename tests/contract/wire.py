"""wire://: a broker of our own behind a real network, so that the network cases can be tried and broken quickly.

The broker is a process with the SQLite store; a driver is a stub that calls it over TCP. It is small because it is one:
each frame is a length, then a MessagePack array of (number, verb, arguments) or (number, result).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import time
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

import anyqueue
from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed, ConnectionLost, Error, Limits, ProtocolError
from anyqueue.driver import BatchSettleFailed, Delivery, Depth, Driver, Envelope, Queue, Settlement, Spec, Subscription
from anyqueue.testing.targets.sqlite import SqliteHarness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.driver import Address

LEASE = 2.0
PATIENCE = 3.0
"""Seconds for one host, so that there is time for the next."""
MOST = 32 * 1024 * 1024
"""Bytes in a frame."""
PASSWORD = "open sesame"  # noqa: S105 -- of a broker on this machine that lives as long as a test
"""Of everybody."""
HEADER = struct.Struct("!I")


def _error(kind: str, what: str) -> Exception:
    """Return an error of the broker's as one of ours."""
    found = getattr(anyqueue, kind, None)
    return found(what) if isinstance(found, type) and issubclass(found, Error) else ProtocolError(f"{kind}: {what}")


class Frames:
    """The two ends of a connection, as frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def read(self) -> list[Any]:
        """Read one. Raises ProtocolError or OSError."""
        try:
            (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            if size > MOST:
                raise ProtocolError(f"a frame of {size} bytes")
            return msgspec.msgpack.decode(await self._reader.readexactly(size), type=list)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the other side has gone") from error
        except msgspec.DecodeError as error:
            raise ProtocolError(f"no frame: {error}") from error

    def write(self, frame: object) -> None:
        """Write one."""
        data = msgspec.msgpack.encode(frame)
        self.writer.write(HEADER.pack(len(data)) + data)


class Options(msgspec.Struct, frozen=True):
    """The options of the URL."""

    heartbeat: float = 5.0


class WireDriver(Driver):
    """A connection to the broker."""

    backend: ClassVar[str] = "wire"
    features = SqliteHarness.expected.features
    limits = Limits(max_sends=64, lease=LEASE)

    def __init__(self, url: URL, options: Options) -> None:
        self._url = url
        self._options = options
        self._frames: Frames | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._heard = 0.0
        self._lost: Exception | None = None

    @classmethod
    def from_url(cls, url: URL) -> WireDriver:
        """Make an unopened driver."""
        if not url.hosts or any(host.port is None for host in url.hosts):
            raise ConfigError("a wire URL names hosts and ports", url=url)
        return cls(url, url.take_options(Options))

    async def open(self) -> None:
        """Connect to the first host that takes us."""
        failure: Exception = ConnectFailed("no host", url=self._url)
        for host in self._url.hosts:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._open(host.name, host.port or 0)
            except (OSError, ProtocolError, ConnectionLost) as error:  # TimeoutError is one
                failure = error
            await self.close()
            self._lost = None
        raise ConnectFailed(f"no answer from {', '.join(map(str, self._url.hosts))}", url=self._url) from failure

    async def _open(self, host: str, port: int) -> None:
        self._frames = Frames(*await asyncio.open_connection(host, port))
        self._heard = time.monotonic()
        self._tasks = [asyncio.create_task(self._listen(self._frames)), asyncio.create_task(self._beat())]
        try:
            password = self._url.password.reveal() if self._url.password else ""
            if not await self.call("hello", self._url.username or "", password):
                raise AuthFailed("the user or the password is wrong", url=self._url)
        except BaseException:
            await self.close()
            raise

    async def call(self, verb: str, *arguments: object) -> Any:
        """Call the broker."""
        return await self.begin(verb, *arguments)

    def begin(self, verb: str, *arguments: object) -> asyncio.Future[Any]:
        """Call the broker, and return what will hold its answer."""
        if self._lost is not None or self._frames is None:
            raise ConnectionLost(f"the connection is lost: {self._lost}", url=self._url)
        number = next(self._numbers)
        self._calls[number] = answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._calls.pop(number, None))
        self._frames.write([number, verb, arguments])
        return answer

    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Send a batch."""
        await self.call("send", type(address).__name__, address.name, list(batch))

    async def subscribe(self, spec: Spec) -> Subscription:
        """Subscribe."""
        dead = spec.dead_letter and spec.dead_letter.name
        made = await self.call("subscribe", type(spec.address).__name__, spec.address.name, spec.group, dead)
        return WireSubscription(self, *made)

    async def close(self) -> None:
        """Hang up."""
        self._lose(ConnectionLost("the driver was closed"))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._frames is not None:
            self._frames.writer.close()
            with contextlib.suppress(Exception):
                await self._frames.writer.wait_closed()

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List them."""
        return [(name, Depth(**depth)) for name, depth in await self.call("queues")]

    async def depth(self, queue: Queue) -> Depth:
        """Count."""
        return Depth(**await self.call("depth", queue.name))

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Look."""
        return msgspec.convert(await self.call("browse", queue.name, limit), list[Envelope])

    async def purge(self, queue: Queue) -> int:
        """Empty it."""
        purged: int = await self.call("purge", queue.name)
        return purged

    async def delete(self, queue: Queue) -> None:
        """Delete it."""
        await self.call("delete", queue.name)

    async def _listen(self, frames: Frames) -> None:
        try:
            while True:
                number, error, result = await frames.read()
                self._heard = time.monotonic()
                answer = self._calls.get(number)
                if answer is None or answer.done():
                    continue
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(_error(*error))
        except (OSError, ProtocolError, ValueError, TypeError) as error:
            self._lose(error)

    async def _beat(self) -> None:
        """Say something twice a heartbeat, and expect to hear something within one and a half."""
        seconds = self._options.heartbeat
        while self._lost is None:
            if time.monotonic() - self._heard > 1.5 * seconds:
                self._lose(ConnectionLost(f"nothing heard for {1.5 * seconds:g} s"))
                return
            self.begin("beat").add_done_callback(lambda beat: beat.cancelled() or beat.exception())
            await asyncio.sleep(seconds / 2)

    def _lose(self, error: Exception) -> None:
        if self._lost is None:
            self._lost = error
            if self._frames is not None:
                self._frames.writer.transport.abort()
            for answer in list(self._calls.values()):
                if not answer.done():
                    answer.set_exception(ConnectionLost(f"the connection was lost: {error}", url=self._url))
                    answer.exception()


class WireSubscription(Subscription):
    """A hold on a queue."""

    def __init__(self, driver: WireDriver, number: int, home: str, dead_letters: bool) -> None:  # noqa: FBT001 -- off the wire
        self.home = Queue(home)
        self.dead_letters = dead_letters
        self._driver = driver
        self._number = number
        self._waiting: asyncio.Future[Any] | None = None
        self._surplus: list[Delivery] = []

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Wait for the broker to hand over; a cancelled call leaves that to the next."""
        if not self._surplus:
            if self._waiting is None:
                self._waiting = self._driver.begin("receive", self._number, limit)
            await asyncio.wait([self._waiting])
            waited, self._waiting = self._waiting, None
            self._surplus = msgspec.convert(waited.result(), list[Delivery])
        taken, self._surplus = self._surplus[:limit], self._surplus[limit:]
        return taken

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle by receipt."""
        how = [(delivery.receipt, type(one).__name__, msgspec.structs.asdict(one)) for delivery, one in batch]
        late = await self._driver.call("settle", self._number, how)
        if late:
            raise BatchSettleFailed({int(index): why for index, why in late})

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Renew."""
        gone = await self._driver.call("extend", self._number, [delivery.receipt for delivery in deliveries])
        return [deliveries[index] for index in gone]

    async def close(self) -> None:
        """Give back."""
        with contextlib.suppress(Error):
            await self._driver.call("unsubscribe", self._number)
