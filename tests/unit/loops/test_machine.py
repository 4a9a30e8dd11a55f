"""What the loop's machine says of itself, without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation

from services.kit.metrics import Metrics
from services.kit.readiness import Readiness
from services.kit.runners.batch import RunnerState
from services.loops.checks import Needs
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


def test_what_was_taken_before_the_first_look_at_a_commit_counts() -> None:
    # A burst that ends within two seconds, and nothing after it.
    watch = CommitWatch()
    watch.stalled(0.0, committed=5, taken=35)
    watch.stalled(2.0, committed=5, taken=35)
    assert watch.stalled(62.0, committed=5, taken=35) == 60


def test_a_loop_that_has_nothing_to_do_does_not_stall() -> None:
    watch = CommitWatch()
    assert [watch.stalled(now, committed=5, taken=5) for now in (0.0, 100.0, 1000.0)] == [0, 0, 0]


@pytest.mark.parametrize("state", ["starting", "recovering", "waiting", "failed", "stopped"])
def test_a_service_is_ready_only_while_its_loop_turns(state: str) -> None:
    loop: Any = SimpleNamespace(name="loops.cases", status=RunnerState("loops.cases", "running"))
    fine: Any = SimpleNamespace(trouble=lambda: "")
    readiness = Readiness(
        metrics=Metrics("loops"),
        backbone=fine,
        database=fine,
        presence=fine,
        producer=fine,
        heartbeat=fine,
        runners=lambda: [loop],
    )
    assert readiness.reasons() == []
    loop.status.state, loop.status.detail = state, "why"
    assert readiness.reasons() == [f"loops.cases: {state} (why)"]
    assert set(readiness.ages()) == {"loops.cases"}, "its turning is part of the heartbeat"


def test_a_loop_needs_the_right_to_read_its_letters_and_to_be_told_of_them() -> None:
    read, write = AclOperation.READ, AclOperation.WRITE
    needs = Needs("case", "changelog", 6, ("runs",), "group", letters="case.dlq")
    assert (needs.rights["case"], needs.rights["case.dlq"]) == ((read, write), (read, write))
    assert Needs("case", "changelog", 6, ("runs",), "group").rights["case"] == (read,)
