"""What other programs do over STOMP: raw stomp.py, and Debian's ruby-stomp. No part of anyqueue is in it.

A queue is spelt as docs/backends/stomp.md says that each broker has it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import queue as queues
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from anyqueue.testing.harness import Program, Seen

os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")
import stomp  # it looks into the DNS unless it is told not to, before it is imported

if TYPE_CHECKING:
    from stomp.utils import Frame

PATIENCE: Final = 30.0
QUIET: Final = 3.0
"""Seconds without a message after which a queue has none ready."""
BROKERS: Final = frozenset(
    [
        *("destination", "message-id", "subscription", "ack", "redelivered", "content-length", "content-type"),
        *("receipt", "persistent", "priority", "timestamp", "expires", "amqp-message-id", "correlation-id", "reply-to"),
        *("x-delivery-count", "durable", "auto-delete", "x-queue-type"),
    ]
)
"""Headers that are the brokers', not the senders'."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is, and how its clients write a queue."""

    host: str
    port: int
    user: str
    password: str
    destination: Callable[[str], str]
    """The destination that means a queue, by its name."""
    sending: Mapping[str, str]
    """Headers that a SEND needs here."""
    consuming: Mapping[str, str]
    """Headers that a SUBSCRIBE needs here."""


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py is untyped
    """Keep what comes until it is asked for."""

    def __init__(self) -> None:
        self.messages: queues.Queue[Frame] = queues.Queue()
        self.receipts: queues.Queue[str] = queues.Queue()
        self.errors: list[str] = []

    def on_message(self, frame: Frame) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Frame) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: Frame) -> None:
        self.errors.append(str(frame.headers.get("message")))
        self.receipts.put("error")


class StompPy(Program):
    """stomp.py, a connection for each act."""

    def __init__(self, login: Login) -> None:
        self.login = login

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send with a receipt, and wait for it."""
        await asyncio.to_thread(
            self._with, lambda connection, listener: self._put(connection, listener, queue, body, headers)
        )

    async def get(self, queue: str) -> Seen | None:
        """Take one, if one comes, and acknowledge it with a receipt."""
        seen: Seen | None = await asyncio.to_thread(
            self._with, lambda connection, listener: self._get(connection, listener, queue)
        )
        return seen

    def _put(
        self,
        connection: Any,  # noqa: ANN401 -- untyped
        listener: _Listener,
        queue: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> None:
        told = {**headers, **self.login.sending, "persistent": "true", "receipt": "put"}
        connection.send(self.login.destination(queue), body, headers=told)
        self._receipt(listener)

    def _get(self, connection: Any, listener: _Listener, queue: str) -> Seen | None:  # noqa: ANN401 -- untyped
        connection.subscribe(
            self.login.destination(queue), id="get", ack="client-individual", headers=dict(self.login.consuming)
        )
        try:
            frame = listener.messages.get(timeout=QUIET)
        except queues.Empty:
            return None
        connection.ack(frame.headers["ack"], receipt="ack")
        self._receipt(listener)
        return seen_of(frame.headers, frame.body)

    def _receipt(self, listener: _Listener) -> None:
        answer = listener.receipts.get(timeout=PATIENCE)
        assert answer != "error", listener.errors

    def _with(self, work: Callable[[Any, _Listener], Any]) -> Any:  # noqa: ANN401 -- untyped
        listener = _Listener()
        connection = stomp.Connection12(
            [(self.login.host, self.login.port)],
            auto_decode=False,
            vhost="/",
            try_loopback_connect=False,
            timeout=PATIENCE,
        )
        connection.set_listener("", listener)
        connection.connect(self.login.user, self.login.password, wait=True)
        try:
            return work(connection, listener)
        finally:
            connection.disconnect(receipt="bye")
            deadline = time.monotonic() + PATIENCE
            while connection.is_connected() and time.monotonic() < deadline:
                time.sleep(0.002)
            thread = connection.transport.io_thread
            if thread is not None and thread is not threading.current_thread():
                thread.join(PATIENCE)


def seen_of(headers: Mapping[str, str], body: bytes | None) -> Seen:
    """Return a message as its reader sees it, but for what is the brokers'."""
    identity = headers.get("amqp-message-id") or headers.get("aq-message-id")
    own = {name: text for name, text in headers.items() if name not in BROKERS}
    return Seen(body=body or b"", headers=own, id=identity)


RUBY: Final = r"""
require 'stomp'
require 'json'
input = JSON.parse(STDIN.read)
bytes = ->(text) { text.unpack1('m0').force_encoding('BINARY') }
client = Stomp::Connection.new(hosts: [{ login: input['user'], passcode: input['password'], host: input['host'],
                                         port: input['port'] }],
                               connect_headers: { 'accept-version' => '1.2', 'host' => '/' }, reliable: false)
if input['act'] == 'put'
  headers = input['headers'].merge('persistent' => 'true', 'receipt' => 'put')
  client.publish(input['destination'], bytes.(input['body']), headers)
  client.receive
  puts 'null'
else
  client.subscribe(input['destination'], input['headers'].merge('ack' => 'client-individual'), 'get')
  message = client.receive
  client.ack(message.headers['ack'], 'receipt' => 'ack')
  client.receive
  headers = message.headers.transform_values { |value| value.is_a?(Array) ? value[0] : value }
  puts JSON.generate(headers: headers, body: [message.body.to_s].pack('m0'))
end
client.disconnect
"""


class RubyStomp(Program):
    """Debian's ruby-stomp, a process for each act."""

    def __init__(self, login: Login) -> None:
        self._login = login

    @staticmethod
    @functools.cache
    def missing() -> bool:
        """Say whether it is not installed."""
        try:
            ran = subprocess.run(["ruby", "-e", "require 'stomp'"], capture_output=True, check=False)  # noqa: S607 -- from PATH
        except OSError:
            return True
        return ran.returncode != 0

    async def put(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send with a receipt, and wait for it."""
        await self._run("put", queue, body, {**headers, **self._login.sending})

    async def get(self, queue: str) -> Seen | None:
        """Take one."""
        said = await self._run("get", queue, b"", self._login.consuming)
        found = msgspec.json.decode(said, type=_RubyMessage)
        return seen_of(found.headers, found.body)

    async def _run(self, act: str, queue: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        login = self._login
        told = {
            "act": act,
            "host": login.host,
            "port": login.port,
            "user": login.user,
            "password": login.password,
            "destination": login.destination(queue),
            "headers": dict(headers),
            "body": body,
        }
        return await asyncio.to_thread(_ruby, msgspec.json.encode(told))


class _RubyMessage(msgspec.Struct):
    headers: dict[str, str]
    body: bytes


def _ruby(told: bytes) -> bytes:
    command = ["ruby", "-e", RUBY]
    ran = subprocess.run(command, input=told, capture_output=True, check=False, timeout=30)  # noqa: S603 -- ours
    assert not ran.returncode, ran.stderr.decode(errors="replace")[-1000:]
    return ran.stdout
