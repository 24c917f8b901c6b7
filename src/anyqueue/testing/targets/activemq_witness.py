"""What ActiveMQ holds at this moment, asked of the broker itself.

* Counts come from its statistics plugin over STOMP: a question to `ActiveMQ.Statistics.Destination.NAME` is answered
  with the exact numbers. What its scheduler keeps is asked of the scheduler, which sends a copy of each.
* A queue is deleted over OpenWire, the broker's own protocol: STOMP has no word for it. Four commands of it are enough.

The sockets are opened anew where they are lost. No thread is left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from anyqueue.testing.targets.stomp_client import Login

    T = TypeVar("T")

PATIENCE: Final = 30.0
STATISTICS: Final = "/queue/ActiveMQ.Statistics."
SCHEDULER: Final = "/topic/ActiveMQ.Scheduler.Management"
END: Final = "ActiveMQ.Statistics.Destination.List.End.With.Null"
REPLY: Final = "/temp-queue/witness"
ESTABLISHED, CLOSE_WAIT = "01", "08"
_ENTRY: Final = re.compile(r"<string>(\w+)</string>\s*<\w+>([^<]*)</\w+>")
_ESCAPES: Final = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}
_PLAIN: Final = {escaped: plain for plain, escaped in _ESCAPES.items()}

Frame = tuple[str, dict[str, str], bytes]


class Statistics(msgspec.Struct, frozen=True):
    """A queue, by the broker's own count."""

    name: str
    size: int
    inflight: int


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue holds."""

    ready: int
    delayed: int
    unacked: int


class ActivemqWitness:
    """For any thread and any event loop."""

    def __init__(self, login: Login, openwire: int) -> None:
        self._login = login
        self._openwire = openwire
        self._lock = threading.Lock()
        self._wire: _Stomp | None = None

    def start(self) -> None:
        """Connect now, not at the first question."""
        self._ask(lambda wire: wire.statistics("witness"))

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._drop()

    def count(self, queue: str) -> Depth:
        """Count a queue (its name on the broker), delayed messages too; one that does not exist is empty."""
        delayed = sum(name == queue for name, _ in self._ask(_Stomp.scheduled))
        found = self._ask(lambda wire: wire.statistics(f"Destination.{queue}"))
        size = sum(each.size for each in found)
        inflight = sum(each.inflight for each in found)
        return Depth(ready=size - inflight, delayed=delayed, unacked=inflight)

    def queues(self) -> set[str]:
        """Name the queues, those too that only the scheduler has something for."""
        there = {each.name for each in self._ask(lambda wire: wire.statistics("Destination.>"))}
        return there | {name for name, _ in self._ask(_Stomp.scheduled)}

    def delete(self, queue: str) -> None:
        """Delete a queue, and what is scheduled for it."""
        jobs = [job for name, job in self._ask(_Stomp.scheduled) if name == queue]
        self._ask(lambda wire: wire.cancel(jobs))
        with contextlib.closing(_OpenWire(self._login, self._openwire)) as wire:
            wire.delete(queue)

    def connections(self) -> int:
        """Count the sockets that the broker has to clients, but for this one: it does not say itself."""
        return sum(map(self._is_served, [*_sockets("tcp"), *_sockets("tcp6")])) - 1

    def _is_served(self, line: str) -> bool:
        _, local, _, state, *_ = line.split()
        return int(local.rpartition(":")[2], 16) == self._login.port and state in {ESTABLISHED, CLOSE_WAIT}

    def _ask(self, question: Callable[[_Stomp], T]) -> T:
        with self._lock:
            for last in (False, True):
                try:
                    if self._wire is None:
                        self._wire = _Stomp(self._login)
                    return question(self._wire)
                except (OSError, EOFError):
                    self._drop()
                    if last:
                        raise
            raise AssertionError

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


class _Stomp:
    """A blocking conversation with the broker."""

    def __init__(self, login: Login) -> None:
        self._socket = socket.create_connection((login.host, login.port), PATIENCE)
        self._buffer = b""
        self._mark = itertools.count(1)
        told = {"accept-version": "1.2", "host": "/", "login": login.user, "passcode": login.password}
        try:
            self._send("CONNECT", told)
            assert self._receive()[0] == "CONNECTED"
            subscribe = {
                "id": "1",
                "destination": REPLY,
                "ack": "auto",
                "transformation": "jms-map-xml",
                "receipt": "1",
            }
            self._send("SUBSCRIBE", subscribe)
            assert self._receive()[0] == "RECEIPT"
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def statistics(self, what: str) -> list[Statistics]:
        """Ask for what matches."""
        found = [
            dict(_ENTRY.findall(body.decode())) for _, _, body in self._answers(f"{STATISTICS}{what}", {END: "true"})
        ]
        queues = [entries for entries in found if entries.get("destinationName", "").startswith("queue://")]
        return [
            Statistics(
                _text(each["destinationName"]).removeprefix("queue://"), int(each["size"]), int(each["inflightCount"])
            )
            for each in queues
        ]

    def scheduled(self) -> list[tuple[str, str]]:
        """Return the queue and the job of each message that the scheduler keeps."""
        answers = self._answers(SCHEDULER, {"AMQ_SCHEDULER_ACTION": "BROWSE"})
        return [
            (headers["original-destination"].removeprefix("/queue/"), headers["scheduledJobId"])
            for _, headers, _ in answers
            if headers.get("original-destination", "").startswith("/queue/")
        ]

    def cancel(self, jobs: list[str]) -> None:
        """Have the scheduler forget some."""
        for job in jobs:
            self._send("SEND", {"destination": SCHEDULER, "AMQ_SCHEDULER_ACTION": "REMOVE", "scheduledJobId": job})

    def _answers(self, destination: str, told: dict[str, str]) -> Iterator[Frame]:
        """Ask, and yield what is answered before the mark that is sent behind the question."""
        mark = str(next(self._mark))
        self._send("SEND", {"destination": destination, "reply-to": REPLY, **told})
        self._send("SEND", {"destination": REPLY, "mark": mark})
        frames: list[Frame] = []
        while (frame := self._receive())[1].get("mark") != mark:
            frames.append(frame)
        yield from frames

    def _send(self, command: str, headers: dict[str, str]) -> None:
        lines = [f"{name}:{_escape(text) if command != 'CONNECT' else text}\n" for name, text in headers.items()]
        self._socket.sendall(f"{command}\n{''.join(lines)}\n\0".encode())

    def _receive(self) -> Frame:
        while True:
            self._buffer = self._buffer.lstrip(b"\n")
            head, blank, rest = self._buffer.partition(b"\n\n")
            if blank:
                command, *lines = head.decode().split("\n")
                headers = {
                    _unescape(name): _unescape(text) for name, _, text in (each.partition(":") for each in lines)
                }
                end = int(headers["content-length"]) if "content-length" in headers else rest.find(b"\0")
                if 0 <= end < len(rest):
                    self._buffer = rest[end + 1 :]
                    return command, headers, rest[:end]
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # the broker has Nagle's algorithm on
            data = self._socket.recv(65536)
            if not data:
                raise EOFError("the broker closed the connection")
            self._buffer += data


class _OpenWire:
    """As much of OpenWire as deletes a queue: version 1, loosely encoded, nothing cached."""

    def __init__(self, login: Login, port: int) -> None:
        self._socket = socket.create_connection((login.host, port), PATIENCE)
        self._stream = self._socket.makefile("rb")
        self._number = itertools.count(1)
        self._send(1, b"ActiveMQ" + struct.pack(">iB", 1, 0))
        self._identity = b"\1\x78" + _string("witness")
        self._call(3, self._identity + _string("witness") + _string(login.password) + _string(login.user) + bytes(3))

    def delete(self, queue: str) -> None:
        """Remove a queue, whoever consumes it."""
        remove = struct.pack(">bqB", 1, 1000, 0)
        self._call(8, self._identity + b"\1\x64" + _string(queue) + remove)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _send(self, kind: int, body: bytes) -> None:
        self._socket.sendall(struct.pack(">iB", len(body) + 1, kind) + body)

    def _call(self, kind: int, body: bytes) -> None:
        self._send(kind, struct.pack(">iB", next(self._number), 1) + body)
        while True:
            (size,) = struct.unpack(">i", self._stream.read(4))
            answer = self._stream.read(size)
            if answer[0] == 30:
                return
            assert answer[0] != 31, f"the broker refused it: {answer!r}"


def _sockets(kind: str) -> list[str]:
    return Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]


def _string(text: str) -> bytes:
    raw = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    units = "".join(
        chr(unit) for unit in struct.unpack(f"<{len(raw.encode('utf-16-le')) // 2}H", raw.encode("utf-16-le"))
    )
    encoded = units.encode(errors="surrogatepass")  # each half of a pair on its own, as Java writes it
    return b"\1" + struct.pack(">H", len(encoded)) + encoded


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _unescape(text: str) -> str:
    return re.sub(r"\\.", lambda found: _PLAIN.get(found[0], found[0]), text)


def _text(xml: str) -> str:
    plain = re.sub(r"&#(x?)([0-9a-fA-F]+);", lambda found: chr(int(found[2], 16 if found[1] else 10)), xml)
    for name, character in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("apos", "'"), ("amp", "&")):
        plain = plain.replace(f"&{name};", character)
    return plain
