"""`anyqueue compare`: one workload over any set of backends, as a table, a page, or JSON."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anyqueue.compare import Settings, compare, page, targets_of
from anyqueue.compare.words import count, duration, rate, size, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyqueue.compare import Report, Row, Target

TERMINATED: Final = 128 + signal.SIGTERM
_DEFAULT: Final = Settings()

Urls = Annotated[list[str], typer.Argument(metavar="URL...", help="The brokers; LABEL=URL gives one a name")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write one self-contained page")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write all figures as JSON")]
Sizes = Annotated[list[int] | None, typer.Option("--size", metavar="BYTES", help="Of a message; may be repeated")]
Concurrency = Annotated[
    list[int] | None, typer.Option("--concurrency", "-c", metavar="N", help="At once; may be repeated")
]
Seconds = Annotated[float, typer.Option("--seconds", metavar="S", help="For each figure")]
Pause = Annotated[float, typer.Option("--slow", metavar="S", help="What the slow handler takes; 0: without it")]
Kill = Annotated[bool, typer.Option("--kill/--no-kill", help="Kill a consumer that holds messages")]


def comparison(
    urls: Urls,
    html: Html = None,
    json: JsonFile = None,
    sizes: Sizes = None,
    concurrency: Concurrency = None,
    seconds: Seconds = _DEFAULT.seconds,
    slow: Pause = _DEFAULT.pause,
    kill: Kill = True,
) -> int:
    """Run one workload over several brokers: send, handle, acknowledge, in several sizes; kill a consumer.

    The status is 1 where a broker did not do its part. Ctrl-C deletes the queues, then ends; a second one ends at once.
    """
    settings = Settings(
        sizes=tuple(sorted(set(sizes or _DEFAULT.sizes))),
        concurrency=tuple(sorted(set(concurrency or _DEFAULT.concurrency))),
        seconds=seconds,
        pause=slow,
        kill=kill,
    )
    for file in filter(None, (html, json)):
        _check_writable(file)
    report = _run(targets_of(urls), settings)
    if isinstance(report, int):
        return report
    _print(report)
    if html is not None:
        html.write_text(page(report), encoding="utf-8")
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 1 if report.failed else 0


def _check_writable(file: Path) -> None:
    """Raise OSError now, not after the run. What is there stays until then."""
    there = file.exists()
    file.open("a").close()
    if not there:
        file.unlink()


def _run(targets: Sequence[Target], settings: Settings) -> Report | int:
    """Run it to its end, or to a signal's: then return the exit status."""
    console = Console(stderr=True)
    with console.status("begin") if console.is_terminal else contextlib.nullcontext() as status:

        def tell(what: str) -> None:
            if status is not None:
                status.update(escape(what))

        return asyncio.run(_until_told(targets, settings, tell))


async def _until_told(targets: Sequence[Target], settings: Settings, tell: Callable[[str], None]) -> Report | int:
    """Compare; SIGTERM cancels, as Ctrl-C does."""
    work = asyncio.ensure_future(compare(targets, settings, tell))
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True
        work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ask)
    try:
        return await work
    except asyncio.CancelledError:
        if not asked:
            raise
        return TERMINATED


def _print(report: Report) -> None:
    console = Console(highlight=False)
    most = max(report.concurrency)
    table = Table(title=f"messages a second, {most} at once", title_justify="left")
    table.add_column("backend", overflow="fold", min_width=12)
    for each in report.sizes:
        table.add_column(size(each), justify="right")
    for heading in ("slow", "latency", "p99", "kill", "lost", "twice"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(*_cells(report, row, most))
    console.print(table)
    for row in report.rows:
        if row.error is not None:
            console.print(f"[red]{escape(row.label)}: {escape(row.error)}[/]", soft_wrap=True)
        if row.left:
            console.print(f"[red]{escape(row.label)}: left behind: {escape(', '.join(row.left))}[/]", soft_wrap=True)
        if row.recovery.note and row.error is None:
            console.print(f"{escape(row.label)}: no kill ({escape(row.recovery.note)})", soft_wrap=True)


def _cells(report: Report, row: Row, most: int) -> list[str]:
    through = [row.cell("through", each, most) for each in report.sizes]
    slow = next((each for each in row.cells if each.operation == "slow" and each.concurrency == most), None)
    latency, recovery = row.latency, row.recovery
    return [
        f"[red]{escape(row.label)}[/]" if row.error is not None else escape(row.label),
        *("" if cell is None else rate(cell.rate) for cell in through),
        "" if slow is None else rate(slow.rate),
        "" if latency is None else duration(latency.median),
        "" if latency is None else duration(latency.p99),
        verdict(recovery),
        count(row.lost) if row.cells else "",
        count(row.duplicated) if row.cells else "",
    ]
