"""M6: the history checker classifies hand-written histories right, and generated ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.testing.checker import Verdict, check
from anyqueue.testing.history import Journal, Record, body_hash, header_hash, read_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyqueue.testing.history import Kind


class Story:
    """A history told line by line; each line is one second after the one before."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._now = 1000.0
        self._sent = Counter[str]()
        self._takes: dict[tuple[str, str], int] = {}

    def _add(self, kind: Kind, **fields: object) -> Story:
        self._now += 1.0
        self.records.append(Record(kind=kind, at=self._now, **fields))
        return self

    def send(
        self, name: str, outcome: str | None = "ok", *, queue: str = "q", who: str = "p", **fields: object
    ) -> Story:
        """Send a message; outcome None: the producer was never heard of again."""
        number = self._sent[who]
        self._sent[who] += 1
        if "delay" in fields:
            fields["not_before"] = self._now + 1 + fields.pop("delay")
        if "expires" in fields:
            fields["expires_at"] = self._now + 1 + fields.pop("expires")
        common = {"who": who, "id": name, "queue": queue, "number": number, "body": name, "headers": "-", **fields}
        self._add("send", state="invoked", **common)
        return self if outcome is None else self._add("send", state=outcome, **common)

    def take(self, name: str, who: str = "c", *, queue: str = "q", body: str | None = None) -> Story:
        """Hand a message to a consumer."""
        number = self._takes[who, name] = len(self.records)
        return self._add("receive", who=who, id=name, queue=queue, body=body or name, headers="-", number=number)

    def settle(
        self, name: str, outcome: str, who: str = "c", *, queue: str = "q", state: str = "ok", **fields: object
    ) -> Story:
        """Settle what a consumer took last under this name."""
        common = {"who": who, "id": name, "queue": queue, "number": self._takes[who, name], "outcome": outcome}
        if "delay" in fields:
            fields["not_before"] = self._now + 1 + fields.pop("delay")
        self._add("settle", state="invoked", **common, **fields)
        return self if state == "invoked" else self._add("settle", state=state, **common)

    def accept(self, name: str, who: str = "c", **fields: object) -> Story:
        """Accept it."""
        return self.settle(name, "accept", who, **fields)

    def end(self, who: str = "*") -> Story:
        """End somebody, or the broker."""
        return self._add("end", who=who)

    def found(self, **how: object) -> set[str]:
        """Return the kinds of what the checker finds."""
        return set(check(self.records, **how).found)


def test_nothing_happened() -> None:
    assert Story().found() == set()


def test_a_plain_delivery_is_clean() -> None:
    assert Story().send("a").take("a").accept("a").found(ordered=True) == set()


def test_lost_when_confirmed_and_never_delivered() -> None:
    assert Story().send("a").found() == {"lost"}
    assert Story().send("a").found(drained=False) == set()


def test_lost_when_its_consumer_died_and_it_never_came_again() -> None:
    story = Story().send("a").take("a").end("c")
    assert story.found() == {"lost"}
    assert story.take("a", "d").accept("a", "d").found() == set()


def test_lost_when_released_and_it_never_came_again() -> None:
    assert Story().send("a").take("a").settle("a", "release").found() == {"lost"}


def test_lost_on_the_way_to_the_dead_letters() -> None:
    story = Story().send("a").take("a").settle("a", "reject")
    assert story.found() == set()
    assert story.found(dead={"dead"}) == {"lost"}
    assert story.take("a", queue="dead").accept("a", queue="dead").found(dead={"dead"}) == set()


def test_a_send_of_unknown_outcome_may_or_may_not_appear() -> None:
    for outcome in ("indeterminate", None):
        assert Story().send("a", outcome).found() == set()
        assert Story().send("a", outcome).take("a").accept("a").found() == set()


def test_unexpected_when_nobody_sent_it() -> None:
    assert Story().take("ghost").accept("ghost").found() == {"unexpected"}


def test_unexpected_when_its_send_was_refused() -> None:
    assert Story().send("a", "failed").take("a").accept("a").found() == {"unexpected"}


def test_unexpected_in_another_queue() -> None:
    story = Story().send("a").take("a", queue="r").accept("a", queue="r")
    assert story.found() == {"lost", "unexpected"}


def test_unexpected_among_the_dead_when_it_never_failed() -> None:
    story = Story().send("a").take("a").accept("a").take("a", "d", queue="dead").accept("a", "d", queue="dead")
    assert story.found(dead={"dead"}) == {"unexpected"}


def test_duplicated_and_resurrected_after_an_ack() -> None:
    assert Story().send("a").take("a").accept("a").take("a").accept("a").found() == {"duplicated", "resurrected"}


def test_duplicated_only_when_both_were_in_flight() -> None:
    story = Story().send("a").take("a").take("a").accept("a")
    assert story.found() == {"duplicated"}


def test_a_duplicate_needs_an_explanation_of_its_own() -> None:
    story = Story().send("a").take("a").settle("a", "release").take("a").accept("a")
    assert story.found() == set()
    assert story.take("a").accept("a").found() == {"duplicated", "resurrected"}


def test_a_redelivery_is_explained_by_an_ack_of_unknown_outcome() -> None:
    for state in ("invoked", "indeterminate", "failed"):
        assert Story().send("a").take("a").accept("a", state=state).take("a").accept("a").found() == set()


def test_a_redelivery_is_explained_by_the_end_of_the_broker() -> None:
    assert Story().send("a").take("a").end().take("a", "d").accept("a", "d").found() == set()


def test_the_end_of_another_consumer_explains_nothing() -> None:
    story = Story().send("a").take("a").end("other").take("a", "d").accept("a", "d")
    assert story.found() == {"duplicated", "double_held"}


def test_a_consumer_may_begin_what_it_has_lost_before_it_hears_of_that() -> None:
    """It was cut off with the message in its prefetch; another got it, and took it sooner than this one knew."""
    story = Story().send("a").take("a").take("a", "d").accept("a")
    assert story.found() == {"duplicated", "double_held"}
    story.end("d").settle("a", "accept", "d", state="failed")
    assert story.found() == {"double_held"}, "that two were at it at once is said"
    late = Story().send("a").take("a").accept("a").take("a", "d").end("d")
    assert late.found() == {"resurrected"}, "what was accepted does not come again"


def test_an_end_after_the_ack_explains_nothing() -> None:
    story = Story().send("a").take("a").accept("a").end("c").take("a", "d").accept("a", "d")
    assert story.found() == {"duplicated", "resurrected"}


def test_two_sends_of_one_id_are_two_copies() -> None:
    story = Story().send("a", "indeterminate").send("a").take("a").accept("a").take("a").accept("a")
    assert story.found() == set()
    assert story.take("a").accept("a").found() == {"duplicated", "resurrected"}


def test_a_cut_while_sending_may_make_a_second_copy() -> None:
    story = Story().send("a", None)
    story.end("p")
    assert story.take("a").accept("a").take("a").accept("a").found() == set()


def test_early_before_its_time() -> None:
    assert Story().send("a", delay=10).take("a").accept("a").found() == {"early"}
    assert Story().send("a", delay=1).take("a").accept("a").found() == set()


def test_early_after_a_release_with_a_delay() -> None:
    story = Story().send("a").take("a").settle("a", "release", delay=10).take("a").accept("a")
    assert story.found() == {"early"}


def test_late_after_its_expiry() -> None:
    assert Story().send("a", expires=1).take("a").accept("a").found() == {"late"}
    assert Story().send("a", expires=10).take("a").accept("a").found() == set()


def test_what_expires_may_vanish() -> None:
    assert Story().send("a", expires=1).found() == set()


def test_misordered_where_order_is_claimed() -> None:
    story = Story().send("a").send("b").take("b").accept("b").take("a").accept("a")
    assert story.found(ordered=True) == {"misordered"}
    assert story.found() == set()


def test_order_is_a_matter_of_one_producer_and_one_priority() -> None:
    story = Story().send("a", who="p").send("b", who="r").take("b").accept("b").take("a").accept("a")
    assert story.found(ordered=True) == set()
    story = Story().send("low", priority=1).send("high", priority=9)
    assert story.take("high").accept("high").take("low").accept("low").found(ordered=True) == set()


def test_a_redelivery_is_not_misordered() -> None:
    story = Story().send("a").send("b").take("a").settle("a", "release").take("b").accept("b").take("a").accept("a")
    assert story.found(ordered=True) == set()


def test_altered_body() -> None:
    assert Story().send("a").take("a", body="other").accept("a").found() == {"altered"}


def test_double_held_by_two_consumers() -> None:
    story = Story().send("a").take("a", "c").take("a", "d").accept("a", "c").accept("a", "d")
    assert story.found() == {"duplicated", "double_held"}


def test_every_group_of_a_topic_gets_its_own() -> None:
    story = Story().send("a", queue="t").take("a", "c", queue="one").accept("a", "c", queue="one")
    groups = {"t": ["one", "two"]}
    assert story.found(groups=groups) == {"lost"}
    assert story.take("a", "d", queue="two").accept("a", "d", queue="two").found(groups=groups) == set()


def test_a_poison_message_may_be_dead_without_a_settlement() -> None:
    story = Story().send("a").take("a").end("c").take("a", "d").end("d").take("a", "e", queue="dead")
    assert story.accept("a", "e", queue="dead").found(dead={"dead"}) == set()


def test_the_verdict_says_what_it_found() -> None:
    assert str(Verdict()) == "clean"
    text = str(check(Story().send("a").send("b").records))
    assert text == "lost 2: a of q (never delivered); b of q (never delivered)"


OUTCOMES = st.lists(st.sampled_from(["accept", "release", "reject", "die", "cut", "unsure"]), max_size=4)


def tell(lives: Sequence[Sequence[str]]) -> Story:
    """Tell what a correct queue does with messages: each has a life of outcomes, and is accepted in the end."""
    story = Story()
    for index in range(len(lives)):
        story.send(f"m{index}")
    for index, outcomes in enumerate(lives):
        name = f"m{index}"
        for turn, outcome in enumerate(outcomes):
            who = f"c{index}-{turn}"
            story.take(name, who)
            match outcome:
                case "die":
                    story.end(who)
                case "cut":
                    story.end()
                case "unsure":
                    story.accept(name, who, state="indeterminate")
                case _:
                    story.settle(name, "release", who)
        story.take(name, f"last{index}").accept(name, f"last{index}")
    return story


@given(st.lists(OUTCOMES, min_size=1, max_size=6))
def test_whatever_a_correct_queue_does_is_clean(lives: list[list[str]]) -> None:
    assert tell(lives).found(ordered=True) == set()


@given(st.lists(OUTCOMES, min_size=1, max_size=6), st.data())
def test_one_thing_wrong_is_found_and_named(lives: list[list[str]], data: st.DataObject) -> None:
    story = tell(lives)
    index = data.draw(st.integers(0, len(lives) - 1))
    name, last = f"m{index}", f"last{index}"
    wrong = data.draw(st.sampled_from(["lost", "unexpected", "duplicated", "altered", "double_held"]))
    mine = [record for record in story.records if record.id == name]
    if wrong == "lost":
        story.records = [record for record in story.records if record not in mine or record.kind == "send"]
    elif wrong == "unexpected":
        story.records = [record for record in story.records if record not in mine or record.kind != "send"]
    elif wrong == "duplicated":
        story.take(name, "again")
    elif wrong == "double_held":
        (taken,) = [record for record in mine if record.kind == "receive" and record.who == last]
        story.records.append(msgspec.structs.replace(taken, who="thief", at=taken.at + 0.5))
    else:
        story.records = [
            msgspec.structs.replace(record, headers="changed")
            if record.kind == "receive" and record.who == last and record.id == name
            else record
            for record in story.records
        ]
    assert wrong in story.found()
    assert story.found() <= {wrong, "duplicated", "resurrected"}


def test_a_journal_survives_what_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    records = Story().send("a").take("a").accept("a").records
    with Journal(path) as journal:
        for record in records:
            journal.write(record)
    with path.open("ab") as file:
        file.write(b'{"kind":"send","at":1')
    assert read_journal(path) == records
    assert read_journal(tmp_path / "none") == []


def test_hashes_tell_what_differs() -> None:
    assert body_hash(b"") != body_hash(b"\0")
    assert header_hash({"a": "b", "c": "d"}) == header_hash({"c": "d", "a": "b"})
    assert header_hash({"a": "b"}) != header_hash({"A": "b"})
    assert header_hash({"a": "bc"}) != header_hash({"ab": "c"})


def test_a_settlement_without_a_take_is_an_error_of_the_journal() -> None:
    record = Record(kind="settle", at=1.0, who="c", id="a", queue="q", number=1, outcome="accept")
    with pytest.raises(KeyError):
        check([record])
