"""What RabbitMQ's STOMP adapter leaves in the headers of messages: of use in a frame, and nothing to a reader. Pure."""

from __future__ import annotations

from typing import Final

from anyqueue.driver import HEADER_RESERVED

FRAMES: Final = frozenset(
    [
        *("receipt", "content-length", "transaction", "durable", "auto-delete", "exclusive", "prefetch-count"),
        *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-expires", "x-max-length", "x-max-length-bytes"),
        *("x-max-priority", "x-message-ttl", "x-queue-name", "x-queue-type", "x-stream-offset"),
    ]
)
"""Headers of frames. Who reads over STOMP ignores them, so a user's own of such a name travels in the bundle."""


def strip(headers: dict[str, str]) -> None:
    """Take out what was left of a frame that anyqueue sent: its receipts begin as nothing of a user's does."""
    if headers.get("receipt", "").startswith(HEADER_RESERVED):
        del headers["receipt"]
        headers.pop("content-length", None)
