"""Begin anew: look, beside this process, whether the worker loads as it is now, and only then say so."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from anyqueue.worker.load import Unloadable, look
from anyqueue.worker.reload import changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyqueue.worker.load import Settings

_log = logging.getLogger(__name__)


class Anew:
    """Calls `begin` with the settings of a worker that loads. Asked while it looks, it looks once more."""

    def __init__(self, target: str, begin: Callable[[Settings], None]) -> None:
        self._target = target
        self._begin = begin
        self._by = ""
        self._task: asyncio.Task[None] | None = None

    def ask(self, by: str) -> None:
        """Look soon."""
        self._by = by
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    async def watch_files(self) -> None:
        """Ask whenever a Python file below this folder has changed. For ever."""
        async for path in changes(Path.cwd()):
            self.ask(f"{path} changed")

    async def _look(self) -> None:
        while self._by:
            by, self._by = self._by, ""
            try:
                settings = await look(self._target)
            except Unloadable:
                _log.error("the worker does not load as it is now; what runs goes on", extra={"by": by})
            else:
                if not self._by:
                    _log.info("beginning anew", extra={"by": by})
                    self._begin(settings)
