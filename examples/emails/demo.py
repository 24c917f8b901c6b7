"""The main job: e-mails through a durable queue into a Maildir, while one worker is killed. Nothing may be lost.

    python examples/emails/demo.py [--keep FOLDER] [--workers N] [--latency SECONDS]

One process sends the lines of emails.jsonl; worker processes deliver them, retry what fails and dead-letter what
keeps failing or is no e-mail. In the middle one worker gets a SIGKILL: what it held comes back when its lease ends.
At the end the Maildir, the dead letters and the sender's confirmations are reconciled. Exit status 1: not sound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mailbox
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import anyqueue
from account import Account, held, reconcile
from processes import HERE, Processes
from show import Screen, show

if TYPE_CHECKING:
    from anyqueue import Client

LEASE: Final = 2
KILL_AT: Final = 0.3
DEADLINE: Final = 60.0
POLL: Final = 0.05


class Demo:
    """One run, in one folder."""

    def __init__(self, folder: Path, workers: int, latency: float) -> None:
        self.folder = folder
        self.maildir = folder / "Maildir"
        self.url = f"sqlite:///{quote(str(folder / 'queue.db'))}?lease={LEASE}"
        self.file = HERE / "emails.jsonl"
        self.processes = Processes(self.url, folder, self.maildir, latency)
        self.workers = workers
        self.killed: dict[str, list[str]] = {}

    async def run(self) -> Account:
        """Run it and return the account."""
        mailbox.Maildir(self.maildir)
        total = len(self.file.read_bytes().splitlines())
        async with anyqueue.connect(self.url) as client:
            with Screen(total) as screen:
                screen.say(f"{total} lines of {self.file.name} -> sqlite -> {self.workers} workers -> {self.maildir}")
                started = time.monotonic()
                try:
                    self.start()
                    async with asyncio.timeout(DEADLINE):
                        await self.watch(client, screen, total)
                    seconds = time.monotonic() - started
                finally:
                    self.processes.stop()
            dead = await client.browse("emails.dead", limit=total)
        return reconcile(self.folder, self.maildir, dead, seconds, self.killed)

    def start(self) -> None:
        """Start every process."""
        for _ in range(self.workers):
            self.processes.start_worker()
        self.processes.start_sender(self.file)

    async def watch(self, client: Client, screen: Screen, total: int) -> None:
        """Follow the queue until all is sent and it is empty; kill a worker on the way."""
        sending, waiting = True, total
        while sending or waiting:
            sending = self.processes.sending()
            self.processes.check()
            waiting = (await client.depth("emails")).total
            dead = (await client.depth("emails.dead")).total
            delivered = sum(1 for _ in (self.maildir / "new").iterdir())
            screen.update(delivered=delivered, dead=dead, waiting=waiting)
            if not self.killed and delivered > KILL_AT * total and held(self.folder, "worker-1"):
                self.kill("worker-1", screen)
            await asyncio.sleep(POLL)

    def kill(self, worker: str, screen: Screen) -> None:
        """Kill a worker in the middle of its work, and start another in its place."""
        process_id = self.processes.kill(worker)
        self.killed[worker] = held(self.folder, worker)
        screen.say(
            f"[bold red]kill -9 {process_id}[/]: {worker} is dead with {len(self.killed[worker])} messages in its "
            f"hands; they come back when its lease of {LEASE} s ends"
        )
        screen.say(f"{self.processes.start_worker()} takes its place")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the output goes; must be new or empty")
    parser.add_argument("--workers", type=int, default=3, help="how many worker processes (3)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a mail server takes for one (0.05)")
    given = parser.parse_args()
    if given.keep is not None and given.keep.exists() and any(given.keep.iterdir()):
        parser.error(f"{given.keep} is not empty")
    return given


def main() -> int:
    """Run the demo, show the account, say where everything is."""
    given = options()
    folder = Path(tempfile.mkdtemp(prefix="anyqueue-demo-")) if given.keep is None else given.keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(folder, given.workers, given.latency)
    try:
        account = asyncio.run(demo.run())
    except KeyboardInterrupt:
        return 130
    except TimeoutError:
        sys.exit(f"not done after {DEADLINE:g} s; the workers' logs are in {folder}")
    (folder / "account.json").write_text(json.dumps(account.as_dict(), indent=2) + "\n")
    console = Screen(account.sent).console
    show(console, account)
    console.print(f"The Maildir, the queue and the journals are in {folder}; see", soft_wrap=True)
    console.print(f"  anyqueue receive '{demo.url}' emails.dead --no-ack --timeout 1", soft_wrap=True)
    return 0 if account.sound else 1


if __name__ == "__main__":
    sys.exit(main())
