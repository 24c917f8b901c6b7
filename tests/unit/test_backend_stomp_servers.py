"""stomp:// and servers that misbehave, over real sockets: each is one clear error, in time.

This file is longer than others: one server of its own for each way to misbehave, and one place to look for them all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from stomp_servers import Server, connected, error, polite, receipt, saying, serving, silent

import anyqueue
from anyqueue import (
    URL,
    AuthFailed,
    BatchFailed,
    Closed,
    ConnectFailed,
    ConnectionLost,
    Feature,
    QueueMismatch,
    SendError,
    Unsupported,
)
from anyqueue.backends.stomp.driver import StompDriver
from anyqueue.driver import ACCEPT, BatchSettleFailed, Envelope, Queue, Spec
from anyqueue.testing.stopwatch import Stopwatch
from launcher import certificates
from launcher.place import Place

if TYPE_CHECKING:
    from stomp_servers import Asked

PASSWORD = "s3kr1t:pass"  # noqa: S105 -- of nobody
Q = Queue("q")


def at(server: Server, /, **options: object) -> str:
    told = "&".join(f"{name}={value}" for name, value in {"heartbeat": 1, **options}.items())
    return f"stomp://ada:s3kr1t%3Apass@127.0.0.1:{server.port}/?{told}"


async def opened(server: Server, /, **options: object) -> StompDriver:
    driver = StompDriver.from_url(URL.parse(at(server, **options)))
    await driver.open()
    return driver


def message(body: bytes, identity: str = "1") -> bytes:
    told = f"MESSAGE\nsubscription:s\nmessage-id:{identity}\nack:{identity}\ncontent-length:{len(body)}\n\n"
    return told.encode() + body + b"\0"


# Who is no broker


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "does not speak STOMP.*HTTP"),
        (b"AMQP\0\0\x09\x01", "does not speak STOMP"),
        (b"CONNECTED\nversion:1.2\nser", "the peer ended it"),
        (b"", "the peer ended it"),
        (connected(version="1.1"), "speaks STOMP 1.1; 1.2 is needed"),
        (b"CONNECTED\n\n\0", "speaks STOMP 1.0; 1.2 is needed"),
        (error("Version mismatch"), "did not take the connection: Version mismatch"),
        (b"CONNECTED\nversion:1.2\ncontent-length:999999999999\n\n", "over the limit"),
    ],
)
async def test_a_server_that_is_none_is_connect_failed_and_named(said: bytes, named: str) -> None:
    async with serving(saying(said)) as server:
        with pytest.raises(ConnectFailed, match=named) as caught:
            await opened(server)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("talk", [silent, saying(b"CONNECTED\nversion:1.2\n", hang_up=False)], ids=["never", "half"])
async def test_a_server_that_never_speaks_is_connect_failed_by_the_deadline(talk: Any) -> None:
    async with serving(talk) as server:
        watch = Stopwatch()
        with pytest.raises(ConnectFailed):
            async with anyqueue.connect(at(server, connect_timeout=0.3)):
                pytest.fail("it opened")
        watch.within(1.5)


async def test_hosts_are_tried_in_turn_and_a_silent_one_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyqueue.backends.stomp.connection.HOST_TIMEOUT", 0.2)
    async with serving(silent) as first, serving(polite(connected("RabbitMQ/3.10.8"))) as second:
        url = f"stomp://127.0.0.1:{first.port},127.0.0.1:{second.port}"
        driver = StompDriver.from_url(URL.parse(url))
        await driver.open()
        await driver.close()
    assert (first.connections, second.connections) == (1, 1)


# Who we are


async def test_refused_credentials_are_tried_nowhere_else_and_show_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs at DEBUG, not in the error, not in its traceback: stomp.py prints them."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("stomp.py").setLevel(logging.DEBUG)
    async with (
        serving(saying(b"ERROR\nmessage:Bad CONNECT\n\nAccess refused for user 'ada'\n\0")) as first,
        serving(polite(connected())) as second,
    ):
        url = at(first).replace(f":{first.port}", f":{first.port},127.0.0.1:{second.port}")
        driver = StompDriver.from_url(URL.parse(url))
        with pytest.raises(AuthFailed) as caught:
            await driver.open()
        assert second.connections == 0
        assert first.heard[0].headers["passcode"] == PASSWORD
    shown = "".join(traceback.format_exception(caught.value)) + repr(driver) + caplog.text
    assert PASSWORD not in shown
    assert "s3kr1t" not in shown


async def test_no_passcode_shows_at_debug_while_all_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(polite(connected("RabbitMQ/3.10.8"))) as server:
        driver = await opened(server)
        await driver.send(Q, [Envelope(id="i", body=b"a body that no log is to have")])
        await driver.close()
    assert PASSWORD not in caplog.text
    assert "a body" not in caplog.text


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Make certificates."""
    place = Place(folder=tmp_path_factory.mktemp("tls"), base=20_000)
    certificates.ensure(place)
    described: dict[str, Any] = certificates.describe(place)
    return described


def serving_tls(made: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made["certificates"]["server"]["certificate"], made["certificates"]["server"]["key"])
    return context


async def test_no_passcode_travels_in_clear_because_the_host_is_this_machine() -> None:
    """What stomp.py does: it tries 127.0.0.1 first, in clear, where the host is this machine's own name."""
    heard = bytearray()

    async def listen(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del server
        heard.extend(await reader.read(65536))
        writer.write(connected())
        heard.extend(await reader.read())

    async with serving(listen) as server:
        for host in ("localhost", socket.gethostname(), "127.0.0.1"):
            url = f"stomps://ada:s3kr1t%3Apass@{host}:{server.port}/"
            driver = StompDriver.from_url(URL.parse(url))
            with pytest.raises(ConnectFailed):
                async with asyncio.timeout(5):
                    await driver.open()
    assert b"s3kr1t" not in heard
    assert b"CONNECT" not in heard


@pytest.mark.parametrize("how", ["closes", "falls silent"])
async def test_a_tls_peer_that_is_gone_is_noticed_without_a_busy_loop(tls: dict[str, Any], how: str) -> None:
    """What stomp.py never notices: it reads the end of the stream over and over."""
    end = asyncio.Event()

    def react(asked: Asked) -> bytes | None:
        if asked.command == "SUBSCRIBE":
            end.set()
        return receipt(asked)

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking = asyncio.create_task(
            polite(connected("RabbitMQ/3.10.8", beat="1000,1000"), react)(server, reader, writer)
        )
        await end.wait()
        if how == "closes":
            await asyncio.sleep(0.1)
            talking.cancel()
        else:
            await asyncio.wait([talking], timeout=10)

    async with serving(talk, tls=serving_tls(tls)) as server:
        url = (
            at(server, ca=tls["ca"], server="other").replace("stomp://", "stomps://").replace("127.0.0.1", "localhost")
        )
        driver = StompDriver.from_url(URL.parse(url))
        await driver.open()
        subscription = await driver.subscribe(Spec(address=Q))
        watch, used = Stopwatch(), resource.getrusage(resource.RUSAGE_SELF)
        with pytest.raises(ConnectionLost, match=r"the peer ended it|no heartbeat"):
            async with asyncio.timeout(20):
                await subscription.receive(1)
        after = resource.getrusage(resource.RUSAGE_SELF)
        watch.within(2.5, "two heartbeats")
        assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 0.5
        with pytest.raises(ConnectionLost):
            await subscription.receive(1)
        await driver.close()


# Heartbeats


async def test_we_are_heard_of_in_time_and_a_peer_that_is_not_is_lost() -> None:
    async with serving(polite(connected("RabbitMQ/3.10.8", beat="1000,1000"))) as server:
        driver = await opened(server)
        watch = Stopwatch()
        while driver._connection is not None and driver._connection.lost is None:
            watch.within(3, "two heartbeats")
            await asyncio.sleep(0.05)
        assert watch.took > 1.5
        with pytest.raises(ConnectionLost, match="no heartbeat for"):
            await driver.send(Q, [Envelope(id="i", body=b"")])
        await driver.close()
        assert server.beats >= 3


async def test_a_peer_that_never_beats_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(polite(connected("RabbitMQ/3.10.8"))) as server:
        driver = await opened(server)
        await driver.close()
    assert "sends no heartbeats" in caplog.text


# What it is


async def test_an_unknown_server_is_warned_of_and_gets_what_all_do(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(polite(connected("HornetQ/2.4"))) as server:
        driver = await opened(server)
        assert driver.features == Feature.CONFIRM | Feature.REDELIVER | Feature.COMPETING
        await driver.send(Q, [Envelope(id="i", body=b"b")])
        await driver.close()
    assert "HornetQ/2.4" in caplog.text
    (sent,) = server.sent("SEND")
    assert sent.headers["persistent"] == "true"
    assert sent.headers["destination"] == "/queue/q"


async def test_an_unknown_server_that_was_named_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(polite(connected("HornetQ/2.4", beat="1000,1000"))) as server:
        await (await opened(server, server="other")).close()
    assert not caplog.text


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a server for one without a scheduler that has not answered at once."""
    monkeypatch.setattr("anyqueue.backends.stomp.probe.PATIENCE", 0.1)


@pytest.mark.parametrize("scheduler", [True, False])
async def test_a_scheduler_that_is_off_is_never_trusted(scheduler: bool) -> None:  # noqa: FBT001 -- a parameter
    """ActiveMQ does not say; it would deliver at once. So nothing of such a message leaves."""
    probe: list[bytes] = []

    def react(asked: Asked) -> bytes:
        if asked.command == "SEND" and "which" in asked.headers:
            probe.append(f"MESSAGE\nsubscription:p\nmessage-id:1\nwhich:{asked.headers['which']}\n\n\0".encode())
            late = scheduler and len(probe) == 2
            return b"" if len(probe) == 1 else b"".join(reversed(probe) if late else probe)
        return receipt(asked)

    async with serving(polite(connected("ActiveMQ/5.17.2"), react)) as server:
        async with anyqueue.connect(at(server)) as client:
            assert (Feature.DELAY in client.features) is scheduler
            if scheduler:
                await client.send("q", b"later", delay=5)
            else:
                with pytest.raises(Unsupported, match="DELAY"):
                    await client.send("q", b"later", delay=5)
        queued = [asked for asked in server.sent("SEND") if asked.headers["destination"] == "/queue/q"]
        assert ["AMQ_SCHEDULED_DELAY" in asked.headers for asked in queued] == [True] * scheduler


async def test_a_probe_that_is_not_answered_is_no_scheduler() -> None:
    async with serving(polite(connected("ActiveMQ/5.17.2"))) as server:
        driver = await opened(server)
        assert Feature.DELAY not in driver.features
        await driver.close()


async def test_a_forbidden_probe_is_no_scheduler_and_no_failure() -> None:
    def react(asked: Asked) -> bytes:
        if asked.command == "SUBSCRIBE":
            return error("User ada is not authorized to read from", receipt_id=asked.headers["receipt"])
        return receipt(asked)

    async with serving(polite(connected("ActiveMQ/5.17.2"), react)) as server:
        driver = await opened(server)
        assert Feature.DELAY not in driver.features
        await driver.send(Q, [Envelope(id="i", body=b"b")])
        await driver.close()


# Receipts and refusals


async def test_what_is_refused_by_receipt_is_named_and_the_rest_confirmed() -> None:
    """As ActiveMQ does at a forbidden destination: the connection lives."""

    def react(asked: Asked) -> bytes:
        if asked.command == "SEND" and asked.body == b"1":
            return error("User ada is not authorized to write to: queue://q", receipt_id=asked.headers["receipt"])
        return receipt(asked)

    async with serving(polite(connected("Other/1"), react)) as server:
        driver = await opened(server)
        with pytest.raises(BatchFailed, match="1 of 3 messages were refused") as caught:
            await driver.send(Q, [Envelope(id=str(number), body=b"%d" % number) for number in range(3)])
        assert [*caught.value.failures] == [1]
        assert "not authorized" in str(caught.value.failures[1])
        await driver.send(Q, [Envelope(id="4", body=b"4")])
        await driver.close()


async def test_of_a_refused_transaction_each_message_is_told_by_itself() -> None:
    """As ActiveMQ does: the COMMIT fails, and the error about the message itself comes late and names nothing."""
    forbidden: list[str] = []

    def react(asked: Asked) -> bytes:
        if asked.command == "SEND" and asked.body == b"1":
            if "receipt" in asked.headers:
                return error("not authorized to write", receipt_id=asked.headers["receipt"])
            forbidden.append(asked.headers["transaction"])
        if asked.command == "COMMIT" and asked.headers["transaction"] in forbidden:
            refusal = error("COMMIT FAILED: Transaction marked rollback only", receipt_id=asked.headers["receipt"])
            return refusal + error("not authorized to write")
        return receipt(asked)

    async with serving(polite(connected("ActiveMQ/5.17.2"), react)) as server:
        driver = await opened(server)
        await driver.send(Q, [Envelope(id=str(number), body=b"x") for number in range(5)])
        assert [asked.command for asked in server.heard[-7:]] == ["BEGIN", *["SEND"] * 5, "COMMIT"]
        with pytest.raises(BatchFailed, match="1 of 3 messages were refused") as caught:
            await driver.send(Q, [Envelope(id=str(number), body=b"%d" % number) for number in range(3)])
        assert [*caught.value.failures] == [1]
        await driver.send(Q, [Envelope(id="4", body=b"4")])
        await driver.close()


async def test_a_commit_that_fails_otherwise_is_unknown() -> None:
    def react(asked: Asked) -> bytes:
        return (
            error("disk on fire", receipt_id=asked.headers["receipt"]) if asked.command == "COMMIT" else receipt(asked)
        )

    async with serving(polite(connected("ActiveMQ/5.17.2"), react)) as server:
        driver = await opened(server)
        with pytest.raises(ConnectionLost, match="disk on fire"):
            await driver.send(Q, [Envelope(id=str(number), body=b"x") for number in range(5)])
        await driver.close()


async def test_a_transaction_is_not_of_more_than_some_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyqueue.backends.stomp.sending.MOST", 10)
    async with serving(polite(connected("ActiveMQ/5.17.2"))) as server:
        driver = await opened(server)
        await driver.send(Q, [Envelope(id=str(size), body=b"x" * size) for size in (6, 6, 20, 1, 1)])
        await driver.close()
    sent = [(asked.command, len(asked.body)) for asked in server.heard if "which" not in asked.headers]
    frames = [each for each in sent if each[0] in {"BEGIN", "SEND", "COMMIT"}]
    together = [("BEGIN", 0), ("SEND", 6), ("SEND", 6), ("COMMIT", 0)]
    assert frames == [*together, ("SEND", 20), ("BEGIN", 0), ("SEND", 1), ("SEND", 1), ("COMMIT", 0)]


async def test_an_error_about_nothing_in_particular_ends_the_connection() -> None:
    """What it was about may have been done: the outcome is unknown."""

    def react(asked: Asked) -> bytes:
        return error("Processing error") if asked.command == "SEND" else receipt(asked)

    async with serving(polite(connected("Other/1"), react)) as server:
        driver = await opened(server)
        with pytest.raises(ConnectionLost, match="Processing error"):
            await driver.send(Q, [Envelope(id="i", body=b"b")])
        with pytest.raises(ConnectionLost):
            await driver.send(Q, [Envelope(id="i", body=b"b")])
        await driver.close()


async def test_what_the_broker_stumbled_over_comes_after_its_stumbling() -> None:
    """RabbitMQ's adapter goes on for a moment after its channel has failed (seen with 3.10.8)."""
    differs = "inequivalent arg 'x-max-length' for queue 'q' received none but current is the value '5' of type 'long'"

    def react(asked: Asked) -> bytes:
        return error("Processing error") + error(differs) if asked.command == "SEND" else receipt(asked)

    async with serving(polite(connected("Other/1"), react)) as server:
        driver = await opened(server)
        with pytest.raises(QueueMismatch, match="x-max-length"):
            await driver.send(Q, [Envelope(id="i", body=b"b")])
        await driver.close()


@pytest.mark.parametrize("dies", ["at once", "in a frame"])
async def test_a_server_that_dies_before_the_receipt_leaves_the_outcome_unknown(dies: str) -> None:
    def react(asked: Asked) -> bytes | None:
        return None if asked.command == "SEND" else receipt(asked)

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await polite(connected("Other/1"), react)(server, reader, writer)
        if dies == "in a frame":
            writer.write(b"RECEIPT\nreceipt-i")

    async with serving(talk) as server, anyqueue.connect(at(server, send_timeout=0.4, connect_timeout=1)) as client:
        with pytest.raises(SendError) as caught:
            await client.send("q", b"b")
        assert caught.value.unknown


async def test_a_consumer_whose_server_dies_in_a_message_is_given_none_of_it() -> None:
    def react(asked: Asked) -> bytes:
        return receipt(asked) + (
            message(b"whole") + message(b"cut short", "2")[:-5] if asked.command == "SUBSCRIBE" else b""
        )

    async with serving(polite(connected("Other/1"), react)) as server:
        driver = await opened(server)
        subscription = await driver.subscribe(Spec(address=Q))
        (delivery,) = await subscription.receive(10)
        assert delivery.envelope.body == b"whole"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await subscription.receive(10)
        await driver.close()


async def test_a_delivery_is_settled_once_and_on_its_own_connection_or_not_at_all() -> None:
    def react(asked: Asked) -> bytes:
        return receipt(asked) + (message(b"b") if asked.command == "SUBSCRIBE" else b"")

    async with serving(polite(connected("Other/1"), react)) as server:
        driver = await opened(server)
        subscription = await driver.subscribe(Spec(address=Q))
        (delivery,) = await subscription.receive(10)
        await subscription.settle([(delivery, ACCEPT)])
        with pytest.raises(BatchSettleFailed):
            await subscription.settle([(delivery, ACCEPT)])
        assert len(server.sent("ACK")) == 1
        again = await driver.subscribe(Spec(address=Q))
        await again.receive(1)
        await driver.close()
        with pytest.raises((Closed, ConnectionLost)):
            await again.settle([(delivery, ACCEPT)])
    identities = [asked.headers["id"] for asked in server.sent("SUBSCRIBE")]
    assert len({*identities}) == 2, "an identity of a subscription is never used again"


async def test_every_message_is_persistent_and_asks_for_a_receipt() -> None:
    async with serving(polite(connected("Other/1"))) as server:
        driver = await opened(server)
        await driver.send(Q, [Envelope(id=str(number), body=b"x") for number in range(300)])
        await driver.close()
    sent = server.sent("SEND")
    assert len(sent) == 300
    assert all(asked.headers["persistent"] == "true" for asked in sent)
    assert len({asked.headers["receipt"] for asked in sent}) == 300


async def test_a_server_that_takes_nothing_more_does_not_fill_our_memory() -> None:
    """The bytes that wait are bounded, the event loop goes on, and cancelling is at once."""
    stalled = asyncio.Event()

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(connected("Other/1"), hang_up=False)(server, _Deaf(reader, stalled), writer)  # type: ignore[arg-type]  # as much of one as is used

    async with serving(talk) as server:
        driver = await opened(server)
        body = bytes(1024 * 1024)
        sending = asyncio.create_task(driver.send(Q, [Envelope(id=str(number), body=body) for number in range(64)]))
        await asyncio.sleep(0.3)
        assert driver._connection is not None
        assert driver._connection._transport is not None
        assert driver._connection._transport.get_write_buffer_size() < 4 * len(body)
        watch = Stopwatch()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        watch.within(0.5)
        stalled.set()
        driver._connection.drop()
        await driver.close()


class _Deaf:
    """A reader that stops reading after the first frame."""

    def __init__(self, reader: asyncio.StreamReader, stalled: asyncio.Event) -> None:
        self._reader = reader
        self._stalled = stalled
        self.readexactly, self.readuntil = reader.readexactly, reader.readuntil

    async def read(self) -> bytes:
        """Wait."""
        await self._stalled.wait()
        return b""


async def test_a_driver_of_another_process_is_refused() -> None:
    async with serving(polite(connected("Other/1"))) as server:
        driver = await opened(server)
        process, driver._process = driver._process, os.getpid() + 1
        with pytest.raises(Closed, match="forked"):
            await driver.send(Q, [Envelope(id="i", body=b"")])
        driver._process = process
        await driver.close()
        with pytest.raises(Closed, match="not open"):
            await driver.send(Q, [Envelope(id="i", body=b"")])
