"""The contract suite's plugin: each case on each target is a test. Each process of a run has brokers of its own.

Their data is in memory where there is room: what kills a broker here is a signal, which loses nothing that is with the
kernel, and syncing to a disk of several databases at once is what a run would wait for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from blocks import only
from hypothesis import settings

pytest_plugins = ["anyqueue.testing.plugin"]

# Started in the background of a script, a process ignores SIGINT, and so do its children: what is tested here does not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Of Hypothesis: no deadline an example, which a busy machine exceeds; the same examples in every run.
settings.load_profile("ci")

# ActiveMQ with one of Java's compilers: with both a start costs 4.8 seconds of a processor instead of 2.5, and only
# what runs for long is faster by the second.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

ROOT: Final = Path(__file__).parents[1]
WORKER: Final = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
"""Which process of several this is; empty where it is the only one, which uses the brokers that a developer runs."""
PORTS_EACH: Final = 100
"""Ports that the launcher may use, counted from its first."""
MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- a folder of this run alone is made in it
ROOM: Final = 4 << 30


def folder() -> str:
    """Return where the brokers of all processes of this run are."""
    if chosen := os.environ.get("ANYQUEUE_BROKERS_DIR"):
        return chosen
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        return str(MEMORY / f"anyqueue-{os.environ['PYTEST_XDIST_TESTRUNUID']}")
    return str(ROOT / ".brokers")


if WORKER:
    _first = int(os.environ.get("ANYQUEUE_BROKERS_PORT", "26600"))
    os.environ["ANYQUEUE_BROKERS_DIR"] = f"{folder()}/worker-{WORKER}"
    os.environ["ANYQUEUE_BROKERS_PORT"] = str(_first + PORTS_EACH * (int(WORKER) + 1))


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark of a test that runs a block of a document."""
    config.addinivalue_line("markers", "block(document, text): runs the block of a document that holds a text")


@pytest.fixture
def block(request: pytest.FixtureRequest) -> str:
    """Have the block that the test claims."""
    mark = request.node.get_closest_marker("block")
    return only(*mark.args).text


def pytest_collection_finish(session: pytest.Session) -> None:
    """See that the tests of a target stay together: spread, each process starts every broker."""
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if WORKER and session.config.getoption("loadgroup", default=False):
        assert all("@" in item.nodeid.rpartition("]")[2] for item in grouped), "pytest-xdist groups nothing"


def pytest_unconfigure() -> None:
    """End what this process has started, and remove it."""
    if WORKER:
        subprocess.run([sys.executable, str(ROOT / "brokers" / "launch.py"), "purge"], check=False)  # noqa: S603 -- ours
        mine = Path(os.environ["ANYQUEUE_BROKERS_DIR"])
        shutil.rmtree(mine, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is the last to leave that succeeds
            mine.parent.rmdir()
