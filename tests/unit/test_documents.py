"""The documents are true: their programs run, their commands print what they say, their tables are what is made.

A block of `python` begins with `# name.py` and becomes that file. A block of `console` is run line by line; what it
says is printed must be, with `...` for anything. Blocks of one document share a folder. `sh` blocks are not run.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import pytest
from blocks import DOCUMENTS, ROOT, Block, blocks, reader

from anyqueue.backends import sqlite
from anyqueue.backends.amqp import options as amqp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN: Final = (
    "README.md",
    *(f"docs/{name}.md" for name in ("tutorial", "cli", "worker", "scheduling", "events", "requests", "delivery")),
    "docs/compare.md",
    "docs/operations.md",
)
HERE: Final = {"python", "console"}
OPTIONS: Final = {"amqp": amqp.Options, "sqlite": sqlite.Options}


class Claim(NamedTuple):
    """What a test says it runs: the blocks of the documents that fit a pattern that hold a text."""

    document: str
    text: str

    def has(self, block: Block) -> bool:
        """Say whether it is this one."""
        return fnmatchcase(block.document, self.document) and self.text in block.text


def claims() -> Iterator[Claim]:
    """Read the marks of all tests from their source."""
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.block":
                yield Claim(*map(ast.literal_eval, node.args))


CLAIMS: Final = list(claims())
"""Read before the first test runs, for what tests/test_architecture.py says of Python 3.11."""


def shell(command: str, folder: Path) -> str:
    """Run a command as the document's reader would; return what it prints, errors last."""
    done = subprocess.run(  # noqa: S602 -- the documents are ours, and write pipes
        command, shell=True, cwd=folder, env=reader(folder), capture_output=True, text=True, timeout=300, check=False
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
    found = [block for block in blocks(ROOT / document) if block.language in HERE]
    assert found
    for _, language, block in found:
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            assert name, f"{document}: a python block begins with its file's name:\n{block}"
            (tmp_path / name[1]).write_text(block)
        else:
            check(block, tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_run_by_one_test(document: Path) -> None:
    for block in blocks(document):
        claimed = sum(claim.has(block) for claim in CLAIMS) + (block.document in RUN and block.language in HERE)
        assert claimed == 1, f"{claimed} tests run this block of {block.document}:\n{block.text}"


def test_every_claim_is_to_a_block() -> None:
    every = [block for document in DOCUMENTS for block in blocks(document)]
    found = Counter(claim for claim in CLAIMS for block in every if claim.has(block))
    assert found.keys() == {*CLAIMS}
    assert all(count == 1 for claim, count in found.items() if "*" not in claim.document)


def test_the_example_is_short() -> None:
    (block,) = (text for _, language, text in blocks(ROOT / "README.md") if language == "python")
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


@pytest.mark.parametrize("document", sorted({*DOCUMENTS, *ROOT.glob("*.md")}), ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
