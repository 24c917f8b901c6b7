"""The blocking API: the same names, parameters and defaults, and what threads, Ctrl-C and forks do to it.

This file is longer than others: it follows the whole API, as sync.py does.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import anyqueue
from anyqueue import Closed, ConfigError, Error, NoReply, RemoteError, Retry, SendError, SettleError, hooks, sync
from anyqueue._portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAIRS = [
    (anyqueue.connect, sync.connect),
    *(
        (getattr(anyqueue, name), getattr(sync, name))
        for name in ("Client", "Producer", "Consumer", "Messages", "Message", "Batches", "Batch")
    ),
]
BLOCKING = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
INTERNAL = {"claim", "settle_with", "again"}


def members(kind: type) -> dict[str, Any]:
    """Return what users may call or read, under the names of the blocking API."""
    found = {BLOCKING.get(name, name): member for name, member in vars(kind).items()}
    return {
        name: member
        for name, member in found.items()
        if (name in BLOCKING.values() or not name.startswith("_"))
        and name not in INTERNAL
        and (inspect.isfunction(member) or isinstance(member, property))
    }


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.fixture
def room() -> Iterator[str]:
    name = f"sync-{time.monotonic_ns()}"
    yield f"memory://{name}"
    from anyqueue.backends.memory import MemoryDriver  # noqa: PLC0415 -- only to clean up

    MemoryDriver.forget(name)


@pytest.mark.parametrize(("ours", "blocking"), PAIRS, ids=lambda one: one.__name__)
def test_both_apis_have_the_same_names_parameters_and_defaults(ours: type, blocking: type) -> None:
    if inspect.isfunction(ours):
        assert parameters(ours) == parameters(blocking)
        return
    here, there = members(ours), members(blocking)
    reads_through = hasattr(blocking, "__getattr__")
    missing = {name for name in here.keys() - there if not (reads_through and isinstance(here[name], property))}
    assert missing - {"url"} == set()
    assert there.keys() - here <= {"url"}, "the blocking API has names of its own"
    for name in here.keys() & there:
        assert isinstance(here[name], property) == isinstance(there[name], property), name
        if not isinstance(here[name], property):
            assert parameters(here[name]) == parameters(there[name]), name
            assert not inspect.iscoroutinefunction(there[name])


def test_a_message_goes_round(room: str) -> None:
    with sync.connect(room) as client, client.producer("q") as producer:
        ids = [client.send("q", {"n": 1}, headers={"a": "b"}), *producer.send_many([b"2", "3"])]
        with client.consumer("q") as messages:
            seen = [next(messages) for _ in range(3)]
            assert [message.id for message in seen] == ids
            assert [message.payload for message in seen] == [{"n": 1}, b"2", "3"]
            assert seen[0].headers == {"a": "b"}
            with seen[0]:
                pass
            with pytest.raises(SettleError):
                seen[0].ack()
            seen[1].retry(0)
            seen[2].reject("not this one")
            (again,) = messages.receive()
            assert (again.id, again.attempt) == (ids[1], 2)
            again.ack()
            assert messages.receive(timeout=0) == []
        assert client.depth("q").total == 0
        assert [message.death.reason for message in client.browse("q.dead")] == ["not this one"]
        assert client.redrive("q.dead") == 1
        assert client.purge("q") == 1
        client.delete("q")
        assert "q" not in dict(client.queues())


def test_a_request_has_its_reply(room: str, tmp_path: Path) -> None:
    told: list[float] = []

    def handle(message: sync.Message) -> object:
        message.progress(1, 2)
        if message.payload == "by hand":
            message.reply("hand")
            return "ignored"
        return 10 / message.payload

    with sync.connect(room) as client, sync.connect(room, progress=str(tmp_path / "progress.db")) as other:
        consumer = other.consumer("q", concurrency=2)
        thread = threading.Thread(target=consumer.run, args=(handle,))
        thread.start()
        assert client.request("q", 2, progress=lambda progress: told.append(progress.done)) == 5.0
        assert client.request("q", "by hand") == "hand"
        with pytest.raises(RemoteError, match="ZeroDivisionError") as caught:
            client.request("q", 0)
        assert caught.value.kind == "ZeroDivisionError"
        consumer.stop()
        thread.join()
        with pytest.raises(NoReply, match="no reply"):
            client.request("q", 1, timeout=0.05)
    assert told == [1.0]


def test_errors_come_as_they_are(room: str) -> None:
    with sync.connect(room) as client:
        with pytest.raises(ConfigError):
            client.send("q", b"", priority=10)
        with pytest.raises(TypeError):
            client.send("q", object())
        with pytest.raises(ConfigError):
            client.producer("")
        with pytest.raises(ConfigError):
            client.consumer("q", concurrency=0)


def test_an_exception_in_a_with_block_of_a_message_is_the_policys_business(room: str) -> None:
    with sync.connect(room) as client:
        client.send("q", b"x")
        with client.consumer("q", retry=None) as messages:
            (message,) = messages.receive()
            with message:
                raise ValueError("no")
        (dead,) = client.browse("q.dead")
        assert dead.death.exception == "ValueError: no"


def test_handlers_run_in_their_own_threads_at_most_so_many(room: str) -> None:
    seen: list[tuple[int, bytes]] = []
    both = threading.Barrier(2, timeout=10)
    with sync.connect(room) as client:
        client.producer("q").send_many([b"1", b"2"])
        consumer = client.consumer("q", concurrency=2)

        def handle(message: sync.Message) -> None:
            both.wait()
            client.send("done", message.body)  # a handler may use the client
            seen.append((threading.get_ident(), message.body))
            if len(seen) == 2:
                consumer.stop()

        consumer.run(handle)
        assert client.depth("q").total == 0
        assert client.depth("done").total == 2
    assert sorted(body for _, body in seen) == [b"1", b"2"]
    loops = {thread.ident for thread in threading.enumerate() if thread.name == "anyqueue-loop"}
    assert len({thread for thread, _ in seen}) == 2
    assert not {thread for thread, _ in seen} & {threading.get_ident(), *loops}


def test_a_handler_that_fails_is_retried_then_dead_lettered(room: str) -> None:
    attempts: list[int] = []
    with sync.connect(room) as client:
        client.send("q", b"x")
        consumer = client.consumer("q", retry=Retry(attempts=2, initial=0.001))
        runner = threading.Thread(target=lambda: consumer.run(lambda message: fail(attempts, message)))
        runner.start()
        until(lambda: client.depth("q.dead").total == 1)
        consumer.stop()
        runner.join(60)
        assert not runner.is_alive()
    assert attempts == [1, 2]


def fail(attempts: list[int], message: sync.Message) -> None:
    attempts.append(message.attempt)
    raise ValueError(message.body)


def until(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("handler", [3, None, "handle"])
def test_a_handler_is_a_function(room: str, handler: object) -> None:
    with sync.connect(room) as client, pytest.raises(TypeError):
        client.consumer("q").run(handler)  # type: ignore[arg-type]


def test_a_handler_is_a_plain_function(room: str) -> None:
    async def handle(message: object) -> None:
        del message

    with sync.connect(room) as client, pytest.raises(TypeError, match="plain function"):
        client.consumer("q").run(handler=handle)


def test_hooks_are_told_on_the_loops_thread_where_a_call_raises_at_once(room: str) -> None:
    events: list[hooks.Event] = []
    threads: set[str] = set()
    refused: list[BaseException] = []

    def hook(event: hooks.Event) -> None:
        events.append(event)
        threads.add(threading.current_thread().name)
        if isinstance(event, hooks.Sent):
            try:
                client.send("q", b"from the loop")
            except RuntimeError as error:
                refused.append(error)

    with sync.connect(room, hooks=[hook]) as client:
        sent = client.send("q", b"x")
        with client.consumer("q") as messages:
            next(messages).ack()
    assert threads == {"anyqueue-loop"}
    assert "wait for itself" in str(refused)
    kinds = [type(event) for event in events]
    assert kinds == [
        hooks.Connected,
        hooks.Sent,
        hooks.Connected,
        hooks.Subscribed,
        hooks.Received,
        hooks.Settled,
    ]
    assert [event.ids for event in events if isinstance(event, hooks.Sent | hooks.Received)] == [(sent,), (sent,)]
    assert {event.url for event in events} == {room}


def test_before_open_and_after_close_it_says_so(room: str) -> None:
    client = sync.connect(room)
    with pytest.raises(Closed, match="not open"):
        client.send("q", b"")
    with client:
        producer, consumer = client.producer("q"), client.consumer("q")
    client.close()
    for act in (lambda: client.send("q", b""), lambda: producer.send(b""), lambda: consumer.run(print), client.queues):
        with pytest.raises(Closed):
            act()


def test_no_thread_is_left(room: str, tmp_path: Path) -> None:
    before = threading.active_count()
    with sync.connect(room) as client:
        client.send("q", b"")
    with pytest.raises(Error), sync.connect(f"sqlite:///{tmp_path}/no/such/folder/q.db"):
        pass
    until(lambda: threading.active_count() == before)


def test_a_fork_raises_closed_and_leaves_the_parent_alone(tmp_path: Path) -> None:
    with sync.connect(f"sqlite:///{tmp_path}/q.db") as client:
        client.send("q", b"before")
        child = os.fork()
        if not child:
            status = 1
            try:
                client.send("q", b"in the child")
            except Closed as error:
                status = 0 if "another process" in str(error) else 2
            client.close()
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        client.send("q", b"after")
        assert [message.body for message in client.browse("q")] == [b"before", b"after"]


INTERRUPTED = """
import sys, time
from anyqueue.sync import connect

def handle(message):
    sys.stdout.write(f"begun {message.payload}\\n")  # in one piece: two threads write
    sys.stdout.flush()
    time.sleep(0.3)
    sys.stdout.write(f"done {message.payload}\\n")
    sys.stdout.flush()

try:
    with connect(sys.argv[1]) as client:
        client.consumer("q", concurrency=2, prefetch=10).run(handle)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_in_a_process_drains(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/q.db"
    with sync.connect(url) as client:
        client.producer("q").send_many([str(number) for number in range(10)])
        command = [sys.executable, "-c", INTERRUPTED, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- ours
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            try:
                lines += process.communicate(timeout=30)[0].splitlines()
            finally:
                process.kill()  # if it still runs
        assert process.returncode == 0
        done = {line.removeprefix("done ") for line in lines if line.startswith("done")}
        begun = {line.removeprefix("begun ") for line in lines if line.startswith("begun")}
        assert begun == done, "a handler that had begun was not let finish"
        assert len(done) in range(2, 10)
        assert lines[-1] == "interrupted"
        left = {message.payload for message in client.browse("q")}
        assert left == {str(number) for number in range(10)} - done
        assert client.depth("q").held == 0


def test_ctrl_c_in_one_call_cancels_it_and_the_client_lives(room: str) -> None:
    with sync.connect(room) as client, client.consumer("q") as messages:
        timer = threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            messages.receive()
        timer.join()
        client.send("q", b"x")
        (message,) = messages.receive()
        assert message.body == b"x"


def test_calls_that_race_with_the_end_of_the_loop_all_end() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    for _ in range(50):
        portal = Portal()
        portal.start()
        called, begun = [0, 0, 0], threading.Event()

        def call(
            number: int, portal: Portal = portal, called: list[int] = called, begun: threading.Event = begun
        ) -> None:
            with contextlib.suppress(Closed):  # which is what ends it
                while True:
                    portal.call(work)
                    called[number] += 1
                    begun.set()

        threads = [threading.Thread(target=call, args=(number,)) for number in range(len(called))]
        for thread in threads:
            thread.start()
        begun.wait()
        portal.stop()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert sum(called)


def test_a_call_under_way_when_the_loop_ends_is_closed() -> None:
    portal = Portal()
    portal.start()
    begun, errors = threading.Event(), list[BaseException]()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(3600)

    def call() -> None:
        try:
            portal.call(work)
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait()
    portal.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert len(errors) == 1


def test_a_blocked_broker_is_a_send_error(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyqueue.backends.memory import MemoryDriver  # noqa: PLC0415 -- only here

    async def stuck(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(MemoryDriver, "send", stuck)
    with sync.connect(room, send_timeout=0.05) as client, pytest.raises(SendError) as caught:
        client.send("q", b"")
    assert caught.value.unknown


def test_a_wait_ends_with_its_callback_with_an_error_or_with_the_loop() -> None:
    portal = Portal()
    portal.start()

    def at_once(done: Callable[[], None]) -> str:
        done()
        done()
        return "at once"

    def later(done: Callable[[], None]) -> str:
        asyncio.get_running_loop().call_later(0.01, done)
        return "later"

    def refuse(done: Callable[[], None]) -> str:
        done()
        raise ValueError("refused")

    assert [portal.await_end(at_once), portal.await_end(later)] == ["at once", "later"]
    with pytest.raises(ValueError, match="refused"):
        portal.await_end(refuse)

    begun, errors = threading.Event(), list[BaseException]()

    def never(_done: Callable[[], None]) -> None:
        begun.set()

    def wait() -> None:
        try:
            portal.await_end(never)
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    portal.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert len(errors) == 1
    with pytest.raises(Closed):
        portal.await_end(at_once)
