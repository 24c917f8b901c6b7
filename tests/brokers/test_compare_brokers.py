"""`anyqueue compare` on real brokers: one that is interrupted leaves no queue behind, as the broker itself says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from anyqueue import Feature
from anyqueue.testing.targets import TARGETS, load_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyqueue.testing.harness import Harness

EMBEDDED: Final = {"memory", "memory-weak", "sqlite", "zmq+push", "zmq+pub"}
COMPARE: Final = (sys.executable, "-m", "anyqueue.cli", "compare")
OURS: Final = "anyqueue-compare"
PATIENCE: Final = 90.0
pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[Harness]:
    """Have a target of the contract suite, broker and witness; where it cannot be, that is a failure in CI only."""
    harness = load_harness(name)
    if why := harness.missing():
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    harness.start(folder)
    try:
        yield harness
    finally:
        harness.stop()


async def ours(harness: Harness) -> dict[str, int]:
    """Return the queues of a comparison that the broker has, and how many messages are in each."""
    names = [name for name in await harness.foreign.queues() if OURS in name]
    return {name: (await harness.foreign.count(name)).total for name in names}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TARGETS if name not in EMBEDDED]
)
def test_a_run_that_is_interrupted_leaves_no_queue(name: str, tmp_path: Path) -> None:
    """Where a broker has no word for deleting, no message is left, and the name goes when the broker tidies up."""
    with started(name, tmp_path) as harness:
        asyncio.run(interrupted(harness))


async def interrupted(harness: Harness) -> None:
    """Compare until there are messages, interrupt that, and see what is left."""
    command = [*COMPARE, harness.url(), "--seconds", "3"]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE
    while not any((await ours(harness)).values()):
        assert process.returncode is None, "it ended before"
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, said) == (130, b"")
    left = await ours(harness)
    assert not any(left.values())
    assert not left or Feature.DELETE not in harness.expected.features
    while await ours(harness):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
