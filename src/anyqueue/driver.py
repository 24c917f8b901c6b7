"""The contract between the core and a backend. Everything a backend must do is written here, and nothing else.

How it works:

* One `Driver` is ONE connection to ONE broker. It never retries and never reconnects: it raises `ConnectionLost`
  and is thrown away, and the core opens the next one.
* The core never runs two calls of one method at once on one object. `settle` and `extend` may run beside
  `receive`, and `send` up to `limits.max_sends` times at once. Only what its sends share needs a lock.
* Every await can be cancelled and loses nothing by it: a cancelled `receive` leaves its messages where the next
  one finds them; a cancelled `send` has an unknown outcome; a cancelled `settle` counts as not settled.
* A driver carries out what it declares in `features`. It is never asked for the rest: the core emulates or
  refuses (see `capability`).
* `Envelope.id` is identity for users. A driver never uses it as a broker-side key: the copy that a retry sends
  carries the same id while the original is still held.
* Deadlines are the core's: it cancels a call that takes too long and throws the driver away.

Times are Unix seconds as float; durations are seconds as float.

This file is longer than others because the contract stands in one place.
"""

from __future__ import annotations

import asyncio
import enum
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

import msgspec

from anyqueue.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from anyqueue.url import URL

RESERVED: Final = "aq."
"""What the names of anyqueue's own queues begin with; users' names may not."""
HEADER_RESERVED: Final = "aq-"
"""What the names of anyqueue's own headers begin with; hidden from users."""
REPLIES: Final = f"{RESERVED}reply."
"""What the names of reply queues begin with. One is a requester's own: see `reply_queue()`."""
MAX_BODY: Final = 16 * 1024 * 1024
MAX_HEADERS: Final = 64 * 1024


class Feature(enum.Flag):
    """What a broker does by itself. `NONE` is the weakest broker."""

    NONE = 0
    CONFIRM = enum.auto()
    """send() returns once the broker is responsible."""
    REDELIVER = enum.auto()
    """Deliveries left unsettled come back."""
    RELEASE = enum.auto()
    """Release() brings one back now."""
    RELEASE_DELAY = enum.auto()
    """Release(delay) brings one back later."""
    ATTEMPTS = enum.auto()
    """The broker counts deliveries, also across a killed consumer."""
    DEAD_LETTER = enum.auto()
    """Reject() moves a delivery into the dead-letter queue in one atomic step, adding the headers it is given."""
    DELAY = enum.auto()
    """Envelope.not_before is honoured."""
    PRIORITY = enum.auto()
    """Envelope.priority is honoured: 0 (lowest) to 9, on `limits.priorities` levels."""
    EXPIRY = enum.auto()
    """Envelope.expires_at is honoured."""
    DURABLE = enum.auto()
    """Confirmed messages survive a kill -9 of the broker."""
    LEASE = enum.auto()
    """Deliveries expire; extend() renews them."""
    COMPETING = enum.auto()
    """Several consumers share a queue, each message going to one of them."""
    FANOUT = enum.auto()
    """Every group gets every message of a topic."""
    REPLY = enum.auto()
    """request(), and Answer() to a delivery that asks. Where it is missing, the core uses reply queues."""
    PROGRESS = enum.auto()
    """Progress reports on a message being handled."""
    INSPECT = enum.auto()
    """browse() and purge()."""
    COUNT = enum.auto()
    """queues() and depth()."""
    DELETE = enum.auto()
    """delete(): a queue goes, with every message in it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one driver can take. Sizes in bytes, times in seconds; None is no limit."""

    max_body: int = MAX_BODY
    max_batch: int = 1000
    """Envelopes in one send(), deliveries in one settle()."""
    max_sends: int = 1
    """Calls of send() at once."""
    max_unsettled: int | None = None
    """Deliveries held by one subscription."""
    delay_step: float = 0.0
    """The grain of delays: a message may be this much late, never early."""
    max_delay: float | None = None
    priorities: int = 10
    """Levels of priority that are told apart: each stands for its share of 0 to 9."""
    lease: float | None = None
    """How long a delivery is held before it must be extended; None without Feature.LEASE."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: each message goes to one consumer."""

    name: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: each message goes to every group."""

    name: str


Address = Queue | Topic


class Envelope(msgspec.Struct, frozen=True, kw_only=True, array_like=True, omit_defaults=True):
    """A message on the wire. A Struct, for a dataclass takes six times as long to make (see docs/design.md)."""

    id: str
    body: bytes
    headers: Mapping[str, str] = {}
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    not_before: float | None = None
    expires_at: float | None = None
    timestamp: float | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One handing-over of a message. Equal only to itself: the same message may be handed over again."""

    envelope: Envelope
    receipt: object
    """The driver's own; it belongs to the subscription that made it."""
    attempt: int | None = None
    """Which delivery of this message it is, from 1; None where the broker does not count."""
    redelivered: bool = False
    first_failure: float | None = None
    """When a handler first failed on it, where Release.failed_at was kept."""
    native: object = None
    """The library's own object, for users who need it."""
    asks: bool = False
    """Its sender waits for the reply on the broker's own terms (Feature.REPLY): settle it with Answer()."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the handling of a message is; `time` in Unix seconds."""

    done: float
    total: float | None = None
    note: str = ""
    time: float


class Accept(msgspec.Struct, frozen=True):
    """Done: forget the message."""


class Release(msgspec.Struct, frozen=True):
    """Bring the message back after `delay` seconds (a delay needs Feature.RELEASE_DELAY)."""

    delay: float = 0.0
    failed_at: float | None = None
    """When the handler failed. None: it was never started, and a broker that can should not count the delivery."""


class Reject(msgspec.Struct, frozen=True):
    """Give the message up: into the bound dead-letter queue with `headers` added, or gone where none is bound."""

    reason: str
    headers: Mapping[str, str] = {}


class Answer(Accept, frozen=True):
    """Done, and this is the reply to the sender of a delivery that asks. Needs Feature.REPLY."""

    reply: Envelope
    error: str | None = None
    """What went wrong, in words for any program, where the reply is an error."""


Settlement = Accept | Release | Reject
ACCEPT: Final = Accept()


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What subscribe() is asked for."""

    address: Address
    group: str | None = None
    """Of a topic: a durable group of this name; None: a group of its own that ends with the subscription."""
    prefetch: int = 10
    """The most deliveries this subscription ever holds unsettled."""
    dead_letter: Queue | None = None
    """Where Reject() and, on backends that expire messages themselves, expired messages go; None: nowhere."""


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages a queue holds, by state."""

    ready: int
    delayed: int
    held: int
    consumers: int | None = None
    """Who consumes from it; None where the broker does not say."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.delayed + self.held


class Subscription(ABC):
    """One consumer's hold on one queue or one group of a topic."""

    home: Queue | None = None
    """The address that reaches this consumer's group and no other, to retry into; None where there is none."""
    dead_letters: bool = False
    """True only if THIS driver bound the dead-letter queue to Reject()."""

    @abstractmethod
    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Wait for messages and return 1 to `limit` of them, oldest first.

        Waits for ever. Cancelling loses nothing: what was already taken is returned by the next call, or goes
        back at close(). The core keeps the unsettled total at or under `Spec.prefetch` by choosing `limit`.
        Raises ConnectionLost, and QueueNotFound if the queue was deleted.
        """

    @abstractmethod
    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Settle deliveries of this subscription. Returns once the broker knows, as far as it says so.

        Raises BatchSettleFailed for those that came too late; the others of the batch are settled.
        """

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Hold these for another `limits.lease` seconds; return those that are no longer ours. Needs LEASE."""
        raise NotImplementedError(f"extend({len(deliveries)}) without Feature.LEASE")

    async def report(self, delivery: Delivery, progress: Progress) -> None:
        """Report on a delivery that is being handled. May run beside everything else.

        Needs PROGRESS; or REPLY, for a delivery that asks: its requester is told.
        """
        raise NotImplementedError(f"report({delivery.envelope.id}, {progress}) without Feature.PROGRESS")

    @abstractmethod
    async def close(self) -> None:
        """End the subscription: what is unsettled goes back. Never raises; closing twice is a no-op."""


_REPLIES: Final = re.compile(rf"{re.escape(REPLIES)}([1-9][0-9]{{0,6}})\.[0-9A-Za-z_-]{{1,64}}")


def reply_queue(token: str, lasts: int) -> str:
    """Return the name of a requester's reply queue; `token` is no other's.

    It ends, with all that is in it, when nobody has consumed from it for `lasts` seconds: a requester that died leaves
    nothing for ever, and one that reconnects before finds its replies. A driver sees to it where its broker can.
    """
    return f"{REPLIES}{lasts}.{token}"


def reply_lasts(queue: str) -> int | None:
    """Return how many seconds a reply queue outlives its consumer; None for what is no reply queue."""
    found = _REPLIES.fullmatch(queue)
    return None if found is None else int(found[1])


class BatchSettleFailed(Exception):
    """Some settlements were refused: position in the batch -> why. The others took effect."""

    def __init__(self, failures: Mapping[int, str]) -> None:
        super().__init__(f"{len(failures)} settlements came too late")
        self.failures = failures


class Driver(ABC):
    """One connection to one broker."""

    backend: ClassVar[str]
    """The name of the backend in errors and reports."""
    features: Feature
    """Final once open() has returned: read off the live broker. Before, the most that it may have."""
    limits: Limits

    @classmethod
    @abstractmethod
    def from_url(cls, url: URL) -> Self:
        """Make an unopened driver. No I/O; raises ConfigError for what the URL says wrongly."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises ConnectFailed, AuthFailed or ConfigError; leaves nothing behind when it raises."""

    @abstractmethod
    async def send(self, address: Address, batch: Sequence[Envelope]) -> None:
        """Send 1 to `limits.max_batch` envelopes, in order; return once all are confirmed.

        Raises BatchFailed naming those that were refused (the others are confirmed), ConnectionLost when the
        outcome of all of them is unknown, and another SendError or QueueError when none was taken.
        """

    @abstractmethod
    async def subscribe(self, spec: Spec) -> Subscription:
        """Declare what `spec` names, idempotently, and begin. From its return on, no message of a topic is missed.

        Cancelling leaves no subscription behind.
        """

    async def request(self, queue: Queue, envelope: Envelope, report: Callable[[Progress], None]) -> Envelope:
        """Send a request and wait, for ever, for the reply. Needs REPLY. Any number at once, beside everything else.

        `report` is told of progress. Cancelling gives up the reply, not the request. After ConnectionLost the same
        envelope is asked for on the next driver, which should not let it be handled twice where it can help it.
        """
        del envelope, report
        raise self._unsupported(Feature.REPLY, queue.name)

    @abstractmethod
    async def close(self) -> None:
        """Close the connection and its subscriptions; a receive() that waits raises ConnectionLost.

        Never raises; closing twice is a no-op.
        """

    async def queues(self) -> Sequence[tuple[str, Depth]]:
        """List the queues and their depths, by name. Needs COUNT."""
        raise self._unsupported(Feature.COUNT)

    async def depth(self, queue: Queue) -> Depth:
        """Count the messages of a queue; an unknown queue has none. Needs COUNT."""
        raise self._unsupported(Feature.COUNT, queue.name)

    async def browse(self, queue: Queue, limit: int) -> Sequence[Envelope]:
        """Return up to `limit` messages in the order they would be delivered, changing nothing. Needs INSPECT."""
        raise self._unsupported(Feature.INSPECT, f"{queue.name} (limit {limit})")

    async def purge(self, queue: Queue) -> int:
        """Delete the messages that nobody holds; return how many. Needs INSPECT."""
        raise self._unsupported(Feature.INSPECT, queue.name)

    async def delete(self, queue: Queue) -> None:
        """Delete a queue and every message in it, held ones too; an unknown queue is no error. Needs DELETE.

        Who consumes from it is told as of any queue that somebody deletes; the next send makes it anew.
        """
        raise self._unsupported(Feature.DELETE, queue.name)

    async def progress(self, identity: str) -> Progress | None:
        """Return the last report on the message with this id, if the broker knows one. Needs PROGRESS."""
        raise self._unsupported(Feature.PROGRESS, identity)

    def _unsupported(self, feature: Feature, queue: str | None = None) -> Unsupported:
        what = f"the {self.backend} backend has no {feature.name}"
        hint = f"see client.support(Feature.{feature.name}), and choose a backend that has it"
        return Unsupported(what, feature=feature, backend=self.backend, queue=queue, hint=hint)


T = TypeVar("T")


class Inbox(Generic[T]):
    """Turn a library that pushes into one that receive() can pull from. For one event loop and one reader."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add one; never blocks: prefetch is what bounds it."""
        self._items.append(item)
        self._wake()

    def fail(self, error: Exception) -> None:
        """Make get() raise `error` once what is here has been taken. The first failure stays."""
        self._failure = self._failure or error
        self._wake()

    async def get(self, limit: int) -> list[T]:
        """Wait for items and return 1 to `limit`. Cancelling takes nothing."""
        while not self._items:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        items = self._items
        return [items.popleft() for _ in range(min(limit, len(items)))]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
