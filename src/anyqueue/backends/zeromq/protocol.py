"""What the hub and its peers say to each other: frames <-> values, and nothing else. Pure.

A message is a ZeroMQ multipart of at least two frames (docs/backends/zeromq.md is the whole protocol):

    0   AQH, the version (one byte), the hub's epoch (16 bytes)
    1   a MessagePack array: the kind, then its fields
    2.. what the kind says: MessagePack arrays of envelopes, or of deliveries

* The first four bytes are read before anything else: a stranger is told from another version, and from us.
* Whatever came from a socket is checked here against types, lengths and limits; what fails is Malformed.
* A new field is added at the end of a kind, with a default; anything else takes a new version.

This file is longer than others because the protocol stands in one place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from anyqueue.driver import MAX_BODY, MAX_HEADERS, Envelope

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC: Final = b"AQH"
VERSION: Final = 1
GREETING: Final = MAGIC + bytes([VERSION])
EPOCH: Final = 16
"""Bytes of an epoch."""
NO_EPOCH: Final = bytes(EPOCH)
"""Of a peer that does not know it yet."""
MAX_FRAME: Final = MAX_BODY + 8 * MAX_HEADERS
"""Bytes of a frame. One over is never read: libzmq ends the connection that brings it."""
CHUNK: Final = 256 * 1024
"""About how many bytes of bodies and headers travel in one frame; a single envelope may be more."""
MAX_BATCH: Final = 1000
"""Envelopes in a message to the hub, settlements in one, and deliveries in one from it."""
MAX_PREFETCH: Final = 100_000
MAX_BROWSE: Final = 10_000
"""Envelopes that are shown at once."""
MAX_HEARTBEAT: Final = 3600.0
_MAX_NAME: Final = 4096
_MAX_TEXT: Final = 1024

Name = Annotated[str, Meta(min_length=1, max_length=_MAX_NAME, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Text = Annotated[str, Meta(max_length=MAX_HEADERS)]
Count = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]


class _Message(Struct, frozen=True, array_like=True):
    pass


# From a peer to the hub. `request` is the peer's own number; the reply carries it.


class Hello(_Message, frozen=True, tag=1):
    """I am here. The hub may forget me when it has heard nothing for three heartbeats."""

    heartbeat: Annotated[float, Meta(gt=0.0, le=MAX_HEARTBEAT)]
    agent: Annotated[str, Meta(max_length=_MAX_TEXT)] = ""


class Send(_Message, frozen=True, tag=2):
    """Put the envelopes of the frames that follow into a queue or a topic."""

    request: Count
    topic: bool
    name: Name


class Subscribe(_Message, frozen=True, tag=3):
    """Let me consume. `subscription` is my own number for it; I never hold more than `prefetch` of it."""

    request: Count
    subscription: Count
    topic: bool
    name: Name
    group: Name | None
    prefetch: Annotated[int, Meta(ge=1, le=MAX_PREFETCH)]
    dead_letter: Name | None = None


class Settlement(_Message, frozen=True):
    """What becomes of one delivery that is not just accepted."""

    number: Count
    verdict: Annotated[str, Meta(pattern="^(release|reject)$")]
    delay: Seconds = 0.0
    failed_at: Seconds | None = None
    reason: Text = ""
    headers: dict[str, str] = {}


class Settle(_Message, frozen=True, tag=4):
    """Settle deliveries of a subscription, by their numbers."""

    request: Count
    subscription: Count
    accepted: Annotated[list[Count], Meta(max_length=MAX_BATCH)]
    others: Annotated[list[Settlement], Meta(max_length=MAX_BATCH)] = []


class Unsubscribe(_Message, frozen=True, tag=5):
    """Hand me no more. What I hold of it goes back; `counted`: as delivered."""

    request: Count
    subscription: Count
    counted: bool = False


class Queues(_Message, frozen=True, tag=6):
    """List the queues, with how many messages they hold."""

    request: Count


class Measure(_Message, frozen=True, tag=7):
    """Count the messages of one queue."""

    request: Count
    name: Name


class Browse(_Message, frozen=True, tag=8):
    """Show messages, the next first, changing nothing."""

    request: Count
    name: Name
    limit: Annotated[int, Meta(ge=1, le=MAX_BROWSE)]


class Purge(_Message, frozen=True, tag=9):
    """Delete what nobody holds."""

    request: Count
    name: Name


class Delete(_Message, frozen=True, tag=10):
    """Delete a queue and all that is in it."""

    request: Count
    name: Name


class Ping(_Message, frozen=True, tag=11):
    """I am still here. Are you?"""


class Bye(_Message, frozen=True, tag=12):
    """Forget me. What I hold goes back, counted as delivered."""

    request: Count


class Status(_Message, frozen=True, tag=13):
    """Say how you are."""

    request: Count


class Credit(_Message, frozen=True, tag=14):
    """From now on, hand me so many more of this subscription. It is not answered."""

    subscription: Count
    count: Annotated[int, Meta(ge=0, le=MAX_PREFETCH)]


Request = (
    Hello
    | Send
    | Subscribe
    | Settle
    | Unsubscribe
    | Queues
    | Measure
    | Browse
    | Purge
    | Delete
    | Ping
    | Bye
    | Status
    | Credit
)

# From the hub to a peer.


class Welcome(_Message, frozen=True, tag=101):
    """You are known. `durable`: what I confirm survives me."""

    heartbeat: float
    durable: bool
    max_body: int
    max_batch: int
    agent: str = ""


class Done(_Message, frozen=True, tag=102):
    """The request is done: what was sent is stored, what was asked for is so. `count`: of what was deleted."""

    request: int
    count: int = 0


class Subscribed(_Message, frozen=True, tag=103):
    """The subscription stands. `home`: the queue that reaches its group and no other."""

    request: int
    home: str


class Settled(_Message, frozen=True, tag=104):
    """The settlements took effect, but for the deliveries in `late`, which were no longer held."""

    request: int
    late: list[int] = []


class Depths(_Message, frozen=True, tag=105):
    """Queues: name, ready, delayed, held."""

    request: int
    queues: list[tuple[str, int, int, int]]


class Shown(_Message, frozen=True, tag=106):
    """The envelopes are in the frames that follow."""

    request: int


class Deliver(_Message, frozen=True, tag=107):
    """Deliveries of a subscription are in the frame that follows; they are yours until you settle them."""

    subscription: int


class Gone(_Message, frozen=True, tag=108):
    """A subscription ended, for its queue was deleted."""

    subscription: int
    name: str


class Refused(_Message, frozen=True, tag=109):
    """A request was not done, and nothing of it. `request` 0: it concerns the connection, which is over."""

    request: int
    code: str
    text: str
    name: str | None = None


class Pong(_Message, frozen=True, tag=110):
    """I am still here. It may come unasked."""


class Goodbye(_Message, frozen=True, tag=111):
    """I end. What you hold goes back; connect again."""


class Health(_Message, frozen=True, tag=112):
    """How the hub is: seconds since its start, peers that said hello, deliveries they hold, messages it dropped."""

    request: int
    uptime: float
    peers: int
    held: int
    dropped: int


Reply = Welcome | Done | Subscribed | Settled | Depths | Shown | Deliver | Gone | Refused | Pong | Goodbye | Health

# The codes of Refused.
STRANGER: Final = "stranger"
"""The hub does not know this peer: it never said hello, was silent for too long, or comes from before a restart."""
OTHER_VERSION: Final = "version"
INVALID: Final = "invalid"
"""The message is none of the protocol's."""
NOT_FOUND: Final = "queue-not-found"
FULL: Final = "full"
"""The disk, or whatever limits the store, is full; later it may work."""
FAILED: Final = "failed"
"""The store could not do it; the text says why."""


Handed = tuple[int, int | None, bool, float | None, Envelope]
"""A delivery: its number in the subscription, the attempt, redelivered, when it first failed, the envelope."""


class Malformed(Exception):
    """What came is no message of this protocol."""


class OtherVersion(Malformed):
    """It is one of another version."""


MessageT = TypeVar("MessageT")


class Read(NamedTuple, Generic[MessageT]):
    """A message that was read."""

    epoch: bytes
    message: MessageT
    rest: Sequence[bytes]


_encode: Final = msgspec.msgpack.Encoder().encode
_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_reply: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)
_envelopes: Final = msgspec.msgpack.Decoder(list[Envelope])
_handed: Final = msgspec.msgpack.Decoder(list[Handed])


def write(epoch: bytes, message: Request | Reply, *rest: bytes) -> list[bytes]:
    """Return the frames of a message."""
    return [GREETING + epoch, _encode(message), *rest]


def read_request(frames: Sequence[bytes]) -> Read[Request]:
    """Return what a peer said, or raise Malformed."""
    return _read(frames, _request)


def read_reply(frames: Sequence[bytes]) -> Read[Reply]:
    """Return what the hub said, or raise Malformed."""
    return _read(frames, _reply)


def _read(frames: Sequence[bytes], decoder: msgspec.msgpack.Decoder[MessageT]) -> Read[MessageT]:
    first = frames[0] if frames else b""
    if first[:3] != MAGIC or len(first) < len(GREETING):
        raise Malformed("the first frame does not begin with AQH and a version")
    if first[3:4] != GREETING[3:]:
        raise OtherVersion(f"version {first[3]} of the protocol, this is version {VERSION}")
    if len(first) != len(GREETING) + EPOCH or len(frames) < 2:  # noqa: PLR2004 -- the header and the kind
        raise Malformed(f"{len(frames)} frames, the first of {len(first)} bytes")
    try:
        return Read(first[len(GREETING) :], decoder.decode(frames[1]), frames[2:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the second frame is no message: {error}") from error


def chunks(batch: Sequence[Envelope]) -> Iterator[tuple[int, bytes]]:
    """Yield a batch as frames of about CHUNK bytes, each with how many envelopes it holds."""
    first, size = 0, 0
    for index, envelope in enumerate(batch):
        size += len(envelope.body)
        if envelope.headers:
            size += sum(len(name) + len(value) for name, value in envelope.headers.items())
        if size >= CHUNK or index - first >= MAX_BATCH - 1:
            yield index + 1 - first, _encode(batch[first : index + 1])
            first, size = index + 1, 0
    if first < len(batch):
        yield len(batch) - first, _encode(batch[first:])


def read_envelopes(frames: Sequence[bytes]) -> list[Envelope]:
    """Return the envelopes of the frames, or raise Malformed."""
    try:
        return [envelope for frame in frames for envelope in _envelopes.decode(frame)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"a frame holds no envelopes: {error}") from error


def check_envelopes(batch: Sequence[Envelope]) -> None:
    """Raise Malformed for what no store may be given: too many, too large, times that are no times."""
    if not 1 <= len(batch) <= MAX_BATCH:
        raise Malformed(f"{len(batch)} envelopes in a message, not 1 to {MAX_BATCH}")
    for envelope in batch:
        if len(envelope.body) > MAX_BODY:
            raise Malformed(f"a body of {len(envelope.body)} bytes, over the limit of {MAX_BODY}")
        if envelope.headers and not _fits(envelope):
            raise Malformed(f"headers over the limit of {MAX_HEADERS} bytes")
        if envelope.not_before is not None or envelope.expires_at is not None:
            _check_times(envelope)
        if len(envelope.id) > _MAX_TEXT:
            raise Malformed(f"an id of {len(envelope.id)} characters, over the limit of {_MAX_TEXT}")


def _fits(envelope: Envelope) -> bool:
    """Say whether the headers do; those of a dead letter, which tell how it died, take up to twice the limit."""
    return sum(len(name) + len(value) for name, value in envelope.headers.items()) <= 2 * MAX_HEADERS


def _check_times(envelope: Envelope) -> None:
    for moment in (envelope.not_before, envelope.expires_at):
        if moment is not None and not math.isfinite(moment):
            raise Malformed(f"a time of {moment}")


def read_handed(frames: Sequence[bytes]) -> list[Handed]:
    """Return the deliveries of a Deliver, or raise Malformed."""
    try:
        return [handed for frame in frames for handed in _handed.decode(frame)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"a frame holds no deliveries: {error}") from error


def write_deliveries(deliveries: Sequence[Handed]) -> Iterator[bytes]:
    """Yield deliveries as frames of about CHUNK bytes."""
    first, size = 0, 0
    for index, handed in enumerate(deliveries):
        size += len(handed[4].body)
        if size >= CHUNK:
            yield _encode(deliveries[first : index + 1])
            first, size = index + 1, 0
    if first < len(deliveries):
        yield _encode(deliveries[first:])
