"""Files and folders that other processes move and delete meanwhile: what is gone is no error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def files(folder: Path) -> list[str]:
    """Name what is in a folder, in order; nothing where there is none."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 -- iterdir() makes an object of every name
    except FileNotFoundError:
        return []


def move(source: Path, target: Path) -> bool:
    """Rename, unless somebody else was faster."""
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True


def remove(path: Path) -> bool:
    """Delete, if it is there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def sync(folder: Path) -> None:
    """Let the disk have what was renamed or deleted in a folder, if it is still there."""
    try:
        file = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def look(folder: Path) -> tuple[list[str], list[str]]:
    """Name what is ready and what is held. A file that moves may be seen twice or not at all: look until two agree."""
    seen = None
    while seen != (now := (files(folder / "ready"), files(folder / "held"))):
        seen = now
    return seen
