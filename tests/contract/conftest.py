"""What tests of broken drivers have in common."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def swept() -> Iterator[None]:
    """Collect what a broken driver leaves unclosed here, and not under whatever test comes later."""
    yield
    gc.collect()
