"""Every benchmark, one entry each; a new broker adds entries here and sides of its own in a file beside."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import amqp_entries
import gearman_entries
import ours
import raw
import scale
import stomp_entries
import worker_cost
import xmpp_entries
import zeromq_entries
from measure import Aim, Benchmark, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measure import Side


def peer(name: str) -> Side:
    """Load a peer's side when it is run: the others work without the peers installed."""

    def run(stage: Stage) -> float:
        import peers  # noqa: PLC0415 -- see above

        side: Side = getattr(peers, name)
        return side(stage)

    return run


AT_LEAST_04: Final = Aim(bound="at least", value=0.4)
AT_LEAST_5: Final = Aim(bound="at least", value=5)


def grouped(group: str, benchmarks: Iterable[Benchmark]) -> list[Benchmark]:
    """Put them into a table of their own."""
    return [replace(each, group=group) for each in benchmarks]


BENCHMARKS: Final = (
    Benchmark(
        name="memory-through",
        what="memory://: send_many, handle, ack, 1 KiB, one process",
        against="a bare asyncio.Queue: put and get, no ack",
        ours=ours.side("memory", ours.through),
        theirs=raw.asyncio_queue,
        size=50_000,
        quick=500,
        aim=Aim(bound="at least", value=60_000, of="figure"),
    ),
    Benchmark(
        name="memory-through-send",
        what="memory://: the same with send() from 1,000 tasks",
        against="a bare asyncio.Queue: put and get, no ack",
        ours=ours.side("memory", ours.through_concurrently),
        theirs=raw.asyncio_queue,
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=60_000, of="figure"),
    ),
    Benchmark(
        name="sqlite-send-many",
        what="sqlite://: send_many",
        against="raw executemany, 100 a transaction",
        ours=ours.side("sqlite", ours.send_many),
        theirs=raw.insert,
        size=50_000,
        quick=1000,
        aim=AT_LEAST_04,
    ),
    Benchmark(
        name="sqlite-send",
        what="sqlite://: send() from 1,000 tasks",
        against="raw executemany, 100 a transaction",
        ours=ours.side("sqlite", ours.send_concurrently),
        theirs=raw.insert,
        size=50_000,
        quick=1000,
        aim=AT_LEAST_04,
    ),
    Benchmark(
        name="sqlite-consume",
        what="sqlite://: handle and ack",
        against="raw claim and delete in hundreds",
        ours=ours.side("sqlite", ours.consume),
        theirs=raw.claim_and_delete,
        size=30_000,
        quick=1000,
        aim=AT_LEAST_04,
    ),
    Benchmark(
        name="persist-queue-send",
        what="sqlite://: send_many",
        against="persist-queue SQLiteAckQueue.put",
        ours=ours.side("sqlite", ours.send_many),
        theirs=peer("persistqueue_send"),
        size=5000,
        quick=500,
        aim=AT_LEAST_5,
    ),
    Benchmark(
        name="persist-queue-consume",
        what="sqlite://: handle and ack",
        against="persist-queue SQLiteAckQueue.get and ack",
        ours=ours.side("sqlite", ours.consume),
        theirs=peer("persistqueue_consume"),
        size=5000,
        quick=500,
        aim=AT_LEAST_5,
    ),
    Benchmark(
        name="huey-send",
        what="sqlite://: send_many",
        against="huey SqliteHuey, fsync on: enqueue",
        ours=ours.side("sqlite", ours.send_many),
        theirs=peer("huey_send"),
        size=5000,
        quick=500,
        aim=AT_LEAST_5,
    ),
    Benchmark(
        name="huey-consume",
        what="sqlite://: handle and ack",
        against="huey SqliteHuey, fsync on: dequeue and execute, no ack",
        ours=ours.side("sqlite", ours.consume),
        theirs=peer("huey_consume"),
        size=5000,
        quick=500,
        aim=AT_LEAST_5,
    ),
    Benchmark(
        name="blocking-send-many",
        what="memory://: send_many, blocking API",
        against="the async one",
        ours=ours.blocking("memory", ours.blocking_send_many),
        theirs=ours.side("memory", ours.send_many),
        size=50_000,
        quick=500,
        aim=Aim(bound="at least", value=0.8),
    ),
    Benchmark(
        name="blocking-send",
        what="memory://: send() one by one, blocking API",
        against="",
        ours=ours.blocking("memory", ours.blocking_send),
        theirs=None,
        size=10_000,
        quick=200,
        aim=Aim(bound="at least", value=8000, of="figure"),
    ),
    Benchmark(
        name="claim",
        what="sqlite://: claim and ack 1,000 of 1,000,000 waiting",
        against="1,000 of 1,000",
        ours=scale.claim_from_many,
        theirs=scale.claim_from_few,
        size=1_000_000,
        quick=2000,
        aim=Aim(bound="at most", value=1.5),
        unit="s",
    ),
    Benchmark(
        name="backlog",
        what="sqlite://: growth of a slow consumer, 100,000 waiting",
        against="",
        ours=scale.backlog,
        theirs=None,
        size=100_000,
        quick=2000,
        aim=Aim(bound="at most", value=50, of="figure"),
        unit="MiB",
    ),
    Benchmark(
        name="worker-memory",
        what="memory://: a Worker's handler, 1 KiB",
        against="a bare consumer's",
        ours=partial(worker_cost.handled, "memory"),
        theirs=ours.side("memory", worker_cost.bare),
        size=50_000,
        quick=500,
        aim=Aim(bound="at least", value=0.85),
    ),
    Benchmark(
        name="worker-sqlite",
        what="sqlite://: a Worker's handler, 1 KiB",
        against="a bare consumer's",
        ours=partial(worker_cost.handled, "sqlite"),
        theirs=ours.side("sqlite", worker_cost.bare),
        size=30_000,
        quick=500,
        aim=Aim(bound="at least", value=0.85),
    ),
    Benchmark(
        name="worker-processes",
        what="sqlite://: anyqueue worker --processes 8, handler of 1 ms CPU",
        against="one process",
        ours=partial(worker_cost.processes, worker_cost.MANY),
        theirs=partial(worker_cost.processes, 1),
        size=4000,
        quick=200,
        aim=Aim(bound="at least", value=1.6),
    ),
    Benchmark(
        name="worker-drain",
        what="sqlite://: SIGTERM to end beyond the drain timeout, under load",
        against="",
        ours=worker_cost.drain,
        theirs=None,
        size=1000,
        quick=50,
        aim=Aim(bound="at most", value=1, of="figure"),
        unit="s",
    ),
    Benchmark(
        name="import",
        what="import anyqueue, in a fresh process",
        against="",
        ours=scale.import_ours,
        theirs=None,
        size=1,
        quick=1,
        aim=Aim(bound="at most", value=100, of="figure"),
        unit="ms",
    ),
    Benchmark(
        name="start",
        what="python -c 'import anyqueue', the whole process",
        against="python -c pass",
        ours=lambda _stage: scale.start_with("import anyqueue"),
        theirs=lambda _stage: scale.start_with("pass"),
        size=1,
        quick=1,
        unit="ms",
    ),
    *amqp_entries.BENCHMARKS,
    *grouped("ZeroMQ", zeromq_entries.BENCHMARKS),
    *grouped("Gearman", gearman_entries.BENCHMARKS),
    *grouped("XMPP", xmpp_entries.BENCHMARKS),
    *grouped("STOMP", stomp_entries.BENCHMARKS),
)
