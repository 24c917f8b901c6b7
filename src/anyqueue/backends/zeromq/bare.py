"""What the bare patterns share: frames <-> envelopes, and a consumer that settles with nobody.

A message on the wire is three frames: the queue or the topic; `AQM` and a version byte; a MessagePack array of
envelopes. Whatever else comes is another program's: its last frame is the body.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Final

from anyqueue.backends.zeromq import protocol as p
from anyqueue.driver import Delivery, Envelope, Settlement, Subscription
from anyqueue.errors import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anyqueue.backends.zeromq.pipe import Pipe

GREETING: Final = b"AQM\x01"
_FRAMES: Final = 3


def write(name: str, batch: Sequence[Envelope]) -> Iterator[list[bytes]]:
    """Yield a batch as messages."""
    for _, frame in p.chunks(batch):
        yield [name.encode(), GREETING, frame]


def read(frames: Sequence[bytes]) -> list[Envelope]:
    """Return the envelopes of a message; another program's becomes one, with an id of its own."""
    if len(frames) == _FRAMES and frames[1] == GREETING:
        try:
            batch = p.read_envelopes(frames[2:])
            p.check_envelopes(batch)
        except p.Malformed:
            pass  # it only looks like ours
        else:
            return batch
    return [Envelope(id=secrets.token_hex(16), body=frames[-1])]


class BareSubscription(Subscription):
    """A consumer. What it has taken is gone from wherever it was, and nobody is told what became of it."""

    def __init__(self, pipe: Pipe, left: Callable[[BareSubscription], None], *, only: bytes | None = None) -> None:
        self._pipe = pipe
        self._left = left
        self._only = only
        """The first frame of the messages that are meant; None: all are."""
        self._here: deque[Envelope] = deque()
        self._closed = False

    def put(self, frames: Sequence[bytes]) -> None:
        """Take a message."""
        if self._only is None or frames[0] == self._only:
            self._here.extend(read(frames))

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Take what is here, or wait for it."""
        self._check()
        while not self._here:
            self.put(await self._pipe.receive())
        here = self._here
        return [Delivery(envelope=here.popleft(), receipt=None) for _ in range(min(limit, len(here)))]

    async def settle(self, batch: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Forget them: accepted or rejected, there is nobody to tell."""
        self._check()
        del batch

    async def close(self) -> None:
        """End. What was taken and not handled is gone."""
        if not self._closed:
            self._closed = True
            self._left(self)
            await self._pipe.close()

    def _check(self) -> None:
        if self._closed:
            raise Closed("this subscription is closed")
