"""Queue names <-> Gearman's function names. Pure.

A function's name may be any bytes without a NUL, so a queue's name is its function's name, in UTF-8: other programs see
what the user wrote. Delayed messages are in a function of their own, `aq.delay.NAME`; no user's name begins with `aq.`.
"""

from __future__ import annotations

from typing import Final

from anyqueue.driver import RESERVED
from anyqueue.errors import ConfigError

DELAYED: Final = f"{RESERVED}delay."


def function_of(queue: str) -> bytes:
    """Return the function of a queue; raise ConfigError for a name with a NUL, which would end it."""
    if "\0" in queue:
        raise ConfigError("a Gearman function's name cannot hold a NUL", queue=queue)
    return queue.encode()


def delayed_of(queue: str) -> bytes:
    """Return the function where the delayed messages of a queue wait."""
    return function_of(f"{DELAYED}{queue}")
