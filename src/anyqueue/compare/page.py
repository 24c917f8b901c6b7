"""The report as one self-contained page: nothing in it is fetched, and it has no script. Pure.

What the page may do is written into it (Content-Security-Policy), so that a label or an error, which others wrote, can
fetch nothing either.
"""

from __future__ import annotations

import time
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from anyqueue.compare import charts
from anyqueue.compare.style import STYLE
from anyqueue.compare.words import count, duration, rate, size, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anyqueue.compare.results import Guarantee, Report, Row

_MARKS: Final = MappingProxyType({"native": "●", "emulated": "◐", "refused": "✕"})
_SAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CONFIRM": "A send returns once the broker is responsible",
        "REDELIVER": "What is not finished comes again",
        "RELEASE": "Give a message back now",
        "RELEASE_DELAY": "Give it back for later",
        "ATTEMPTS": "Deliveries are counted",
        "DEAD_LETTER": "What is given up is kept",
        "DELAY": "Send for later",
        "PRIORITY": "Some before others",
        "EXPIRY": "Only until a time",
        "DURABLE": "Survives a killed broker",
        "LEASE": "A hold that must be renewed",
        "COMPETING": "Consumers share a queue",
        "FANOUT": "Topics: every group gets each",
        "REPLY": "Requests and replies",
        "PROGRESS": "Reports on work under way",
        "INSPECT": "Look into a queue, purge it",
        "COUNT": "List and count queues",
        "DELETE": "Delete a queue",
    }
)


def page(report: Report) -> str:
    """Return the page, as HTML."""
    parts = (_head(report), _facts(report), *_pictures(report), _matrix(report), _table(report), _foot(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>anyqueue compare</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    few, many = report.concurrency[0], report.concurrency[-1]
    return (
        "<h1>The same messages, over every broker</h1>"
        '<p class="lead">One workload, one API: messages are sent, handled and acknowledged in '
        f"{len(report.sizes)} sizes, with {few} and {many} handlers at once, with a slow handler, and with a consumer "
        "process that is killed. Every message is counted.</p>"
    )


def _facts(report: Report) -> str:
    rows = [row for row in report.rows if row.cells]
    lost, twice = sum(row.lost for row in rows), sum(row.duplicated for row in rows)
    messages = sum(cell.messages for row in rows for cell in row.cells)
    facts = [
        ("", str(len(rows)), "backend measured" if len(rows) == 1 else "backends measured"),
        ("", count(messages), "messages"),
        ("wrong" if lost else "", count(lost), "lost"),
        ("wrong" if twice else "", count(twice), "handled twice"),
        ("", duration(report.seconds), "in all"),
    ]
    if report.failed:
        facts.insert(1, ("wrong", str(len(report.failed)), "failed"))
    items = (f'<li class="{kind}"><b>{figure}</b>{what}</li>' for kind, figure, what in facts)
    return f'<ul class="facts">{"".join(items)}</ul>'


def _table(report: Report) -> str:
    most = report.concurrency[-1]
    sizes = "".join(f'<th class="number">{size(each)}</th>' for each in report.sizes)
    head = (
        f"<tr><th>backend</th>{sizes}"
        + "".join(f'<th class="number">{text}</th>' for text in ("latency", "99%", "after a kill", "lost", "twice"))
        + "</tr>"
    )
    rows = "".join(_line(report, row, most) for row in report.rows)
    return _section(
        "In figures",
        f"Messages a second that are sent, handled and acknowledged, {most} at once, by their size; the latency of one "
        "message alone; the time until what a killed consumer held is with another.",
        f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>',
    )


def _line(report: Report, row: Row, most: int) -> str:
    name = f"<td><b>{escape(row.label)}</b><br><code>{escape(row.url)}</code>"
    if row.error is not None:
        name += f'<br><span class="error">{escape(row.error)}</span>'
    if row.left:
        name += f'<br><span class="error">left behind: {escape(", ".join(row.left))}</span>'
    cells = [row.cell("through", each, most) for each in report.sizes]
    latency = row.latency
    figures = [
        *("" if cell is None else rate(cell.rate) for cell in cells),
        "" if latency is None else duration(latency.median),
        "" if latency is None else duration(latency.p99),
        verdict(row.recovery) if row.cells else "",
        count(row.lost) if row.cells else "",
        count(row.duplicated) if row.cells else "",
    ]
    numbers = "".join(f'<td class="number">{figure}</td>' for figure in figures)
    return f"<tr>{name}</td>{numbers}</tr>"


def _pictures(report: Report) -> Iterator[str]:
    few, many = report.concurrency[0], report.concurrency[-1]
    dots = [(f"{few} at once", "few")] if few != many else []
    dots.append((f"{many} at once", "many"))
    yield _section(
        "Throughput by size",
        "Messages a second that are sent, handled and acknowledged, all at the same time. Further right is faster; "
        "each line of the grid is ten times the one before.",
        _legend(dots) + _wide(charts.through(report)),
    )
    yield _section(
        "Sending alone, and a slow handler",
        "What a confirmed send costs: one after another, several at once, in batches. And how much of the time many "
        "slow handlers are kept busy: the whole track is all of it.",
        _legend([*dots, ("in batches", "batch")]) + _wide(charts.sending(report)),
    )
    yield _section(
        "Latency",
        "From the call of send until a waiting handler has the message, one at a time. A hill is where most of them "
        "are; the dot is the median, the end of the line the 99th percentile.",
        _wide(charts.latency(report)),
    )
    yield _section(
        "Recovery after a kill",
        "A consumer process that holds messages is ended by SIGKILL. The time until another consumer has the last of "
        "them: at once where the broker sees that the connection is gone, when the lease ends where there is none.",
        _wide(charts.recovery(report)),
    )


def _matrix(report: Report) -> str:
    rows = [row for row in report.rows if row.guarantees]
    if not rows:
        return ""
    features = [each.feature for each in rows[0].guarantees]
    has = {(row.label, each.feature): each for row in rows for each in row.guarantees}
    head = "".join(f"<th><span>{escape(row.label)}</span></th>" for row in rows)
    body = "".join(
        f"<tr><th>{escape(_SAYS.get(feature, feature))}<small>{escape(feature)}</small></th>"
        + "".join(f"<td>{_mark(has.get((row.label, feature)))}</td>" for row in rows)
        + "</tr>"
        for feature in features
    )
    key = "".join(
        f'<span><span class="mark {kind}">{mark}</span>{text}</span>'
        for (kind, mark), text in zip(
            _MARKS.items(), ("the broker does it", "anyqueue does it, with a weaker guarantee", "refused"), strict=True
        )
    )
    return _section(
        "What each guarantees",
        "Asked of the live brokers. Nothing is silently left undone: what is neither native nor emulated is refused "
        "before anything is sent.",
        f'<div class="key">{key}</div><div class="wide"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_notes(rows)}",
    )


def _mark(found: Guarantee | None) -> str:
    if found is None:
        return ""
    said = f"{found.kind}: {found.note}" if found.note else found.kind
    return f'<span class="mark {found.kind}" title="{escape(said)}">{_MARKS[found.kind]}</span>'


def _notes(rows: list[Row]) -> str:
    """Name what a weaker guarantee or a refusal means, once for each."""
    said = {(each.feature, each.kind): each.note for row in rows for each in row.guarantees if each.note}
    items = (
        f'<div><dt>{escape(_SAYS.get(feature, feature))} <span class="mark {kind}">&nbsp;{kind}&nbsp;</span></dt>'
        f"<dd>{escape(note)}</dd></div>"
        for (feature, kind), note in said.items()
    )
    return f"<dl>{''.join(items)}</dl>"


def _foot(report: Report) -> str:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.at))
    return (
        f"<footer>anyqueue {escape(report.anyqueue)}, Python {escape(report.python)}, {escape(report.machine)}, "
        f"{report.cores} cores, {when}. Figures of one run on one machine: they compare what ran here.</footer>"
    )


def _section(title: str, text: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{inner}</section>\n"


def _wide(inner: str) -> str:
    return f'<div class="wide">{inner}</div>'


def _legend(dots: list[tuple[str, str]]) -> str:
    spans = "".join(f'<span class="{kind}">{escape(text)}</span>' for text, kind in dots)
    return f'<div class="legend">{spans}</div>'
