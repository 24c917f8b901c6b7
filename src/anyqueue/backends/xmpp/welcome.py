"""Logging in at a server that may be starting: a refusal of whom it took before passes, or it does not.

ejabberd that starts or stops says `not-authorized` to everybody while its storage is not there. Were that final, a
client would not outlive its server. So credentials that were taken before have some seconds; others have one attempt.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from anyqueue.errors import AuthFailed, ConnectFailed

if TYPE_CHECKING:
    from anyqueue.backends.xmpp.session import Session

AGAIN: Final = 1.0
GRACE: Final = 15.0
"""Seconds before the next attempt, and for how long a refusal may be a server's that starts."""


class Welcome(msgspec.Struct):
    """What a server said to an account's logins."""

    taken: int | None = None
    """The hash of the password that it took last."""
    refused: float | None = None
    """Since when it refuses it, with nothing else in between."""

    def may_pass(self, password: int, now: float) -> bool:
        """Take note of a refusal; say whether it may pass."""
        if self.taken != password:
            return False
        self.refused = now if self.refused is None else self.refused
        return now - self.refused < GRACE


_welcomes: Final[dict[tuple[str, str, str], Welcome]] = {}


async def log_in(session: Session) -> None:
    """Open a session. Raises AuthFailed, or ConnectFailed for a refusal that may pass, some time after it."""
    target = session.target
    welcome = _welcomes.setdefault((target.service, target.username, target.domain), Welcome())
    password = hash(target.password)
    try:
        await session.open()
    except AuthFailed as error:
        if not welcome.may_pass(password, time.monotonic()):
            raise
        await asyncio.sleep(AGAIN)
        what = f"the same credentials were taken before: {error.what}"
        raise ConnectFailed(what, url=session.url, hint="if the server does not start just now, check them") from error
    except BaseException:
        welcome.refused = None
        raise
    welcome.taken, welcome.refused = password, None
