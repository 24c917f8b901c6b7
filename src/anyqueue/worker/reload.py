"""See that Python files below a folder have changed, by looking: no library, no descriptors, twice a second."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

EVERY: Final = 0.5
Stamps = dict[str, tuple[int, int]]


async def changes(folder: Path) -> AsyncIterator[Path]:
    """Yield a file that was changed, added or removed, once for all that happened between two looks. For ever."""
    before = await asyncio.to_thread(stamps, folder)
    while True:
        await asyncio.sleep(EVERY)
        now = await asyncio.to_thread(stamps, folder)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        before = now
        if changed:
            yield Path(changed[0])


def stamps(folder: Path) -> Stamps:
    """Return the time and size of every Python file. Hidden folders and virtual environments are left out."""
    return {entry.path: (status.st_mtime_ns, status.st_size) for entry, status in _files(str(folder))}


def _files(folder: str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # gone since it was listed, or not for us
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                yield entry, entry.stat()
        except OSError:
            continue
