"""How many runs go on, in which stage, and since when: counted from the rows that people read."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from services.kit.clock import Clock
from services.kit.metrics import RUN_IN_STAGE, RUN_OLDEST, RUNS_OPEN, Metrics
from services.kit.store.protocol import AsyncStore
from services.loops.domain.cases import STAGES
from services.loops.domain.runs import OPEN, STALLED
from services.loops.views import RUNS


async def tally(store: AsyncStore, clock: Clock, metrics: Metrics) -> None:
    """Count the runs that have not ended. Every stage is told, so that one that empties says 0."""
    going = [found.state for found in await store.among(RUNS, "state", (OPEN, STALLED))]
    counts = Counter((run.loop, run.stage, run.state) for run in going)
    for loop, stages in STAGES.items():
        for stage in stages:
            for state in (OPEN, STALLED):
                metrics.set(RUNS_OPEN, counts[loop, stage, state], loop=loop, stage=stage, state=state)
            here = [run for run in going if (run.loop, run.stage) == (loop, stage)]
            ages = [(clock.wall() - datetime.fromisoformat(run.began)).total_seconds() for run in here]
            entered = [datetime.fromisoformat(run.since) for run in here if run.since]
            waits = [-clock.until(moment).total_seconds() for moment in entered]
            metrics.set(RUN_OLDEST, max(ages, default=0.0), loop=loop, stage=stage)
            metrics.set(RUN_IN_STAGE, max(waits, default=0.0), loop=loop, stage=stage)
