"""One live driver at a time: open it, and when it is lost, back off and open the next.

* The first open() tries once and raises. After that a lost driver is replaced for as long as the link is open:
  exponential backoff with full jitter, from at most 0.1 s to at most 1.5 s.
* Errors that trying again cannot mend (AuthFailed, ConfigError, Unsupported) end the link: everybody who waits for a
  driver gets that error.
* A driver that was reported lost is closed in the background and never handed out again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from anyqueue import hooks
from anyqueue.errors import Closed, ConnectFailed, ConnectionLost, Error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyqueue.driver import Driver

_log = logging.getLogger(__name__)
FIRST_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 1.5
"""Seconds. Low enough that a consumer is back within two seconds of its broker; see docs/design.md."""


def backoff(tries: int, chance: float) -> float:
    """Return the seconds to wait after `tries` failed tries (from 1): full jitter, with `chance` in [0, 1)."""
    return chance * min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(tries, 20))


class Link:
    """Hand out the live driver. `make` returns a new, unopened one; `check` may refuse one that was opened."""

    def __init__(
        self,
        make: Callable[[], Awaitable[Driver]],
        *,
        url: object,
        connect_timeout: float,
        check: Callable[[Driver], None],
        tell: hooks.Hooks,
    ) -> None:
        self._make = make
        self._url = url
        self._connect_timeout = connect_timeout
        self._check = check
        self._tell = tell
        self._driver: Driver | None = None
        self._fatal: Error | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._watchers: set[Callable[[Exception], None]] = set()

    async def driver(self) -> Driver:
        """Return the live driver, opening the first or waiting for the next.

        Raises what the first open raised, Closed after close(), and the error that ended the link. Waits as long as
        the broker is away: the caller's deadline bounds it. Cancelling leaves the link as it is.
        """
        while self._driver is None:
            if self._fatal is not None:
                raise self._fatal.with_traceback(None)
            opening = self._opening
            if opening is None:
                opening = self._opening = asyncio.create_task(self._open_first())
            await asyncio.wait([opening])
            if not opening.cancelled() and (error := opening.exception()) is not None:
                raise error.with_traceback(None)
        return self._driver

    def watch(self, driver: Driver, lost: Callable[[Exception], None]) -> None:
        """Have `lost` called once, when this driver is lost, whoever finds it so; at once if it is already."""
        if driver is self._driver:
            self._watchers.add(lost)
        else:
            lost(ConnectionLost("the connection was lost", url=self._url))

    def unwatch(self, lost: Callable[[Exception], None]) -> None:
        """Have it called no more."""
        self._watchers.discard(lost)

    def lost(self, driver: Driver, error: Exception) -> None:
        """Throw this driver away, tell who watches, and begin to open the next; no-op for one that is not live."""
        if driver is not self._driver:
            return
        self._driver = None
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            watcher(error)
        self._discard(driver)
        _log.warning("connection to %s lost: %s", self._url, error)
        self._tell(hooks.Disconnected(url=str(self._url), queue="", reason=str(error)))
        self._opening = asyncio.create_task(self._reopen())
        self._opening.add_done_callback(_retrieve)  # it may fail while nobody waits; driver() raises it later

    async def close(self) -> None:
        """Close the driver and stop replacing it. Never raises; closing twice is a no-op."""
        self._fatal = self._fatal or Closed("the client is closed", url=self._url)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
        driver, self._driver = self._driver, None
        if driver is not None:
            self._discard(driver)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _open_first(self) -> None:
        try:
            await self._open()
        finally:
            self._opening = None

    async def _reopen(self) -> None:
        tries = 0
        try:
            while True:
                tries += 1
                await asyncio.sleep(backoff(tries, random.random()))  # noqa: S311 -- jitter, no secret
                try:
                    await self._open()
                except Error as error:
                    if not error.transient:
                        raise
                    _log.info("still no connection to %s: %s", self._url, error)
                else:
                    return
        except Error as error:
            self._fatal = error
            raise
        finally:
            self._opening = None

    async def _open(self) -> None:
        driver = await self._make()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await driver.open()
            self._check(driver)
        except TimeoutError as error:
            self._discard(driver)
            what = f"no answer within {self._connect_timeout:g} s"
            raise ConnectFailed(what, url=self._url, hint="is the broker running, and is this its port?") from error
        except BaseException:
            self._discard(driver)
            raise
        self._driver = driver
        self._tell(hooks.Connected(url=str(self._url), queue=""))

    def _discard(self, driver: Driver) -> None:
        task = asyncio.create_task(self._close_driver(driver))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_driver(self, driver: Driver) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout):
                await driver.close()
        except Exception as error:  # noqa: BLE001 -- close() must not raise; one that does is not our caller's trouble
            _log.warning("closing a connection to %s failed: %s", self._url, error)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark the error as seen: it is kept as the link's fatal error."""
    if not task.cancelled():
        task.exception()
