"""How many dispenses without a patient hold a seal, as the gauge tells it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from services.kit.clock import ManualClock
from services.kit.metrics import UNATTRIBUTED, Metrics
from services.kit.store.kinds import Kind, Plan, Write
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.store.protocol import AsyncTransaction
from services.traceability.domain.exposure import Exposure
from services.traceability.domain.run import Run
from services.traceability.tallies import tally
from services.traceability.views import EXPOSURES, RUNS


def test_only_journals_that_are_open_count() -> None:
    async def story() -> None:
        store, metrics = AsyncMemoryStore(MemoryDatabase()), Metrics("traceability")
        going = Run("r-1", "case", "lot", "", "", ())
        for run, number in (
            (going, 3),
            (replace(going, run="r-2"), 4),
            (replace(going, run="r-3", sealed=True), 50),
            (replace(going, run="r-4", cancelled=True), 60),
        ):
            await put(store, RUNS, run.run, run)
            await put(store, EXPOSURES, run.run, Exposure(run.run, "lot", unattributed=number))
        await tally(store, ManualClock(), metrics)
        assert told(metrics) == 7

    asyncio.run(story())


def test_no_run_is_nobody_unknown() -> None:
    async def story() -> None:
        metrics = Metrics("traceability")
        await tally(AsyncMemoryStore(MemoryDatabase()), ManualClock(), metrics)
        assert told(metrics) == 0

    asyncio.run(story())


def told(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value(UNATTRIBUTED.name, {"service": "traceability"})


async def put(store: AsyncMemoryStore, kind: Kind[Any], id: str, state: object) -> None:
    async def work(txn: AsyncTransaction) -> None:
        await txn.write(Plan((Write(kind, id, 0, 1, state),), ()))

    await store.transact(work)
