"""What RabbitMQ holds at this moment, asked from the inside: brokers/rabbitmq/witness.escript, kept running.

A count is exact: it is taken after all that the queue had received when it was asked for. Start the witness with the
harness, not within a case: its process and its pipe would count as left behind.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import threading
from typing import TYPE_CHECKING, TypeVar

import msgspec

from anyqueue.testing.harness import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class WitnessError(RuntimeError):
    """The broker did not answer the witness: it is down or paused, or its queue has no leader."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A client's connection as the broker sees it."""

    name: str | None
    protocol: str
    """`AMQP`, `STOMP 1.2` and so on."""
    user: str | None
    node: str
    port: int
    """The listener's."""
    properties: dict[str, str]
    """What the client said of itself: `product`, `connection_name`."""


class _Depth(msgspec.Struct, frozen=True):
    ready: int
    unacked: int


class _Answer(msgspec.Struct, frozen=True):
    ok: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


class RabbitmqWitness:
    """The witness's process, for any thread and any event loop. `command` is "witness" of the launcher's `describe`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it now, not at the first question."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End it."""
        with self._lock:
            if self._process is not None:
                self._process.communicate(timeout=30)
                self._process = None

    async def count(self, queue: str) -> Count:
        """Count a queue; one that does not exist is empty."""
        depths = await self._ask(list[_Depth], "count", queue)
        return Count(waiting=sum(each.ready for each in depths), unacked=sum(each.unacked for each in depths))

    async def held(self, queue: str) -> int:
        """Count what the channels of a queue's consumers hold unacknowledged."""
        return await self._ask(int, "held", queue)

    async def queues(self) -> set[str]:
        """Name the queues of the virtual host `/`."""
        return set(map(_text, await self._ask(list[str], "queues")))

    async def delete(self, queue: str) -> bool:
        """Delete a queue with all that is in it; return whether there was one."""
        return await self._ask(bool, "delete", queue)

    async def exchanges(self) -> set[str]:
        """Name the exchanges that clients declared."""
        return set(map(_text, await self._ask(list[str], "exchanges")))

    async def delete_exchange(self, exchange: str) -> bool:
        """Delete an exchange; return whether there was one."""
        return await self._ask(bool, "delete-exchange", exchange)

    async def leader(self, queue: str) -> str | None:
        """Return the Erlang node that leads a queue."""
        found = await self._ask(list[str], "leader", queue)
        return found[0] if found else None

    async def connections(self) -> list[Connection]:
        """Return every client's connection."""
        return await self._ask(list[Connection], "connections")

    async def close_connections(self) -> int:
        """Have the broker close them all; return how many there were."""
        return await self._ask(int, "close-connections")

    async def save(self) -> None:
        """Have the broker write down which quorum queues it has, before it is killed.

        RabbitMQ 3.10 does so half a second after the last declaration. Killed before, it comes back without the queue's
        contents, confirmed or not, and with a queue that has no leader.
        """
        await self._ask(bool, "save")

    async def _ask(self, kind: type[T], verb: str, *names: str) -> T:
        return await asyncio.to_thread(self.ask, kind, verb, *names)

    def ask(self, kind: type[T], verb: str, *names: str) -> T:
        """Ask one question, in this thread. Raises WitnessError where the broker has no answer."""
        line = " ".join([verb, *(base64.b64encode(name.encode()).decode() for name in names)])
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            said = process.stdout.readline()
        try:
            answer = msgspec.json.decode(said, type=_Answer)
        except msgspec.DecodeError:
            raise WitnessError(f"the witness did not answer {verb}: {said!r}") from None
        if answer.error is not None:
            raise WitnessError(f"{verb}: {answer.error}")
        return msgspec.json.decode(answer.ok, type=kind)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # noqa: S603 -- the launcher's words
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process


def _text(name: str) -> str:
    return base64.b64decode(name).decode(errors="replace")
