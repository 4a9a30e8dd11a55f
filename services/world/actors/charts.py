"""A hospital's chart room: why do the platform and the hospital's own records differ?

When the platform shows an exposure that the own records lack, somebody looks
it up in the paper charts and has it entered. Where there is no chart, they say
why the two differ, and sign: a difference between two sources is explained by
a person.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta

from pharmaloop.clinical.v1 import service_pb2 as api
from services.kit.ids import dispense_id, parse_lot
from services.world.actors.desk import Desk
from services.world.actors.hospital import HospitalClerk
from services.world.actors.runs import open_runs
from services.world.entities import Dispense
from services.world.ids import short
from services.world.platform_api import Refused
from services.world.records import Hospital
from services.world.timing import rest

LOOK_SECONDS = 1.0
#: How long it takes to find a paper chart, and to be sure that there is none.
LOOKING_UP, BEING_SURE = timedelta(minutes=20), timedelta(minutes=60)


class ChartRoom:
    """`lots` are the roots of the runs that it is asked about; the clerk enters what it finds."""

    def __init__(self, desk: Desk, hospital: Hospital, clerk: HospitalClerk, lots: Collection[str]) -> None:
        self._desk, self._site, self._clerk, self._lots = desk, hospital.site, clerk, lots
        self._clinical = desk.platform.clinical_at(hospital.site)
        feed = hospital.feed
        self._charts = {dispense.dispense: dispense for dispense in feed.never}
        self._orders: dict[str, list[Dispense]] = {}
        for dispense in (*feed.on_time, *feed.never, *(item.right for item in feed.corrections)):
            self._orders.setdefault(dispense.pseudonym, []).append(dispense)
        self._noticed: dict[str, datetime] = {}
        #: Dispenses that were entered or explained; the list of differences may not show it yet.
        self._settled: set[str] = set()

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            for run in await open_runs(self._desk, self._lots):
                for exposure in await self._not_at_site(run.run):
                    await self._look_at(exposure)
            await rest(began, LOOK_SECONDS)

    async def _not_at_site(self, run: str) -> list[api.Exposure]:
        desk = self._desk
        request = api.ListExposuresRequest(site=self._site, run=run)
        pages = desk.platform.pages(self._clinical.ListExposures, request, desk.actor)
        try:
            return [
                item
                async for page in pages
                for item in page.exposures
                if not item.at_site and not item.explained
            ]
        except Refused:
            return []  # the run has not reached the site yet

    async def _look_at(self, exposure: api.Exposure) -> None:
        if exposure.dispense in self._settled:
            return
        now = self._desk.clock.now()
        waited = now - self._noticed.setdefault(exposure.dispense, now)
        if chart := self._charts.get(exposure.dispense):
            if waited >= LOOKING_UP:
                self._settled.add(exposure.dispense)
                await self._clerk.once(f"medication:chart:{chart.dispense}", [chart])
                self._say(f"a medication of {short(chart.lot)} was entered from the paper chart")
        elif exposure.dispense not in self._clerk.tray and waited >= BEING_SURE:
            await self._explain(exposure)

    async def _explain(self, exposure: api.Exposure) -> None:
        desk = self._desk
        request = api.ExplainDifferenceRequest(
            request_id=desk.request("explain", exposure.dispense),
            site=self._site,
            dispense=exposure.dispense,
            reason=self._why(exposure),
            meaning="I have compared the charts with the trace and sign that this is the difference.",
        )
        try:
            await desk.call(self._clinical.ExplainDifference, request)
        except Refused as refusal:
            self._say(str(refusal))
            return
        self._settled.add(exposure.dispense)
        self._say(f"explained a difference about {short(exposure.lot)}: {request.reason}")

    def _why(self, exposure: api.Exposure) -> str:
        """The own record of the same order names another lot; or there is no record of it at all."""
        for own in self._orders.get(exposure.pseudonym, ()):
            if dispense_id(own.site, own.order, exposure.lot) == exposure.dispense:
                return f"the charts show {_told(own.lot)} for this order, not {_told(exposure.lot)}"
        return "the charts have no such order; the pharmacy was asked"

    def _say(self, text: str) -> None:
        self._desk.say(f"{self._site}: {text}")


def _told(lot: str) -> str:
    """A lot by its number and its maker: two makers may use one number."""
    return f"lot {short(lot)} of {parse_lot(lot).owner}"
