"""A third party's backend, found by its entry point and held to the same contract: examples/backend."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import msgspec
import pytest

from anyqueue.testing.case import all_cases
from anyqueue.testing.report import Report

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "backend"


def install(folder: Path) -> None:
    """Write what installing the example would: the metadata with its entry point."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = folder / f"anyqueue_files-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{name} = {value}\n"
        for group, points in project["entry-points"].items()
        for name, value in points.items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))


@pytest.mark.timeout(600)  # a whole tier of the suite
def test_the_example_backend_passes_the_fast_tier(tmp_path: Path) -> None:
    install(tmp_path)
    report_path = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", tmp_path, "-p", "no:cacheprovider"]
    command += ["-p", "anyqueue.testing.plugin", "--anyqueue-target", "anyqueue_files.harness:FilesHarness"]
    command += ["--anyqueue-report", report_path, "-m", "fast", "--pyargs", "anyqueue.testing.suite"]
    environment = {**os.environ, "PYTHONPATH": f"{EXAMPLE}{os.pathsep}{tmp_path}", "CI": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)  # noqa: S603 -- ours
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    report = msgspec.json.decode(report_path.read_bytes(), type=Report)
    assert {result.case for result in report.results} == {one.id for one in all_cases().values() if one.tier == "fast"}
    assert {result.result for result in report.results} <= {"passed", "refused-as-declared", "not-applicable"}
