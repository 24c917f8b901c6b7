"""What is ready, who is dead, what to claim: decided from ids alone."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue.backends.xmpp import names, plan, proof
from anyqueue.backends.xmpp.names import Ticket
from anyqueue.backends.xmpp.plan import Entry, Held, View
from anyqueue.driver import reply_queue

DUES: Final = st.none() | st.floats(0, 100)


def ready(order: int, due: float | None = None, step: int = 0) -> Entry:
    ticket = Ticket(names.order_of(order), f"line{order}", step, due)
    return Entry(names.ready_id(ticket), ticket)


def held(order: int, owner: str, step: int = 1) -> str:
    return names.held_id(Ticket(names.order_of(order), f"line{order}", step, None, owner))


# The view


@given(st.lists(DUES, max_size=12), st.floats(0, 100), st.integers(1, 12))
def test_the_oldest_that_are_due_are_taken(dues: list[float | None], now: float, limit: int) -> None:
    entries = [ready(order, due) for order, due in enumerate(dues)]
    view = View()
    for entry in reversed(entries):
        view.add(entry)
        view.add(entry)
    due = [entry for entry in entries if entry.ticket.due is None or entry.ticket.due <= now]
    assert view.wait(now) == (0.0 if due else min((each - now for each in dues if each is not None), default=None))
    assert view.take(limit, now) == due[:limit]
    assert len(view) == len(entries) - len(due[:limit])
    assert view.take(len(entries) + 1, 200.0) == [entry for entry in entries if entry not in due[:limit]]
    assert view.wait(now) is None


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 10))
def test_many_consumers_prefer_their_own_part_and_none_waits(others: int, count: int, limit: int) -> None:
    """Alone with what is left, a consumer takes it whosever part it is."""
    for number in range(others):
        view = View()
        view.replace(ready(order) for order in range(count))
        taken = view.take(limit, 0.0, (number, others))
        assert len(taken) == min(limit, count)
        assert len(view) == count - len(taken)
        assert taken == sorted(taken, key=lambda entry: entry.ticket.order)


def test_a_look_replaces_what_was_known() -> None:
    view = View()
    view.add(ready(1))
    view.add(ready(2, due=50.0))
    view.replace([ready(3)])
    assert view.take(9, 99.0) == [ready(3)]


def test_an_item_that_a_look_no_longer_shows_is_not_waited_for() -> None:
    view = View()
    view.add(ready(1))
    view.replace([ready(2, due=7.0)])
    assert view.wait(5.0) == 2.0


# Who has what


def test_what_the_dead_hold_is_claimed_unless_it_is_ready_or_another_has_it() -> None:
    state = Held.read(
        [held(1, "dead"), held(2, "dead"), held(3, "dead"), held(3, "alive"), held(4, "alive"), "owner:x"]
    )
    found = plan.orphans(state, [ready(2, step=2)], {"dead"})
    assert [entry.identity for entry in found] == [held(1, "dead")]
    assert state.owners == {"x"}
    assert state.holders() == {"dead", "alive"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_copies_all_choose_the_same(order: tuple[int, int]) -> None:
    """The last step; of the same step, the same whatever the server lists first."""
    copies = [held(1, "a", step=3), held(1, "b", step=3)]
    state = Held.read([held(1, "c", step=1), *(copies[each] for each in order)])
    assert [entry.identity for entry in plan.orphans(state, [], {"a", "b", "c"})] == [copies[1]]


def test_a_winner_takes_away_earlier_copies_and_no_later_one() -> None:
    mine = Ticket(names.order_of(1), "line1", 3, None, "me")
    copies = [
        held(1, "racer", step=3),
        held(1, "killed", step=1),
        held(1, "overtaker", step=4),
        held(2, "racer", step=3),
    ]
    state = Held.read([*copies, names.held_id(mine)])
    assert state.left_over([mine]) == copies[:2]


def test_every_move_is_a_step() -> None:
    entry = ready(1)
    claim = plan.claimed(entry, "me")
    back = plan.released(claim, due=9.0)
    assert (claim.step, claim.owner, claim.line) == (1, "me", "line1")
    assert (back.step, back.owner, back.due, back.order) == (2, None, 9.0, entry.ticket.order)


def test_ids_of_others_are_no_held_messages() -> None:
    assert Held.read(["note", "aq:1:2:3", "aq:1:2:x:me", ""]) == Held({}, frozenset())


@given(st.booleans(), st.integers(1, 6))
def test_items_of_others_stand_where_the_server_lists_them(newest_first: bool, count: int) -> None:  # noqa: FBT001 -- drawn
    listing = [ready(number).identity if number % 2 else f"note {number}" for number in range(1, count + 1)]
    listed = listing[::-1] if newest_first else listing
    entries = plan.ready_entries(listed, newest_first=newest_first)
    view = View()
    view.replace(entries)
    assert [entry.identity for entry in entries] == listing
    assert {entry.identity for entry in view.take(count, 0.0)} == set(listing)


@pytest.mark.parametrize(
    ("limit", "most", "consumers", "wanted"),
    [(20, 10_000, 1, 20), (2000, 10_000, 4, 250), (5, 10, 3, 1), (1, 10, 1, 1)],
)
def test_the_copies_of_all_fit_what_senders_leave_free(limit: int, most: int, consumers: int, wanted: int) -> None:
    assert plan.copies_of(limit, most, consumers) == wanted


def test_consumers_number_themselves() -> None:
    assert plan.part_of("b", ["a", "c"]) == (1, 3)
    assert plan.part_of("b", []) == (0, 1)


# How long reply queues last


def test_a_reply_queue_is_over_when_none_of_its_times_is_still_to_come() -> None:
    one, two, three = (reply_queue(token, 5) for token in ("a", "b", "c"))
    written = [names.tenure_id(*each) for each in ((one, 9.0), (two, 9.0), (two, 11.5), (three, 12.0))]
    assert names.tenures_over(written, 10.0) == {written[0]: one, written[1]: None}
    assert names.tenures_over(written, 11.8) == {written[0]: one, written[1]: two, written[2]: two}


@pytest.mark.parametrize(
    "identity", ["emails:1.0", "aq.reply.5.a", "aq.reply.5.a:nan", "aq.reply.x.a:1.0", ":1.0", "1.0"]
)
def test_of_what_names_no_reply_queue_nothing_is_over(identity: str) -> None:
    assert names.tenures_over([identity], 10.0) == {}


# What a service says


@pytest.mark.parametrize(
    ("said", "rounds"),
    [
        ({"identity pubsub service Publish-Subscribe "}, 0),
        ({"identity pubsub service Publish-Subscribe ", "feature    http://jabber.org/protocol/rsm"}, 1),
        ({"identity pubsub service Prosody PubSub Service "}, 1),
        ({"identity pubsub service Ours "}, proof.RACES),
    ],
)
def test_who_is_not_known_has_more_races_to_pass(said: set[str], rounds: int) -> None:
    assert proof.rounds_of(said) == rounds
