"""Run the benchmarks, print the table, and on request write it into the documents.

    python benchmarks/run.py [--group GROUP ...] [--only NAME ...] [--quick] [--rounds N] [--dir FOLDER]
                             [--write FILE ...] [--quote FILE ...] [--plots FOLDER]

A table is written into a document where all of its group was run; the others stay as they are there.

Exit status 0 also when an aim is missed: a shared machine may be slow for a while. The table says it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from entries import BENCHMARKS
from measure import Benchmark, Result, compare
from report import insert, machine, quote, table

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 5
GROUPS: Final = list(dict.fromkeys(each.group for each in BENCHMARKS))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [each.name for each in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--group", nargs="+", choices=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work?")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs a benchmark ({ROUNDS})")
    parser.add_argument("--dir", type=Path, default=Path("build"), help="where the databases go: a real disk (build)")
    parser.add_argument("--write", type=Path, nargs="+", default=[], metavar="FILE", help="put the table in there")
    parser.add_argument("--quote", type=Path, nargs="+", default=[], metavar="FILE", help="put the short one in there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw each table in there")
    return parser.parse_args()


def run(chosen: list[Benchmark], *, quick: bool, rounds: int, folder: Path) -> list[Result]:
    """Run the chosen ones, saying which."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(dir=folder.absolute()) as shared:
        for each in chosen:
            print(f"{each.name}: {each.what}", file=sys.stderr, flush=True)
            size, times = (each.quick, 1) if quick else (each.size, rounds)
            results.append(compare(each, times, size, Path(shared)))
    return results


def tables(results: list[Result], folder: Path, make: Callable[[list[Result]], str]) -> dict[str, str]:
    """Return a table for each group that something was run of."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.benchmark.group, []).append(result)
    where = machine(folder)
    return {group: f"**{group}**, {where}\n\n{make(ours)}" for group, ours in found.items()}


def draw(results: list[Result], texts: dict[str, str], folder: Path) -> None:
    """Draw each group that was run whole, and show the picture under its table."""
    from plot import file_of, plot  # noqa: PLC0415 -- what is not drawn needs no plotting library

    for group in whole(results) & texts.keys():
        if plot([each for each in results if each.benchmark.group == group], folder / file_of(group)):
            texts[group] += f"\n![{group}: the ratios, and what was aimed at]({file_of(group)})\n"


def whole(results: list[Result]) -> set[str]:
    """Return the groups of which everything was run."""
    done = {result.benchmark.name for result in results}
    return {group for group in GROUPS if {each.name for each in BENCHMARKS if each.group == group} <= done}


def main() -> None:
    """Run it."""
    given = options()
    chosen = [
        each
        for each in BENCHMARKS
        if (not given.only or each.name in given.only) and (not given.group or each.group in given.group)
    ]
    results = run(chosen, quick=given.quick, rounds=given.rounds, folder=given.dir)
    texts = tables(results, given.dir, table)
    print("\n".join(texts.values()), end="")
    if given.plots:
        draw(results, texts, given.plots)
    for paths, made in ((given.write, texts), (given.quote, tables(results, given.dir, quote))):
        for path in paths:
            insert(path, {group: text for group, text in made.items() if group in whole(results)}, GROUPS)


if __name__ == "__main__":
    main()
