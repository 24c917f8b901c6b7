"""What a worker does with one e-mail: check it, hand it to its mail server, file it in a Maildir exactly once."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

_ADDRESS: Final = re.compile(r"[\w.+'-]+@[\w-]+(\.[\w-]+)+", re.ASCII)
_REFUSALS: Final = {"once": 1, "twice": 2}


@dataclass(frozen=True, slots=True)
class Email:
    """One line of emails.jsonl. Making one checks it, so what does not validate never reaches a handler."""

    sender: str
    to: str
    subject: str
    body: str

    def __post_init__(self) -> None:
        """Raise ValueError for what no mail server would take."""
        for address in (self.sender, self.to):
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no e-mail address")
        if not self.subject.isprintable():
            raise ValueError("a subject is one line of text")


def hand_over(email: Email, attempt: int, latency: float) -> None:
    """Stand in for SMTP: take `latency` seconds; raise OSError for a mail server that is away.

    `down.example` always is; `flaky.example` is for the first try or two, as the address says.
    """
    time.sleep(latency)
    mailbox, _, domain = email.to.partition("@")
    away = domain == "flaky.example" and attempt <= _REFUSALS.get(mailbox.partition(".")[0], 1)
    if away or domain == "down.example":
        raise ConnectionRefusedError(f"{domain} does not answer")


def file_away(maildir: Path, message_id: str, email: Email) -> bool:
    """Write a message into the Maildir under its id; return False if it was there already.

    A queue delivers at least once: what a killed worker had filed but not acknowledged comes again. The link below
    is atomic and refuses a second file of the same name, and that makes it exactly once in the Maildir.
    """
    name = quote(message_id, safe="")
    draft = maildir / "tmp" / f"{name}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        with draft.open("wb") as file:
            file.write(compose(message_id, email).as_bytes())
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, maildir / "new" / name)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def compose(message_id: str, email: Email) -> EmailMessage:
    """Make the real message."""
    letter = EmailMessage()
    letter["Message-ID"] = f"<{message_id}@emails.example>"
    letter["From"] = email.sender
    letter["To"] = email.to
    letter["Subject"] = email.subject
    letter.set_content(email.body)
    return letter
