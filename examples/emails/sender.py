"""The sending process: every line of a file becomes a message.

    python sender.py URL FILE JOURNAL

Lines travel as they are, said to be JSON; whether they really are is for the workers to find out. A message's id
comes from its line, so a sender that has to start over sends the same ids again.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import anyqueue
from journal import Journal


async def send(url: str, lines: list[bytes], journal: Journal) -> None:
    """Send them all and return once the queue has confirmed every one."""
    async with anyqueue.connect(url, hooks=[journal.hook]) as client, client.producer("emails") as producer:
        await asyncio.gather(
            *(
                producer.send(line, id=f"mail-{number:04}", content_type="application/json")
                for number, line in enumerate(lines, start=1)
            )
        )


if __name__ == "__main__":
    url, file, journal = sys.argv[1:]
    asyncio.run(send(url, Path(file).read_bytes().splitlines(), Journal(Path(journal))))
