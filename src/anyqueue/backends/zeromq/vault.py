"""Where a hub keeps its queues: `memory:`, or `sqlite:///PATH` for a hub that is durable.

A hub's file belongs to one hub at a time: who opens it holds the lock on `PATH-hub`. What the hub of before held for
its peers is given back at the opening, for they are gone. `sqlite://` may use the file meanwhile: its deliveries have
leases, and are left alone.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from anyqueue.errors import ConfigError
from anyqueue.store.contract import Store
from anyqueue.store.file_lock import FileLock
from anyqueue.store.memory import MemoryStore
from anyqueue.store.sqlite_file import Settings, SqliteFile
from anyqueue.store.transact import File
from anyqueue.url import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY: Final = "memory:"


class Vault(File[Store], Protocol):
    """A store's place."""

    @property
    def durable(self) -> bool:
        """What is committed survives the process."""

    def take_stirred(self) -> set[str]:
        """Return, once, the queues to look at again."""

    def version(self) -> int:
        """Return a number that changes when somebody else commits."""

    def checkpoint(self) -> None:
        """Tidy up, if it is time to."""

    def close(self) -> None:
        """Close; never raises."""


class Options(msgspec.Struct, frozen=True):
    """The options of a store's URL."""

    durability: Literal["full", "process"] = "full"
    busy_timeout: float = 5.0


class MemoryVault:
    """Queues that end with the process."""

    path = MEMORY
    durable = False

    def __init__(self) -> None:
        self._store = MemoryStore()

    @contextmanager
    def writing(self) -> Iterator[MemoryStore]:
        """Give the store; what raises in the middle is not undone, for no operation of it raises halfway."""
        yield self._store

    def take_stirred(self) -> set[str]:
        """Return, once, the queues to look at again."""
        return self._store.take_stirred()

    def version(self) -> int:
        """Nobody else is there."""
        return 0

    def checkpoint(self) -> None:
        """There is nothing to tidy."""

    def close(self) -> None:
        """There is nothing to close."""


class SqliteVault(SqliteFile):
    """Queues in a file, while no other hub has it."""

    durable = True

    def __init__(self, path: str, settings: Settings) -> None:
        self._lock_of_hub = ExitStack()
        lock = FileLock(f"{path}-hub")
        try:
            self._lock_of_hub.enter_context(lock.held(0.0))
        except TimeoutError as error:
            what = f"{path} is served by another hub, which has it for itself"
            raise ConfigError(what, hint="stop that one, connect to it, or name another file") from error
        self._lock_of_hub.callback(lock.close)
        try:
            super().__init__(path, settings)
            self.give_back_unleased()
        except BaseException:
            self._lock_of_hub.close()
            raise

    def close(self) -> None:
        """Close, and let another hub have it."""
        super().close()
        self._lock_of_hub.close()


def check_store(store: str) -> tuple[str, Settings] | None:
    """Return the path that `store` names, and how it is used; None: memory. Raises ConfigError; no I/O."""
    if store in {MEMORY, "memory://"}:
        return None
    url = URL.parse(store)
    if url.scheme != "sqlite" or url.hosts or url.username is not None or url.path in {"", "/"}:
        raise ConfigError("a hub's store is memory: or a SQLite file", url=url, hint="write sqlite:///path.db")
    options = url.take_options(Options)
    if options.busy_timeout <= 0:
        raise ConfigError("the option busy_timeout is a positive number of seconds", url=url)
    return url.path.removeprefix("/"), Settings(durability=options.durability, busy_timeout=options.busy_timeout)


def open_vault(store: str) -> Vault:
    """Open what `store` names, or raise ConfigError, ConnectFailed."""
    found = check_store(store)
    if found is None:
        return MemoryVault()
    path = Path(found[0])
    if not path.parent.is_dir():
        raise ConfigError(f"the directory {path.parent} does not exist", hint="make it first")
    return SqliteVault(str(path.parent.resolve() / path.name), found[1])
