"""The history checker: what a correct queue cannot have done. Pure: records in, a verdict out.

What it knows of a message: its sends (each may be confirmed, refused, or of unknown outcome), and its takes (each
holds the message from the receive until the settlement is invoked, or until its consumer ends). From these:

* lost: confirmed, and by the end nobody accepted or rejected it; or rejected, and not in the dead letters
* unexpected: delivered where nothing sent it, or although its send was refused
* duplicated: more takes than copies sent and redeliveries that something explains
* resurrected: delivered again after the broker had taken its acceptance
* early, late: before its time, after its expiry
* misordered: overtook an earlier message of the same producer (where the history is said to be ordered)
* altered: the hash of the body or of the headers differs
* double-held: in two living consumers at once

What explains a redelivery: a release, a settlement without a known success, the end of the consumer (or of the broker)
while the message was held, or so soon after its ack that a broker which confirms none may not have had it. What
explains a second copy: a second send of the same id, and an end of the producer (or of the broker) while it was being
sent. A send of unknown outcome may or may not appear.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from anyqueue.testing.reading import EndOf, Sent, Taken, read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from anyqueue.testing.history import Record

GRACE = 0.25
"""Seconds between a backend's look at the clock and the journal's, for `late`."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, as sentences. All empty: the history is one of a correct queue."""

    lost: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    resurrected: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    misordered: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    double_held: tuple[str, ...] = ()

    @property
    def found(self) -> dict[str, tuple[str, ...]]:
        """The kinds of which something was found."""
        kinds: dict[str, tuple[str, ...]] = msgspec.structs.asdict(self)
        return {kind: findings for kind, findings in kinds.items() if findings}

    def __str__(self) -> str:
        lines = [
            f"{kind} {len(findings)}: {'; '.join(findings[:5])}{' ...' if len(findings) > 5 else ''}"
            for kind, findings in self.found.items()
        ]
        return "\n".join(lines) or "clean"


def check(
    records: Sequence[Record],
    *,
    drained: bool = True,
    ordered: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    dead: Collection[str] = (),
    grace: float = GRACE,
    ack_window: float = 0.0,
) -> Verdict:
    """Judge a history.

    `drained`: everything that was to come has come, so what did not is lost. `ordered`: one consumer a queue, so
    messages of one producer and priority come in their order. `groups`: address -> the queues of the history where a
    message sent to it is due, by default itself. `dead`: the queues where rejected messages are due. `ack_window`: the
    broker does not confirm acks, so one may be lost with what ended so many seconds after it returned.
    """
    history = read(records)
    places = {sent.id: (groups or {}).get(sent.queue, [sent.queue]) for sent in history.sent.values()}
    judge = _Judge(history.sent, history.taken, history.ends, places, frozenset(dead), ack_window)
    return Verdict(
        lost=tuple(judge.lost()) if drained else (),
        unexpected=tuple(judge.unexpected()),
        duplicated=tuple(judge.duplicated()),
        resurrected=tuple(judge.resurrected()),
        early=tuple(judge.early()),
        late=tuple(judge.late(grace)),
        misordered=tuple(judge.misordered()) if ordered else (),
        altered=tuple(judge.altered()),
        double_held=tuple(judge.double_held()),
    )


class _Judge:
    """One method a kind of finding; each yields a sentence for each message it finds."""

    def __init__(
        self,
        sent: Mapping[str, Sent],
        taken: Mapping[tuple[str, str], Sequence[Taken]],
        ends: Sequence[EndOf],
        places: Mapping[str, Sequence[str]],
        dead: frozenset[str],
        ack_window: float,
    ) -> None:
        self._sent = sent
        self._taken = taken
        self._ends = ends
        self._places = places
        self._dead = dead
        self._ack_window = ack_window

    def lost(self) -> Iterator[str]:
        for sent in self._sent.values():
            if not sent.confirmed or sent.expires_at is not None or self._is_dead(sent.id):
                continue
            for queue in self._places[sent.id]:
                takes = self._taken.get((queue, sent.id), ())
                if not any(take.outcome in {"accept", "reject"} for take in takes):
                    yield f"{sent.id} of {queue} ({'never finished' if takes else 'never delivered'})"
        yield from self._lost_on_the_way_to_the_dead()

    def _lost_on_the_way_to_the_dead(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            rejected = any(take.outcome == "reject" and take.settled == "ok" for take in takes)
            if self._dead and rejected and queue not in self._dead and not self._is_dead(identity):
                yield f"{identity} of {queue} (rejected, and no dead letter)"

    def unexpected(self) -> Iterator[str]:
        for queue, identity in self._taken:
            sent = self._sent.get(identity)
            if sent is None:
                yield f"{identity} in {queue} (nobody sent it)"
            elif not sent.copies:
                yield f"{identity} in {queue} (its send was refused)"
            elif queue in self._dead:
                if not self._may_be_dead(sent):
                    yield f"{identity} in {queue} (a dead letter of what never failed)"
            elif queue not in self._places[identity]:
                yield f"{identity} in {queue} (it was sent to {sent.queue})"

    def duplicated(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            explained = sum(self._comes_again(take) for take in takes[:-1]) + self._was_lost(takes[-1])
            extra = len(takes) - self._copies(queue, identity) - explained
            if extra > 0:
                yield f"{identity} in {queue} ({len(takes)} times, {extra} more than explained)"

    def resurrected(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            copies = self._copies(queue, identity)
            for take in takes:
                before = [one for one in takes if one.accepted_at is not None and one.accepted_at < take.at]
                sure = [one for one in before if not self._ack_may_be_lost(one)]
                if len(sure) >= copies and sure:
                    yield f"{identity} in {queue} (again {take.at - (sure[0].accepted_at or 0):.3f} s after its ack)"
                    break

    def early(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            sent = self._sent.get(identity)
            due = None if sent is None or queue in self._dead else sent.not_before
            for take in takes:
                if due is not None and take.at < due:
                    yield f"{identity} in {queue} ({due - take.at:.3f} s before its time)"
                due = take.not_before

    def late(self, grace: float) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            sent = self._sent.get(identity)
            if sent is None or sent.expires_at is None or queue in self._dead:
                continue
            for take in takes:
                if take.at > sent.expires_at + grace:
                    yield f"{identity} in {queue} ({take.at - sent.expires_at:.3f} s after its expiry)"

    def misordered(self) -> Iterator[str]:
        latest: dict[tuple[str, str, int | None], tuple[int, str]] = {}
        firsts = sorted((takes[0].position, queue, identity) for (queue, identity), takes in self._taken.items())
        for _, queue, identity in firsts:
            sent = self._sent.get(identity)
            if sent is None or queue in self._dead or sent.not_before is not None:
                continue
            stream = (queue, sent.who, sent.priority)
            last, name = latest.get(stream, (-1, ""))
            if sent.number < last:
                yield f"{identity} in {queue} (number {sent.number} after {name}, number {last})"
            latest[stream] = max((last, name), (sent.number, identity))

    def altered(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            sent = self._sent.get(identity)
            for take in takes if sent is not None else ():
                changed = [what for what in ("body", "headers") if getattr(take, what) != getattr(sent, what)]
                if changed:
                    yield f"{identity} in {queue} (another {' and '.join(changed)})"
                    break

    def double_held(self) -> Iterator[str]:
        for (queue, identity), takes in self._taken.items():
            if self._copies(queue, identity) > 1:
                continue
            for first, second in itertools.combinations(takes, 2):
                if first.who != second.who and second.at < self._until(first):
                    yield f"{identity} in {queue} (by {first.who} and {second.who})"
                    break

    def _copies(self, queue: str, identity: str) -> int:
        sent = self._sent.get(identity)
        if sent is None:
            return 1
        unsure = sum(
            end.of(sent.who) and any(low <= end.at <= high for low, high in sent.windows) for end in self._ends
        )
        copies = max(1, sent.copies) + unsure
        if queue not in self._dead:
            return copies
        rejections = sum(
            take.outcome == "reject"
            for (where, name), takes in self._taken.items()
            for take in takes
            if name == identity and where != queue
        )
        return max(copies, rejections)

    def _comes_again(self, take: Taken) -> bool:
        if take.outcome == "release" or (take.outcome is not None and take.settled != "ok"):
            return True
        if self._ack_may_be_lost(take):
            return True
        return self._was_lost(take)

    def _was_lost(self, take: Taken) -> bool:
        """Say whether its consumer lost it. The other consumer that gets it may be faster than the news."""
        return take.settled != "ok" and any(end.of(take.who) and end.at >= take.at for end in self._ends)

    def _ack_may_be_lost(self, take: Taken) -> bool:
        at, window = take.accepted_at, self._ack_window
        if at is None or not window:
            return False
        return any(end.of(take.who) and at <= end.at <= at + window for end in self._ends)

    def _until(self, take: Taken) -> float:
        ends = [end.at for end in self._ends if end.of(take.who) and end.at >= take.at]
        settled = [] if take.settling_at is None else [take.settling_at]
        return min(ends + settled, default=float("inf"))

    def _is_dead(self, identity: str) -> bool:
        return any((queue, identity) in self._taken for queue in self._dead)

    def _may_be_dead(self, sent: Sent) -> bool:
        if sent.expires_at is not None:
            return True
        places = self._places[sent.id]
        return any(take.accepted_at is None for queue in places for take in self._taken.get((queue, sent.id), ()))
