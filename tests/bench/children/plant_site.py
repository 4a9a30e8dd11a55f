"""A process of production as it is, which tells its parent how far its runners are.

python -m tests.bench.children.plant_site --role worker
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from services.kit.app import App, main
from services.kit.rpc.status import memory_mb
from services.production.main import SPEC
from tests.bench.framework.machine import tell

_LOOK_SECONDS = 0.02


async def _watch(app: App) -> None:
    """Tell when the runners have their partitions; then, whenever it has changed, what each has taken."""
    tell("started")
    while not all(runner.positions() for runner in app.runners):
        await asyncio.sleep(_LOOK_SECONDS)
    tell("assigned", **_now())
    told: dict[str, int] = {}
    while True:
        records = {runner.name.partition(".")[2]: runner.status.records for runner in app.runners}
        if records != told:
            told = records
            tell("taken", **records, **_now())
        await asyncio.sleep(_LOOK_SECONDS)


def _now() -> dict[str, float]:
    return {"at": time.time(), "cpu": time.process_time(), "rss": memory_mb()}


if __name__ == "__main__":
    main(replace(SPEC, background=_watch))
