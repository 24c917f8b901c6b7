"""What a run says: the machine, the table, and where they go in a document."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from measure import spread

if TYPE_CHECKING:
    from measure import Result

BEGIN: Final = "<!-- figures: begin -->"
END: Final = "<!-- figures: end -->"
PACKAGES: Final = (
    *("anyqueue", "msgspec", "huey", "persist-queue"),
    *("pika", "kombu", "aio-pika", "faststream", "dramatiq"),
)
_BLOCK: Final = re.compile(r"^(?=\*\*(.+?)\*\*, )(.*?)(?=^\*\*|\Z)", re.MULTILINE | re.DOTALL)
_MET: Final = {True: "yes", False: "**no**", None: ""}


def machine(folder: Path) -> str:
    """Say on what it ran."""
    today = dt.datetime.now(tz=dt.UTC).date()
    facts = [
        f"{_cpu()}, {os.cpu_count()} cores",
        f"{_file_system(folder)} file system",
        f"Linux {platform.release()}" if platform.system() == "Linux" else platform.platform(),
        f"Python {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
        *(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    ]
    return f"{today}: {', '.join(facts)}."


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the innermost file system that holds the folder."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines())
    holding = [(fields[1], fields[2]) for fields in mounts if folder.resolve().is_relative_to(fields[1])]
    return max(holding, key=lambda found: len(found[0]), default=("", "unknown"))[1]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(results: list[Result]) -> str:
    """Return it in Markdown: medians, and in parentheses the least and the greatest."""
    lines = ["| | against | ours | theirs | ratio | aim | met |", "|---|---|--:|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(row(result))} |" for result in results]
    return "\n".join(lines) + "\n"


def quote(results: list[Result]) -> str:
    """Return the short table for the README: the ratio, or our figure where it is what counts."""
    lines = ["| | against | median (least to greatest) |", "|---|---|--:|"]
    for result in results:
        benchmark = result.benchmark
        aim = benchmark.aim
        if not result.theirs or (aim is not None and aim.of == "figure"):
            against, figure = "", f"{spread(result.ours)} {benchmark.unit}"
        else:
            against, figure = benchmark.against, f"{spread(result.ratios)} times"
        lines.append(f"| {benchmark.what} | {against} | {figure} |")
    return "\n".join(lines) + "\n"


def row(result: Result) -> list[str]:
    """Return the cells of one benchmark."""
    benchmark = result.benchmark
    aim = "" if benchmark.aim is None else str(benchmark.aim)
    if benchmark.aim is not None and benchmark.aim.of == "figure":
        aim += f" {benchmark.unit}"
    return [
        benchmark.what,
        benchmark.against,
        f"{spread(result.ours)} {benchmark.unit}",
        f"{spread(result.theirs)} {benchmark.unit}" if result.theirs else "",
        f"**{spread(result.ratios)}**" if result.theirs else "",
        aim,
        _MET[result.met],
    ]


def insert(path: Path, texts: dict[str, str], order: list[str]) -> None:
    """Put tables between the markers of a document, each in the place of its group's; those of other groups stay."""
    document = path.read_text(encoding="utf-8")
    before, begin, rest = document.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no {BEGIN} ... {END} to put the tables in")
    blocks = {group: f"{text.strip()}\n" for group, text in _BLOCK.findall(inside)} | texts
    text = "\n".join(blocks[group] for group in sorted(blocks, key=order.index))
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
