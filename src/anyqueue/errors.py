"""Every error anyqueue raises; nothing else defines one.

The tree, and what `transient` (trying again may help) says of each::

Error:
    |-- ConfigError(ValueError)        a bad URL, option or argument; raised before any I/O
    |   `-- MissingBackend(ImportError)   the scheme is known, its client library is not installed
    |-- Unsupported                    the backend neither has the feature nor can have it emulated
    |-- Closed                         used after close, or in another process than the one that opened it
    |-- TransportError
    |   |-- ConnectFailed    transient
    |   |-- ConnectionLost   transient
    |   |-- AuthFailed
    |   `-- ProtocolError
    |-- QueueError
    |   |-- QueueNotFound
    |   |-- QueueMismatch              declared before with other arguments
    |   `-- QueueFull        transient
    |-- SendError                      .unknown: the broker may have taken the message
    |   |-- Unroutable
    |   |-- TooLarge
    |   `-- BatchFailed                .failures: position in the batch -> its SendError
    |-- SettleError                    settled twice or too late; the message will come again
    |-- RequestError                   a request without its reply
    |   |-- NoReply(TimeoutError) transient   none came by the deadline; it may have been handled
    |   `-- RemoteError                .kind: the class of the exception that the handler raised
    `-- Undecodable                    a body that is not what its content type or the asked-for type says

`RetryLater` and `Rejected` are raised BY handlers to steer; they are control flow and stand outside the tree.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterator, Mapping


class Error(Exception):
    """What happened, to which queue, at which URL (redacted), and what to do next."""

    transient: ClassVar[bool] = False

    def __init__(self, what: str, *, queue: str | None = None, url: object = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.queue = queue
        self.url = url
        self.hint = hint

    def __str__(self) -> str:
        where = [f"queue {self.queue!r}"] if self.queue is not None else []
        where += [f"at {self.url}"] if self.url is not None else []
        place = f" ({' '.join(where)})" if where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return f"{self.what}{place}{advice}"


class ConfigError(Error, ValueError):
    """A URL, an option or an argument that cannot be used. Raised before any I/O."""


class MissingBackend(ConfigError, ImportError):
    """The scheme is known, but its client library is not installed. The hint names the extra."""


class Unsupported(Error):
    """The backend neither has `feature` nor can anyqueue emulate it there."""

    def __init__(
        self,
        what: str,
        *,
        feature: enum.Flag,
        backend: str,
        queue: str | None = None,
        url: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, queue=queue, url=url, hint=hint)
        self.feature = feature
        self.backend = backend


class Closed(Error):
    """The object was closed, or belongs to the process that this one was forked from."""


class TransportError(Error):
    """The way to the broker failed."""


class ConnectFailed(TransportError):
    """No connection could be made by the deadline."""

    transient = True


class ConnectionLost(TransportError):
    """The connection ended under an operation. What was in flight may or may not have happened."""

    transient = True


class AuthFailed(TransportError):
    """The broker refused the credentials. Never tried again with the same ones."""


class ProtocolError(TransportError):
    """The peer said something that the protocol does not allow."""


class QueueError(Error):
    """Something is wrong with the queue itself."""


class QueueNotFound(QueueError):
    """The queue does not exist, and was not to be declared."""


class QueueMismatch(QueueError):
    """The queue exists with other arguments than this use needs."""


class QueueFull(QueueError):
    """The queue or its disk takes no more now."""

    transient = True


class SendError(Error):
    """The message was not confirmed.

    `unknown` is True if the broker may have taken it all the same (a lost connection, a deadline): a second send
    of the same id may then make a duplicate.
    """

    def __init__(
        self,
        what: str,
        *,
        unknown: bool = False,
        queue: str | None = None,
        url: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, queue=queue, url=url, hint=hint)
        self.unknown = unknown


class Unroutable(SendError):
    """The broker has nowhere to put the message."""


class TooLarge(SendError, ValueError):
    """The body or the headers are over the backend's limit. Raised before any I/O."""


class BatchFailed(SendError):
    """Some messages of a batch were not confirmed; those not in `failures` were."""

    def __init__(
        self,
        what: str,
        *,
        failures: Mapping[int, SendError],
        queue: str | None = None,
        url: object = None,
        hint: str | None = None,
    ) -> None:
        unknown = any(failure.unknown for failure in failures.values())
        super().__init__(what, unknown=unknown, queue=queue, url=url, hint=hint)
        self.failures = failures


class SettleError(Error):
    """The settlement came twice or too late. The message will come again, or has been settled already."""


class RequestError(Error):
    """A request that has no reply."""


class NoReply(RequestError, TimeoutError):
    """No reply came by the deadline. The request may have been handled, or may still be."""

    transient = True


class RemoteError(RequestError):
    """The handler failed. `kind` is the name of its exception's class, empty where it is not known."""

    def __init__(
        self,
        what: str,
        *,
        kind: str = "",
        queue: str | None = None,
        url: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, queue=queue, url=url, hint=hint)
        self.kind = kind


class Undecodable(Error, ValueError):
    """The body is not what its content type, or the type asked for, says."""


class RetryLater(Exception):
    """Raise it in a handler to have the message again after `delay` seconds (None: the policy's own delay)."""

    def __init__(self, delay: float | None = None) -> None:
        if delay is not None:
            if isinstance(delay, bool) or not isinstance(delay, int | float):
                raise TypeError(f"a delay is a number of seconds, not {type(delay).__name__}")
            if not (math.isfinite(delay) and delay >= 0):
                raise ConfigError(f"a delay is a finite number of seconds, 0 or more, not {delay}")
        super().__init__(delay)
        self.delay = delay


class Rejected(Exception):
    """Raise it in a handler to dead-letter the message at once, with this reason."""

    def __init__(self, reason: str = "rejected") -> None:
        if not isinstance(reason, str):
            raise TypeError(f"a reason is a str, not {type(reason).__name__}")
        super().__init__(reason)
        self.reason = reason


@contextmanager
def translate(
    table: Mapping[type[BaseException], type[Error]],
    what: str,
    *,
    queue: str | None = None,
    url: object = None,
) -> Iterator[None]:
    """Raise the error that `table` names for a library's exception, with the library's own as the cause.

    The first entry whose class matches wins; an exception not in the table passes unchanged.
    """
    try:
        yield
    except Error:
        raise
    except tuple(table) as error:
        ours = next(mine for theirs, mine in table.items() if isinstance(error, theirs))
        raise ours(f"{what}: {error}", queue=queue, url=url) from error
