"""The code blocks of the documents. A test that runs one claims it with `@pytest.mark.block(DOCUMENT, TEXT)`.

The block is the one of that document that holds the text, and the fixture `block` gives it. What a test puts in place
of a name, a path or a port it says in a table for `filled`; a name that is not in the block fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE: Final = re.compile(r"^[ >]*(```+|~~~+)[ ]*([\w+-]*)[^\n]*\n(.*?)^[ >]*\1[`~]*[ ]*$", re.MULTILINE | re.DOTALL)
SYSTEM: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where servers are, and not on everybody's path."""

NO_ENGINE: Final = {"DOCKER_HOST": "tcp://127.0.0.1:1"}
"""Where `make brokers` finds no engine for containers, whatever this machine has."""
AROUND: Final = ("MAKE", "MFLAGS", "PYTEST")
"""How the names begin that `make` and pytest leave in the environment."""


class Block(NamedTuple):
    """A fenced block that names its language."""

    document: str
    """Its path from the root."""
    language: str
    text: str


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document; one without a language is a picture of something."""
    name = str(document.relative_to(ROOT))
    return [Block(name, language, text) for _, language, text in FENCE.findall(document.read_text()) if language]


def only(document: str, text: str) -> Block:
    """Return the one block of a document that holds a text."""
    (found,) = (block for block in blocks(ROOT / document) if text in block.text)
    return found


def filled(text: str, names: Mapping[str, object]) -> str:
    """Put other names into a block, all at once; each of them is in it."""
    for name in names:
        assert name in text, f"{name!r} is not in the block:\n{text}"
    return re.sub("|".join(map(re.escape, names)), lambda found: str(names[found[0]]), text)


def reader(folder: Path, **more: object) -> dict[str, str]:
    """Return the environment of a document's reader: these programs first, a state of its own, no `make` around."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *SYSTEM])
    ours = {"PATH": path, "COLUMNS": "120", "XDG_STATE_HOME": str(folder)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(AROUND)}
    return {**inherited, **ours, **{name: str(value) for name, value in more.items()}}


def run(block: str, folder: Path, **environment: object) -> str:
    """Run a block of commands as its reader would, each of which must end well; return what they print."""
    done = subprocess.run(  # noqa: S603 -- the documents are ours
        ["/bin/sh", "-ec", block],
        cwd=folder,
        env=reader(folder, **environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{block}\nends with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def started(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command that stays; end it with SIGTERM."""
    words = shlex.split(command, comments=True)
    with subprocess.Popen(words, cwd=folder, env=reader(folder), stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- as above
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def dry(command: str, **environment: object) -> str:
    """Return what a command of `make` would run. Its own `.venv` is the one that runs this."""
    assert command.startswith("make ")
    said = run(f"make -n {command.removeprefix('make ')}", ROOT, **environment)
    return said.replace(".venv/bin/python", sys.executable)


def collected(command: str) -> list[str]:
    """Return the tests that a command of `make` would run."""
    (tests,) = (line for line in dry(command).splitlines() if "-m pytest" in line)
    return [line for line in run(f"{tests} --collect-only -q", ROOT).splitlines() if "::" in line]
