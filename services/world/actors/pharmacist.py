"""The pharmacists' chamber: who received a dispense that names nobody?

A pharmacy that will find out is given its time. For the others a pharmacist
looks for two hours, and then signs that nobody can be named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.traceability.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.actors.runs import open_runs
from services.world.ids import short
from services.world.platform_api import Refused
from services.world.timing import LOOK_SECONDS

LOOKING = timedelta(hours=2)


class Pharmacist:
    """`expected` are dispenses whose patient some pharmacy is still looking for."""

    def __init__(self, desk: Desk, lots: Collection[str], expected: Collection[str]) -> None:
        self._desk, self._lots, self._expected = desk, lots, expected
        self._noticed: dict[str, datetime] = {}

    async def run(self) -> None:
        while True:
            for run in await open_runs(self._desk, self._lots):
                for item in await self._nameless(run):
                    await self._look_at(run, item)
            await asyncio.sleep(LOOK_SECONDS)

    async def _nameless(self, run: loops.Run) -> list[api.Unattributed]:
        desk = self._desk
        request = api.ListUnattributedRequest(run=run.run, only_open=True)
        pages = desk.platform.pages(desk.platform.traceability.ListUnattributed, request, desk.actor)
        try:
            return [item async for page in pages for item in page.dispenses]
        except Refused:
            return []  # the run has not reached the trace yet

    async def _look_at(self, run: loops.Run, item: api.Unattributed) -> None:
        desk = self._desk
        now = desk.clock.now()
        noticed = self._noticed.setdefault(item.dispense, now)
        if item.dispense in self._expected or now - noticed < LOOKING:
            return
        who = ", ".join(item.sources) or "the source"
        request = api.ExplainUnattributedRequest(
            request_id=desk.request("explain", run.run, item.dispense),
            run=run.run,
            dispense=item.dispense,
            reason=f"{who} sold it without a prescription and asked for no name; its till and its book were "
            "searched, and a notice hangs at the counter",
            meaning="I have looked for the patient and sign that nobody can be named.",
        )
        try:
            await desk.call(desk.platform.traceability.ExplainUnattributed, request)
        except Refused as refusal:
            desk.say(f"pharmacist: {refusal}")
            return
        desk.say(f"pharmacist: explained why nobody can be named for a dispense of {short(item.lot)}")
