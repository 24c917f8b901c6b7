"""Expect an exception: what pytest.raises is to tests, for cases, which may run without pytest."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

ErrorT = TypeVar("ErrorT", bound=BaseException)


class Caught(Generic[ErrorT]):
    """What was raised, once the block has ended."""

    def __init__(self) -> None:
        self.found: ErrorT | None = None

    @property
    def error(self) -> ErrorT:
        """The exception."""
        assert self.found is not None
        return self.found

    def __str__(self) -> str:
        return str(self.found)


@contextlib.contextmanager
def raises(kind: type[ErrorT], what: str) -> Iterator[Caught[ErrorT]]:
    """Fail with `what` unless the block raises `kind`; another exception fails too, and is the cause."""
    caught = Caught[ErrorT]()
    try:
        yield caught
    except kind as error:
        caught.found = error
        return
    except Exception as error:
        raise AssertionError(f"{what}: {error!r} instead of {kind.__name__}") from error
    raise AssertionError(f"{what}: no {kind.__name__}")
