"""`anyqueue compare` as a shell sees it: on memory, SQLite and a hub, with a dead broker, interrupted, in a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from anyqueue.compare import Report
from anyqueue.sync import connect
from anyqueue.testing.targets.hub_process import HubProcess, free_port
from launcher import packages
from launcher.place import LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPARE: Final = (sys.executable, "-m", "anyqueue.cli", "compare")
QUICK: Final = ("--seconds", "0.05", "--size", "100", "--size", "2000", "--size", "64000")
DEAD: Final = "amqp://ada:secret@127.0.0.1:1/"
CHROMIUM: Final = "/usr/bin/chromium"
ASKED_BY_A_FILE: Final = "site=file://"
"""How the browser's log of its network names who asks; it asks for things of its own besides."""
PATIENCE: Final = 60.0
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("compare")]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a hub; its URL."""
    port = free_port()
    process = HubProcess(port, ["--store", "memory:", "--drain", "1"], tmp_path_factory.mktemp("hub") / "log")
    process.start()
    yield f"zmq://127.0.0.1:{port}"
    process.stop()


class Ran(msgspec.Struct):
    """What a run left."""

    status: int
    out: str
    err: str
    report: Report
    html: Path


@pytest.fixture(scope="module")
def ran(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Compare three that answer, and one that does not."""
    folder = tmp_path_factory.mktemp("compared")
    urls = ("memory://", f"SQLite=sqlite:///{folder / 'queue.db'}?lease=1", f"Hub={hub}", f"Nobody={DEAD}")
    files = ("--html", str(folder / "page.html"), "--json", str(folder / "report.json"))
    environment = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(  # noqa: S603 -- ours
        [*COMPARE, *urls, *QUICK, *files],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )
    assert (folder / "report.json").exists(), done.stderr
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
    return Ran(done.returncode, done.stdout, done.stderr, report, folder / "page.html")


def test_every_backend_is_a_row_and_a_dead_one_says_so(ran: Ran) -> None:
    assert ran.status == 1
    memory, sqlite, hub, dead = ran.report.rows
    assert [row.label for row in ran.report.rows] == ["memory://", "SQLite", "Hub", "Nobody"]
    assert dead.error is not None
    assert "127.0.0.1:1" in dead.error
    assert not dead.cells
    for row in (memory, sqlite, hub):
        assert (row.error, row.left, row.lost, row.duplicated) == (None, [], 0, 0), row
        assert {cell.size for cell in row.cells} == {100, 2000, 64000}
        assert {cell.operation for cell in row.cells} == {"send", "send_many", "through", "slow"}
        assert all(cell.messages and cell.seconds for cell in row.cells)
        assert row.latency is not None
        assert row.latency.samples
        assert {each.kind for each in row.guarantees} >= {"native", "emulated"}
    for row in (sqlite, hub):
        assert (row.recovery.held, row.recovery.note) == (10, "")
        assert row.recovery.last is not None
    assert "one process only" in memory.recovery.note


def test_no_password_is_printed(ran: Ran) -> None:
    everything = ran.out + ran.err + ran.html.read_text() + msgspec.json.encode(ran.report).decode()
    assert "secret" not in everything
    assert "amqp://ada:***@127.0.0.1:1/" in everything


def test_no_queue_is_left(ran: Ran, hub: str) -> None:
    folder = ran.html.parent
    for url in (f"sqlite:///{folder / 'queue.db'}", hub):
        with connect(url) as client:
            assert [name for name, _ in client.queues() if name.startswith("anyqueue-compare")] == []


def test_all_well_is_status_0_and_a_file_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    few = ("memory://", "--seconds", "0.01", "--size", "100", "--no-kill")
    done = subprocess.run([*COMPARE, *few], capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603 -- ours
    assert done.returncode == 0, done.stderr
    wrong = (*few, "--html", str(tmp_path / "missing" / "page.html"))
    done = subprocess.run([*COMPARE, *wrong], capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603 -- ours
    assert done.returncode == 1
    assert b"missing" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_no_queue(number: signal.Signals, hub: str, tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / 'queue.db'}", hub]
    process = subprocess.Popen([*COMPARE, *urls, "--seconds", "2"], stderr=subprocess.PIPE)  # noqa: S603 -- ours
    with process, contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(connect(url)) for url in urls)
        eventually(lambda: any(depth.total for _, depth in first.queues()), process)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert first.queues() == []
        assert second.queues() == []
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_over_a_kill_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    few = ("--seconds", "0.01", "--size", "100", "--slow", "0")
    process = subprocess.Popen([*COMPARE, url, *few], start_new_session=True)  # noqa: S603 -- ours
    with process, connect(url) as client:
        eventually(lambda: any(depth.held == 10 for name, depth in client.queues() if "killed" in name), process)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert client.queues() == []
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


def eventually(fact: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for a fact, for as long as the process runs."""
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.002)


# In a browser


@pytest.fixture(scope="module")
def chromium() -> str:
    """Have Debian's Chromium, installed as the brokers are."""
    try:
        packages.ensure((CHROMIUM,), ("chromium",))
    except LaunchError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return CHROMIUM


@pytest.mark.parametrize(
    ("scheme", "paper", "dots"),
    [("light", (0xFB, 0xFA, 0xF8), (0x2F, 0x6F, 0xDE)), ("dark", (0x12, 0x15, 0x1C), (0x6E, 0xA2, 0xFF))],
)
def test_a_browser_draws_the_page(
    chromium: str, ran: Ran, tmp_path: Path, scheme: str, paper: tuple[int, ...], dots: tuple[int, ...]
) -> None:
    """In the colours of the scheme, without an error, and without asking the network for anything."""
    picture, network = tmp_path / f"{scheme}.png", tmp_path / "network.json"
    colours = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    more = (f"--screenshot={picture}", f"--log-net-log={network}", "--window-size=900,1500", colours)
    said = browse(chromium, ran.html, tmp_path / "profile", *more)
    assert "CONSOLE" not in said, said
    assert ASKED_BY_A_FILE not in network.read_text(errors="replace")
    colours_seen = pixels(picture)
    assert colours_seen[0] == paper
    assert colours_seen.count(dots) > 500


def test_a_page_that_fetches_would_be_noticed(chromium: str, tmp_path: Path) -> None:
    """What the test above looks for is there, where a page does ask the network for something."""
    page, network = tmp_path / "page.html", tmp_path / "network.json"
    page.write_text("<img src='http://127.0.0.1:1/picture.png'><script>missing()</script>")
    more = (f"--screenshot={tmp_path / 'page.png'}", f"--log-net-log={network}")
    assert "CONSOLE" in browse(chromium, page, tmp_path / "profile", *more)
    assert ASKED_BY_A_FILE in network.read_text(errors="replace")


def test_the_browser_has_every_bar(chromium: str, ran: Ran, tmp_path: Path) -> None:
    dom = browse(chromium, ran.html, tmp_path / "profile", "--dump-dom")
    assert dom.count("<svg") == 4
    assert dom.count('class="bar many"') == 3  # a slow handler each
    assert dom.count('class="bar span"') == 2  # a recovery each
    assert dom.count('class="hill"') == 3
    assert dom.count('class="dot few"') == 3 * 3 + 3
    assert ran.html.stat().st_size <= 1_000_000


def browse(chromium: str, file: Path, profile: Path, *more: str) -> str:
    """Open a file; return all that the browser says."""
    quiet = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--hide-scrollbars", f"--user-data-dir={profile}"),
    )
    done = subprocess.run(  # noqa: S603 -- ours
        [chromium, *quiet, *more, file.as_uri()], capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def pixels(picture: Path) -> list[tuple[int, ...]]:
    """Read a PNG of 8 bits a colour, without interlace: what the browser writes."""
    data = picture.read_bytes()
    place, parts, header = 8, b"", b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        header = body if kind == b"IHDR" else header
        parts += body if kind == b"IDAT" else b""
        place += length + 12
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", header)
    assert depth == 8
    each = {2: 3, 6: 4}[colour]
    raw, row = zlib.decompress(parts), bytearray(width * each)
    found: list[tuple[int, ...]] = []
    for line in range(height):
        start = line * (width * each + 1)
        row = unfiltered(raw[start], raw[start + 1 : start + 1 + width * each], row, each)
        found += [tuple(row[x : x + 3]) for x in range(0, width * each, each)]
    return found


def unfiltered(kind: int, line: bytes, above: bytearray, each: int) -> bytearray:
    """Undo the filter of one line (PNG specification, 9.2)."""
    row = bytearray(line)
    for x, value in enumerate(line):
        left, up = row[x - each] if x >= each else 0, above[x]
        corner = above[x - each] if x >= each else 0
        match kind:
            case 1:
                row[x] = (value + left) & 255
            case 2:
                row[x] = (value + up) & 255
            case 3:
                row[x] = (value + (left + up) // 2) & 255
            case 4:
                base = left + up - corner
                nearest = min((abs(base - one), place, one) for place, one in enumerate((left, up, corner)))
                row[x] = (value + nearest[2]) & 255
            case _:
                pass
    return row
