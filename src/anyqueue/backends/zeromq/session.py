"""A peer's side of the talk with a hub: hello, heartbeats, requests and their replies, deliveries. For one event loop.

* Every request is answered once, or the session is lost: then each that waits is answered with the reason. An answer
  is a value, also where it is an error, so that nobody need wait for each of several.
* The hub is taken for lost when nothing came for one and a half heartbeats while this loop was running: whoever blocks
  the loop hears nothing, and that is not the hub's fault.
* Every message of the hub bears its epoch. One of another epoch is from another hub, which does not know us.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from anyqueue.backends.zeromq import protocol as p
from anyqueue.backends.zeromq.wire import Wire
from anyqueue.errors import ConnectFailed, ConnectionLost, Error, ProtocolError, QueueFull, QueueNotFound

if TYPE_CHECKING:
    from anyqueue.backends.zeromq.security import Endpoint, Keys
    from anyqueue.backends.zeromq.subscription import ZeromqSubscription

BEATS: Final = 4
"""Looks in one heartbeat."""
SILENCE: Final = 1.5
"""Heartbeats without a word after which the hub is lost."""

_VERSIONS: Final = "use the same version of anyqueue on both sides"

Answer = tuple[p.Reply, Sequence[bytes]] | Error
Ask = Callable[[int], p.Request]
"""A request, given its number."""


class Session:
    """One connection that has said hello, or is about to."""

    def __init__(self, endpoint: Endpoint, keys: Keys | None, heartbeat: float, agent: str) -> None:
        self.subscriptions: dict[int, ZeromqSubscription] = {}
        self.numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self.where = str(endpoint)
        self._requests = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._welcome: asyncio.Future[p.Welcome | Error] = self._loop.create_future()
        self._epoch = p.NO_EPOCH
        self._over: Error | None = None
        self._heartbeat = heartbeat
        self._heard = self._looked = self._pinged = self._loop.time()
        self._wire = Wire(endpoint, keys, heartbeat, heard=self._hear, lost=self.lose)
        self._timer = self._loop.call_later(heartbeat / BEATS, self._beat)
        self._wire.send(p.write(p.NO_EPOCH, p.Hello(heartbeat, agent)))

    async def greeted(self) -> p.Welcome:
        """Wait until the hub knows us. Raises ConnectFailed, AuthFailed, ProtocolError or ConnectionLost."""
        welcome = await self._welcome
        if isinstance(welcome, Error):
            raise welcome
        return welcome

    def ask(self, ask: Ask, *rest: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future is its answer, and never fails."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if self._over is not None:
            answer.set_result(self._ended())
        else:
            number = next(self._requests)
            self._pending[number] = answer
            self._wire.send(p.write(self._epoch, ask(number), *rest))
        return answer

    def tell(self, message: p.Credit) -> None:
        """Say something that is not answered."""
        if self._over is None:
            self._wire.send(p.write(self._epoch, message))

    def lose(self, error: Error) -> Error:
        """End the session for this reason, unless it has ended; return the reason."""
        if self._over is None:
            self._over = error
            self._end()
        return error

    def close(self) -> None:
        """End the session."""
        self.lose(ConnectionLost("the connection was closed", url=self.where))

    def _end(self) -> None:
        self._timer.cancel()
        self._wire.close()
        reason = self._over or self._ended()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_result(reason)
        if not self._welcome.done():
            self._welcome.set_result(reason)
        for subscription in list(self.subscriptions.values()):
            subscription.end(self._ended())

    def _ended(self) -> ConnectionLost:
        if isinstance(self._over, ConnectionLost):
            return self._over
        return ConnectionLost(f"the connection has ended: {self._over}", url=self.where)

    def _hear(self, frames: list[bytes]) -> None:
        self._heard = self._loop.time()
        try:
            epoch, message, rest = p.read_reply(frames)
            if epoch != self._epoch and not isinstance(message, p.Welcome | p.Refused | p.Goodbye):
                self.lose(ConnectionLost("this is another hub, or the same one restarted", url=self.where))
                return
            self._take(epoch, message, rest)
        except p.OtherVersion as error:
            self.lose(ProtocolError(f"what listens there speaks {error}", url=self.where, hint=_VERSIONS))
        except p.Malformed as error:
            kind = ConnectionLost if self._welcome.done() else ConnectFailed
            self.lose(kind(f"what came is no message of a hub: {error}", url=self.where))

    def _take(self, epoch: bytes, message: p.Reply, rest: Sequence[bytes]) -> None:
        match message:
            case p.Deliver(subscription=number):
                if number in self.subscriptions:
                    self.subscriptions[number].put(p.read_handed(rest))
            case p.Welcome():
                self._epoch = epoch
                if not self._welcome.done():
                    self._welcome.set_result(message)
            case p.Gone():
                if message.subscription in self.subscriptions:
                    error = QueueNotFound("the queue was deleted", queue=message.name, url=self.where)
                    self.subscriptions.pop(message.subscription).end(error)
            case p.Goodbye():
                self.lose(ConnectionLost("the hub has ended", url=self.where))
            case p.Refused(request=0):
                self.lose(error_of(message, self.where))
            case p.Pong():
                pass
            case _:
                self._answer(message.request, (message, rest))

    def _answer(self, request: int, answer: Answer) -> None:
        future = self._pending.pop(request, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def _beat(self) -> None:
        """Look whether the hub is still there, and let it know that we are."""
        now = self._loop.time()
        pause = self._heartbeat / BEATS
        if now - self._looked > 2 * pause:
            self._heard = now  # this loop was held up; nothing could be heard
        self._looked = now
        if now - self._heard > SILENCE * self._heartbeat:
            self.lose(ConnectionLost(f"nothing was heard of the hub for {now - self._heard:.3g} s", url=self.where))
            return
        self._timer = self._loop.call_later(pause, self._beat)
        if now - self._pinged > 1.5 * pause and self._epoch != p.NO_EPOCH:
            self._pinged = now
            self._wire.send(p.write(self._epoch, p.Ping()))


def error_of(refused: p.Refused, url: str) -> Error:
    """Return the error for a refusal."""
    match refused.code:
        case p.NOT_FOUND:
            return QueueNotFound(refused.text, queue=refused.name, url=url)
        case p.FULL:
            hint = "free some space where the hub keeps its file; what is stored is safe"
            return QueueFull(refused.text, queue=refused.name, url=url, hint=hint)
        case p.OTHER_VERSION:
            return ProtocolError(f"the hub refused: {refused.text}", url=url, hint=_VERSIONS)
        case _:
            return ConnectionLost(f"the hub refused: {refused.text}", queue=refused.name, url=url)
