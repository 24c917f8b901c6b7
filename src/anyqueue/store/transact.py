"""Work on a store, many pieces in one transaction: who shares one sync to disk is told of it all at once.

If the transaction fails, each piece gets one of its own: the one that cannot be done fails alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from anyqueue.errors import Error
from anyqueue.store.sqlite_place import is_locked, work_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from anyqueue.store.contract import Store

StoreT = TypeVar("StoreT", bound="Store")
StoreT_co = TypeVar("StoreT_co", bound="Store", covariant=True)
T = TypeVar("T")


class File(Protocol[StoreT_co]):
    """Where a store is kept."""

    path: str

    def writing(self) -> AbstractContextManager[StoreT_co]:
        """Give the store inside one transaction, committed at the end, rolled back on an exception."""


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """What came of one piece of work: `error`, or else `result`."""

    result: T | None
    error: Exception | None = None


def transact(file: File[StoreT], works: Sequence[Callable[[StoreT, float], T]]) -> list[Outcome[T]]:
    """Do all of it, and return what came of each piece, in order."""
    try:
        return _together(file, works)
    except Exception as error:  # noqa: BLE001 -- whatever it is, each piece of work is told
        if len(works) > 1 and not is_locked(error):
            return [outcome for work in works for outcome in transact(file, [work])]
        return [Outcome(None, _caused(work_error(file.path, error), error)) for _ in works]


def _together(file: File[StoreT], works: Sequence[Callable[[StoreT, float], T]]) -> list[Outcome[T]]:
    outcomes: list[Outcome[T]] = []
    with file.writing() as store:
        for work in works:
            changed = store.changed
            try:
                outcomes.append(Outcome(work(store, time.time())))
            except Error as error:
                if store.changed != changed:
                    raise
                outcomes.append(Outcome(None, error))
    return outcomes


def _caused(error: Error, cause: Exception) -> Error:
    if error is not cause:
        error.__cause__ = cause
    return error
