"""What a case leaves behind in the process: threads, descriptors, children, tasks (M5)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE: Final = 15.0
"""Seconds that something on its way out is waited for."""


class Snapshot(msgspec.Struct, frozen=True):
    """What the process has at one moment."""

    threads: frozenset[int]
    descriptors: dict[str, int]
    children: frozenset[int]


def snapshot() -> Snapshot:
    """Look at the process."""
    return Snapshot(
        threads=frozenset(thread.ident or 0 for thread in threading.enumerate()),
        descriptors=dict(Counter(_descriptors())),
        children=frozenset(_children()),
    )


def residue(before: Snapshot) -> list[str]:
    """Wait a little for what is on its way out; return what is here that was not before."""
    deadline = time.monotonic() + PATIENCE
    while (found := leftover(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


async def tasks_left() -> list[str]:
    """Return the tasks of this loop that are still there after a moment, but for the current one."""
    deadline = time.monotonic() + PATIENCE
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < deadline:  # noqa: ASYNC110 -- whatever they wait for
        await asyncio.sleep(0.01)
    return [f"task {task!r}" for task in others]


def leftover(before: Snapshot) -> list[str]:
    """Return what is here now that was not before."""
    now = snapshot()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    more = Counter(now.descriptors) - Counter(before.descriptors)
    return [
        *(f"thread {names.get(ident, ident)}" for ident in now.threads - before.threads),
        *(f"descriptor {target} ({count} more)" for target, count in more.items()),
        *(f"child process {child}" for child in now.children - before.children),
    ]


def _descriptors() -> Iterable[str]:
    """Name what each descriptor is, without the number that tells one socket from another."""
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.exists() else ():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if not target.startswith("/proc/"):
            yield target.partition(":[")[0]


def _children() -> Iterable[int]:
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            yield from map(int, task.read_text().split())
        except OSError:
            continue
