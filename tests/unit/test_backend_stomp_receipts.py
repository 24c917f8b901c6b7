"""Receipts and refusals of STOMP: every answer finds its question, and every error its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import AuthFailed, ConnectFailed, ConnectionLost, QueueError, QueueFull, QueueMismatch, QueueNotFound
from anyqueue.backends.stomp.receipts import Receipts, Refused
from anyqueue.backends.stomp.refusals import MAX_SAID, Refusal

if TYPE_CHECKING:
    from anyqueue import Error


def refusal(message: str = "", body: str = "", **more: str) -> Refusal:
    lines = "".join(f"\n{name.replace('_', '-')}:{text}" for name, text in {"message": message, **more}.items())
    return Refusal((f"ERROR{lines}".encode(), body.encode()))


@pytest.fixture
def receipts() -> Receipts:
    return Receipts()


@pytest.mark.asyncio
async def test_answers_in_any_order_complete_what_they_are_about(receipts: Receipts) -> None:
    first, second = receipts.expect(3), receipts.expect(2)
    for number in (5, 1, 3):
        receipts.confirm(number)
    assert not first.done.done()
    assert receipts.refuse("2", refusal("no"))
    receipts.confirm(4)
    assert [*await first.done] == [1], "the second of the first three was refused"
    assert await second.done == {}


@pytest.mark.asyncio
async def test_an_answer_to_nothing_is_nothing(receipts: Receipts) -> None:
    pending = receipts.expect(1)
    for number in (0, 2, 99):
        receipts.confirm(number)
    for unknown in (None, "", "x", "2", "-1", "1.0", "9" * 5000):
        assert not receipts.refuse(unknown, refusal("no"))
    assert not pending.done.done()
    receipts.confirm(1)
    receipts.confirm(1)
    assert not receipts.refuse("1", refusal("late"))
    assert await pending.done == {}


@pytest.mark.asyncio
async def test_a_lost_connection_fails_what_is_open_and_nothing_else(receipts: Receipts) -> None:
    done, still = receipts.expect(1), receipts.expect(2)
    receipts.confirm(1)
    receipts.confirm(2)
    receipts.fail(ConnectionLost("gone"))
    receipts.confirm(3)
    assert await done.done == {}
    with pytest.raises(ConnectionLost, match="gone"):
        await still.done


@pytest.mark.asyncio
async def test_nobody_who_has_gone_is_waited_for(receipts: Receipts) -> None:
    pending = receipts.expect(1)
    pending.done.cancel()
    receipts.confirm(1)
    other = receipts.expect(1)
    other.done.cancel()
    receipts.fail(Refused(refusal("no")))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms())
def test_all_are_answered_exactly_once(counts: list[int], random: object) -> None:
    import asyncio  # noqa: PLC0415 -- only here

    async def run() -> None:
        receipts = Receipts()
        pendings = [receipts.expect(count) for count in counts]
        numbers = list(range(1, sum(counts) + 1))
        random.shuffle(numbers)  # type: ignore[attr-defined]  # a Random
        for number in numbers[:-1]:
            receipts.confirm(number)
        assert sum(not pending.done.done() for pending in pendings) == 1
        receipts.confirm(numbers[-1])
        assert [await pending.done for pending in pendings] == [{}] * len(counts)

    asyncio.run(run())


# What is refused

INEQUIVALENT = (
    "PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'q' in vhost '/': "
    "received {received} but current is {current}"
)


@pytest.mark.parametrize(
    ("message", "body", "error", "named"),
    [
        (
            "PRECONDITION_FAILED",
            INEQUIVALENT.format(name="x-max-length", received="none", current="the value '5' of type 'signedint'"),
            QueueMismatch,
            "argument x-max-length: it is 5",
        ),
        (
            "PRECONDITION_FAILED",
            INEQUIVALENT.format(
                name="x-queue-type",
                received="the value 'quorum' of type 'longstr'",
                current="none",
            ),
            QueueMismatch,
            "argument x-queue-type: it is none",
        ),
        (
            "PRECONDITION_FAILED",
            INEQUIVALENT.format(name="durable", received="'true'", current="'false'"),
            QueueMismatch,
            "argument durable: it is false",
        ),
        (
            "RESOURCE_LOCKED",
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue",
            QueueMismatch,
            "LOCKED",
        ),
        ("NOT_FOUND", "NOT_FOUND - no queue 'q' in vhost '/'", QueueNotFound, "NOT_FOUND"),
        ("Server cancelled subscription", "", QueueNotFound, "cancelled"),
        ("ACCESS_REFUSED", "ACCESS_REFUSED - write access to queue", QueueError, "permissions"),
        (
            "User limited is not authorized to write to: queue://q",
            "java.lang.SecurityException",
            QueueError,
            "permissions",
        ),
        ("", "javax.jms.ResourceAllocationException: Usage Manager Store is Full", QueueFull, "Store is Full"),
        ("Processing error", "", QueueError, "Processing error"),
    ],
)
def test_a_refusal_about_a_queue_has_its_class(message: str, body: str, error: type[Error], named: str) -> None:
    found = refusal(message, body).of_queue("refused", "q", "stomp://host")
    assert type(found) is error
    assert named in str(found)
    assert "stomp://host" in str(found)


@pytest.mark.parametrize(
    ("message", "body", "error"),
    [
        ("Bad CONNECT", "Access refused for user 'ada'\n", AuthFailed),
        ("Bad CONNECT", "Virtual host 'x' access denied", AuthFailed),
        ("User name [ada] or password is invalid.", "java.lang.SecurityException: ...", AuthFailed),
        ("Version mismatch", "Supported versions are 1.0,1.1,1.2\n", ConnectFailed),
    ],
)
def test_a_refused_login_has_its_class(message: str, body: str, error: type[Error]) -> None:
    found = refusal(message, body).of_login("host:61613", "stomp://host")
    assert type(found) is error
    assert "host:61613" in str(found)


def test_a_stack_trace_is_cut_to_its_first_line() -> None:
    found = refusal("boom", "java.lang.Exception: boom\n\tat org.apache.X\n" + "\tat y\n" * 500)
    assert "org.apache" not in found.said
    assert len(refusal("x" * 5000).said) <= MAX_SAID


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_an_error_of_any_bytes_is_read(head: bytes, body: bytes) -> None:
    found = Refusal((b"ERROR\n" + head, body))
    assert isinstance(found.of_queue("refused", "q", None), QueueError)
    assert isinstance(found.of_connection(None), ConnectionLost)
