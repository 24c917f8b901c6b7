"""ERROR frames -> our errors. Pure. What a broker says is cut to one line: ActiveMQ sends a stack trace along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from anyqueue.backends.stomp import headers
from anyqueue.errors import (
    AuthFailed,
    ConnectFailed,
    ConnectionLost,
    Error,
    QueueError,
    QueueFull,
    QueueMismatch,
    QueueNotFound,
)

if TYPE_CHECKING:
    from anyqueue.backends.stomp.frames import Raw

MAX_SAID: Final = 300
DIFFERS: Final = re.compile(
    r"inequivalent arg '(?P<name>[^']+)'.*current is (?:(?P<none>none)|the value '(?P<value>.*)' of type '\w+'"
    r"|'(?P<plain>.*)')",
    re.DOTALL,
)
CUT: Final = re.compile(r"inequivalent arg '(?P<name>[^']+)'.*\.\.\.\s*\Z", re.DOTALL)
"""The broker cuts what it says to 255 bytes."""
_CRASHED: Final = re.compile(r"Processing error|INTERNAL_ERROR", re.IGNORECASE)
_UNDONE: Final = re.compile(r"rollback only|rolled back", re.IGNORECASE)
_BAD_LOGIN: Final = re.compile(
    r"Access refused|access denied|Missing login|password is invalid|not authenticated|SecurityException", re.IGNORECASE
)
_FORBIDDEN: Final = re.compile(r"ACCESS_REFUSED|not authorized", re.IGNORECASE)
_MISSING: Final = re.compile(r"NOT_FOUND|Server cancelled subscription")
_LOCKED: Final = re.compile(r"RESOURCE_LOCKED")
_FULL: Final = re.compile(r"ResourceAllocationException|Usage Manager")


class Refusal:
    """An ERROR frame."""

    def __init__(self, raw: Raw) -> None:
        found = dict(reversed(headers.pairs(raw[0])))
        self.receipt = found.get("receipt-id")
        self.subscription = found.get("subscription")
        body = raw[1].decode(errors="replace")
        first = body.strip().partition("\n")[0]
        message = found.get("message", "")
        self._all = f"{message}\n{body}"
        self.said = (f"{message}: {first}" if first and first != message else message or first)[:MAX_SAID]

    @property
    def text(self) -> str:
        """All that it says."""
        return self._all

    @property
    def is_undone(self) -> bool:
        """Say whether it is about a transaction of which nothing was committed."""
        return _UNDONE.search(self._all) is not None

    @property
    def is_crash(self) -> bool:
        """Say whether the broker stumbled: nobody knows why, and another try may be answered otherwise."""
        return _CRASHED.search(self._all) is not None

    @property
    def is_clear(self) -> bool:
        """Say whether it names a reason that another try would meet again."""
        return any(reason.search(self._all) for reason in (DIFFERS, _LOCKED, _MISSING, _FORBIDDEN, _FULL))

    def of_login(self, host: object, url: object) -> Error:
        """Return why the broker did not let us in."""
        if _BAD_LOGIN.search(self._all):
            hint = "check user, password and virtual host; RabbitMQ takes guest from its own machine alone"
            return AuthFailed(f"{host} refused the credentials: {self.said}", url=url, hint=hint)
        return ConnectFailed(f"{host} did not take the connection: {self.said}", url=url)

    def of_queue(self, what: str, queue: str, url: object) -> Error:
        """Return why something could not be done with a queue."""
        said = f"{what}: {self.said}"
        if (differs := DIFFERS.search(self._all)) is not None:
            current = differs["none"] or differs["value"] or differs["plain"]
            said = f"{what}: it exists with another argument {differs['name']}: it is {current}"
            return QueueMismatch(said, queue=queue, url=url, hint="use another queue, or say queue_type= as it is")
        if _LOCKED.search(self._all):
            return QueueMismatch(said, queue=queue, url=url, hint="it is another connection's own; use another queue")
        if _MISSING.search(self._all):
            return QueueNotFound(said, queue=queue, url=url)
        if _FORBIDDEN.search(self._all):
            return QueueError(said, queue=queue, url=url, hint="this user may not: see the broker's permissions")
        if _FULL.search(self._all):
            return QueueFull(said, queue=queue, url=url)
        return QueueError(said, queue=queue, url=url)

    def of_connection(self, url: object) -> ConnectionLost:
        """Return the error of a connection that the broker gave up."""
        return ConnectionLost(f"the broker gave the connection up: {self.said}", url=url)
