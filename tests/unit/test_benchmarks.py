"""The runner works. What it measures is no test: it compares on a quiet machine, with `make bench`."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

RUNNER: Final = Path(__file__).parents[2] / "benchmarks" / "run.py"
NAMES: Final = ("memory-through", "memory-through-send", "blocking-send-many", "blocking-send")


def test_a_quick_run_prints_the_table_and_leaves_that_of_a_group_that_was_not_all_run(tmp_path: Path) -> None:
    page, text = (
        tmp_path / "page.md",
        "before\n<!-- figures: begin -->\n**memory and SQLite**, old\n<!-- figures: end -->\n",
    )
    page.write_text(text)
    command = [sys.executable, RUNNER, "--quick", "--only", *NAMES, "--dir", tmp_path / "disk", "--write", page]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert done.returncode == 0, done.stderr
    assert page.read_text() == text
    assert done.stdout.startswith("**memory and SQLite**, ")
    assert "Python 3." in done.stdout
    assert sum(line.startswith("| memory://") for line in done.stdout.splitlines()) == len(NAMES)


def test_tables_are_written_in_their_order_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RUNNER.parent)
    report = importlib.import_module("report")
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- figures: begin -->\n**b**, old\n\n| b |\n\n**c**, old\n\n| c |\n<!-- figures: end -->\nafter\n"
    )
    report.insert(page, {"c": "**c**, new\n\n| c |\n", "a": "**a**, new\n\n| a |\n"}, ["a", "b", "c"])
    blocks = ["**a**, new\n\n| a |\n", "**b**, old\n\n| b |\n", "**c**, new\n\n| c |\n"]
    inside = "\n".join(blocks)
    assert page.read_text() == f"before\n<!-- figures: begin -->\n{inside}<!-- figures: end -->\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("no markers")
    command = [sys.executable, RUNNER, "--quick", "--only", "memory-through", "--write", tmp_path / "page.md"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)  # noqa: S603 -- ours
    assert (done.returncode, (tmp_path / "page.md").read_text()) == (1, "no markers")
    assert "markers" not in done.stdout
