"""What a comparison found, as values. Pure. Times and durations are seconds, sizes bytes."""

from __future__ import annotations

from typing import Literal

import msgspec

Operation = Literal["send", "send_many", "through", "slow"]
"""send: one after another, each confirmed. send_many: in batches. through: sent, handled and acknowledged, all at once.
slow: as through, with a handler that takes its time."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, at one size and concurrency."""

    operation: Operation
    size: int
    concurrency: int
    messages: int
    seconds: float
    lost: int = 0
    """Sent and never handled; of `through` and `slow` alone."""
    duplicated: int = 0
    """Handled once more than they were sent."""

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From the call of send() until a handler that waits has the message, one message at a time."""

    size: int
    samples: int
    median: float
    p90: float
    p99: float
    most: float
    counts: list[int]
    """How many were in each of the bins of `tally.EDGES`."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer process held when it was killed (SIGKILL), and when another consumer had it."""

    held: int = 0
    first: float | None = None
    """After the kill, until the first of them came to the other consumer."""
    last: float | None = None
    """Until the last; None: not all of them came."""
    lost: int = 0
    duplicated: int = 0
    note: str = ""
    """Why there is no figure."""


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend has one feature."""

    feature: str
    kind: Literal["native", "emulated", "refused"]
    note: str = ""


class Row(msgspec.Struct, kw_only=True):
    """One backend. What was measured before an error is in it."""

    label: str
    url: str
    """Redacted."""
    error: str | None = None
    guarantees: list[Guarantee] = []
    cells: list[Cell] = []
    latency: Latency | None = None
    recovery: Recovery = Recovery(note="not measured")
    left: list[str] = []
    """Queues that could not be removed."""

    @property
    def lost(self) -> int:
        """Messages lost in all that was measured."""
        return sum(cell.lost for cell in self.cells) + self.recovery.lost

    @property
    def duplicated(self) -> int:
        """Messages handled more than once."""
        return sum(cell.duplicated for cell in self.cells) + self.recovery.duplicated

    def cell(self, operation: Operation, size: int, concurrency: int) -> Cell | None:
        """Return one cell, if it was measured."""
        wanted = (operation, size, concurrency)
        return next((cell for cell in self.cells if (cell.operation, cell.size, cell.concurrency) == wanted), None)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run over all backends."""

    anyqueue: str
    python: str
    machine: str
    cores: int
    at: float
    seconds: float
    """How long the run took."""
    sizes: list[int]
    concurrency: list[int]
    pause: float
    """What the slow handler takes."""
    rows: list[Row]

    @property
    def failed(self) -> list[Row]:
        """The rows with an error."""
        return [row for row in self.rows if row.error is not None]
