"""The demo, run for real, and its figures against a count that does not use its code."""

from __future__ import annotations

import json
import mailbox
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from email import message_from_binary_file, policy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import anyqueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "emails"


@dataclass(frozen=True)
class Run:
    """One finished run of the demo."""

    folder: Path
    status: int
    output: str
    account: dict[str, Any]

    def letters(self) -> Iterator[EmailMessage]:
        """Parse every file in the Maildir."""
        for path in (self.folder / "Maildir" / "new").iterdir():
            with path.open("rb") as file:
                yield message_from_binary_file(file, policy=policy.default)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, EXAMPLE / "demo.py", "--keep", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert not done.stderr
    return Run(folder, done.returncode, done.stdout, json.loads((folder / "account.json").read_text()))


def deliverable(line: bytes) -> bool:
    """Say whether a line of the input is an e-mail that some server takes: a second opinion."""
    try:
        email = json.loads(line, parse_constant=lambda _: None)
        texts = [email[name] for name in ("sender", "to", "subject", "body")]
    except (ValueError, TypeError, KeyError):
        return False
    if not all(isinstance(text, str) for text in texts):
        return False
    plain = re.fullmatch(r"[^@\s]+@([^@\s]+\.[^@\s]+)", texts[1])
    return plain is not None and plain[1] != "down.example" and "\n" not in texts[2]


def expected() -> dict[str, dict[str, str]]:
    lines = (EXAMPLE / "emails.jsonl").read_bytes().splitlines()
    return {f"mail-{number:04}": json.loads(line) for number, line in enumerate(lines, 1) if deliverable(line)}


async def dead_ids(folder: Path) -> set[str]:
    async with anyqueue.connect(f"sqlite:///{folder / 'queue.db'}") as client:
        return {message.id for message in await client.browse("emails.dead", limit=1000)}


def test_nothing_is_lost_and_the_status_says_so(run: Run) -> None:
    assert (run.status, run.account["lost"], run.account["twice"], run.account["strange"]) == (0, [], [], [])


def test_a_worker_was_killed_with_messages_in_its_hands(run: Run) -> None:
    assert "kill -9" in run.output
    assert len(run.account["killed"]["worker-1"]) > 0


def test_every_good_email_is_in_the_maildir_once_as_it_was(run: Run) -> None:
    filed = {str(letter["Message-ID"])[1:-1].partition("@")[0]: letter for letter in run.letters()}
    wanted = expected()
    assert filed.keys() == wanted.keys()
    assert len(filed) == run.account["delivered"] == len(mailbox.Maildir(run.folder / "Maildir"))
    for name, letter in filed.items():
        assert (letter["To"], letter["Subject"]) == (wanted[name]["to"], wanted[name]["subject"])
        assert letter.get_content().rstrip("\n") == wanted[name]["body"].rstrip("\n")


async def test_everything_else_is_a_dead_letter(run: Run) -> None:
    total = len((EXAMPLE / "emails.jsonl").read_bytes().splitlines())
    everything = {f"mail-{number:04}" for number in range(1, total + 1)}
    dead = await dead_ids(run.folder)
    assert dead == everything - expected().keys()
    assert (run.account["sent"], sum(run.account["dead"].values())) == (total, len(dead))


def test_what_fails_is_retried(run: Run) -> None:
    """Once or twice at flaky.example, three times at down.example; a killed worker's tries may add to it."""
    text = (EXAMPLE / "emails.jsonl").read_text(errors="replace")
    least = text.count('"once.') + 2 * text.count('"twice.') + 3 * text.count("@down.example")
    assert least - len(run.account["killed"]["worker-1"]) * 2 <= run.account["retried"] <= least


def test_the_account_notices_a_loss_and_a_duplicate(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from account import reconcile  # noqa: PLC0415 -- the example is no package

    shutil.copytree(run.folder, tmp_path / "copy")
    new = tmp_path / "copy" / "Maildir" / "new"
    first, second, *_ = sorted(new.iterdir())
    first.unlink()
    shutil.copy(second, new / "again")
    account = reconcile(tmp_path / "copy", new.parent, [], seconds=1.0, killed={})
    assert not account.sound
    assert first.name in account.lost
    assert account.twice == [second.name]


def test_it_does_not_write_into_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    command = [sys.executable, EXAMPLE / "demo.py", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
