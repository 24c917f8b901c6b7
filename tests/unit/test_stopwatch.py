"""A bound grows by what the kernel says was taken away, and by nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from anyqueue.testing import stopwatch
from anyqueue.testing.stopwatch import LATE, Stopwatch, taken_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Say what the kernel says: seconds of pressure (each of three), and of steal."""
    files = tuple(tmp_path / name for name in ("cpu", "io", "memory"))
    monkeypatch.setattr(stopwatch, "PRESSURE", files)
    monkeypatch.setattr(stopwatch, "STAT", tmp_path / "stat")

    def says(pressure: float, steal: float) -> None:
        for file in files:
            file.write_text(
                f"some avg10=9.00 avg60=9.00 avg300=9.00 total={pressure * 1e6:.0f}\n"
                "full avg10=0.00 avg60=0.00 avg300=0.00 total=123456789\n"
            )
        (tmp_path / "stat").write_text(f"cpu  1 2 3 4 5 6 7 {steal * 100:.0f} 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")

    return says


def test_it_is_every_wait_for_the_machine(kernel: Callable[[float, float], None]) -> None:
    kernel(2.0, 0.5)
    assert taken_away() == pytest.approx(3 * 2.0 + 0.5)


def test_what_was_lost_is_what_came_since(kernel: Callable[[float, float], None]) -> None:
    kernel(100.0, 50.0)
    watch = Stopwatch()
    assert watch.lost == 0
    kernel(100.2, 50.3)
    assert watch.lost == pytest.approx(0.9)
    kernel(200.0, 50.3)
    assert watch.lost == LATE


def test_whoever_slept_is_late(kernel: Callable[[float, float], None]) -> None:
    kernel(1.0, 1.0)
    watch = Stopwatch()
    watch.within(5)
    time.sleep(0.05)
    with pytest.raises(AssertionError, match=r"the drain took 0\.\d+ s, not 0\.01 s and 0\.00 s that were lost"):
        watch.within(0.01, "the drain")
    kernel(2.0, 1.0)
    watch.within(0.01, "the drain")


def test_a_kernel_that_does_not_say_is_given_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "PRESSURE", (tmp_path / "none",))
    assert taken_away() is None
    assert Stopwatch().lost == LATE


def test_this_kernel_only_adds() -> None:
    before = taken_away()
    if before is not None:
        after = taken_away()
        assert after is not None
        assert after >= before >= 0
