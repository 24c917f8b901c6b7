"""What a worker handles: functions by queue, each checked when it is registered. Pure."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyqueue import ConfigError, Queue, Retry, Topic, codecs

if TYPE_CHECKING:
    from anyqueue import Default
    from anyqueue.inbox import Inbox

Function = Callable[[Any], object]
"""A handler as the user wrote it: plain or async, of one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How the messages of a handler are put together. The fields are those of Consumer.run_batches()."""

    max_size: int
    max_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One function and the consumer it is for: the fields are those of Client.consumer()."""

    function: Function
    address: Queue | Topic
    group: str | None
    concurrency: int
    prefetch: int | None
    type: Any
    retry: Retry | None
    dead_letter: str | Queue | Default | None
    batching: Batching | None = None
    """Set: the function takes batches."""
    inbox: Inbox | None = None
    """Set: a message whose id is in it is acknowledged unhandled."""

    @property
    def name(self) -> str:
        """Name the function as errors and logs do."""
        return name_of(self.function)

    @property
    def queue(self) -> str:
        """Name the queue, or the topic and the group, as errors and logs do."""
        return f"{self.address.name} ({self.group})" if self.group else self.address.name


def address_of(address: object) -> Queue | Topic:
    """Return what a str, Queue or Topic means. Its name is checked by the client."""
    if isinstance(address, str):
        return Queue(address)
    if isinstance(address, Queue | Topic):
        return address
    raise TypeError(f"an address is a str, Queue or Topic, not {type(address).__name__}")


def name_of(function: object) -> str:
    """Return module and name of a function, as far as it has them."""
    target = inner(function)
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def inner(function: object) -> object:
    """Return the function inside of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def is_async(function: object) -> bool:
    """Say whether calling it gives something to await."""
    target = inner(function)
    call = getattr(target, "__call__", None)  # noqa: B004 -- is its __call__ async, not is it callable
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def check_function(function: object, takes: str = "the message", count: int = 1) -> None:
    """Raise TypeError for what cannot be called, ConfigError for what cannot be called with so many arguments."""
    if not callable(function):
        raise TypeError(f"a handler is a function of {takes}, not {type(function).__name__}")
    where = f"{name_of(function)}{_place(function)}"
    if inspect.isasyncgenfunction(inner(function)) or inspect.isgeneratorfunction(inner(function)):
        raise ConfigError(f"{where} is a generator", hint="a handler returns; use no `yield` in it")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        what = f"{where} cannot be called with {takes}: its signature is {signature}"
        raise ConfigError(what, hint=f"write def {getattr(function, '__name__', 'handle')}(message)") from error


def _place(function: object) -> str:
    code = getattr(inner(function), "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code is not None else ""


def check(handler: Handler, others: list[Handler]) -> None:
    """Raise TypeError or ConfigError for a handler that cannot be meant, or that takes another one's messages."""
    check_function(handler.function, "the message" if handler.batching is None else "the batch")
    for other in others:
        if (other.address, other.group) == (handler.address, handler.group):
            what = f"{other.name} and {handler.name} both handle {handler.queue!r}"
            raise ConfigError(what, hint="let one function handle the queue, or name groups of a topic")
    if handler.group is not None and not isinstance(handler.address, Topic):
        raise ConfigError("only a topic has groups", queue=handler.address.name, hint="write Topic(name)")
    if handler.retry is not None and not isinstance(handler.retry, Retry):
        raise TypeError(f"retry is a Retry or None, not {handler.retry!r}")
    if handler.type is not None:
        codecs.decoder(handler.type)
    _check_count(handler.concurrency, "concurrency")
    if handler.prefetch is not None:
        _check_count(handler.prefetch, "prefetch")
    if handler.batching is not None:
        _check_batching(handler.batching, handler)


def _check_batching(batching: Batching, handler: Handler) -> None:
    _check_count(batching.max_size, "max_size")
    if isinstance(batching.max_wait, bool) or not isinstance(batching.max_wait, int | float):
        raise TypeError(f"max_wait is a number of seconds, not {type(batching.max_wait).__name__}")
    if not 0 <= batching.max_wait < math.inf:
        raise ConfigError(f"max_wait is a finite number of seconds, 0 or more, not {batching.max_wait}")
    if handler.prefetch is not None and handler.prefetch < batching.max_size:
        what = f"a batch of {batching.max_size} is more than the prefetch of {handler.prefetch}"
        raise ConfigError(what, queue=handler.address.name, hint="leave prefetch out: it fits by itself")


def _check_count(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is an int, not {type(value).__name__}")
    if value < 1:
        raise ConfigError(f"{what} is at least 1, not {value}")
