"""The makers' physician: how dangerous is it that patients received the lot, and what are they told?

Judges from what the platform publishes of the run's lot: the further a
confirmed deviation lies from its golden run, the higher the class. Nobody is
told, and nobody asked, before this is signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.actors.runs import open_runs
from services.world.ids import short
from services.world.platform_api import Refused
from services.world.timing import LOOK_SECONDS

THINKING = timedelta(minutes=30)
#: Class I from this distance on, class II from that; in residual standard deviations.
CLASS_I_FROM, CLASS_II_FROM = 20.0, 6.0
_TEXT = "A medicine that you received may not have been made as it should be."
_INSTRUCTIONS = {
    events.HAZARD_CLASS_I: "Stop taking it today and call your hospital at once.",
    events.HAZARD_CLASS_II: "Stop taking it, bring back what is left, and tell us how you feel.",
    events.HAZARD_CLASS_III: "You may go on taking it. Tell us of any complaint.",
}


def class_of(magnitude: float) -> events.HazardClass:
    """The class for the largest distance of a confirmed deviation."""
    if magnitude >= CLASS_I_FROM:
        return events.HAZARD_CLASS_I
    return events.HAZARD_CLASS_II if magnitude >= CLASS_II_FROM else events.HAZARD_CLASS_III


class Physician:
    def __init__(self, desk: Desk, lots: Collection[str]) -> None:
        self._desk, self._lots = desk, lots
        self._seen: dict[str, datetime] = {}

    async def run(self) -> None:
        while True:
            for run in await open_runs(self._desk, self._lots):
                now = self._desk.clock.now()
                waited = now - self._seen.setdefault(run.run, now)
                if waited >= THINKING and not self._desk.progress.is_done(f"hazard:{run.run}"):
                    await self._evaluate(run)
            await asyncio.sleep(LOOK_SECONDS)

    async def _evaluate(self, run: loops.Run) -> None:
        desk, production = self._desk, self._desk.platform.production
        known = await desk.call(production.GetHazard, api.GetHazardRequest(run=run.run))
        if not known.HasField("hazard"):
            lot = await self._lot(run.opened.lot)
            if run.run not in lot.runs:
                return  # the plant has not heard of the run yet; a refusal would be kept as its answer
            hazard_class = class_of(_magnitude(lot))
            request = api.EvaluateHazardRequest(
                request_id=desk.request("hazard", run.run),
                run=run.run,
                hazard_class=hazard_class,
                text=_TEXT,
                instruction=_INSTRUCTIONS[hazard_class],
                meaning="I have read the deviation and sign what patients are told.",
            )
            try:
                await desk.call(production.EvaluateHazard, request)
            except Refused as refusal:
                desk.say(f"physician: {refusal}")
                return
            name = events.HazardClass.Name(hazard_class).removeprefix("HAZARD_CLASS_")
            desk.say(f"physician: hazard of {short(run.opened.lot)} is of class {name}")
        desk.progress.finish(f"hazard:{run.run}")

    async def _lot(self, lot: str) -> api.Lot:
        answer = await self._desk.call(self._desk.platform.production.GetLot, api.GetLotRequest(lot=lot))
        return answer.lot


def _magnitude(lot: api.Lot) -> float:
    confirmed = [d for d in lot.deviations if d.state == api.DEVIATION_STATE_CONFIRMED]
    return max((deviation.detected.magnitude for deviation in confirmed), default=0.0)
