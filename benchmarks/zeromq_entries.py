"""zmq:// through a hub in a process of its own, against raw pyzmq; the bare PUSH/PULL against a raw one."""

from __future__ import annotations

from typing import Final

import raw
import zeromq_ours as ours
import zeromq_raw
from measure import Aim, Benchmark

ONE_BY_ONE: Final = "zmq.asyncio DEALER/ROUTER, answered one by one"
AT_LEAST_03: Final = Aim(bound="at least", value=0.3)

BENCHMARKS: Final = (
    Benchmark(
        name="zeromq-send-many",
        what="zmq://, hub in memory: send_many",
        against=ONE_BY_ONE,
        ours=ours.side(ours.send),
        theirs=zeromq_raw.send,
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=60_000, of="figure"),
    ),
    Benchmark(
        name="zeromq-send",
        what="zmq://, hub in memory: send() from 1,000 tasks",
        against=ONE_BY_ONE,
        ours=ours.side(ours.send_concurrently),
        theirs=zeromq_raw.send,
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=2),
    ),
    Benchmark(
        name="zeromq-receive",
        what="zmq://, hub in memory: receive and ack in batches",
        against=ONE_BY_ONE,
        ours=ours.side(ours.consume_batches),
        theirs=zeromq_raw.consume,
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=50_000, of="figure"),
    ),
    Benchmark(
        name="zeromq-consume",
        what="zmq://, hub in memory: handle and ack",
        against=ONE_BY_ONE,
        ours=ours.side(ours.consume),
        theirs=zeromq_raw.consume,
        size=50_000,
        quick=1000,
        aim=Aim(bound="at least", value=2),
    ),
    Benchmark(
        name="zeromq-durable",
        what="zmq://, hub on SQLite: send_many",
        against="raw executemany, 100 a transaction",
        ours=ours.side(ours.send, durable=True),
        theirs=raw.insert,
        size=50_000,
        quick=1000,
        aim=AT_LEAST_03,
    ),
    Benchmark(
        name="zeromq-latency",
        what="zmq://, hub in memory: from send() to a waiting handler, median",
        against="blocking DEALER to ROUTER and back",
        ours=ours.side(ours.latency),
        theirs=zeromq_raw.round_trip,
        size=1000,
        quick=50,
        aim=Aim(bound="at most", value=2.5),
        unit="ms",
    ),
    Benchmark(
        name="zeromq-latency-asyncio",
        what="zmq://, hub in memory: from send() to a waiting handler, median",
        against="zmq.asyncio DEALER to ROUTER and back",
        ours=ours.side(ours.latency),
        theirs=zeromq_raw.round_trip_asyncio,
        size=1000,
        quick=50,
        aim=Aim(bound="at most", value=2.5),
        unit="ms",
    ),
    Benchmark(
        name="zeromq-stall",
        what="zmq://, hub in memory: the worst from send() to handler, a trickle beside a burst",
        against="",
        ours=ours.side(ours.trickle),
        theirs=None,
        size=1000,
        quick=50,
        aim=Aim(bound="at most", value=200, of="figure"),
        unit="ms",
    ),
    Benchmark(
        name="zeromq-crowd",
        what="zmq://, hub in memory: handled by 200 consumers, 1,000,000 waiting",
        against="2 consumers, 1,000 waiting",
        ours=ours.crowd(200, 1_000_000),
        theirs=ours.crowd(2, 1000),
        size=1_000_000,
        quick=2000,
        aim=Aim(bound="at least", value=0.7),
    ),
    Benchmark(
        name="zeromq-push",
        what="zmq+push://: send_many, receive and ack",
        against="blocking PUSH/PULL",
        ours=ours.push,
        theirs=zeromq_raw.push_pull,
        size=100_000,
        quick=1000,
        aim=AT_LEAST_03,
    ),
)
