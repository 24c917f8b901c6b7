"""Records -> messages: each with its sends and its takes, for the checker to judge. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyqueue.testing.history import EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyqueue.testing.history import Outcome, Record, State

FOREVER = float("inf")


@dataclass(slots=True, kw_only=True)
class Sent:
    """A message as it was sent: all sends of one id."""

    id: str
    queue: str
    who: str
    number: int
    body: str
    headers: str
    priority: int | None
    not_before: float | None
    expires_at: float | None
    confirmed: bool = False
    copies: int = 0
    """Sends that were not refused."""
    windows: list[tuple[float, float]] = field(default_factory=list)
    """When each send was under way."""


@dataclass(slots=True, kw_only=True)
class Taken:
    """One delivery to one consumer."""

    who: str
    at: float
    position: int
    """Its place in the history: times may be equal."""
    body: str
    headers: str
    outcome: Outcome | None = None
    settling_at: float | None = None
    settled: State | None = None
    accepted_at: float | None = None
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class EndOf:
    """Somebody (or everybody) ended."""

    who: str
    at: float

    def of(self, who: str) -> bool:
        """Say whether it touches `who`."""
        return self.who in {who, EVERYBODY}


@dataclass(slots=True)
class History:
    """Everything by message; takes by (queue, id), in order."""

    sent: dict[str, Sent] = field(default_factory=dict)
    taken: dict[tuple[str, str], list[Taken]] = field(default_factory=dict)
    ends: list[EndOf] = field(default_factory=list)


def read(records: Sequence[Record]) -> History:
    """Sort the records of one or more journals by time, and join what belongs together."""
    history = History()
    open_sends: dict[tuple[str, str, int], int] = {}
    takes: dict[tuple[str, str, str, int], Taken] = {}
    for position, record in enumerate(sorted(records, key=lambda record: record.at)):
        match record.kind:
            case "send":
                _send(history, record, open_sends)
            case "receive":
                taken = _take(record, position)
                takes[record.who, record.queue, record.id, record.number] = taken
                history.taken.setdefault((record.queue, record.id), []).append(taken)
            case "settle":
                _settle(takes[record.who, record.queue, record.id, record.number], record)
            case "end":
                history.ends.append(EndOf(record.who, record.at))
    return history


def _send(history: History, record: Record, open_sends: dict[tuple[str, str, int], int]) -> None:
    sent = history.sent.get(record.id)
    if sent is None:
        sent = history.sent[record.id] = Sent(
            id=record.id,
            queue=record.queue,
            who=record.who,
            number=record.number,
            body=record.body,
            headers=record.headers,
            priority=record.priority,
            not_before=record.not_before,
            expires_at=record.expires_at,
        )
    key = (record.who, record.id, record.number)
    if record.state == "invoked":
        open_sends[key] = len(sent.windows)
        sent.windows.append((record.at, FOREVER))
        sent.copies += 1
        return
    index = open_sends.pop(key)
    sent.windows[index] = (sent.windows[index][0], record.at)
    sent.confirmed = sent.confirmed or record.state == "ok"
    sent.copies -= record.state == "failed"


def _take(record: Record, position: int) -> Taken:
    return Taken(who=record.who, at=record.at, position=position, body=record.body, headers=record.headers)


def _settle(taken: Taken, record: Record) -> None:
    taken.outcome = record.outcome
    taken.settled = record.state
    if record.state == "invoked":
        taken.settling_at = record.at
        taken.not_before = record.not_before
    elif record.state == "ok" and record.outcome == "accept":
        taken.accepted_at = record.at
