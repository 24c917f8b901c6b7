"""The matrix: backends by features and cases, as Markdown, from the report of a whole run.

    python -m anyqueue.testing.matrix contract-report.json --page docs/matrix.md --readme README.md [--check]

The report was read off live brokers, so a page that is equal to it says what they said. `--check` writes nothing and
ends with status 1 where a file is out of date. In a README the table replaces what is between the two marks.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue import Feature
from anyqueue.testing.report import Report
from anyqueue.testing.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anyqueue.testing.report import TargetRow

HEAD: Final = """# Matrix

What each backend does by itself, what anyqueue emulates there, what it refuses, and how many cases of the contract
suite it passed. Read off live brokers by the last whole run of the suite: `make test` fails while this page says
anything else, `make matrix` writes it anew.

`native`: by the broker. `emulated`: by anyqueue, with the weaker guarantee named below. `refused`: `Unsupported` is
raised before any I/O; the suite proves that too (refused as declared).
"""
MARK: Final = re.compile(r"(?<=<!-- matrix: begin -->\n).*?(?=<!-- matrix: end -->)", re.DOTALL)
LESS: Final = ("emulated", "refused")
PROVED: Final = frozenset({"passed", "refused-as-declared"})


def page(report: Report) -> str:
    """Return the whole page."""
    parts = [HEAD, *_lines(features(report)), "", "## Cases", "", *_lines(cases(report)), ""]
    for target in report.targets:
        parts += [f"## {target.name}", "", *notes(target), ""]
    return "\n".join(parts)


def features(report: Report) -> list[list[str]]:
    """Return rows of cells: a feature a row, a target a column."""
    rows = [["feature", *(target.name for target in report.targets)]]
    rows += [[str(one.name), *(target.features[str(one.name)].kind for target in report.targets)] for one in Feature]
    return rows


def cases(report: Report) -> list[list[str]]:
    """Return rows of cells: how many cases of the suite went how, a target a row."""
    rows = [["target", "passed", "refused as declared", "not applicable", "failed"]]
    for target in report.targets:
        count = Counter(result.result for result in report.results if result.target == target.name)
        each = (count[kind] for kind in ("passed", "refused-as-declared", "not-applicable", "failed"))
        rows.append([target.name, *map(str, each)])
    return rows


def summary(report: Report) -> list[list[str]]:
    """Return rows of cells for a README: a target a row, with what is not native, and what was proved."""
    rows = [["target", "emulated", "refused", "cases passed"]]
    for target in report.targets:
        kinds = {kind: [name for name, cell in target.features.items() if cell.kind == kind] for kind in LESS}
        passed = sum(1 for result in report.results if result.target == target.name and result.result in PROVED)
        due = sum(1 for result in report.results if result.target == target.name and result.result != "not-applicable")
        rows.append([f"`{target.name}`", *(_listed(kinds[kind]) for kind in LESS), f"{passed} of {due}"])
    return rows


def notes(target: TargetRow) -> Iterator[str]:
    """Yield what a target says of each feature that is not simply native, and its limits."""
    for name, cell in target.features.items():
        if cell.note:
            yield f"- {name}, {cell.kind}: {cell.note}"
    limits = [f"{name} {value:,.10g}" for name, value in target.limits.items() if value is not None]
    yield f"- Limits (bytes, seconds): {', '.join(limits)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.lower() for name in names) or "nothing"


def _lines(rows: Iterable[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return [_line(head), "|" + "---|" * len(head), *map(_line, rest)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with --check say which are out of date."""
    parser = argparse.ArgumentParser(prog="anyqueue.testing.matrix", description="The matrix, from the suite's report.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--readme", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    report = msgspec.json.decode(asked.report.read_bytes(), type=Report)
    report.targets.sort(key=lambda target: list(TARGETS).index(target.name))
    table = "".join(f"{line}\n" for line in _lines(summary(report)))
    made = {asked.page: page(report), asked.readme: MARK.sub(lambda _: table, asked.readme.read_text())}
    old = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if asked.check:
        for path in old:
            print(f"{path} is out of date: make matrix", file=sys.stderr)  # noqa: T201 -- a command
        return 1 if old else 0
    for path in old:
        path.write_text(made[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
