"""The broker of wire://, a process of its own, and the harness of the target: see wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec
from wire import LEASE, PASSWORD, Frames

from anyqueue import URL, AuthFailed, ConfigError, ConnectFailed, Error, Limits, ProtocolError
from anyqueue.backends.sqlite import SqliteDriver
from anyqueue.driver import (
    Accept,
    BatchSettleFailed,
    Delivery,
    Envelope,
    Queue,
    Reject,
    Release,
    Spec,
    Subscription,
    Topic,
)
from anyqueue.testing.children import ProcessChild
from anyqueue.testing.harness import Broker, Failure, Harness, query
from anyqueue.testing.targets.sqlite import SqliteForeign, SqliteHarness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyqueue.testing.children import Child, Script
    from anyqueue.testing.proxy import Proxy

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Queue, Topic, Accept, Release, Reject)}
open_connections: set[Connection] = set()


class Connection:
    """One client, and its driver on the store."""

    def __init__(self, path: str, frames: Frames) -> None:
        self._driver = SqliteDriver.from_url(URL.parse(f"sqlite:///{path}?lease={LEASE}"))
        self._frames = frames
        self._subscriptions: dict[int, Subscription] = {}
        self._numbers = itertools.count(1)
        self._known = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until it hangs up; then everything it held goes back."""
        await self._driver.open()
        open_connections.add(self)
        try:
            while True:
                number, verb, arguments = await self._frames.read()
                task = asyncio.create_task(self._answer(number, verb, arguments))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (OSError, ProtocolError, ValueError, TypeError):
            pass  # so it goes
        finally:
            open_connections.discard(self)
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._driver.close()
            self._frames.writer.close()

    def hang_up(self) -> None:
        """End it."""
        self._frames.writer.transport.abort()

    async def _answer(self, number: int, verb: str, arguments: list[Any]) -> None:
        try:
            if not (self._known or verb in {"hello", "beat"}):
                raise ProtocolError("who are you?")
            result = await getattr(self, f"on_{verb}")(*arguments)
        except Exception as error:  # noqa: BLE001 -- the client is told
            what = error.what if isinstance(error, Error) else str(error)
            self._frames.write([number, [type(error).__name__, what], None])
        else:
            self._frames.write([number, None, msgspec.to_builtins(result)])
        with contextlib.suppress(OSError):
            await self._frames.writer.drain()

    async def on_hello(self, user: str, password: str) -> bool:
        """Let it in, or not."""
        self._known = bool(user) and password == PASSWORD
        return self._known

    async def on_beat(self) -> None:
        """Be alive."""

    async def on_send(self, kind: str, name: str, batch: list[Any]) -> None:
        """Put; a broker that is started to be broken confirms first."""
        if "ANYQUEUE_WIRE_LAZY" in os.environ:
            task = asyncio.create_task(self._put_later(kind, name, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            await self._put(kind, name, batch)

    async def _put_later(self, kind: str, name: str, batch: list[Any]) -> None:
        await asyncio.sleep(0.1)
        await self._put(kind, name, batch)

    async def _put(self, kind: str, name: str, batch: list[Any]) -> None:
        await self._driver.send(KINDS[kind](name), msgspec.convert(batch, list[Envelope]))

    async def on_subscribe(self, kind: str, name: str, group: str | None, dead: str | None) -> tuple[int, str, bool]:
        """Begin."""
        spec = Spec(address=KINDS[kind](name), group=group, dead_letter=None if dead is None else Queue(dead))
        subscription = await self._driver.subscribe(spec)
        number = next(self._numbers)
        self._subscriptions[number] = subscription
        assert subscription.home is not None
        return number, subscription.home.name, subscription.dead_letters

    async def on_receive(self, number: int, limit: int) -> Sequence[Delivery]:
        """Hand over."""
        return await self._subscriptions[number].receive(limit)

    async def on_settle(self, number: int, how: list[Any]) -> list[tuple[int, str]]:
        """Settle; say what came too late."""
        batch = [(_delivery(receipt), KINDS[kind](**fields)) for receipt, kind, fields in how]
        try:
            await self._subscriptions[number].settle(batch)
        except BatchSettleFailed as error:
            return list(error.failures.items())
        return []

    async def on_extend(self, number: int, receipts: list[Any]) -> list[int]:
        """Renew."""
        deliveries = [_delivery(receipt) for receipt in receipts]
        gone = await self._subscriptions[number].extend(deliveries)
        return [index for index, one in enumerate(deliveries) if one in gone]

    async def on_unsubscribe(self, number: int) -> None:
        """End."""
        await self._subscriptions.pop(number).close()

    async def on_queues(self) -> object:
        """List."""
        return await self._driver.queues()

    async def on_depth(self, name: str) -> object:
        """Count."""
        return await self._driver.depth(Queue(name))

    async def on_browse(self, name: str, limit: int) -> object:
        """Look."""
        return await self._driver.browse(Queue(name), limit)

    async def on_purge(self, name: str) -> object:
        """Empty."""
        return await self._driver.purge(Queue(name))

    async def on_delete(self, name: str) -> None:
        """Delete."""
        await self._driver.delete(Queue(name))

    async def on_connections(self) -> int:
        """Count, but for the one that asks."""
        return len(open_connections) - 1


def _delivery(receipt: Sequence[int]) -> Delivery:
    return Delivery(envelope=Envelope(id="", body=b""), receipt=tuple(receipt))


async def serve(port: int, path: str) -> None:
    """Serve until SIGTERM."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)

    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(path, Frames(reader, writer)).serve())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await ending.wait()
    server.close()
    for connection in list(open_connections):
        connection.hang_up()
    if tasks:
        await asyncio.wait(tasks)


class WireBroker(Broker):
    """The process. It is no child of this one: a case may leave it behind, and must not leave a child."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.path = folder / "wire.db"
        self._process = 0

    def start(self) -> None:
        """Start it unless it runs."""
        if not self._process:
            command = [sys.executable, __file__, "start", str(self.port), str(self.path)]
            self._process = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603 -- ours
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._process, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._signal(number)
            while Path(f"/proc/{self._process}").exists():
                time.sleep(0.01)
        self._process = 0

    def stop(self) -> None:
        """SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process:
            self._signal(signal.SIGCONT)


def start(*arguments: str) -> None:
    """Start the broker and leave it alone; print its number."""
    command = [sys.executable, __file__, "serve", *arguments]
    print(subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL).pid)  # noqa: S603, T201 -- ours


class WireHarness(Harness):
    """The target wire://."""

    name: ClassVar[str] = "wire"
    crosses_processes: ClassVar[bool] = True
    network: ClassVar[bool] = True
    expected = msgspec.structs.replace(SqliteHarness.expected, limits=Limits(max_sends=64, lease=LEASE))

    def start(self, folder: Path) -> None:
        """Start the broker."""
        self._folder = folder
        self._children = itertools.count(1)
        self._broker = self.broker = WireBroker(folder)
        self.broker.start()
        self.foreign = SqliteForeign(self.broker.path)

    def stop(self) -> None:
        """Stop it."""
        self._broker.stop()

    def url(
        self,
        *,
        through: Proxy | None = None,
        credentials: Literal["good", "wrong"] = "good",
        tls: bool = False,
        **options: object,
    ) -> str:
        """Return wire://ada:PASSWORD@127.0.0.1:PORT."""
        assert not tls
        password = PASSWORD if credentials == "good" else "wrong"
        port = self._broker.port if through is None else through.port
        return URL.parse(f"wire://ada@127.0.0.1:{port}{query(options)}").with_credentials("ada", password).reveal()

    def heartbeat(self, seconds: float) -> dict[str, object]:
        """Return the option."""
        return {"heartbeat": seconds}

    def failures(self) -> Sequence[Failure]:
        """Return what can go wrong."""
        return [
            Failure(sentence="nobody listens", url="wire://ada:x@127.0.0.1:1", error=ConnectFailed),
            Failure(sentence="a wrong password", url=self.url(credentials="wrong"), error=AuthFailed),
            Failure(sentence="no port", url="wire://127.0.0.1", error=ConfigError),
        ]

    async def connections(self) -> int:
        """Ask the broker."""
        frames = Frames(*await asyncio.open_connection("127.0.0.1", self._broker.port))
        try:
            frames.write([1, "hello", ["witness", PASSWORD]])
            frames.write([2, "connections", []])
            await frames.read()
            count: int = (await frames.read())[2]
            return count
        finally:
            frames.writer.close()
            await frames.writer.wait_closed()

    def child(self, name: str, script: Script, *, url: str | None = None) -> Child:
        """Start a process."""
        return ProcessChild(name, self._folder / f"child-{next(self._children)}.jsonl", url or self.url(), script)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """Freeze it."""
        self._broker.pause()
        try:
            yield
        finally:
            self._broker.resume()


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(*sys.argv[2:])
    else:
        asyncio.run(serve(int(sys.argv[2]), sys.argv[3]))
