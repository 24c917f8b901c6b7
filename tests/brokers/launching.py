"""Brokers of this session's own: in another folder and on other ports than the contract suite's, so they may suffer."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from launcher import probes
from launcher.catalogue import BROKERS
from launcher.place import LOOPBACK, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAUNCH: Final = Path(__file__).parents[2] / "brokers" / "launch.py"
BESIDES: Final = (9, *range(80, 90))
"""Offsets of the ports of Erlang's port mapper and tools."""


class LaunchFailed(Exception):
    """What the launcher said."""


@dataclass(frozen=True)
class Launch:
    """The launcher's command line, for one place."""

    place: Place

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COV")},
            "ANYQUEUE_BROKERS_DIR": str(self.place.folder),
            "ANYQUEUE_BROKERS_PORT": str(self.place.base),
        }
        command = [sys.executable, str(LAUNCH), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 -- ours

    def __call__(self, *arguments: str) -> str:
        """Run it; return what it printed."""
        with self.begin(*arguments) as process:
            said, failed = process.communicate()
        if process.returncode:
            raise LaunchFailed(failed or said)
        return said

    def start(self, *names: str) -> None:
        """Start brokers; where they cannot be installed, that is a failure in CI only."""
        try:
            self("up", *names)
        except LaunchFailed as error:
            if "is not installed; run:" in str(error) and not os.environ.get("CI"):
                pytest.skip(str(error))
            raise

    def describe(self, name: str) -> dict[str, Any]:
        """Return what it says of a broker."""
        described: dict[str, Any] = msgspec.json.decode(self("describe", name))
        return described


def altered(folder: Path, file: str, change: Callable[[str], str]) -> Path:
    """Copy `brokers/` into a folder, with one file of it changed; return the copy."""
    copy = shutil.copytree(LAUNCH.parent, folder / "brokers")
    path = copy / file
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)
    return copy


def free_base() -> int:
    """Return where no port of any broker is taken; runs side by side begin to look at different ones."""
    offsets = [offset for broker in BROKERS.values() for node in broker.offsets for offset in node.values()]
    first = 28_600 + os.getpid() % 30 * 100
    for base in itertools.chain(range(first, 31_900, 100), range(20_000, 26_000, 100)):
        if not any(probes.taken(LOOPBACK, base + offset) for offset in [*offsets, *BESIDES]):
            return base
    pytest.fail("no 100 free ports")


@contextlib.contextmanager
def launching(folder: Path) -> Iterator[Launch]:
    """Make a place of its own; leave nothing of it."""
    launch = Launch(Place(folder=folder, base=free_base()))
    try:
        yield launch
    finally:
        launch("purge")
