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
    """Tell how many records each runner has taken, whenever that has changed."""
    told: dict[str, int] = {}
    tell("started")
    while True:
        records = {runner.name.partition(".")[2]: runner.status.records for runner in app.runners}
        if records != told:
            told = records
            tell("taken", **records, at=time.time(), cpu=time.process_time(), rss=memory_mb())
        await asyncio.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main(replace(SPEC, background=_watch))
