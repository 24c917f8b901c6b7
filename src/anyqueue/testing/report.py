"""The report: case by target, for people and for the generated matrix (contract-report.json)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from anyqueue.testing.case import Case
    from anyqueue.testing.runner import Probed

Verdict = Literal["passed", "refused-as-declared", "not-applicable", "failed"]
NO_NETWORK: Final = "not applicable: no network"
NO_BROKER: Final = "not applicable: nothing keeps a message here"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one case went on one target."""

    case: str
    target: str
    result: Verdict
    seconds: float
    seed: int
    error: str = ""
    note: str = ""
    """Of what is not applicable: why."""


class CaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a case is."""

    id: str
    sentence: str
    group: str
    tier: str
    needs: list[str]
    network: bool = False


class FeatureCell(msgspec.Struct, frozen=True, kw_only=True):
    """How a target has a feature."""

    kind: str
    note: str


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a target is, read off the live broker."""

    name: str
    features: dict[str, FeatureCell]
    limits: dict[str, float | None]
    released: str
    unheard: str
    unknown: str


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    version: str
    cases: list[CaseRow] = []
    targets: list[TargetRow] = []
    results: list[Result] = []

    def add_case(self, case: Case) -> None:
        """Note what a case is, once."""
        if all(row.id != case.id for row in self.cases):
            needs = [str(feature.name) for feature in case.needs]
            row = CaseRow(
                id=case.id,
                sentence=case.sentence,
                group=case.group,
                tier=case.tier,
                needs=needs,
                network=case.network,
            )
            self.cases.append(row)

    def add_target(self, probed: Probed) -> None:
        """Note what a target is, once."""
        if all(row.name != probed.name for row in self.targets):
            cells = {
                str(one.name): FeatureCell(kind=found.kind, note=found.note) for one, found in probed.support.items()
            }
            limits: dict[str, float | None] = msgspec.structs.asdict(probed.limits)
            self.targets.append(
                TargetRow(
                    name=probed.name,
                    features=cells,
                    limits=limits,
                    released=probed.expected.released,
                    unheard=probed.expected.unheard,
                    unknown=probed.expected.unknown,
                )
            )

    def add(self, other: Report) -> None:
        """Take over the results of another part of the run."""
        self.cases += [row for row in other.cases if row.id not in {one.id for one in self.cases}]
        self.targets += [row for row in other.targets if row.name not in {one.name for one in self.targets}]
        self.results += other.results

    def empty_cells(self) -> list[str]:
        """Name the cells of the matrix without a result (M1)."""
        done = {(result.case, result.target) for result in self.results}
        return [
            f"{case.id} on {target.name}"
            for case in self.cases
            for target in self.targets
            if (case.id, target.name) not in done
        ]

    def failures(self) -> list[Result]:
        """Return what failed."""
        return [result for result in self.results if result.result == "failed"]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
