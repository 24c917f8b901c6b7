"""The contract suite as a test module: `pytest -p anyqueue.testing.plugin --pyargs anyqueue.testing.suite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyqueue.testing.plugin import Cell


def test_contract(contract_cell: Cell) -> None:
    """Prove one case on one target."""
    contract_cell.prove()
