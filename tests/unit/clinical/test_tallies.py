"""Where a site's patients are, as the gauges tell it."""

from __future__ import annotations

import asyncio
from typing import Any

from services.clinical.domain.digests import EMPTY
from services.clinical.domain.going import Going
from services.clinical.domain.holdings import Announced, Holding, StageCount
from services.clinical.handlers import Here
from services.clinical.tallies import tally_of
from services.clinical.views import ALL_RUNS, GOING, HOLDINGS
from services.kit.clock import ManualClock
from services.kit.metrics import DIGEST_MISMATCHES, NOTICES, PLANS, Metrics
from services.kit.store.kinds import Kind, Plan, Write
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.store.protocol import AsyncTransaction

SITE = "hospital-a"
OTHER = "ff" * 32


def held(run: str, digest: str, **fields: Any) -> Holding:
    return Holding(run, key=b"k", digest=digest, entries=1, members=1, **fields)


def test_patients_of_running_runs_are_counted_and_a_digest_that_differs_is() -> None:
    async def story() -> None:
        store, metrics, here = AsyncMemoryStore(MemoryDatabase()), Metrics("clinical"), Here()
        here.connect(SITE, lambda sealed: b"", ManualClock())
        tally = tally_of(here)
        await tally(store, ManualClock(), metrics)
        assert sample(metrics, PLANS.name, stage="open") == 0, "also before there is a run"
        first = held(
            "r-1",
            EMPTY,
            announced=Announced(1, 1, EMPTY),
            stages={"open": StageCount(2, 2), "pending": StageCount(1, 1)},
            notices={"owed": 2, "notified": 1},
        )
        second = held("r-2", EMPTY, announced=Announced(1, 1, OTHER), stages={"open": StageCount(3, 4)})
        ended = held("r-3", EMPTY, announced=Announced(1, 1, OTHER), stages={"open": StageCount(9, 9)})
        for holding in (first, second, ended):
            await put(store, HOLDINGS, f"{holding.run}|{SITE}", holding)
        await put(store, GOING, ALL_RUNS, Going(("r-1", "r-2")))
        await tally(store, ManualClock(), metrics)
        told = {stage: sample(metrics, PLANS.name, stage=stage) for stage in ("open", "pending", "moved")}
        assert told == {"open": 5, "pending": 1, "moved": 0}, "not those of the run that is over"
        notices = {s: sample(metrics, NOTICES.name, state=s) for s in ("owed", "notified", "unreachable")}
        assert notices == {"owed": 2, "notified": 1, "unreachable": 0}
        assert sample(metrics, DIGEST_MISMATCHES.name) == 1

    asyncio.run(story())


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"site": SITE, **labels})


async def put(store: AsyncMemoryStore, kind: Kind[Any], id: str, state: object) -> None:
    async def work(txn: AsyncTransaction) -> None:
        await txn.write(Plan((Write(kind, id, 0, 1, state),), ()))

    await store.transact(work)
