"""The contract suite on every target: see anyqueue.testing."""

from __future__ import annotations

from anyqueue.testing.suite import test_contract

__all__ = ["test_contract"]
