"""A worker process: take e-mails, deliver them, until SIGTERM.

python worker.py URL MAILDIR JOURNAL LATENCY
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import anyqueue
from anyqueue import Message, Retry
from journal import Journal
from mail import Email, file_away, hand_over

RETRY = Retry(attempts=4, initial=0.2, on=OSError)


async def work(url: str, maildir: Path, journal: Journal, latency: float) -> None:
    """Deliver until told to stop, then finish what is in hand."""

    def handle(message: Message) -> None:  # a plain function: it runs in a thread, and may block
        email: Email = message.payload
        hand_over(email, message.attempt, latency)
        new = file_away(maildir, message.id, email)
        journal.write("delivered" if new else "again", message.id)

    async with anyqueue.connect(url, hooks=[journal.hook]) as client:
        consumer = client.consumer("emails", type=Email, concurrency=8, retry=RETRY, dead_letter="emails.dead")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, consumer.stop)
        await consumer.run(handle)


if __name__ == "__main__":
    url, maildir, journal, latency = sys.argv[1:]
    logging.basicConfig(
        filename=Path(journal).with_suffix(".log"), level=logging.INFO, format="%(asctime)s %(message)s"
    )
    asyncio.run(work(url, Path(maildir), Journal(Path(journal)), float(latency)))
