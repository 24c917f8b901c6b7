"""The documents are true: their programs run, their commands print what they say, their tables are what is made.

A block of `python` begins with `# name.py` and becomes that file. A block of `console` is run line by line; what it
says is printed must be, with `...` for anything. Blocks of one document share a folder. `sh` blocks are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from anyqueue.backends import sqlite
from anyqueue.backends.amqp import options as amqp

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN: Final = (
    "README.md",
    *(f"docs/{name}.md" for name in ("tutorial", "cli", "worker", "scheduling", "events", "requests", "delivery")),
    "docs/compare.md",
    "docs/operations.md",
)
DOCUMENTS: Final = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
OPTIONS: Final = {"amqp": amqp.Options, "sqlite": sqlite.Options}


def shell(command: str, folder: Path) -> str:
    """Run a command as the document's reader would; return what it prints, errors last."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "XDG_STATE_HOME": str(folder)}
    done = subprocess.run(  # noqa: S602 -- the documents are ours, and write pipes
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + "".join(line for line in done.stderr.splitlines(keepends=True) if line.startswith("anyqueue:"))


def check(block: str, folder: Path) -> None:
    """Run the commands of a block and compare."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, said = part.partition("\n")
        pattern = ".*".join(map(re.escape, said.strip().split("...")))
        printed = shell(command, folder).strip()
        assert re.fullmatch(pattern, printed, re.DOTALL), f"{command}\nprints:\n{printed}\nand not:\n{said}"


@pytest.mark.parametrize("document", RUN)
def test_the_blocks_run(document: str, tmp_path: Path) -> None:
    found = BLOCK.findall((ROOT / document).read_text())
    assert found
    for language, block in found:
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            assert name, f"{document}: a python block begins with its file's name:\n{block}"
            (tmp_path / name[1]).write_text(block)
        elif language == "console":
            check(block, tmp_path)
        else:
            assert language == "sh"


def test_the_example_is_short() -> None:
    (block,) = (text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python")
    assert sum(1 for line in block.splitlines()[1:] if line.strip()) <= 15


def test_the_readme_quotes_the_benchmarks() -> None:
    pattern = re.compile(r"<!-- figures: begin -->\n(.*?)<!-- figures: end -->", re.DOTALL)
    readme, page = (pattern.search((ROOT / name).read_text()) for name in ("README.md", "docs/benchmarks.md"))
    assert readme
    assert page
    machines = re.findall(r"^\*\*.*, .*Python 3\..*$", readme[1], re.MULTILINE)
    assert machines == re.findall(r"^\*\*.*, .*$", page[1], re.MULTILINE)
    for figure in re.findall(r"([\d.,]+ \([\d.,]+ to [\d.,]+\))", readme[1]):
        assert figure in page[1]


@pytest.mark.parametrize("backend", OPTIONS)
def test_the_options_of_a_backend_are_in_its_page(backend: str) -> None:
    page = (ROOT / "docs" / "backends" / f"{backend}.md").read_text()
    table = page.partition("| option | default | meaning |\n|---|---|---|\n")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
    fields = {field.encode_name: field.default for field in msgspec.structs.fields(OPTIONS[backend])}
    assert told.keys() == fields.keys()
    for name, default in fields.items():
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert default is None or told[name].strip("`") == shown, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
