"""Send, receive and settle through the public API, and record it all: the history that the checker judges."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING

from anyqueue import SendError, Topic
from anyqueue.testing.checker import check
from anyqueue.testing.history import EVERYBODY, Outcome, Record, State, body_hash, header_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

    from anyqueue import Client, Message
    from anyqueue.driver import Address
    from anyqueue.testing.history import Journal


class Recorder:
    """A history in the making. For one event loop."""

    def __init__(self, journal: Journal | None = None, *, ack_window: float = 0.0) -> None:
        self._ack_window = ack_window
        self.records: list[Record] = []
        self._journal = journal
        self._sent: Counter[tuple[str, str]] = Counter()
        self._takes: dict[int, tuple[Message, Record]] = {}
        self._token = secrets.token_hex(4)

    def add(self, record: Record) -> None:
        """Add a record, to the journal too where there is one."""
        self.records.append(record)
        if self._journal is not None:
            self._journal.write(record)

    def merge(self, records: Iterable[Record]) -> None:
        """Add what others recorded, such as the journal of a child process."""
        self.records.extend(records)

    async def send(  # noqa: PLR0913 -- what send() takes, and who sends
        self,
        client: Client,
        address: str | Address,
        body: bytes,
        *,
        who: str = "producer",
        id: str | None = None,  # noqa: A002 -- the field's own word
        headers: Mapping[str, str] | None = None,
        delay: float | None = None,
        expires: float | None = None,
        priority: int | None = None,
    ) -> str:
        """Send one message as `who` and return its id; raises what Client.send() raises."""
        queue = address if isinstance(address, str) else address.name
        number = self._sent[who, queue]
        self._sent[who, queue] += 1
        identity = id or f"{who}-{self._token}-{queue}-{number}"[-200:]
        now = time.time()

        def note(state: State, why: str = "") -> None:
            self.add(
                Record(
                    kind="send",
                    state=state,
                    at=now if state == "invoked" else time.time(),
                    who=who,
                    id=identity,
                    queue=queue,
                    body=body_hash(body),
                    headers=header_hash(headers or {}),
                    number=number,
                    not_before=None if delay is None else now + delay,
                    expires_at=None if expires is None else now + expires,
                    priority=priority,
                    note=why,
                )
            )

        note("invoked")
        try:
            await client.send(
                address, body, id=identity, headers=headers, delay=delay, expires=expires, priority=priority
            )
        except SendError as error:
            note("indeterminate" if error.unknown else "failed", str(error))
            raise
        except Exception as error:
            note("failed", str(error))
            raise
        except BaseException:
            note("indeterminate", "cancelled")
            raise
        note("ok")
        return identity

    def took(self, message: Message, who: str, *, queue: str | None = None) -> Message:
        """Note that `who` was handed this message; `queue` names a topic's group where there is one."""
        record = Record(
            kind="receive",
            at=time.time(),
            who=who,
            id=message.id,
            queue=queue or message.queue,
            body=body_hash(message.body),
            headers=header_hash(message.headers),
            number=len(self._takes) + 1,
            attempt=message.attempt,
            redelivered=message.redelivered,
        )
        self._takes[id(message)] = (message, record)
        self.add(record)
        return message

    async def ack(self, message: Message) -> None:
        """Acknowledge a message that was noted as taken."""
        async with self.settling(message, "accept"):
            await message.ack()

    async def retry(self, message: Message, delay: float | None = None) -> None:
        """Have it again."""
        async with self.settling(message, "release", delay=delay):
            await message.retry(delay)

    async def reject(self, message: Message, reason: str = "rejected") -> None:
        """Give it up."""
        async with self.settling(message, "reject"):
            await message.reject(reason)

    @contextlib.asynccontextmanager
    async def settling(self, message: Message, outcome: Outcome, *, delay: float | None = None) -> AsyncIterator[None]:
        """Note a settlement around the block that makes it."""
        taken = self._takes[id(message)][1]
        due = None if delay is None else time.time() + delay

        def note(state: State, why: str = "") -> None:
            self.add(
                Record(
                    kind="settle",
                    state=state,
                    at=time.time(),
                    who=taken.who,
                    id=taken.id,
                    queue=taken.queue,
                    number=taken.number,
                    outcome=outcome,
                    not_before=due if state == "invoked" else None,
                    note=why,
                )
            )

        note("invoked")
        try:
            yield
        except BaseException as error:
            note("indeterminate", str(error))
            raise
        note("ok")

    def ended(self, who: str = EVERYBODY) -> None:
        """Note that `who` is now killed, cut off or closed (or everybody is: the broker). Call it before the act."""
        self.add(Record(kind="end", at=time.time(), who=who))

    def prove(
        self,
        *,
        drained: bool = True,
        ordered: bool = False,
        groups: Mapping[str | Topic, Sequence[str]] | None = None,
        dead: Collection[str] = (),
    ) -> None:
        """Raise AssertionError with the checker's verdict unless the history is clean."""
        named = {key if isinstance(key, str) else key.name: places for key, places in (groups or {}).items()}
        verdict = check(
            self.records, drained=drained, ordered=ordered, groups=named, dead=dead, ack_window=self._ack_window
        )
        assert not verdict.found, f"the history of {len(self.records)} records is not a correct one:\n{verdict}"
