"""Events for logs, metrics and traces. A hook is any callable that takes one; give them to connect(hooks=[...]).

Hooks are called on the event loop, in order, right after the fact; they must not block. What a hook raises is logged
and goes no further. Events carry names and ids, never bodies. A hook with a true attribute `connections_only` is told
of Connected, Disconnected and Subscribed alone, and costs messages nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to the queue or topic `queue` at `url` (redacted)."""

    url: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Event):
    """The broker confirmed these messages (or took them, where it does not confirm)."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed(Event):
    """A consumer began to receive, for the first time or again; from now on no message of a topic is missed."""

    group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Event):
    """These messages were handed to a consumer."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Event):
    """The broker took a settlement: outcome is accepted, released or rejected."""

    id: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """A failed message will be tried again after `delay` seconds."""

    id: str
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettered(Event):
    """A message was given up and is in the queue `dead_letter`."""

    id: str
    attempt: int
    dead_letter: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """A message was given up and no dead letter was wanted; or its settlement came too late (it will come again)."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """A connection was opened; `queue` is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """A connection was lost; `queue` is empty."""

    reason: str


Hook = Callable[[Event], None]


class Hooks:
    """The hooks of one client. Falsy when none wants to be told of messages, so that no event is made for nobody."""

    __slots__ = ("_hooks", "_of_messages")

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = tuple(hooks)
        for hook in self._hooks:
            if not callable(hook):
                raise TypeError(f"a hook is a callable, not {type(hook).__name__}")
        self._of_messages = tuple(hook for hook in self._hooks if not getattr(hook, "connections_only", False))

    def __bool__(self) -> bool:
        return bool(self._of_messages)

    def __call__(self, event: Event) -> None:
        """Tell every hook that wants it."""
        for hook in self._hooks if isinstance(event, Connected | Disconnected | Subscribed) else self._of_messages:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 -- a hook is the user's code
                _log.exception("a hook failed on %s", type(event).__name__)
