"""Where a SQLite store may be: what is refused before SQLite is asked, and SQLite's errors in our words.

The database file itself is never opened here unless it is being made: closing any descriptor of a file gives up all
of this process's locks on it, SQLite's too (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from anyqueue.errors import ConfigError, ConnectFailed, ConnectionLost, Error, QueueFull
from anyqueue.store.file_lock import PRIVATE

REMOTE: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2"}
    | {"glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"}
)
"""File systems whose locks or shared memory are not to be trusted between machines."""
_WRITABLE: Final = (ConfigError, "cannot be written", "let this user write to the file and to its directory")
_LOCKED: Final = (ConnectFailed, "stayed locked by another program", "raise busy_timeout")
_OPENING: Final[dict[int, tuple[type[Error], str, str | None]]] = {
    sqlite3.SQLITE_NOTADB: (ConfigError, "is no SQLite database", "name another file"),
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_CORRUPT: (ConfigError, "is damaged", "move it away, or recover it with sqlite3 .recover"),
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: (ConnectFailed, "is on a full disk", "free some space"),
}


def check(path: str) -> None:
    """Raise ConfigError for a path where no store can be."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise ConfigError(f"the directory {folder} does not exist", hint="make it first")
    kind = file_system(str(folder.resolve()), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if kind in REMOTE:
        what = f"{path} is on a network file system ({kind}), which cannot be trusted to lock"
        raise ConfigError(what, hint="use a local disk, or a broker that is a server")
    with suppress(FileNotFoundError):
        _check_file(path, os.lstat(path))


def _check_file(path: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise ConfigError(f"{path} is a symbolic link", hint="name the file it points to")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is no regular file", hint="name a file, for example queues.db in it")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        what, hint = _WRITABLE[1:]
        raise ConfigError(f"{path} {what}", hint=hint)
    if status.st_nlink > 1:
        raise ConfigError(f"{path} has several names (hard links), which SQLite cannot lock", hint="keep one of them")


def file_system(folder: str, mounts: str) -> str | None:
    """Return the type of the file system of a folder, from the text of /proc/self/mountinfo (see proc(5))."""
    found, longest = None, -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            found, longest = right.split(" ")[0], len(point)
    return found


def make(path: str) -> bool:
    """Make the file, readable by its owner alone, unless it is there; return whether it was made."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    except FileExistsError:
        return False
    try:
        os.fchmod(file, PRIVATE)
    finally:
        os.close(file)
    return True


def open_error(path: str, error: Exception) -> Error:
    """Return what to raise when a store could not be opened."""
    if isinstance(error, Error):
        return error
    if isinstance(error, TimeoutError):
        return ConnectFailed(f"{path} stayed locked by another process", hint="raise busy_timeout")
    if isinstance(error, OSError):
        hint = "choose a directory that this user may write to"
        return ConfigError(f"{path} cannot be used: {error.strerror or error}", hint=hint)
    kind, what, advice = _OPENING.get(_code(error) or 0, (ConnectFailed, "cannot be opened", None))
    return kind(f"{path} {what} ({error})", hint=advice)


def work_error(path: str, error: Exception) -> Error:
    """Return what to raise when an operation on an open store failed; nothing of it took effect."""
    if isinstance(error, Error):
        return error
    if is_locked(error):
        return ConnectionLost(f"{path} stayed locked by another process", hint="raise busy_timeout")
    if _code(error) == sqlite3.SQLITE_FULL:
        return QueueFull(f"the disk of {path} is full", hint="free some space; what is stored is safe")
    return ConnectionLost(f"{path} failed: {type(error).__name__}: {error}")


def is_locked(error: Exception) -> bool:
    """Return whether it failed because others kept the file locked."""
    return isinstance(error, TimeoutError) or _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _code(error: Exception) -> int | None:
    """Return SQLite's primary result code (https://www.sqlite.org/rescode.html)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
