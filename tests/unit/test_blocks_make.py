"""What the documents give to `make`: every target and variable is there, and does what is said of it."""

from __future__ import annotations

import pytest
from blocks import ROOT, collected, dry

from anyqueue.testing.targets import TARGETS


@pytest.mark.block("README.md", "make demo")
def test_the_demo_and_the_whole_check(block: str) -> None:
    """Both are run elsewhere: the demo by test_demo.py, and `make test` runs this."""
    demo, test = block.splitlines()
    assert dry(demo).rstrip().endswith("examples/emails/demo.py")
    assert f"{len((ROOT / 'examples/emails/emails.jsonl').read_bytes().splitlines())} e-mails" in demo
    whole = dry(test)
    for part in ("ruff check", "ruff format --check", "bin/mypy", "-m pytest", "anyqueue.testing.matrix"):
        assert part in whole


@pytest.mark.block("docs/contributing.md", "make test-fast")
def test_one_case_on_every_target(block: str) -> None:
    found = collected(block.replace("YOUR_ID", "A1"))
    assert len(found) == len(TARGETS)
