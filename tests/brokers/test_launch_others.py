"""The launcher with gearmand and ActiveMQ, and what it does when things go wrong or happen twice."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from launching import Launch, LaunchFailed

from anyqueue.testing.launched import LaunchedBroker
from launcher import probes
from launcher.place import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900), pytest.mark.xdist_group("brokers-launched")]

GEARMAN: Final = 50
STOMP: Final = 40
END: Final = "ActiveMQ.Statistics.Destination.List.End.With.Null"


@contextlib.contextmanager
def link(launch: Launch, offset: int, context: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    with socket.create_connection((LOOPBACK, launch.place.base + offset), timeout=20) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                yield secure


def test_gearmand_keeps_jobs_over_a_kill(gearmand: Launch) -> None:
    assert gearmand("url", "gearmand").strip() == f"gearman://127.0.0.1:{gearmand.place.base + GEARMAN}"
    with link(gearmand, GEARMAN) as server:
        data = b"queue\0unique\0body"
        server.sendall(b"\0REQ" + struct.pack(">II", 18, len(data)) + data)  # SUBMIT_JOB_BG
        assert server.recv(8) == b"\0RES\0\0\0\x08"  # JOB_CREATED
    gearmand("kill", "gearmand")
    assert not probes.taken(LOOPBACK, gearmand.place.base + GEARMAN)
    gearmand("up", "gearmand")
    with link(gearmand, GEARMAN) as server:
        server.sendall(b"status\n")
        assert b"queue\t1\t0\t0" in server.recv(100)


def test_two_launchers_at_once_start_one_broker(gearmand: Launch) -> None:
    gearmand("down", "gearmand")
    both = [gearmand.begin("up", "gearmand") for _ in range(2)]
    assert [process.communicate() and process.returncode for process in both] == [0, 0]
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if marked(path, gearmand)]
    assert len(found) == 1


def test_the_suite_starts_a_broker_again_that_ended_behind_its_back(
    gearmand: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each case it asks whether the broker runs, and does not pay for a launcher where it does."""
    monkeypatch.setenv("ANYQUEUE_BROKERS_DIR", str(gearmand.place.folder))
    monkeypatch.setenv("ANYQUEUE_BROKERS_PORT", str(gearmand.place.base))
    broker = LaunchedBroker("gearmand")
    for end in ("kill", "down"):
        for _ in range(2):
            assert broker.missing() is None
            assert probes.taken(LOOPBACK, gearmand.place.base + GEARMAN)
        gearmand(end, "gearmand")
    assert broker.missing() is None
    broker.pause()
    assert "paused" in (broker.missing() or "")
    broker.resume()
    assert broker.missing() is None


def marked(path: Path, launch: Launch) -> bool:
    try:
        return f"--port={launch.place.base + GEARMAN}".encode() in path.read_bytes().split(b"\0")
    except OSError:
        return False


def test_a_port_that_another_has_is_named(apart: Launch) -> None:
    port = apart.place.base + GEARMAN
    named = rf"port {port} \(gearman of gearmand\) is taken"
    with socket.create_server((LOOPBACK, port)), pytest.raises(LaunchFailed, match=named):
        apart.start("gearmand")


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(apart: Launch) -> None:
    apart.place.folder.joinpath("gearmand", "data", "queue.sqlite3").mkdir(parents=True)
    with pytest.raises(LaunchFailed, match=r"(?s)gearmand ended with status .*log\.txt:.*unable to open database"):
        apart.start("gearmand")
    with pytest.raises(LaunchFailed, match="gearmand\tdown"):
        apart("status", "gearmand")


def test_the_pair_is_two_servers(apart: Launch) -> None:
    apart.start("gearmand-pair")
    base = apart.place.base
    assert apart("url", "gearmand-pair").strip() == f"gearman://127.0.0.1:{base + 51},127.0.0.1:{base + 52}"
    apart("kill", "gearmand-pair:1")
    assert apart("status", "gearmand-pair:2") == "gearmand-pair:2\tup\n"
    assert not apart.describe("gearmand-pair:1")["running"]
    apart("purge", "gearmand-pair")
    assert not list(apart.place.folder.glob("gearmand-pair-*/"))


def test_serve_runs_until_it_is_told_to_end(apart: Launch) -> None:
    """As in a container: the log is shown, SIGTERM ends the broker too."""
    apart.start("gearmand")
    apart("down", "gearmand")
    with apart.begin("serve", "gearmand") as serving:
        assert serving.stdout is not None
        assert "gearmand answers at gearman://" in serving.stdout.readline()
        assert apart("status", "gearmand") == "gearmand\tup\n"
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=30)
    assert serving.returncode == 0
    assert not apart.describe("gearmand")["running"]


def test_serve_ends_with_its_broker(apart: Launch) -> None:
    apart.start("gearmand")
    with apart.begin("serve", "gearmand") as serving:
        assert serving.stdout is not None
        serving.stdout.readline()
        apart("kill", "gearmand")
        _, failed = serving.communicate(timeout=30)
    assert serving.returncode == 1
    assert "gearmand ended." in failed


def test_activemq(apart: Launch) -> None:
    """Messages survive a kill, a delay is honoured, users are told apart, counts are exact, TLS works."""
    apart.start("activemq")
    with stomp(apart) as send:
        assert send("SEND", "destination:/queue/kept", "persistent:true", "receipt:1").startswith("RECEIPT")
        delay = "AMQ_SCHEDULED_DELAY:600000"
        assert send("SEND", "destination:/queue/late", "persistent:true", "receipt:2", delay).startswith("RECEIPT")
    apart("kill", "activemq")
    apart("up", "activemq")
    with stomp(apart) as send:
        assert size(send, "kept") == 1
        assert size(send, "late") == 0
    with stomp(apart, "limited") as send:
        assert send("SEND", "destination:/queue/limited.mine", "receipt:1").startswith("RECEIPT")
        assert "not authorized" in send("SEND", "destination:/queue/kept", "receipt:2")
    told = apart.describe("activemq")
    context = ssl.create_default_context(cafile=told["ca"])
    context.load_cert_chain(told["certificates"]["client"]["certificate"], told["certificates"]["client"]["key"])
    with stomp(apart, context=context) as send:
        assert size(send, "limited.mine") == 1
    apart("down", "activemq")


class Stomp:
    """A few frames of STOMP, each answered by one frame."""

    def __init__(self, server: socket.socket) -> None:
        self._file = server.makefile("rwb")

    def __call__(self, *lines: str) -> str:
        """Say a frame and hear the answer."""
        self.tell(*lines)
        return self.hear()

    def tell(self, *lines: str) -> None:
        """Say a frame."""
        self._file.write("\n".join([*lines, "", "body\0"]).encode())
        self._file.flush()

    def hear(self) -> str:
        """Hear a frame."""
        frame = bytearray()
        while (byte := self._file.read(1)) != b"\0":
            assert byte, f"closed after {frame!r}"
            frame += byte
        return frame.decode().lstrip()

    def close(self) -> None:
        """End it."""
        self._file.close()


@contextlib.contextmanager
def stomp(launch: Launch, user: str = "anyqueue", context: ssl.SSLContext | None = None) -> Iterator[Stomp]:
    with link(launch, STOMP + bool(context), context) as server, contextlib.closing(Stomp(server)) as send:
        assert send("CONNECT", "accept-version:1.2", f"login:{user}", f"passcode:{user}").startswith("CONNECTED")
        send.tell("SUBSCRIBE", "id:s", "destination:/temp-queue/counts", "transformation:jms-map-xml")
        yield send


def size(send: Stomp, queue: str) -> int:
    """Ask the broker's statistics, as docs/brokers.md describes: an answer a queue, and an empty one at the end."""
    question = f"destination:/queue/ActiveMQ.Statistics.Destination.{queue}"
    answer = send("SEND", question, "reply-to:/temp-queue/counts", f"{END}:true")
    found = re.search(r"<string>size</string>\s*<long>(\d+)</long>", answer)
    if found:
        assert send.hear().endswith("<map/>")
    return int(found[1]) if found else 0


def test_it_needs_the_standard_library_alone() -> None:
    script = Path(__file__).parents[2] / "brokers" / "launch.py"
    command = [sys.executable, "-E", "-s", "-S", str(script), "--help"]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 -- ours
    assert b"resume" in done.stdout
