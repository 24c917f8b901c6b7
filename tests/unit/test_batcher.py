"""Batcher and Gate: what accumulates, what is flushed, who is let in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue._batcher import Batcher
from anyqueue._gate import Gate


async def test_what_is_added_while_a_call_is_in_flight_goes_out_together() -> None:
    batches: list[list[int]] = []
    go, started = asyncio.Event(), asyncio.Event()

    async def carry(batch: list[int]) -> None:
        batches.append(batch)
        started.set()
        await go.wait()

    batcher = Batcher(carry, max_batch=3)
    batcher.add(0)
    await started.wait()
    for item in range(1, 6):
        batcher.add(item)
    go.set()
    await batcher.flush()
    assert batches == [[0], [1, 2, 3], [4, 5]]
    assert not batcher.busy


async def test_what_is_added_right_after_a_call_ended_is_not_forgotten() -> None:
    carried: list[int] = []
    ended = asyncio.Event()
    batcher: Batcher[int]

    async def carry(batch: list[int]) -> None:
        carried.extend(batch)
        if batch[0] < 100:
            asyncio.get_running_loop().call_soon(batcher.add, batch[0] + 1)
        else:
            ended.set()

    batcher = Batcher(carry, max_batch=10)
    batcher.add(0)
    async with asyncio.timeout(5):
        await ended.wait()
    await batcher.flush()
    assert carried == list(range(101))


async def test_at_most_max_calls_at_once_and_order_within_them() -> None:
    running = most = 0
    carried: list[int] = []

    async def carry(batch: list[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        carried.extend(batch)
        await asyncio.sleep(0)
        running -= 1

    batcher = Batcher(carry, max_batch=2, max_calls=3)
    for item in range(50):
        batcher.add(item)
    await batcher.flush()
    assert most == 3
    assert carried == list(range(50))


async def test_abandon_returns_what_had_not_gone_out() -> None:
    started = asyncio.Event()

    async def carry(_batch: list[int]) -> None:
        started.set()
        await asyncio.Event().wait()

    batcher = Batcher(carry, max_batch=1)
    for item in range(3):
        batcher.add(item)
    await started.wait()
    assert batcher.abandon() == [1, 2]
    await batcher.flush()
    assert not batcher.busy


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=12))
def test_one_alone_or_many_together(visitors: list[tuple[bool, int, bool]]) -> None:
    """Whoever asked to be alone is, nobody is shut out for ever, also when some give up waiting."""
    inside: list[bool] = []
    finished = 0

    async def visit(gate: Gate, *, alone: bool, turns: int) -> None:
        nonlocal finished
        await gate.enter(alone=alone)
        inside.append(alone)
        assert len(inside) == 1 or not any(inside)
        for _ in range(turns):
            await asyncio.sleep(0)
        inside.remove(alone)
        gate.leave()
        finished += 1

    async def run() -> None:
        gate = Gate()
        tasks = [asyncio.create_task(visit(gate, alone=alone, turns=turns)) for alone, turns, _ in visitors]
        await asyncio.sleep(0)
        waiting = [
            task for task, (_, _, gives_up) in zip(tasks, visitors, strict=True) if gives_up and len(gate._queue) > 1
        ]
        given_up = [task for task in waiting if not task.done() and _waits(task)]
        for task in given_up:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert finished == len(tasks) - sum(task.cancelled() for task in tasks)

    def _waits(task: asyncio.Task[None]) -> bool:
        frame = task.get_stack()[-1] if task.get_stack() else None
        return frame is not None and frame.f_code.co_name == "enter"

    asyncio.run(run())


async def test_leaving_lets_those_who_wait_in_together() -> None:
    gate = Gate()
    await gate.enter(alone=True)
    others = [asyncio.create_task(gate.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in others)
    gate.leave()
    await asyncio.wait_for(asyncio.gather(*others), 30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gate.enter(alone=True), 0.01)
    for _ in others:
        gate.leave()
    await asyncio.wait_for(gate.enter(alone=True), 30)
