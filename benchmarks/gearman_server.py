"""A gearmand of the benchmark's own; its queue is in memory, or in SQLite as docs/backends/gearman.md says."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measure import Stage

PATIENCE: Final = 10.0


@contextlib.contextmanager
def gearmand(stage: Stage, *, durable: bool = False) -> Iterator[int]:
    """Run one, and give its port."""
    program = shutil.which("gearmand", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise SystemExit("this benchmark needs gearmand: apt-get install gearman-job-server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    pid = f"--pid-file={stage.folder}/pid"
    command = [program, "--listen=127.0.0.1", f"--port={port}", "--threads=1", "--log-file=none", pid]
    if durable:
        store = stage.folder / "queue.sqlite3"
        with contextlib.closing(sqlite3.connect(store)) as file:
            file.execute("PRAGMA journal_mode = WAL")
        command += ["--queue-type=libsqlite3", f"--libsqlite3-db={store}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 -- ours
        try:
            await_answer(port)
            yield port
        finally:
            process.terminate()


def await_answer(port: int) -> None:
    """Return once it takes connections."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
