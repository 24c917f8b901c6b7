"""M1, M2, M5: the suite itself is whole, notices broken backends, and sees what a case leaves behind."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from anyqueue import Feature
from anyqueue.testing import run
from anyqueue.testing.case import Case, all_cases, case
from anyqueue.testing.catalogue import group_of, unproved
from anyqueue.testing.mutants import MUTANTS, Mutant
from anyqueue.testing.report import Report
from anyqueue.testing.runner import Probed, applies, probe, run_case
from anyqueue.testing.targets import TARGETS, load_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anyqueue.testing.case import Run
    from anyqueue.testing.harness import Harness
    from anyqueue.testing.trial import Trial

PATIENCE: Final = 4.0
"""Seconds after which a case on a mutant has failed."""
pytestmark = [
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[tuple[Harness, Probed]]:
    harness = load_harness("memory")
    harness.start(tmp_path)
    yield harness, probe(harness)
    harness.stop()


def case_of(act: Run, needs: Feature = Feature.NONE, twin: Run | None = None) -> Case:
    return Case(id="Z1", sentence="", group="", needs=needs, tier="fast", timeout=60.0, run=act, twin=twin)


def test_every_sentence_of_the_contract_has_a_case() -> None:
    assert unproved(all_cases()) == []


def test_every_case_belongs_to_the_contract() -> None:
    for one in all_cases().values():
        assert group_of(one.id) == one.group


def test_every_case_is_a_test_on_every_target(request: pytest.FixtureRequest) -> None:
    """M1: no cell of the matrix is empty: the collected tests are the product."""
    chosen = request.config.getoption("--anyqueue-target") or list(TARGETS)
    harnesses = [load_harness(name) for name in chosen]
    items = {item.callspec.id for item in request.session.items if item.originalname == "test_contract"}
    if items and not request.config.option.keyword and not request.config.option.markexpr:
        cases = all_cases().values()
        assert items == {f"{one.id}-{target.name}" for one in cases for target in harnesses if applies(one, target)}


def test_a_report_with_an_empty_cell_says_which() -> None:
    report = run(load_harness("memory-weak"), only=["R7", "W2"])
    assert [(one.case, one.result) for one in report.results] == [("R7", "passed"), ("W2", "refused-as-declared")]
    assert report.empty_cells() == []
    del report.results[0]
    assert report.empty_cells() == ["R7 on memory-weak"]


def test_a_report_is_json_that_reads_back(tmp_path: Path) -> None:
    report = run(load_harness("memory"), only=["R7"])
    report.write(tmp_path / "report.json")
    again = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert again == report
    (target,) = again.targets
    assert target.features["DELAY"].kind == "native"
    assert target.features["DURABLE"].note


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_dies(mutant: Mutant, memory: tuple[Harness, Probed]) -> None:
    """M2: at least one of its killers fails."""
    cases = all_cases()
    results = {}
    with mutant.apply():
        for killer in mutant.killers:
            ran = run_case(cases[killer], *memory, timeout=PATIENCE)
            results[killer] = ran.result.error
            if ran.result.result == "failed":
                return
    pytest.fail(f"{mutant.sentence} And nobody noticed: {', '.join(results)} passed.")


def leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(5,)).start()


def leaves_a_descriptor() -> None:
    os.open("/dev/null", os.O_RDONLY)


def leaves_a_child() -> None:
    os.posix_spawn("/bin/sleep", ["sleep", "5"], {})


def leaves_a_task() -> None:
    leaves_a_task.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))


@pytest.mark.parametrize("act", [leaves_a_thread, leaves_a_descriptor, leaves_a_child, leaves_a_task])
def test_what_a_case_leaves_behind_fails_it(
    act: Callable[[], None], memory: tuple[Harness, Probed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M5."""
    monkeypatch.setattr("anyqueue.testing.residue.PATIENCE", 0.2)

    async def body(t: Trial) -> None:
        del t
        act()

    ran = run_case(case_of(body), *memory)
    assert ran.result.result == "failed"
    assert act.__name__.rpartition("_")[2] in ran.result.error


def test_a_case_that_waits_for_ever_is_ended_and_shown(memory: tuple[Harness, Probed]) -> None:
    async def body(t: Trial) -> None:
        del t
        await asyncio.Event().wait()

    ran = run_case(case_of(body), *memory, timeout=0.2)
    assert ran.result.error.startswith("OutOfTime")
    assert "in body" in ran.result.error


def test_a_property_that_fails_names_its_smallest_example_and_seed(memory: tuple[Harness, Probed]) -> None:
    from hypothesis import strategies as st  # noqa: PLC0415 -- only here

    async def check(number: int) -> None:
        assert number < 17

    async def body(t: Trial) -> None:
        await t.for_all(st.integers(0, 1000), check)

    ran = run_case(case_of(body), *memory, seed=7)
    assert "seed 7: failed for 17" in ran.result.error


def test_a_refused_need_runs_the_twin_and_a_twin_can_fail(tmp_path: Path) -> None:
    harness = load_harness("memory-weak")
    harness.start(tmp_path)
    probed = probe(harness)

    async def never(t: Trial) -> None:
        raise AssertionError(f"the case itself ran on {t.harness.name}")

    assert run_case(case_of(never, Feature.DELAY), harness, probed).result.result == "refused-as-declared"
    assert run_case(case_of(never, Feature.DELAY, twin=never), harness, probed).result.result == "failed"
    assert run_case(case_of(never, Feature.RELEASE), harness, probed).result.result == "failed"
    harness.stop()


def test_a_case_is_registered_once_and_says_its_sentence() -> None:
    async def undocumented(t: Trial) -> None:
        """Z2: not the id it is registered under."""

    async def again(t: Trial) -> None:
        """R1: it is there already."""

    with pytest.raises(ValueError, match="begins with its id"):
        case("Z9", "", group="")(undocumented)
    with pytest.raises(ValueError, match="twice"):
        case("R1", "", group="")(again)
    with pytest.raises(ValueError, match="a letter and a number"):
        case("one", "", group="")(again)
