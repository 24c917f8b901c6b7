"""Run one case on one target: the case or its refusal twin, a deadline that dumps, nothing left behind.

Each case has an event loop of its own. A case that waits for ever is cancelled at its deadline, and the error shows
every task and thread; one that blocks the loop itself is ended by faulthandler, which shows the threads and ends the
process. There is no second try.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import os
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyqueue
from anyqueue import Feature
from anyqueue.capability import support
from anyqueue.testing.refusal import refuse
from anyqueue.testing.report import NO_BROKER, NO_NETWORK, Report, Result, Verdict
from anyqueue.testing.residue import residue, snapshot, tasks_left
from anyqueue.testing.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Mapping

    from anyqueue import Limits
    from anyqueue.capability import Support
    from anyqueue.testing.case import Case
    from anyqueue.testing.harness import Broker, Expected, Harness

GRACE: Final = 20.0
"""Seconds after its deadline in which a case may clean up, before the process is ended."""
_stderr: Final = os.dup(2) if threading.current_thread() is threading.main_thread() else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a target says of itself, and what its harness says."""

    name: str
    expected: Expected
    features: Feature
    limits: Limits
    support: dict[Feature, Support]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A result, with the error itself for whoever shows tracebacks."""

    result: Result
    error: BaseException | None


class Residue(AssertionError):
    """A case left something behind in the process."""


class OutOfTime(AssertionError):
    """A case did not end by its deadline."""


def probe(harness: Harness) -> Probed:
    """Open a client once and read off the live broker what the target has."""

    async def read() -> Probed:
        async with anyqueue.connect(harness.url()) as client:
            return Probed(
                name=harness.name,
                expected=harness.expected,
                features=client.features,
                limits=client.limits,
                support={feature: client.support(feature) for feature in Feature},
            )

    return asyncio.run(read())


def run_case(case: Case, harness: Harness, probed: Probed, *, seed: int = 0, timeout: float | None = None) -> Ran:
    """Run a case or its twin and return how it went. Raises only KeyboardInterrupt and the like."""
    if not applies(case, harness):
        return Ran(result=not_applicable(case, harness, seed), error=None)
    refused = any(probed.support[feature].kind == "refused" for feature in case.needs)
    verdict: Verdict = "refused-as-declared" if refused else "passed"
    error: Exception | None = None
    before = snapshot()
    begun = time.perf_counter()
    limit = case.timeout if timeout is None else timeout
    try:
        with _watchdog(limit + GRACE), asyncio.Runner() as runner:
            runner.run(_run(case, harness, probed, seed, limit, refused=refused))
        if left := residue(before):
            raise Residue(f"left behind: {'; '.join(left)}")
    except Exception as caught:  # noqa: BLE001 -- whatever a case raises is its result
        error, verdict = caught, "failed"
    result = Result(
        case=case.id,
        target=harness.name,
        result=verdict,
        seconds=round(time.perf_counter() - begun, 3),
        seed=seed,
        error="" if error is None else f"{type(error).__name__}: {error}",
    )
    return Ran(result=result, error=error)


def applies(case: Case, harness: Harness) -> bool:
    """Say whether a case, or its twin, means something on a target."""
    return not _why_not(case, harness)


def not_applicable(case: Case, harness: Harness, seed: int) -> Result:
    """Return the result of a case that means nothing on a target."""
    note = _why_not(case, harness)
    return Result(case=case.id, target=harness.name, result="not-applicable", seconds=0.0, seed=seed, note=note)


def _why_not(case: Case, harness: Harness) -> str:
    if not harness.keeps and case.id not in harness.brokerless:
        declared = harness.expected.features
        refused = any(support(feature, declared).kind == "refused" for feature in case.needs)
        return "" if refused else NO_BROKER
    return NO_NETWORK if case.network and not harness.network else ""


def run(harness: Harness, cases: Mapping[str, Case], *, seed: int = 0, only: Iterable[str] | None = None) -> Report:
    """Run cases on a target without pytest, and return the report. The harness is started and stopped."""
    from pathlib import Path  # noqa: PLC0415 -- only here

    report = Report(version=anyqueue.__version__)
    chosen = set(cases) if only is None else set(only)
    with tempfile.TemporaryDirectory(prefix="anyqueue-") as folder:
        harness.start(Path(folder))
        try:
            probed = probe(harness)
            report.add_target(probed)
            for case in cases.values():
                if case.id in chosen:
                    report.add_case(case)
                    report.results.append(run_case(case, harness, probed, seed=seed).result)
        finally:
            harness.stop()
    return report


async def _run(case: Case, harness: Harness, probed: Probed, seed: int, limit: float, *, refused: bool) -> None:
    trial = Trial(harness, seed=seed, support=probed.support)
    try:
        await _in_time(_act(case, trial, refused=refused), limit, harness.broker)
    finally:
        await trial.clean()
    if left := await tasks_left():
        raise Residue("\n".join(left))


async def _act(case: Case, trial: Trial, *, refused: bool) -> None:
    if not refused:
        await case.run(trial)
    elif case.twin is not None:
        await case.twin(trial)
    else:
        await refuse(trial, case.needs)


async def _in_time(act: Coroutine[object, object, None], limit: float, broker: Broker | None) -> None:
    """Run to the deadline; then say where every task and thread stands, and cancel."""
    task = asyncio.create_task(act)
    done, _ = await asyncio.wait([task], timeout=limit)
    if done:
        return await task
    where = dump() + (f"--- the broker's log\n{broker.log()}" if broker is not None else "")
    task.cancel()
    await asyncio.wait([task], timeout=GRACE / 2)
    if task.done() and not task.cancelled() and isinstance(error := task.exception(), AssertionError):
        raise error
    raise OutOfTime(f"not done within {limit:g} s\n{where}")


def dump() -> str:
    """Say where every task of this loop and every thread stands."""
    text = io.StringIO()
    for task in asyncio.all_tasks():
        print(f"--- {task.get_name()}", *_awaiting(task.get_coro()), sep="\n  ", file=text)
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 -- documented, and the only way
        print(f"--- thread {ident}", file=text)
        traceback.print_stack(frame, limit=6, file=text)
    return text.getvalue()


def _awaiting(coroutine: object) -> Iterator[str]:
    """Follow what a task waits for, from the outside in."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        coroutine = getattr(coroutine, "cr_await", None)


@contextlib.contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    faulthandler.dump_traceback_later(seconds, exit=True, file=_stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
