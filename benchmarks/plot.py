"""A picture of each table: what every ratio was, and what was aimed at; readable on light and on dark paper."""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from measure import Result

INK: Final = "#808080"
"""Of text and axes: it has contrast enough against white and against black."""
MET: Final = "#2a9d5c"
MISSED: Final = "#d1495b"
ROW: Final = 0.42
"""Inches."""


def file_of(group: str) -> str:
    """Return the name of a group's picture."""
    return f"benchmarks-{re.sub(r'[^a-z0-9]+', '-', group.lower()).strip('-')}.svg"


def plot(results: list[Result], path: Path) -> bool:
    """Draw the results that are ratios; False where there are none."""
    drawn = [result for result in results if result.ratios]
    if not drawn:
        return False
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": path.name, "font.family": "sans-serif"})
    figure = Figure(figsize=(10, ROW * len(drawn) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for place, result in enumerate(reversed(drawn)):
        _row(axes, place, result)
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(drawn)), [_label(result) for result in reversed(drawn)])
    axes.set_xlabel("ours by theirs: median, least to greatest; the triangle is the aim")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.grid(axis="x", color=INK, alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    return True


def _row(axes: Axes, place: int, result: Result) -> None:
    ratios, aim = result.ratios, result.benchmark.aim
    colour = {True: MET, False: MISSED, None: INK}[result.met]
    axes.plot([min(ratios), max(ratios)], [place, place], color=colour, linewidth=3, alpha=0.4, solid_capstyle="round")
    axes.plot([statistics.median(ratios)], [place], "o", color=colour)
    if aim is not None and aim.of == "ratio":
        axes.plot([aim.value], [place], ">" if aim.bound == "at least" else "<", color=INK, markersize=6)


def _label(result: Result) -> str:
    return f"{result.benchmark.what}\nagainst {result.benchmark.against}"
