"""Where every message went: what was confirmed as sent against what is in the Maildir and in the dead letters."""

from __future__ import annotations

import mailbox
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anyqueue import Message

_SHORTER: Final = (
    (r"^undecodable: the body is no application/json: ", "no JSON: "),
    (r"^undecodable: the payload does not validate: ", "no e-mail: "),
    (r" \(byte \d+\)$", ""),
    (r"'[^']*' is no e-mail address", "bad address"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The demo's figures. `lost`, `twice` and `strange` are ids, and empty when all is well."""

    sent: int
    delivered: int
    retried: int
    dead: dict[str, int]
    """Reason -> how many dead letters have it."""
    again: int
    """Deliveries of what was in the Maildir already: recognised by their id, and not filed again."""
    lost: list[str]
    """Confirmed as sent, and neither delivered nor dead."""
    twice: list[str]
    """In the Maildir twice, or delivered and dead as well."""
    strange: list[str]
    """Delivered or dead, and never sent."""
    seconds: float = 0.0
    killed: dict[str, list[str]] = field(default_factory=dict)
    """Worker -> the ids of what it held when it was killed."""

    @property
    def sound(self) -> bool:
        """Say whether every message went to exactly one place."""
        return not (self.lost or self.twice or self.strange)

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def reconcile(
    folder: Path, maildir: Path, dead: Iterable[Message], seconds: float, killed: dict[str, list[str]]
) -> Account:
    """Read the journals, the Maildir and the dead letters, and add up."""
    events = Counter(event for event, _ in journal.read(folder))
    sent = {each for event, each in journal.read(folder) if event == "sent"}
    reasons = {message.id: reason(message) for message in dead}
    places = Counter([*filed(maildir), *reasons])
    return Account(
        sent=len(sent),
        delivered=sum(places.values()) - len(reasons),
        retried=events["retried"],
        dead=dict(Counter(reasons.values()).most_common()),
        again=events["again"],
        lost=sorted(sent - places.keys()),
        twice=sorted(each for each, times in places.items() if times > 1),
        strange=sorted(places.keys() - sent),
        seconds=seconds,
        killed=killed,
    )


def filed(maildir: Path) -> list[str]:
    """Return the id of every message in the Maildir, read from the messages themselves."""
    letters = mailbox.Maildir(maildir, create=False)
    return [re.sub("<(.*)@.*>", r"\1", letter["Message-ID"]) for letter in letters]


def reason(message: Message) -> str:
    """Return why a message is dead, without what differs from one message to the next."""
    text = "unknown" if message.death is None else message.death.reason
    for pattern, short in _SHORTER:
        text = re.sub(pattern, short, text)
    return text


def held(folder: Path, worker: str) -> list[str]:
    """Return the ids of what a worker had received and not settled, by its journal."""
    open_ids: set[str] = set()
    for event, each in journal.read(folder, f"{worker}.jsonl"):
        if event == "received":
            open_ids.add(each)
        elif event == "settled":
            open_ids.discard(each)
    return sorted(open_ids)
