"""A worker as a process: signals, several processes, the ways it ends. Real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from places import eventually

from anyqueue.testing.stopwatch import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    from places import Place, Shop

    from anyqueue import sync

LEFT = 70


def total(place: Place, *queues: str) -> int:
    return sum(place.depth(queue).total for queue in queues)


def send(client: sync.Client, queue: str, count: int, first: int = 0, **fields: Any) -> None:
    client.producer(queue).send_many([{"n": number, **fields} for number in range(first, first + count)])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_what_it_has_begun(across: Place, shop: Shop, number: signal.Signals) -> None:
    with across.client() as client:
        send(client, across.queue, 8, sleep=0.8)
        program = shop.at(across).worker()
        eventually(lambda: shop.wrote("begun"))
        program.send(number)
        assert program.wait() == 0
        begun, done = shop.wrote("begun"), shop.wrote("done")
        assert 0 < len(begun) < 8
        assert begun == done
        across.counts(across.queue, ready=8 - len(done), held=0)  # what was not begun is back at once
    assert program.events("stopping")[0]["by"] == number.name


def test_a_second_signal_leaves_at_once_and_what_is_unfinished_comes_back(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 2, sleep=30)
        program = shop.at(across).worker()
        eventually(lambda: len(shop.wrote("begun")) == 2)
        program.send(signal.SIGTERM)
        eventually(lambda: program.events("stopping"))
        watch = Stopwatch()
        program.send(signal.SIGINT)
        assert program.wait() == LEFT
        watch.within(2, "a second signal")
        shop.worker()
        eventually(lambda: len(shop.wrote("begun")) == 4)
        assert total(across, across.queue) == 2


def test_a_killed_worker_loses_nothing(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 20, sleep=0.05)
        program = shop.at(across).worker()
        eventually(lambda: len(shop.wrote("done")) >= 3)
        program.end()
        shop.worker()
        eventually(lambda: total(across, across.queue) == 0)
        assert set(shop.wrote("done")) == {str(number) for number in range(20)}
        assert total(across, f"{across.queue}.dead") == 0


def test_the_drain_timeout_ends_it_and_gives_back(across: Place, shop: Shop) -> None:
    """Also while a plain handler sits in a thread that nothing can end."""
    with across.client() as client:
        send(client, across.queue, 1, sleep=60)
        send(client, f"{across.queue}-plain", 1, first=1, sleep=60)
        program = shop.at(across).worker(DRAIN="0.5")
        eventually(lambda: len(shop.wrote("begun")) == 2)
        watch = Stopwatch()
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        watch.within(0.5 + 1, "a drain of at most 0.5 s")
        (warning,) = program.events("the drain timeout is over: messages go back")
        assert warning["count"] == 2
        for queue in (across.queue, f"{across.queue}-plain"):
            across.counts(queue, ready=1, held=0)


def test_until_empty_works_the_queues_off(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 30)
        send(client, f"{across.queue}-plain", 30, first=30)
        send(client, across.queue, 1, first=60, fail=True)
        program = shop.at(across).start("worker", "tasks", "--until-empty")
        assert program.wait() == 0
        assert sorted(map(int, shop.wrote("done"))) == list(range(60))
        assert program.events("ended")[0]["why"] == "its queues are empty"
        across.counts(across.queue, ready=0, held=0)


def test_until_empty_in_several_processes(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 40, sleep=0.4)
        assert shop.at(across).start("worker", "tasks", "--until-empty", "--processes", "2").wait() == 0
        assert sorted(map(int, shop.wrote("done"))) == list(range(40))
        assert total(across, across.queue) == 0
        assert len(set(shop.wrote("pid"))) == 2


@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_max_messages_is_exact(across: Place, shop: Shop, concurrency: str) -> None:
    with across.client() as client:
        send(client, across.queue, 30)
        program = shop.at(across).start("worker", "tasks", "--max-messages", "7", CONCURRENCY=concurrency)
        assert program.wait() == 0
        assert len(shop.wrote("begun")) == len(shop.wrote("done")) == 7
        across.counts(across.queue, ready=23, held=0)


def test_a_process_that_has_done_its_messages_is_replaced(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 20)
        program = shop.at(across).worker("--max-messages", "4", "--processes", "2")
        eventually(lambda: len(shop.wrote("done")) == 20)
        eventually(lambda: total(across, across.queue) == 0)  # the last is acknowledged after its handler wrote
        assert len(set(shop.wrote("pid"))) >= 5
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_a_killed_process_of_several_is_replaced(across: Place, shop: Shop) -> None:
    with across.client() as client:
        program = shop.at(across).worker("--processes", "2")
        program.ready(2)
        send(client, across.queue, 4, sleep=1)
        pid = int(eventually(lambda: shop.wrote("pid"))[0])
        os.kill(pid, signal.SIGKILL)
        program.ready(3)
        assert program.events("a process ended")[0]["status"] == -signal.SIGKILL
        eventually(lambda: total(across, across.queue) == 0)
        assert set(shop.wrote("done")) == {"0", "1", "2", "3"}
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_when_the_parent_is_killed_its_processes_drain(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 8, sleep=0.5)
        program = shop.at(across).worker("--processes", "2", CONCURRENCY="1")
        program.ready(2)
        eventually(lambda: len(shop.wrote("begun")) >= 2)
        program.end()
        eventually(lambda: len(program.events("ended")) == 2, program.log)
        assert shop.wrote("begun") and set(shop.wrote("begun")) == set(shop.wrote("done"))  # noqa: PT018 -- not of nothing
        across.counts(across.queue, ready=8 - len(shop.wrote("done")), held=0)
        for pid in {int(each) for each in shop.wrote("pid")}:
            eventually(lambda pid=pid: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_parents_second_signal_leaves_at_once(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 2, sleep=60)
        program = shop.at(across).worker("--processes", "2")
        program.ready(2)
        eventually(lambda: len(shop.wrote("begun")) == 2)
        program.send(signal.SIGTERM)
        eventually(lambda: program.events("stopping"))
        watch = Stopwatch()
        program.send(signal.SIGTERM)
        assert program.wait() == LEFT
        watch.within(2, "a second signal")


@pytest.mark.parametrize("several", [[], ["--processes", "2"]], ids=["one", "two"])
def test_sighup_begins_anew_with_the_code_as_it_is(across: Place, shop: Shop, several: list[str]) -> None:
    with across.client() as client:
        program = shop.at(across).worker(*several)
        program.ready(len(several) or 1)
        tasks = shop.folder / "tasks.py"
        old = tasks.read_text()
        tasks.write_text(old + "\nimport no_such_module\n")
        program.send(signal.SIGHUP)
        eventually(lambda: "no_such_module" in program.log())
        send(client, across.queue, 1)
        eventually(lambda: shop.wrote("done") == ["0"])
        tasks.write_text(old.replace('write("done", order["n"])', 'write("anew", order["n"])'))
        ready = len(program.events("ready"))
        program.send(signal.SIGHUP)
        program.ready(ready + (2 if several else 1))
        eventually(lambda: len(program.events("ended")) == (2 if several else 1))
        send(client, across.queue, 1, first=1)
        eventually(lambda: shop.wrote("anew") == ["1"])
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.process.pid == program.pid


def test_reload_follows_the_files(across: Place, shop: Shop) -> None:
    with across.client() as client:
        program = shop.at(across).worker("--reload")
        tasks = shop.folder / "tasks.py"
        tasks.write_text(tasks.read_text().replace('write("done", order["n"])', 'write("anew", order["n"])'))
        program.ready(2)
        send(client, across.queue, 1)
        eventually(lambda: shop.wrote("anew") == ["0"])


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("several", [[], ["--processes", "2"]], ids=["one", "two"])
def test_health_is_shown_at_a_port_and_in_a_file(across: Place, shop: Shop, tmp_path: Path, several: list[str]) -> None:
    port, file = free_port(), tmp_path / "health"
    with across.client() as client:
        send(client, across.queue, 3)
        program = shop.at(across).worker("--health-port", str(port), "--health-file", str(file), *several)
        eventually(lambda: get(port, "/ready")[0] == 200)
        assert get(port, "/live")[0] == 200
        assert get(port, "/other")[0] == 404
        state = eventually(lambda: (now := get(port, "/ready")[1])["handled"] == 3 and now)
        assert (state["status"], state["pid"], len(state["processes"])) == ("ready", program.pid, 2 if several else 0)
        eventually(lambda: json.loads(file.read_bytes())["handled"] == 3)
        send(client, across.queue, 1, sleep=1.5)
        eventually(lambda: len(shop.wrote("begun")) == 4)
        program.send(signal.SIGTERM)
        eventually(lambda: get(port, "/ready")[0] == 503)
        assert get(port, "/live")[1]["status"] == "draining"
        assert program.wait() == 0
    assert not file.exists()


def test_every_line_of_the_log_is_json_and_no_body_is_in_it(across: Place, shop: Shop) -> None:
    with across.client() as client:
        send(client, across.queue, 1, secret="swordfish")  # noqa: S106 -- no password
        send(client, across.queue, 1, first=1, fail=True, secret="swordfish")  # noqa: S106 -- no password
        program = shop.at(across).worker("--log-level", "debug")
        eventually(lambda: across.depth(f"{across.queue}.dead").total == 1)
        program.send(signal.SIGTERM)
        assert program.wait() == 0
    (handled,) = program.events("message handled")
    assert (handled["queue"], handled["attempt"]) == (across.queue, 1)
    assert [line["attempt"] for line in program.events("message failed")] == [1, 2, 3]
    assert "swordfish" not in program.log()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module", "No module named 'no_such_module' ("),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("nothing = 1", "has no 'worker'"),
        ("worker = 1", "has a int, and no Worker"),
        ("from anyqueue.worker import Worker; worker = Worker('sqlite:///q.db')", "has no handler"),
        (
            (
                "from anyqueue.worker import Worker; worker = Worker('carrier-pigeon://x')\n"
                "@worker.handler('q')\ndef handle(message): ..."
            ),
            "unknown scheme",
        ),
        ("from anyqueue.worker import Worker; worker = Worker('no url')", "this is no URL"),
        (
            (
                "from anyqueue.worker import Worker; worker = Worker('sqlite:///q.db')\n"
                "@worker.handler('q')\ndef handle(message, more): ..."
            ),
            "its signature is (message, more)",
        ),
        (
            (
                "from anyqueue.worker import Worker; worker = Worker('sqlite:///q.db')\n"
                "@worker.handler('q')\ndef one(message): ...\n@worker.handler('q')\ndef two(message): ..."
            ),
            "mod.one and mod.two both handle 'q'",
        ),
        (
            (
                "from anyqueue.worker import Worker; worker = Worker('sqlite:////no/such/folder/q.db')\n"
                "@worker.handler('q')\ndef one(message): ..."
            ),
            "/no/such/folder does not exist",
        ),
        (
            (
                "from anyqueue.worker import Worker; worker = Worker('memory://x')\n"
                "@worker.handler('aq.x')\ndef one(message): ..."
            ),
            "anyqueue's own",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_status_1(shop: Shop, text: str, says: str) -> None:
    (shop.folder / "mod.py").write_text(text + "\n")
    assert says in shop.fails("worker", "mod")


def test_bad_input_in_several_processes_is_the_same(shop: Shop) -> None:
    assert "does not import" in shop.fails("worker", "no_such_module", "--processes", "2")
    (shop.folder / "mod.py").write_text(
        "from anyqueue.worker import Worker; worker = Worker('memory://x')\n@worker.handler('q')\ndef one(m): ...\n"
    )
    assert "one process" in shop.fails("worker", "mod", "--processes", "2")


def test_a_port_that_is_taken_is_one_clear_line(across: Place, shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = shop.at(across).fails("worker", "tasks", "--health-port", str(port))
    assert str(port) in said
