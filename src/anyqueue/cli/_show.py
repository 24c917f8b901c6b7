"""`anyqueue features` and `anyqueue queues`: what brokers can, and what one holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from anyqueue import Feature, Limits, Support
from anyqueue.cli._options import Json, Url
from anyqueue.sync import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COLOURS: Final = {"native": "green", "emulated": "yellow", "refused": "red"}

Urls = Annotated[list[str], typer.Argument(metavar="URL...", help="One broker, or several to compare")]
Markdown = Annotated[bool, typer.Option("--markdown", help="The table in Markdown, for a document")]
Found = dict[Feature, Support]


def features(urls: Urls, as_json: Json = False, markdown: Markdown = False) -> None:
    """Show what a broker has by itself, what anyqueue emulates there, and what it refuses."""
    found = {url: _ask(url) for url in urls}
    if as_json:
        for supports, limits in found.values():
            _print_json(supports, limits)
    elif markdown:
        _print_markdown({url: supports for url, (supports, _) in found.items()})
    elif len(found) == 1:
        _print_one(*found.popitem()[1])
    else:
        _print_many({url: supports for url, (supports, _) in found.items()})


def _ask(url: str) -> tuple[Found, Limits]:
    with connect(url) as client:
        return {feature: client.support(feature) for feature in Feature}, client.limits


def _print_json(found: Found, limits: Limits) -> None:
    _print_lines({"feature": each.name, "support": has.kind, "note": has.note} for each, has in found.items())
    _print_lines([{"limits": msgspec.structs.asdict(limits)}])


def _print_one(found: Found, limits: Limits) -> None:
    table = Table("feature", "support", "what that means")
    for feature, has in found.items():
        table.add_row(feature.name, f"[{_COLOURS[has.kind]}]{has.kind}[/]", has.note)
    console = Console()
    console.print(table)
    given = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(limits).items() if value is not None)
    console.print(f"limits (bytes, seconds): {given}", highlight=False)


def _print_many(found: Mapping[str, Found]) -> None:
    table = Table("feature", *map(_heading, found))
    for feature in Feature:
        kinds = (supports[feature].kind for supports in found.values())
        table.add_row(feature.name, *(f"[{_COLOURS[kind]}]{kind}[/]" for kind in kinds))
    Console().print(table)


def _print_markdown(found: Mapping[str, Found]) -> None:
    print("| feature |", " | ".join(f"`{_heading(url)}`" for url in found), "|")
    print("|---|" + "---|" * len(found))
    for feature in Feature:
        print(f"| {feature.name} |", " | ".join(supports[feature].kind for supports in found.values()), "|")


def _heading(url: str) -> str:
    """Return what tells one URL from another, which is never its user or host."""
    scheme, _, rest = url.partition("://")
    _, question, options = rest.partition("?")
    return f"{scheme}://{question}{options}"


def queues(url: Url, as_json: Json = False) -> None:
    """Show the queues at URL and how many messages each holds."""
    with connect(url) as client:
        found = client.queues()
    rows = [
        {"queue": name, "ready": depth.ready, "delayed": depth.delayed, "held": depth.held} for name, depth in found
    ]
    if as_json:
        _print_lines(rows)
        return
    table = Table("queue")
    for column in ("ready", "delayed", "held"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(highlight=False).print(table)


def _print_lines(rows: Iterable[Mapping[str, object]]) -> None:
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
