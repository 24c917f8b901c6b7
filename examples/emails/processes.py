"""The processes of the demo: start them, kill one, stop the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
GRACE: Final = 10.0


class Processes:
    """The sender and the workers. `folder` is where their journals go."""

    def __init__(self, url: str, folder: Path, maildir: Path, latency: float) -> None:
        self._url = url
        self._folder = folder
        self._maildir = maildir
        self._latency = latency
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._sender: subprocess.Popen[bytes] | None = None

    def start_sender(self, file: Path) -> None:
        """Start sending the file's lines."""
        self._sender = self._start("sender.py", file, self._folder / "sender.jsonl")

    def start_worker(self) -> str:
        """Start one more worker and return its name."""
        name = f"worker-{len(self._workers) + 1}"
        process = self._start("worker.py", self._maildir, self._folder / f"{name}.jsonl", self._latency)
        self._workers[name] = process
        return name

    def kill(self, worker: str) -> int:
        """End a worker as the out-of-memory killer would: SIGKILL, no last words. Return its process id."""
        process = self._workers[worker]
        process.kill()
        process.wait()
        del self._workers[worker]
        self._workers[f"{worker} (killed)"] = process
        return process.pid

    def sending(self) -> bool:
        """Say whether the sender is still at work; raise when it has failed."""
        status = None if self._sender is None else self._sender.poll()
        if status:
            raise RuntimeError(f"the sender ended with status {status}")
        return status is None

    def check(self) -> None:
        """Raise if a worker ended that nobody killed."""
        for name, process in self._workers.items():
            status = process.poll()
            if status not in {None, -signal.SIGKILL}:
                raise RuntimeError(f"{name} ended with status {status}")

    def stop(self) -> None:
        """Ask every process to finish, and wait for it."""
        running = [each for each in (*self._workers.values(), self._sender) if each is not None and each.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, HERE / script, self._url, *map(str, arguments)]
        return subprocess.Popen(command, start_new_session=True)  # noqa: S603 -- ours; Ctrl-C is for the demo alone
