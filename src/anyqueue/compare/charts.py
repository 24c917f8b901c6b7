"""The pictures: SVG with classes for its colours, which the page's style says for light and dark. Pure.

A row a backend, always in the order that was asked for; its name stands at the left of every picture. Axes are by
powers of ten: between the fastest and the slowest broker lie three of them.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from anyqueue.compare.plan import main_size
from anyqueue.compare.scale import Scale, around, smoothed
from anyqueue.compare.tally import EDGES
from anyqueue.compare.words import duration, rate, short, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anyqueue.compare.results import Cell, Latency, Report, Row

WIDTH: Final = 1080
NAMES: Final = 176
"""Room for the backends' names."""
GAP: Final = 44
TOP: Final = 46
ROW: Final = 34
HILL: Final = 44
"""Height of a row with a distribution in it."""
LONGEST: Final = 22
"""Letters of a name that have room."""
LATEST: Final = 100.0
BEYOND: Final = 1.0
"""Under this share of the highest bin nothing is drawn."""


def through(report: Report) -> str:
    """Draw throughput by size: a panel a size, a dot each for the least and the most handlers at once."""
    few, many = report.concurrency[0], report.concurrency[-1]
    cells = [cell for row in report.rows for cell in row.cells if cell.operation == "through"]
    low, high = around((cell.rate for cell in cells), (1, 1000))
    panels = list(_panels(len(report.sizes)))
    drawn = [_names(report.rows, ROW)]
    for (left, right), each in zip(panels, report.sizes, strict=True):
        scale = Scale(low, high, left, right - 34)
        drawn += [_title(left, size(each)), _grid(scale, len(report.rows) * ROW, short)]
        for place, row in enumerate(report.rows):
            one, all_ = row.cell("through", each, few), row.cell("through", each, many)
            drawn.append(_rates(scale, _middle(place, ROW), [(one, "few"), (all_, "many")]))
            if one is None and all_ is None and each == report.sizes[0]:
                drawn.append(_remark(left, _middle(place, ROW) + 4, _reason(row)))
    return _svg("Throughput by size", len(report.rows) * ROW, drawn)


def sending(report: Report) -> str:
    """Draw what sending alone costs, and what becomes of a slow handler, side by side."""
    (left, right), (other, end) = _panels(2)
    middle = main_size(report.sizes)
    few, many = report.concurrency[0], report.concurrency[-1]
    cells = [cell for row in report.rows for cell in row.cells if cell.operation in {"send", "send_many"}]
    low, high = around((cell.rate for cell in cells), (1, 1000))
    scale = Scale(low, high, left, right - 34)
    ideal = many / report.pause if report.pause else 1.0
    even = Scale(0, ideal, other, end - 48, logarithmic=False)
    drawn = [_names(report.rows, ROW)]
    drawn += [_title(left, f"sending alone, {size(middle)}"), _grid(scale, len(report.rows) * ROW, short)]
    drawn += [_title(other, f"a handler that takes {duration(report.pause)}, {many} at once")]
    drawn += [_grid(even, len(report.rows) * ROW, short)]
    for place, row in enumerate(report.rows):
        y = _middle(place, ROW)
        marks = [(row.cell("send", middle, few), "few"), (row.cell("send", middle, many), "many")]
        drawn.append(_rates(scale, y, [*marks, (row.cell("send_many", middle, 1), "batch")]))
        slow = (each for each in row.cells if each.operation == "slow" and each.concurrency == many)
        drawn.append(_bar(even, y, next(slow, None)))
    return _svg("Sending alone, and a slow handler", len(report.rows) * ROW, drawn)


def latency(report: Report) -> str:
    """Draw how long one message takes: a hill a backend, with its median and its 99th percentile."""
    found = [row.latency for row in report.rows if row.latency is not None]
    edges = [edge for each in found for edge in _span(each)]
    low, high = around(edges, (1e-4, 1e-1))
    scale = Scale(low, high, NAMES + 8, WIDTH - 150)
    drawn = [_names(report.rows, HILL), _grid(scale, len(report.rows) * HILL, duration)]
    drawn.append(f'<text class="value" x="{scale.right + 22}" y="{TOP - 10}">median · 99%</text>')
    for place, row in enumerate(report.rows):
        foot = TOP + (place + 1) * HILL - 9
        drawn.append(_hill(scale, foot, row.latency) if row.latency else _remark(NAMES + 8, foot - 12, _reason(row)))
    return _svg("Latency distribution", len(report.rows) * HILL, drawn)


def recovery(report: Report) -> str:
    """Draw the time from a kill until the first and the last of what was held came back."""
    times = [each for row in report.rows for each in (row.recovery.first, row.recovery.last) if each is not None]
    low, high = around([max(each, 1e-3) for each in times], (1e-2, 10))
    scale = Scale(low, high, NAMES + 8, WIDTH - 90)
    drawn = [_names(report.rows, ROW), _grid(scale, len(report.rows) * ROW, duration)]
    for place, row in enumerate(report.rows):
        y, found = _middle(place, ROW), row.recovery
        if found.last is None or found.first is None:
            said = f"{found.lost} of {found.held} did not come back" if found.held else found.note
            drawn.append(_remark(NAMES + 8, y + 4, said if row.error is None else _reason(row)))
            continue
        start, end = scale.at(found.first), scale.at(found.last)
        said = f"{row.label}: the first after {duration(found.first)}, the last after {duration(found.last)}"
        drawn.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect class="bar span" x="{scale.left}" y="{y - 5}" rx="2" height="10" width="{end - scale.left:.1f}"/>'
            f'<line class="join" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot many" cx="{end:.1f}" cy="{y}" r="6"/>'
            f'<text class="value" x="{end + 13:.1f}" y="{y + 4}">{duration(found.last)}</text></g>'
        )
    return _svg("Recovery after a kill", len(report.rows) * ROW, drawn)


def _panels(count: int) -> list[tuple[float, float]]:
    """Return the left and right ends of so many pictures beside each other."""
    width = (WIDTH - NAMES - 8 - GAP * (count - 1)) / count
    return [(NAMES + 8 + place * (width + GAP), NAMES + 8 + place * (width + GAP) + width) for place in range(count)]


def _middle(place: int, height: int) -> float:
    return TOP + place * height + height / 2


def _svg(title: str, height: int, drawn: Iterable[str]) -> str:
    inner = "".join(drawn)
    size_ = f'viewBox="0 0 {WIDTH} {TOP + height + 6}"'
    return f'<svg {size_} role="img" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">{inner}</svg>'


def _names(rows: Sequence[Row], height: int) -> str:
    """Write the backends' names, and a band behind every other row."""
    drawn = []
    for place, row in enumerate(rows):
        if place % 2 == 0:
            drawn.append(f'<rect class="band" x="0" y="{TOP + place * height}" width="{WIDTH}" height="{height}"/>')
        name = row.label if len(row.label) <= LONGEST else f"{row.label[: LONGEST - 1]}…"
        kind = "name failed" if row.error is not None else "name"
        drawn.append(
            f'<text class="{kind}" x="{NAMES - 10}" y="{_middle(place, height) + 4}"><title>{escape(row.url)}</title>'
            f"{escape(name)}</text>"
        )
    return "".join(drawn)


def _title(left: float, text: str) -> str:
    return f'<text class="title" x="{left:.1f}" y="16">{escape(text)}</text>'


def _grid(scale: Scale, height: int, word: Callable[[float], str]) -> str:
    """Draw the lines of an axis, with their values above."""
    drawn = []
    for value in scale.ticks():
        x = scale.at(value)
        text = word(value) if value else "0"
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{TOP + height}"/>')
        drawn.append(f'<text class="tick" x="{x:.1f}" y="{TOP - 10}">{text.replace(".0", "")}</text>')
    return "".join(drawn)


def _rates(scale: Scale, y: float, marks: Sequence[tuple[Cell | None, str]]) -> str:
    """Draw dots on one line, and the value of the fastest."""
    there = [(cell, kind) for cell, kind in marks if cell is not None and cell.messages]
    if not there:
        return ""
    places = [scale.at(cell.rate) for cell, _ in there]
    drawn = [f'<line class="bar" x1="{min(places):.1f}" x2="{max(places):.1f}" y1="{y}" y2="{y}"/>']
    for (cell, kind), x in zip(there, places, strict=True):
        said = f"{_said(cell)}: {rate(cell.rate)} messages/s"
        drawn.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y}" r="5.5"><title>{escape(said)}</title></circle>')
    most = max(cell.rate for cell, _ in there)
    drawn.append(f'<text class="value" x="{max(places) + 10:.1f}" y="{y + 4}">{short(most)}</text>')
    return "".join(drawn)


def _said(cell: Cell) -> str:
    how = {"send": "sent one by one", "send_many": "sent in batches", "through": "sent, handled, acknowledged"}
    return f"{how.get(cell.operation, cell.operation)}, {size(cell.size)}, {cell.concurrency} at once"


def _bar(scale: Scale, y: float, cell: Cell | None) -> str:
    """Draw a bar from zero to what was reached, of all that could be."""
    if cell is None:
        return ""
    end = max(scale.at(cell.rate), scale.left + 2)
    place = f'x="{scale.left:.1f}" y="{y - 5}" height="10" rx="2"'
    return (
        f'<rect class="track" {place} width="{scale.right - scale.left:.1f}"/>'
        f'<rect class="bar many" {place} width="{end - scale.left:.1f}">'
        f"<title>{rate(cell.rate)} messages/s</title></rect>"
        f'<text class="value" x="{scale.right + 8:.1f}" y="{y + 4}">{short(cell.rate)}</text>'
    )


def _span(found: Latency) -> list[float]:
    """Return the ends of what is drawn of a distribution."""
    there = [place for place, count in enumerate(found.counts) if count]
    return [EDGES[there[0]], min(EDGES[there[-1] + 1], LATEST)] if there else []


def _hill(scale: Scale, foot: float, found: Latency) -> str:
    heights = smoothed(found.counts)
    most = max(heights)
    centres = [(EDGES[place] * EDGES[place + 1]) ** 0.5 for place in range(len(heights))]
    points = [
        (scale.at(centre), foot - 28 * height / most)
        for centre, height in zip(centres, heights, strict=True)
        if height > most * BEYOND / 100
    ]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    median, late = scale.at(found.median), scale.at(found.p99)
    said = f"median {duration(found.median)}, 90% {duration(found.p90)}, 99% {duration(found.p99)}"
    return (
        f'<g><title>{said}, {found.samples:,} messages</title><polygon class="hill" points="'
        f'{points[0][0]:.1f},{foot} {outline} {points[-1][0]:.1f},{foot}"/>'
        f'<line class="late" x1="{median:.1f}" x2="{late:.1f}" y1="{foot}" y2="{foot}"/>'
        f'<circle class="dot many" cx="{median:.1f}" cy="{foot}" r="4.5"/>'
        f'<line class="late" x1="{late:.1f}" x2="{late:.1f}" y1="{foot - 5}" y2="{foot + 5}"/>'
        f'<text class="value" x="{scale.right + 22:.1f}" y="{foot - 8}">'
        f'<tspan class="strong">{duration(found.median)}</tspan> · {duration(found.p99)}</text></g>'
    )


def _remark(x: float, y: float, text: str) -> str:
    return f'<text class="remark" x="{x}" y="{y}">{escape(text)}</text>'


def _reason(row: Row) -> str:
    return "not measured" if row.error is None else "no answer" if not row.cells else "failed: see below"
