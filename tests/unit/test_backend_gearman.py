"""gearman:// alone: its URL, the rules that gearmand imposes, and servers that misbehave.

This file is longer than others: one server of its own for each way to misbehave.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from gearmands import Gearmand, asked, reply, saying

import anyqueue
from anyqueue import (
    URL,
    BatchFailed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Feature,
    QueueFull,
    SendError,
    Topic,
    Unsupported,
)
from anyqueue.backends.gearman.driver import GearmanDriver
from anyqueue.backends.gearman.protocol import (
    CAN_DO,
    CANT_DO,
    ECHO_REQ,
    ECHO_RES,
    ERROR,
    GRAB_JOB_UNIQ,
    JOB_CREATED,
    pack,
)
from anyqueue.driver import ACCEPT, BatchSettleFailed, Envelope, Queue, Spec
from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from anyqueue import Message

LOW_BACKGROUND = 34
HIGH_BACKGROUND = 32
EPOCH = 36


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Gearmand]:
    gearmand = Gearmand(tmp_path)
    gearmand.start()
    yield gearmand
    gearmand.kill()


@pytest.fixture
async def client(server: Gearmand) -> AsyncIterator[anyqueue.Client]:
    async with anyqueue.connect(server.url) as client:
        yield client


async def take(client: anyqueue.Client, queue: str, count: int, timeout: float = 5) -> list[Message]:  # noqa: ASYNC109 -- of the receive
    async with client.consumer(queue, prefetch=100) as messages:
        taken = await messages.receive(count, timeout=timeout)
        for message in taken:
            await message.ack()
    return taken


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("gearman://10.0.0.1", "10.0.0.1 is neither encrypted nor on this machine.*insecure=1"),
        ("gearman://localhost,gear.example", "gear.example is neither"),
        ("gearman://localhost.example", "localhost.example is neither"),
        ("gearman://[2001:db8::1]", "2001:db8::1 is neither"),
        ("gearman://ada@localhost", "no users"),
        ("gearman://localhost/queue", "no path"),
        ("gearman://localhost?ca=x.pem", "add tls=1"),
        ("gearman://localhost?poll=0", "poll is at least"),
        ("gearman://localhost?heartbeat=0", "heartbeat"),
        ("gearman://localhost?max_packet=0", "max_packet"),
        ("gearman://localhost?durable=perhaps", "durable='perhaps'"),
    ],
)
def test_a_wrong_url_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        GearmanDriver.from_url(URL.parse(url))


@pytest.mark.parametrize(
    "url",
    [
        "gearman://",
        "gearman://LOCALHOST/",
        "gearman://127.8.9.10:4730,[::1]",
        "gearman://10.0.0.1?insecure=1",
        "gearman://10.0.0.1?tls=1",
    ],
)
def test_a_right_url_is_taken(url: str) -> None:
    driver = GearmanDriver.from_url(URL.parse(url))
    assert Feature.DURABLE not in driver.features, "nobody has said that the server keeps its queue"
    assert (
        Feature.DURABLE in GearmanDriver.from_url(URL.parse(f"{url.partition('?')[0]}?durable=1&insecure=1")).features
    )


async def test_two_messages_with_one_id_both_arrive(client: anyqueue.Client) -> None:
    """The server takes a job with the unique id of one that waits for that one, and drops its data."""
    for body in (b"first", b"second"):
        await client.send("q", body, id="the same")
    assert [message.body for message in await take(client, "q", 2)] == [b"first", b"second"]


async def test_empty_bodies_do_not_keep_the_server_from_starting_again(
    server: Gearmand, client: anyqueue.Client
) -> None:
    for payload in (b"", "", b"x"):
        await client.send("q", payload)
    server.kill()
    server.start()
    assert [message.payload for message in await take(client, "q", 3)] == [b"", "", b"x"]


async def test_a_full_queue_refuses_by_name_what_it_refuses(server: Gearmand, client: anyqueue.Client) -> None:
    await client.send("q", b"0")
    assert server.admin("maxqueue q 3").startswith("OK")
    async with client.producer("q") as producer:
        with pytest.raises(BatchFailed, match=r"2 of 4.*queue is full") as caught:
            await producer.send_many([b"1", b"2", b"3", b"4"])
        assert sorted(caught.value.failures) == [2, 3]
        with pytest.raises(SendError, match=r"takes no more.*queue is full.*maxqueue") as single:
            await producer.send(b"5")
    assert not single.value.unknown
    assert isinstance(single.value.__cause__, QueueFull)
    assert [message.body for message in await take(client, "q", 4, timeout=0.3)] == [b"0", b"1", b"2"]


async def test_a_delayed_message_reaches_an_idle_consumer_in_time(client: anyqueue.Client) -> None:
    """The server does not wake a worker for a job whose time has come (1.1.20)."""
    async with client.consumer("q") as messages:
        watch = Stopwatch()
        await client.send("q", b"later", delay=2)
        (message,) = await messages.receive()
        watch.within(3.5, "a delay of 2 s")
        assert watch.took >= 2
        await message.ack()


async def test_a_server_that_wakes_in_vain_is_not_asked_in_a_loop(server: Gearmand, client: anyqueue.Client) -> None:
    """The server starves a LOW job behind a future EPOCH job, and wakes the worker for it all the same (1.1.20)."""
    with closing(server.raw()) as raw:
        raw.submit("q", b"%d\0later" % (time.time() + 3600), EPOCH)
        raw.submit("q", b"low", LOW_BACKGROUND)
        async with client.consumer("q") as messages:
            assert await messages.receive(timeout=0.5) == []
            spent = time.process_time()
            assert await messages.receive(timeout=1.0) == []
            assert time.process_time() - spent < 0.1
            raw.submit("q", b"normal")
            (message,) = await messages.receive(timeout=3)
            assert message.body == b"normal"
            await message.ack()


async def test_any_worker_reads_a_body_and_anybodys_job_is_read(server: Gearmand, client: anyqueue.Client) -> None:
    with closing(server.raw()) as raw:
        await client.send("q", {"a": 1})
        await client.send("q", b"x", headers={"Tenant": "eu"})
        raw.write(CAN_DO, b"q")
        bodies = [raw.ask(GRAB_JOB_UNIQ)[1].split(b"\0", 3)[3] for _ in range(2)]
        assert bodies[0] == b'{"a":1}'
        line, _, body = bodies[1].partition(b"\n")
        assert (json.loads(line.removeprefix(b"aq1 "))["headers"], body) == ({"Tenant": "eu"}, b"x")
        raw.write(CANT_DO, b"q")
        raw.submit("mine", b"\0\xff")
        raw.submit("mine", b'aq1 {"headers": {"Tenant": "us"}}\nhello')
    first, second = await take(client, "mine", 2)
    assert (first.body, first.headers, first.attempt) == (b"\0\xff", {}, 1)
    assert (second.body, second.headers) == (b"hello", {"Tenant": "us"})


async def test_a_worker_that_was_killed_is_counted(server: Gearmand, client: anyqueue.Client) -> None:
    await client.send("q", b"x")
    for _ in range(3):
        with closing(server.raw()) as raw:
            raw.write(CAN_DO, b"q")
            assert raw.ask(GRAB_JOB_UNIQ)[0] == 31
    (message,) = await take(client, "q", 1)
    assert (message.attempt, message.redelivered) == (4, True)


async def test_among_many_jobs_what_was_not_looked_up_may_have_been_delivered(
    server: Gearmand, client: anyqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyqueue.backends.gearman.counting.FEW", 5)
    monkeypatch.setattr("anyqueue.backends.gearman.counting.SHARE", 10**9)
    await client.producer("q").send_many([b"x"] * 20)
    async with client.consumer("q", prefetch=1) as messages:
        seen = []
        for _ in range(3):
            (message,) = await messages.receive()
            seen.append((message.attempt, message.redelivered))
            await message.ack()
    assert seen == [(1, False), (1, True), (1, True)]
    assert server.admin("status")


async def test_a_settlement_of_what_was_taken_away_says_so(server: Gearmand, client: anyqueue.Client) -> None:
    await client.send("q", b"x")
    driver = GearmanDriver.from_url(URL.parse(server.url))
    await driver.open()
    subscription = await driver.subscribe(Spec(address=Queue("q")))
    (delivery,) = await subscription.receive(1)
    await subscription._now._connection.barrier(pack(CANT_DO, b"q"))
    with pytest.raises(BatchSettleFailed):
        await subscription.settle([(delivery, ACCEPT)])
    await subscription.close()
    await driver.close()
    assert len(await take(client, "q", 1)) == 1


async def test_topics_and_looking_are_refused(client: anyqueue.Client) -> None:
    with pytest.raises(Unsupported, match="FANOUT"):
        await client.send(Topic("t"), b"x")
    with pytest.raises(Unsupported, match="INSPECT"):
        await client.browse("q")


async def test_the_server_counts_jobs_and_workers(server: Gearmand, client: anyqueue.Client) -> None:
    assert await client.queues() == []
    await client.send("q", b"later", delay=60)
    with closing(server.raw()) as other:
        for body in (b"1", b"2", b"3"):
            other.submit("q", body)
    async with client.consumer("q", prefetch=1) as messages:
        await messages.receive()
        found = await client.depth("q")
        assert (found.ready, found.delayed, found.held, found.consumers) == (2, 1, 1, 1)
        assert await client.queues() == [("q", found)]
    assert (await client.depth("never used")).total == 0


async def test_a_priority_is_one_of_three(server: Gearmand, client: anyqueue.Client) -> None:
    """Another program's urgent job comes before what anyqueue sent with 6, and after what it sent with 9 before."""
    await client.send("q", b"6", priority=6)
    await client.send("q", b"0", priority=0)
    await client.send("q", b"9", priority=9)
    with closing(server.raw()) as other:
        other.submit("q", b"high", HIGH_BACKGROUND)
    assert [message.body for message in await take(client, "q", 4)] == [b"9", b"high", b"6", b"0"]


async def test_a_job_larger_than_a_packet_may_be_is_told_and_stays(server: Gearmand) -> None:
    with closing(server.raw()) as raw:
        raw.submit("q", bytes(100_000))
    driver = GearmanDriver.from_url(URL.parse(f"{server.url}&max_packet=50000"))
    await driver.open()
    subscription = await driver.subscribe(Spec(address=Queue("q")))
    with pytest.raises(ConnectionLost, match=r"100,0.. bytes is announced, over the limit of 50,000"):
        await subscription.receive(1)
    await driver.close()
    assert "q\t1\t" in server.admin("status")


async def test_an_error_ends_the_call_that_it_belongs_to() -> None:
    """The second of three submissions is refused; the calls beside it are not."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            command, body = await asked(reader)
            if command == ECHO_REQ:
                writer.write(reply(ECHO_RES, body))
            elif body.endswith(b"bad"):
                writer.write(reply(ERROR, b"QUEUE_ERROR\0no such luck"))
            else:
                writer.write(reply(JOB_CREATED, b"H:h:1"))

    async with saying(talk) as port, anyqueue.connect(f"gearman://127.0.0.1:{port}") as client:
        sends = [client.send(queue, body) for queue, body in (("a", b"good"), ("b", b"bad"), ("c", b"good"))]
        first, second, third = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(first, str)
        assert isinstance(second, SendError)
        assert "no such luck" in str(second)
        assert isinstance(third, str)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (struct.pack(">4sII", b"\0RES", 17, 0xFFFFFFFF), "4,294,967,295 bytes"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Gearman server"),
        (reply(JOB_CREATED, b"H:h:1"), "nothing asked for"),
        (reply(ECHO_RES, b"anyqueue") * 2, "nothing asked for"),
        (b"", "closed it"),
    ],
)
async def test_a_server_that_says_nonsense_is_no_server(answer: bytes, named: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)

    async with saying(talk) as port:
        driver = GearmanDriver.from_url(URL.parse(f"gearman://127.0.0.1:{port}"))
        with pytest.raises(ConnectFailed, match=named):
            await driver.open()


async def test_a_server_that_falls_silent_is_found_out() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command, body = await asked(reader)
        assert command == ECHO_REQ
        writer.write(reply(ECHO_RES, body))
        await reader.read()

    async with saying(talk) as port:
        driver = GearmanDriver.from_url(URL.parse(f"gearman://127.0.0.1:{port}?heartbeat=0.1"))
        await driver.open()
        async with asyncio.timeout(2):
            with pytest.raises(ConnectionLost, match=r"nothing came for 0\.1 s"):
                await driver.send(Queue("q"), [Envelope(id="1", body=b"x")])
        await driver.close()


async def test_the_next_server_is_tried(server: Gearmand) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with saying(silent) as port:
        url = f"gearman://127.0.0.1:1,127.0.0.1:{port},127.0.0.1:{server.port}"
        async with anyqueue.connect(url) as client:
            await client.send("q", b"x")
    assert "q\t1\t" in server.admin("status")
    with pytest.raises(ConnectFailed, match=r"no server answered: 127.0.0.1:1: .*; 127.0.0.1:2: "):
        await anyqueue.connect("gearman://127.0.0.1:1,127.0.0.1:2").open()
