"""The runs of the safety loop that concern this world."""

from __future__ import annotations

from collections.abc import Collection

from pharmaloop.loops.v1 import service_pb2 as loops
from services.world.actors.desk import Desk


async def all_runs(desk: Desk, lots: Collection[str]) -> list[loops.Run]:
    """Every run whose root is one of the lots."""
    pages = desk.platform.pages(desk.platform.loops.ListRuns, loops.ListRunsRequest(), desk.actor)
    return [run async for page in pages for run in page.runs if run.opened.lot in lots]


async def open_runs(desk: Desk, lots: Collection[str]) -> list[loops.Run]:
    return [run for run in await all_runs(desk, lots) if run.state != loops.RUN_STATE_CLOSED]
