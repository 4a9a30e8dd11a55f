"""What the loop's machine says of itself, without a broker."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from services.kit.app import Running
from services.kit.runners.batch import RunnerState
from services.loops.machine import CommitWatch


def test_a_commit_that_advances_is_no_stall() -> None:
    watch = CommitWatch()
    assert [watch.stalled(now, committed=n, taken=n + 3) for n, now in enumerate((0.0, 2.0, 4.0))] == [
        0,
        0,
        0,
    ]


def test_a_commit_that_stands_while_records_are_taken_is_a_stall_that_grows() -> None:
    # A known fault of the library leaves a gap in what it acknowledges: commits stand for ever.
    watch = CommitWatch()
    watch.stalled(0.0, committed=5, taken=5)
    assert watch.stalled(2.0, committed=5, taken=9) == 0
    assert watch.stalled(12.0, committed=5, taken=20) == 10
    assert watch.stalled(62.0, committed=5, taken=20) == 60, "also when nothing more comes"
    assert watch.stalled(64.0, committed=20, taken=20) == 0


def test_a_loop_that_has_nothing_to_do_does_not_stall() -> None:
    watch = CommitWatch()
    assert [watch.stalled(now, committed=5, taken=5) for now in (0.0, 100.0, 1000.0)] == [0, 0, 0]


@pytest.mark.parametrize("state", ["starting", "recovering", "waiting", "failed", "stopped"])
async def test_a_service_is_ready_only_while_its_loop_turns(state: str) -> None:
    told: list[bool] = []
    heard = asyncio.Event()

    async def set_serving(ready: bool) -> None:
        told.append(ready)
        heard.set()

    loop = SimpleNamespace(status=RunnerState("loops.safety", "running"))
    running: Any = Running.__new__(Running)
    running._app = SimpleNamespace(watched=[loop], ready=False)
    running._worker, running._server = True, SimpleNamespace(set_serving=set_serving)
    watching = asyncio.ensure_future(running._watch_health())
    try:
        for now, ready in (("running", True), (state, False), ("running", True)):
            loop.status.state = now
            await asyncio.wait_for(heard.wait(), 10)
            heard.clear()
            assert told[-1] is ready
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert told == [True, False, True]
