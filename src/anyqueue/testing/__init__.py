"""The contract suite: what every backend must do, as cases that run on every target.

Run it on your own backend (docs/write-a-backend.md)::

    pytest -p anyqueue.testing.plugin --anyqueue-target yours.harness:YourHarness --pyargs anyqueue.testing.suite

How to write a case. One file a group in `cases/`; a case is an async function of one `Trial`::

    @case("A1", "an ack is final across reconnects", group="Settle", needs=Feature.REDELIVER)
    async def a1(t: Trial) -> None:
        "A1: an ack is final across reconnects."
        queue = t.queue()                                   # never used before; deleted afterwards
        async with t.connect() as client:                   # any argument of anyqueue.connect()
            await t.history.send(client, queue, b"once")    # as client.send(), and recorded
            async with client.consumer(queue) as messages:
                (message,) = await messages.receive()
                t.history.took(message, "first")            # "first" holds it now
                await t.history.ack(message)                # also .retry(), .reject(), .settling(...)
            t.history.ended("first")                        # BEFORE what ends somebody: a kill, a cut, a close
        async with t.connect() as client:
            await t.drain(client, queue)                    # accept all until the broker counts none: extras are seen
        t.history.prove()                                   # the checker: nothing lost, duplicated, resurrected, ...

* `needs` are the features without which the sentence means nothing. Where the target refuses one, the refusal twin
  runs in its place (`refusal.py`; `twin=` gives another); emulated features run the case. Never ask for the target's
  name, and never skip: branch on `t.has(Feature.X)` or on `t.expected` only where the contract says "as declared".
* `tier`: "fast" without faults, "fault" with killed children, brokers or cut connections, "soak" for the long ones.
* Wait for a fact: `await t.eventually(lambda: len(seen) == 3)`. Prove an absence by a message sent after, or by
  `await t.total(queue)`, the broker's own count (`t.foreign` is the raw client). Never sleep until it is "surely" done.
* Properties: `await t.for_all(strategy, check, examples=25)` with an async `check(value)`; all examples share your
  connection. Fault points: draw them from `t.random`; `t.seed` belongs in your own messages.
* Children that can be killed: `child = t.child("worker", Script(role="consumer", queue=queue))`, then
  `child.count("receive")`, `t.history.ended("worker")`, `await child.kill()`, `t.history.merge(child.journal())`.
  On targets that live in one process a child is a thread (`threads.py` says what a kill means there).
* A case leaves no thread, task, descriptor or child: the runner looks. It has `timeout` seconds, and no second try.
* An assertion that cannot fail proves nothing: `mutants.py` holds broken backends; add one that your case kills.

The parts: `history` (records), `checker` and `reading` (pure: records in, verdict out), `recorder` (records while it
sends, receives and settles), `case` (the registry), `trial` (what a case is given), `properties`, `harness` (what a
target is), `targets/`, `children`, `play` and `threads`, `refusal`, `residue`, `runner`, `report`, `plugin`, `suite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyqueue.testing.harness import Harness
    from anyqueue.testing.report import Report

__all__ = ["run"]


def run(harness: Harness, *, seed: int = 0, only: Iterable[str] | None = None) -> Report:
    """Run every case (or `only` these ids) on a target, without pytest, and return the report."""
    from anyqueue.testing import case, runner  # noqa: PLC0415 -- importing the suite must not need hypothesis

    return runner.run(harness, case.all_cases(), seed=seed, only=only)
