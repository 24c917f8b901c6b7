"""What the demo prints: a progress bar on a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from typing import Self

    from account import Account

STEP: Final = 20
"""Without a terminal, a line is printed every so many percent."""


class Screen:
    """Show how far it is. Use it with `with`."""

    def __init__(self, total: int) -> None:
        self.console = Console(highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("delivering", total=total)
        self._total = total
        self._said = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(text, soft_wrap=True)

    def update(self, *, delivered: int, dead: int, waiting: int) -> None:
        """Show how many have arrived somewhere."""
        done = delivered + dead
        self._bar.update(self._task, completed=done)
        percent = 100 * done // self._total
        if self.console.is_terminal or percent < self._said + STEP:
            return
        self._said = percent - percent % STEP
        self.say(f"{percent:3} %: {delivered} delivered, {dead} dead-lettered, {waiting} in the queue")


def show(console: Console, account: Account) -> None:
    """Print the table."""
    table = Table(title="What became of them", title_justify="left", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_row("sent", str(account.sent))
    table.add_row("delivered into the Maildir", str(account.delivered))
    table.add_row("retried", str(account.retried))
    for worker, ids in account.killed.items():
        table.add_row(f"in the hands of {worker} when it was killed", str(len(ids)))
        saved = set(ids) - set(account.lost)
        table.add_row("  of these filed or dead-lettered by another", str(len(saved)), style="dim")
    table.add_row("handed over again although filed, and recognised", str(account.again))
    table.add_section()
    table.add_row("dead-lettered", str(sum(account.dead.values())))
    for why, count in account.dead.items():
        table.add_row(f"  {why}", str(count), style="dim")
    table.add_section()
    table.add_row("seconds", f"{account.seconds:.1f}")
    table.add_row("messages a second", f"{account.sent / account.seconds:.0f}")
    table.add_section()
    good, bad = "bold green", "bold red"
    table.add_row("lost", str(len(account.lost)), style=bad if account.lost else good)
    table.add_row("duplicates", str(len(account.twice)), style=bad if account.twice else good)
    console.print(table)
    for name in ("lost", "twice", "strange"):
        if ids := getattr(account, name):
            console.print(f"{name}: {', '.join(ids)}", style=bad)
