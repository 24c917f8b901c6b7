"""The pytest plugin: every case on every target, none skipped, none tried twice; and the report.

Use it with `-p anyqueue.testing.plugin`, or `pytest_plugins = ["anyqueue.testing.plugin"]` in the top conftest.py, and
collect `anyqueue.testing.suite`, or a test of your own that takes the fixture `contract_cell` and calls `.prove()`:

    pytest --anyqueue-target yours.harness:YourHarness --pyargs anyqueue.testing.suite
"""

from __future__ import annotations

import gc
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

import anyqueue
from anyqueue.testing.case import Case, all_cases
from anyqueue.testing.report import Report
from anyqueue.testing.runner import Probed, applies, not_applicable, probe, run_case
from anyqueue.testing.targets import TARGETS, load_harness

if TYPE_CHECKING:
    from anyqueue.testing.harness import Harness

TIERS: Final = ("fast", "fault", "soak")
OTHERS_RANDOM: Final = "Do not use the `random` module inside strategies"
"""It is no strategy that does: a case's event loop may draw a jitter while Hypothesis draws in its thread."""
TOLD: Final = "anyqueue"
"""Under which name a process of pytest-xdist tells what it has run."""


@dataclass(slots=True)
class Target:
    """A harness, started when its first case is reached and stopped with the session."""

    harness: Harness
    folder: tempfile.TemporaryDirectory[str] | None = None
    probed: Probed | None = None

    def open(self) -> Probed:
        """Start it, once."""
        if self.probed is None:
            self.folder = tempfile.TemporaryDirectory(prefix="anyqueue-")
            self.harness.start(Path(self.folder.name))
            self.probed = probe(self.harness)
        return self.probed

    def close(self) -> None:
        """Stop it, if it was started."""
        if self.folder is not None:
            self.harness.stop()
            self.folder.cleanup()
            self.folder = None


@dataclass(slots=True)
class Run:
    """What one pytest session does."""

    targets: list[Target]
    seed: int
    report: Report = field(default_factory=lambda: Report(version=anyqueue.__version__))


RUN: Final = pytest.StashKey[Run]()


@dataclass(frozen=True, slots=True)
class Cell:
    """One case on one target."""

    case: Case
    target: Target
    run: Run

    def prove(self) -> None:
        """Run it and raise what it raised; note the result for the report."""
        __tracebackhide__ = True
        reason = self.target.harness.missing()
        if reason is not None:
            if os.environ.get("CI"):
                pytest.fail(f"{self.target.harness.name} cannot be tested here: {reason}", pytrace=False)
            pytest.skip(f"{self.target.harness.name} cannot be tested here: {reason}")
        probed = self.target.open()
        self.run.report.add_target(probed)
        self.run.report.add_case(self.case)
        ran = run_case(self.case, self.target.harness, probed, seed=self.run.seed)
        self.run.report.results.append(ran.result)
        if ran.error is not None:
            ran.error.add_note(f"{self.case.id}: {self.case.sentence} (seed {self.run.seed})")
            raise ran.error


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("anyqueue", "the contract suite of anyqueue")
    group.addoption(
        "--anyqueue-target",
        action="append",
        metavar="TARGET",
        help=f"test this target; may be repeated. One of {', '.join(TARGETS)} (default: all), or module:Harness",
    )
    group.addoption("--anyqueue-seed", type=int, default=0, metavar="N", help="draw other examples and fault points")
    group.addoption("--anyqueue-report", metavar="FILE", help="write the report of even a partial run to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Load the harnesses; know the tiers as markers."""
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: a contract case of this tier")
    config.addinivalue_line("filterwarnings", f"ignore:{OTHERS_RANDOM}:hypothesis.errors.HypothesisDeprecationWarning")
    names = config.getoption("--anyqueue-target") or list(TARGETS)
    try:
        targets = [Target(load_harness(name)) for name in names]
    except LookupError as error:
        raise pytest.UsageError(f"--anyqueue-target: {error}") from None
    config.stash[RUN] = Run(targets, config.getoption("--anyqueue-seed"))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays until the end: thousands of tests, and all that was imported.

    Hypothesis collects at each new thread, which was a quarter of what the processes of a run computed.
    """
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each case on each target: the only place that does."""
    if "contract_cell" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash[RUN]
    cells = [
        pytest.param(
            Cell(case, target, run),
            id=f"{case.id}-{target.harness.name}",
            marks=_marks(case, target, metafunc.config.pluginmanager),
        )
        for target in run.targets
        for case in all_cases().values()
        if applies(case, target.harness)
    ]
    metafunc.parametrize("contract_cell", cells)


def _marks(case: Case, target: Target, plugins: pytest.PytestPluginManager) -> list[pytest.MarkDecorator]:
    """The runner has its own deadlines. Where several processes share the tests, one has all of a target."""
    marks = [getattr(pytest.mark, case.tier)]
    if plugins.hasplugin("timeout"):
        marks.append(pytest.mark.timeout(0))
    if plugins.hasplugin("xdist"):
        marks.append(pytest.mark.xdist_group(target.harness.name))
    return marks


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 -- a class of pytest-xdist, which need not be installed
    """Take over what another process has run."""
    told = getattr(node, "workeroutput", {}).get(TOLD)
    if told is not None:
        node.config.stash[RUN].report.add(msgspec.json.decode(told, type=Report))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the harnesses; write the report of a whole run."""
    run = session.config.stash[RUN]
    for target in run.targets:
        target.close()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[TOLD] = msgspec.json.encode(run.report)
        return
    path = session.config.getoption("--anyqueue-report")
    whole = _complete(run)
    if path is None and whole:
        path = str(session.config.rootpath / "contract-report.json")
    if path is not None and run.report.results:
        run.report.write(Path(path))


def _complete(run: Run) -> bool:
    """Note what was not applicable, tier by tier; say whether every case has run on every target, soak aside."""
    report, whole = run.report, bool(run.report.results)
    for tier in TIERS:
        cases = [case for case in all_cases().values() if case.tier == tier]
        done = {(result.case, result.target) for result in report.results}
        due = {
            (case.id, one.name)
            for case in cases
            for one in (target.harness for target in run.targets)
            if applies(case, one)
        }
        if not due <= done:
            whole = whole and tier == "soak"
            continue
        for case in cases:
            report.add_case(case)
            for target in run.targets:
                if not applies(case, target.harness):
                    report.results.append(not_applicable(case, target.harness, run.seed))
    return whole


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what ran, by target."""
    run = config.stash[RUN]
    if not run.report.results:
        return
    terminalreporter.section("contract")
    for target in run.report.targets:
        results = [result.result for result in run.report.results if result.target == target.name]
        counts = ", ".join(f"{results.count(kind)} {kind}" for kind in sorted(set(results)))
        terminalreporter.write_line(f"{target.name}: {counts}")
