"""Prove that code does no I/O: Python's own audit events tell (PEP 578).

The hook cannot be removed once it is there, so there is one for the process, asleep but inside quiet().
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN: Final = ("socket.", "subprocess.", "sqlite3.", "os.mkdir", "os.remove", "os.rename", "os.fork", "ssl.")
_watching: Final[dict[int, list[str]]] = {}
"""Thread -> what it did while it was watched."""
_installed: Final[list[bool]] = []


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Raise AssertionError if this thread opens a file for writing, a socket, a database or a process in here."""
    if not _installed:
        sys.addaudithook(_hear)
        _installed.append(True)
    thread = threading.get_ident()
    heard = _watching[thread] = []
    try:
        yield
    finally:
        del _watching[thread]
    assert not heard, f"no I/O was to be done, and this was: {', '.join(heard)}"


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    heard = _watching.get(threading.get_ident())
    if heard is None:
        return
    writing = event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1])
    if writing or event.startswith(FORBIDDEN):
        heard.append(f"{event}{arguments!r}")
