"""gearman://: requests between anyqueue and other programs, which know nothing of it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from gearmands import Gearmand, Raw

import anyqueue
from anyqueue import NoReply, Progress, RemoteError
from anyqueue.backends.gearman.counting import Looks
from anyqueue.backends.gearman.protocol import (
    CAN_DO,
    GRAB_JOB_UNIQ,
    JOB_ASSIGN_UNIQ,
    NO_JOB,
    SUBMIT_JOB,
    WORK_COMPLETE,
    WORK_DATA,
    WORK_EXCEPTION,
    WORK_FAIL,
    WORK_STATUS,
    WORK_WARNING,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from anyqueue import Message

EXCEPTIONS = 26


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


async def grab(worker: Raw) -> tuple[bytes, bytes]:
    """Take a job as another program, once there is one; return its handle and its data."""
    command = NO_JOB
    while command == NO_JOB:
        command, body = await asyncio.to_thread(worker.ask, GRAB_JOB_UNIQ)
    assert command == JOB_ASSIGN_UNIQ
    handle, _, _, data = body.split(b"\0", 3)
    return handle, data


async def requested(server: Gearmand, client: anyqueue.Client, *told: tuple[int, tuple[bytes, ...]]) -> object:
    """Make a request that another program answers by saying this; return the reply."""
    heard: list[Progress] = []
    with closing(server.raw()) as worker:
        worker.write(CAN_DO, b"q")
        asked = asyncio.create_task(client.request("q", "question", progress=heard.append, timeout=5))
        handle, data = await grab(worker)
        assert data == b"question", "any worker reads the body as it is"
        for command, arguments in told:
            worker.write(command, handle, *arguments)
        reply = await asked
    return [reply, *((each.done, each.total, each.note) for each in heard)]


async def test_another_programs_worker_answers(server: Gearmand, client: anyqueue.Client) -> None:
    assert await requested(
        server,
        client,
        (WORK_WARNING, (b"careful",)),
        (WORK_STATUS, (b"1", b"3")),
        (WORK_STATUS, (b"nonsense", b"3")),
        (WORK_DATA, (b"one ",)),
        (WORK_COMPLETE, (b"two\0three",)),
    ) == [b"one two\0three", (1.0, 3.0, "careful")]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (WORK_EXCEPTION, (b"it is broken",), "it is broken"),
        (WORK_EXCEPTION, (b"aq1 {broken",), "aq1 {broken"),
        (WORK_FAIL, (), "failed"),
    ],
)
async def test_another_programs_worker_fails(
    server: Gearmand, client: anyqueue.Client, command: int, arguments: tuple[bytes, ...], says: str
) -> None:
    with pytest.raises(RemoteError, match=says):
        await requested(server, client, (command, arguments))


async def answer(message: Message) -> object:
    assert message.is_request
    await message.progress(1, 2)
    if message.body == b"broken":
        raise ValueError("no good")
    return {"echo": message.body.decode()}


@pytest.mark.parametrize("looks", [True, False], ids=["few jobs", "many jobs"])
async def test_another_program_is_answered(
    server: Gearmand, client: anyqueue.Client, looks: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also among so many jobs that they are not looked up one and all."""
    if not looks:
        monkeypatch.setattr(Looks, "wanted", lambda *_: False)
    consumer = client.consumer("q")
    task = asyncio.create_task(consumer.run(answer))
    with closing(server.raw()) as plain, closing(server.raw()) as told:
        assert await asyncio.to_thread(told.ask, EXCEPTIONS, b"exceptions") == (27, b"exceptions")
        for requester, failed in ((plain, WORK_FAIL), (told, WORK_EXCEPTION)):
            handle = requester.submit("q", b"hello", SUBMIT_JOB)
            assert await asyncio.to_thread(requester.read) == (WORK_STATUS, handle + b"\x001\x002")
            assert await asyncio.to_thread(requester.read) == (WORK_COMPLETE, handle + b'\0{"echo":"hello"}')
            handle = requester.submit("q", b"broken", SUBMIT_JOB)
            assert (await asyncio.to_thread(requester.read))[0] == WORK_STATUS
            command, said = await asyncio.to_thread(requester.read)
            assert command == failed
            assert said.removeprefix(handle) in {b"\0", b"\0ValueError: no good"}
    consumer.stop()
    await task


async def test_a_background_job_among_many_is_retried_and_not_failed(
    server: Gearmand, client: anyqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody waits for must never be reported as failed: that deletes it."""
    monkeypatch.setattr(Looks, "wanted", lambda *_: False)
    attempts: list[int] = []
    consumer = client.consumer("q", retry=anyqueue.Retry(attempts=3, initial=0.01))

    async def handle(message: Message) -> None:
        assert not message.is_request
        attempts.append(message.attempt)
        if len(attempts) == 2:
            consumer.stop()
            return
        raise ValueError

    with closing(server.raw()) as other:
        other.submit("q", b"background")
    await asyncio.wait_for(consumer.run(handle), 10)
    assert attempts == [1, 2]


async def test_a_request_that_nobody_waits_for_is_forgotten(server: Gearmand, client: anyqueue.Client) -> None:
    with pytest.raises(NoReply):
        await client.request("q", "?", timeout=0.1)
    with closing(server.raw()) as worker:
        worker.write(CAN_DO, b"q")
        assert worker.ask(GRAB_JOB_UNIQ)[0] == NO_JOB
    assert (await client.depth("q")).total == 0


async def test_asked_again_while_it_is_handled_it_is_the_same_job(server: Gearmand) -> None:
    """A requester that reconnects finds its job: it is handled once."""
    handled: list[str] = []
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> str | None:
        if message.payload == "another":
            return None
        handled.append(message.id)
        begun.set()
        await go.wait()
        return "once"

    async with anyqueue.connect(server.url) as worker, anyqueue.connect(server.url) as client:
        consumer = worker.consumer("q", concurrency=2)
        task = asyncio.create_task(consumer.run(handle))
        asked = asyncio.create_task(client.request("q", "?"))
        await begun.wait()
        driver = await client._sending.driver()
        client._sending.lost(driver, anyqueue.ConnectionLost("cut"))
        assert await client.request("q", "another", timeout=0.5) is None
        go.set()
        assert await asked == "once"
        assert len(handled) == 1
        consumer.stop()
        await task
