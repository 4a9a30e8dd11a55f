"""Open runs by stage and age, as the gauges tell them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from services.kit.clock import ManualClock
from services.kit.metrics import RUN_IN_STAGE, RUN_OLDEST, RUNS_OPEN, Metrics
from services.kit.store.kinds import Plan, Write
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.store.protocol import AsyncTransaction
from services.loops.domain.cases import STAGES
from services.loops.domain.runs import CLOSED, OPEN, STALLED, RunView
from services.loops.tallies import tally
from services.loops.views import RUNS
from tests.unit.kit.support import NOON

TRANSFER, EVIDENCE = STAGES["transfer"][0], STAGES["evidence"][0]


def run(name: str, hours: float, **fields: object) -> RunView:
    """A run that began so many hours ago."""
    began = (NOON - timedelta(hours=hours)).isoformat()
    return replace(RunView(run=name, lot="m/item/G/1", opened=b"", began=began, since=began), **fields)  # type: ignore[arg-type]


async def put(store: AsyncMemoryStore, *views: RunView) -> None:
    async def work(txn: AsyncTransaction) -> None:
        known = await store.among(RUNS, "_id", [view.run for view in views])
        versions = {found.id: found.version for found in known}
        writes = [Write(RUNS, v.run, versions.get(v.run, 0), versions.get(v.run, 0) + 1, v) for v in views]
        await txn.write(Plan(tuple(writes), ()))

    await store.transact(work)


def value(metrics: Metrics, metric: object, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(getattr(metric, "name"), labels)  # noqa: B009


def test_runs_are_counted_by_stage_with_the_age_of_the_oldest_and_a_stage_that_empties_says_0() -> None:
    async def story() -> None:
        store, clock, metrics = AsyncMemoryStore(MemoryDatabase()), ManualClock(NOON), Metrics("loops")
        entered = (NOON - timedelta(minutes=5)).isoformat()
        await put(
            store,
            run("a", 2.0, stage="trace"),
            run("b", 3.0, stage="trace", state=STALLED, since=entered),
            run("c", 9.0, stage="trace", state=CLOSED),
            run("d", 1.0, stage=TRANSFER, loop="transfer"),
        )
        await tally(store, clock, metrics)
        of_trace = {"loop": "safety", "stage": "trace"}
        assert value(metrics, RUNS_OPEN, **of_trace, state=OPEN) == 1
        assert value(metrics, RUNS_OPEN, **of_trace, state=STALLED) == 1
        assert value(metrics, RUN_OLDEST, **of_trace) == 3 * 3600, "the ended one does not count"
        assert value(metrics, RUN_IN_STAGE, **of_trace) == 2 * 3600, "b entered five minutes ago"
        assert value(metrics, RUNS_OPEN, loop="transfer", stage=TRANSFER, state=OPEN) == 1
        assert value(metrics, RUNS_OPEN, loop="evidence", stage=EVIDENCE, state=OPEN) == 0
        await put(store, run("a", 2.0, state=CLOSED, stage=""), run("b", 3.0, state=CLOSED, stage=""))
        await tally(store, clock, metrics)
        assert value(metrics, RUNS_OPEN, **of_trace, state=STALLED) == 0
        assert value(metrics, RUN_OLDEST, **of_trace) == 0

    asyncio.run(story())
