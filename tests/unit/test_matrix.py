"""The matrix: what is made of a report, that a stale page is found, and that the page agrees with the live backends."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from anyqueue import Feature, sync
from anyqueue.testing import matrix
from anyqueue.testing.report import FeatureCell, Report, Result, TargetRow, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parents[2]


def target(name: str, other: Mapping[str, FeatureCell]) -> TargetRow:
    cells = {str(feature.name): FeatureCell(kind="native", note="") for feature in Feature} | dict(other)
    limits = {"max_body": 16777216.0, "lease": None}
    return TargetRow(name=name, features=cells, limits=limits, released="", unheard="", unknown="")


def result(case: str, where: str, how: Verdict) -> Result:
    return Result(case=case, target=where, result=how, seconds=0.0, seed=0)


@pytest.fixture
def report() -> Report:
    weaker = {
        "DELAY": FeatureCell(kind="emulated", note="late by a second"),
        "LEASE": FeatureCell(kind="refused", note=""),
    }
    return Report(
        version="1",
        targets=[target("sqlite", weaker), target("memory", {})],
        results=[
            result("A1", "sqlite", "passed"),
            result("A2", "sqlite", "refused-as-declared"),
            result("A3", "sqlite", "failed"),
            result("A4", "sqlite", "not-applicable"),
            result("A1", "memory", "passed"),
        ],
    )


def test_a_target_is_what_its_broker_said(report: Report) -> None:
    text = matrix.page(report)
    assert "| DELAY | emulated | native |" in text
    assert "- DELAY, emulated: late by a second" in text
    assert "| sqlite | 1 | 1 | 1 | 1 |" in text
    assert "max_body 16,777,216" in text
    _, sqlite, memory = matrix.summary(report)
    assert memory == ["`memory`", "nothing", "nothing", "1 of 1"]
    assert sqlite == ["`sqlite`", "delay", "lease", "2 of 3"]


def test_a_page_that_is_out_of_date_is_found(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, readme, made = tmp_path / "matrix.md", tmp_path / "README.md", tmp_path / "report.json"
    readme.write_text("before\n<!-- matrix: begin -->\nold\n<!-- matrix: end -->\nafter\n")
    report.write(made)
    command = [str(made), "--page", str(page), "--readme", str(readme)]
    assert matrix.main([*command, "--check"]) == 1
    assert not page.exists()
    assert capsys.readouterr().err == f"{page} is out of date: make matrix\n{readme} is out of date: make matrix\n"
    assert matrix.main(command) == 0
    assert matrix.main([*command, "--check"]) == 0
    assert readme.read_text().startswith("before\n<!-- matrix: begin -->\n| target |")
    assert readme.read_text().endswith("|\n<!-- matrix: end -->\nafter\n")
    changed = copy.deepcopy(report)
    changed.results[0] = result("A1", "sqlite", "failed")
    changed.write(made)
    assert matrix.main([*command, "--check"]) == 1


@pytest.mark.parametrize(
    ("name", "url"), [("memory", "memory://x"), ("memory-weak", "memory://x?as=weak"), ("sqlite", "sqlite:///x.db")]
)
def test_the_page_says_what_the_backend_says(
    name: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the brokers the check after a whole run says so: the report was read off them."""
    monkeypatch.chdir(tmp_path)
    lines = [line.split(" | ") for line in (ROOT / "docs" / "matrix.md").read_text().splitlines()]
    head = next(line for line in lines if line[0] == "| feature")
    column = [cell.removesuffix(" |") for cell in head].index(name)
    said = {line[0].removeprefix("| "): line[column].removesuffix(" |") for line in lines if len(line) == len(head)}
    with sync.connect(url) as client:
        for feature in Feature:
            assert said[str(feature.name)] == client.support(feature).kind
