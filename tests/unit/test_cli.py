"""The command line as a shell sees it: real processes, real pipes, a real file."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from anyqueue import Feature, Topic
from anyqueue.sync import connect

if TYPE_CHECKING:
    from pathlib import Path

COMMAND: Final = (sys.executable, "-m", "anyqueue.cli")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'queue.db'}"


def run(*arguments: str, given: bytes = b"", status: int = 0) -> tuple[str, str]:
    """Run a command, check its status, and return stdout and stderr."""
    done = subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, check=False)  # noqa: S603 -- ours
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 -- ours


def received(url: str, queue: str, *arguments: str) -> list[dict[str, Any]]:
    out, _ = run("receive", url, queue, "--timeout", "0.5", *arguments)
    return [json.loads(line) for line in out.splitlines()]


def fails(*arguments: str, given: bytes = b"") -> str:
    """Run a command that fails as it should: status 1, nothing but one line on stderr, which is returned."""
    out, err = run(*arguments, given=given, status=1)
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("anyqueue: ")
    return err


def test_json_lines_go_in_and_come_out_in_order(url: str) -> None:
    lines = b'{"n": 1}\n\n[2.50, null]\n"three"\n4'
    assert run("send", url, "jobs", given=lines) == ("sent 4 messages to jobs\n", "")
    assert [each["payload"] for each in received(url, "jobs")] == [{"n": 1}, [2.5, None], "three", 4]
    assert received(url, "jobs") == []


def test_a_file_is_sent_byte_for_byte(url: str, tmp_path: Path) -> None:
    line = b'{"number": 1.10, "text": "gr\xc3\xbc\xc3\x9fe"}'
    (tmp_path / "lines.jsonl").write_bytes(line + b"\n")
    run("send", url, "jobs", "--file", str(tmp_path / "lines.jsonl"))
    with connect(url) as client:
        (message,) = client.browse("jobs")
    assert (message.body, message.content_type) == (line, "application/json")


def test_bad_lines_are_named_and_the_others_sent(url: str) -> None:
    lines = b'{"n": 1}\nnonsense\n\n{"n": NaN}\n\xff\n{"n": 2}\n' + b"[" * 100_000
    out, err = run("send", url, "jobs", "--file", "-", given=lines, status=1)
    assert out == "sent 2 messages to jobs\n"
    *named, summary = err.splitlines()
    assert [line.split(":")[1] for line in named] == [" line 2", " line 4", " line 5", " line 7"]
    assert summary == "anyqueue: 4 lines refused, 2 sent"
    assert [each["payload"] for each in received(url, "jobs")] == [{"n": 1}, {"n": 2}]


def test_a_line_over_the_limit_is_a_bad_line(url: str) -> None:
    big = b'"' + b"x" * (16 * 1024 * 1024) + b'"'
    _, err = run("send", url, "jobs", given=b"1\n" + big + b"\n3\n", status=1)
    assert "line 2: " in err
    assert [each["payload"] for each in received(url, "jobs")] == [1, 3]


def test_a_slow_pipe_is_not_waited_for(url: str) -> None:
    command = [*COMMAND, "send", url, "jobs"]
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 -- ours
    assert sender.stdin is not None
    sender.stdin.write(b"1\n")
    sender.stdin.flush()
    out, _ = run("receive", url, "jobs", "--count", "1", "--timeout", "30")
    assert json.loads(out)["payload"] == 1
    assert sender.communicate() == (b"sent 1 message to jobs\n", None)


def test_a_line_without_end_is_refused_before_memory_is(url: str) -> None:
    command = [*COMMAND, "send", url, "jobs", "--file", "/dev/zero"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert (done.returncode, done.stderr) == (1, "anyqueue: line 1 is longer than 33,554,432 bytes\n")


def test_a_text_with_everything(url: str) -> None:
    run("send", url, "jobs", "--text", "grüß\ndich", "--priority", "7", "--expires", "60", "-H", "a=b=c", "-H", "d=")
    (message,) = received(url, "jobs")
    assert (message["payload"], message["priority"], message["attempt"]) == ("grüß\ndich", 7, 1)
    assert message["headers"] == {"a": "b=c", "d": ""}
    assert message["expires_at"] > message["timestamp"]


def test_a_delay_keeps_it_back(url: str) -> None:
    run("send", url, "jobs", "--text", "later", "--delay", "60")
    assert received(url, "jobs") == []


def test_what_json_cannot_show_is_base64_and_says_so(url: str) -> None:
    with connect(url) as client:
        client.send("jobs", b"\xff\x00")
        client.send("jobs", b"{not json", content_type="application/json")
        client.send("jobs", "\x1b[31m\x9b1m")
    binary, broken, text = received(url, "jobs")
    assert (binary["encoding"], base64.b64decode(binary["payload"])) == ("base64", b"\xff\x00")
    assert (broken["encoding"], base64.b64decode(broken["payload"])) == ("base64", b"{not json")
    assert (text["payload"], "encoding" in text) == ("\x1b[31m\x9b1m", False)


def test_control_characters_reach_no_terminal(url: str) -> None:
    run("send", url, "jobs", "--text", "\x1b[31m\x9b1m\x7f")
    out, _ = run("receive", url, "jobs", "--count", "1")
    assert out.rstrip("\n").isprintable()


def test_a_dead_letter_says_why(url: str) -> None:
    with connect(url) as client:
        client.send("jobs", "poison")
        with client.consumer("jobs") as messages:
            next(iter(messages)).reject("no good")
    (message,) = received(url, "jobs.dead")
    assert (message["death"]["reason"], message["death"]["origin"]) == ("no good", "jobs")


def test_no_ack_leaves_everything_and_uses_up_no_attempt(url: str) -> None:
    run("send", url, "jobs", given=b"1\n2\n3\n")
    assert len(received(url, "jobs", "--no-ack")) == 3
    assert len(received(url, "jobs", "--no-ack", "--count", "2")) == 2
    assert [(each["payload"], each["attempt"]) for each in received(url, "jobs")] == [(1, 1), (2, 1), (3, 1)]


def test_count_takes_no_more_than_it_says(url: str) -> None:
    run("send", url, "jobs", given=b"1\n2\n3\n")
    assert [each["payload"] for each in received(url, "jobs", "--count", "2")] == [1, 2]
    assert [each["payload"] for each in received(url, "jobs")] == [3]


def test_a_group_gets_what_is_sent_to_the_topic(url: str) -> None:
    received(url, "news", "--group", "billing")
    run("send", url, "news", "--topic", "--text", "hello")
    assert [each["payload"] for each in received(url, "news", "--group", "billing")] == ["hello"]


def test_a_closed_pipe_is_quiet_and_loses_nothing(url: str) -> None:
    total = 3000
    run("send", url, "jobs", given=b"\n".join(b"%d" % number for number in range(total)))
    receiver = start("receive", url, "jobs", "--timeout", "5")
    assert receiver.stdout is not None
    taken = json.loads(receiver.stdout.readline())["payload"]
    receiver.stdout.close()
    assert receiver.stderr is not None
    assert receiver.stderr.read() == b""
    receiver.stderr.close()
    receiver.wait()
    rest = [each["payload"] for each in received(url, "jobs")]
    assert taken == 0
    assert rest[-1] == total - 1
    assert rest == list(range(rest[0], total))


def test_ctrl_c_is_status_130_without_a_word(url: str) -> None:
    run("send", url, "jobs", "--text", "first")
    receiver = start("receive", url, "jobs")
    assert receiver.stdout is not None
    receiver.stdout.readline()
    receiver.send_signal(signal.SIGINT)
    try:
        out, err = receiver.communicate(timeout=30)
    finally:
        receiver.kill()  # if it still runs
    assert (receiver.returncode, out, err) == (130, b"", b"")


def test_features_names_every_feature(url: str) -> None:
    out, _ = run("features", url)
    assert "native" in out
    assert "emulated" in out
    weak, _ = run("features", "memory://x?as=weak", "--json")
    rows = [json.loads(line) for line in weak.splitlines()]
    kinds = {row["feature"]: row["support"] for row in rows if "feature" in row}
    assert (kinds["EXPIRY"], kinds["DURABLE"], len(kinds)) == ("emulated", "refused", len(Feature))
    assert rows[-1]["limits"]["max_body"] == 16 * 1024 * 1024


def test_features_compares_several(url: str) -> None:
    out, _ = run("features", url, "memory://x?as=weak")
    (line,) = (line for line in out.splitlines() if "DURABLE" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["DURABLE", "native", "refused"]
    table, _ = run("features", url, "memory://x?as=weak", "--markdown")
    assert "| DURABLE | native | refused |" in table.splitlines()


def test_on_a_terminal_an_object_is_indented(url: str) -> None:
    run("send", url, "jobs", "--text", "\x1b[31mred")
    ours, theirs = pty.openpty()
    command = [*COMMAND, "receive", url, "jobs", "--count", "1"]
    status = subprocess.run(command, stdout=theirs, env={**os.environ, "NO_COLOR": "1"}, check=False).returncode  # noqa: S603 -- ours
    os.close(theirs)
    shown = os.read(ours, 65536).decode().replace("\r\n", "\n")
    os.close(ours)
    assert status == 0
    assert '\n  "payload": "\\u001b[31mred",\n' in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[31m" not in shown


def test_queues_counts(url: str) -> None:
    run("send", url, "jobs", given=b"1\n2\n")
    run("send", url, "jobs", "--text", "later", "--delay", "60")
    out, _ = run("queues", url, "--json")
    assert json.loads(out) == {"queue": "jobs", "ready": 2, "delayed": 1, "held": 0}
    table, _ = run("queues", url)
    assert "jobs" in table


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("features", "nosuch://x"), "unknown scheme"),
        (("features", "no url"), "this is no URL"),
        (("features", "sqlite:////nosuchfolder/x.db"), "does not exist"),
        (("features", "memory://x?lease=long"), "lease"),
        (("queues", "memory://x?as=weak"), "COUNT"),
        (("send", "memory://x?as=weak", "q", "--text", "a", "--delay", "1"), "DELAY"),
        (("send", "memory://x", "aq.q", "--text", "a"), "aq."),
        (("send", "memory://x", "q", "--text", "a", "--delay", "nan"), "delay"),
        (("send", "memory://x", "q", "--text", "a", "--header", "plain"), "NAME=VALUE"),
        (("send", "memory://x", "q", "--text", "a", "--file", "b"), "exclude"),
        (("send", "memory://x", "q", "--file", "/nosuchfile"), "No such file"),
        (("receive", "memory://x", "q", "--count", "0"), "--count"),
        (("receive", "memory://x", "q", "--timeout", "0"), "--timeout"),
        (("receive", "memory://x"), "QUEUE"),
        (("send", "memory://x", "q", "--nonsense"), "--nonsense"),
        (("nonsense",), "nonsense"),
    ],
)
def test_an_error_is_one_line_and_status_1(arguments: tuple[str, ...], says: str) -> None:
    assert says in fails(*arguments)


@pytest.mark.parametrize("url", ["memory://user:geheim@x?no=1", "nosuch://user:geheim@x", "sqlite://u:geheim@h:x/y"])
def test_a_password_is_never_printed(url: str) -> None:
    assert "geheim" not in fails("features", url)


def test_without_arguments_it_helps() -> None:
    out, _ = run()
    for command in ("send", "receive", "features", "queues"):
        assert command in out


def test_without_typer_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, check=False)  # noqa: S603 -- ours
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install 'anyqueue[cli]'" in done.stderr


def test_a_topic_that_is_typed_is_not_a_queue(url: str) -> None:
    with connect(url) as client, client.consumer(Topic("t"), group="g") as messages:
        run("send", url, "t", "--text", "to the queue")
        run("send", url, "t", "--topic", "--text", "to the topic")
        assert [message.payload for message in messages.receive(1, timeout=5)] == ["to the topic"]
