"""A hospital's notice desk: tells every exposed patient what was signed, also who is not followed up."""

from __future__ import annotations

import time
from collections.abc import Collection

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.actors.runs import open_runs
from services.world.ids import moment, short
from services.world.platform_api import Refused, check_facts
from services.world.timing import rest

LOOK_SECONDS = 1.0
_BULK = 500


class NoticeDesk:
    """`away` are pseudonyms of people who read nothing and answer no telephone."""

    def __init__(self, desk: Desk, site: str, away: Collection[str], lots: Collection[str]) -> None:
        self._desk, self._site, self._away, self._lots = desk, site, away, lots
        self._clinical = desk.platform.clinical_at(site)
        #: Runs with their patients. The list of open notices may be behind what was recorded here, and
        #: telling everybody anew at every look would put it further behind.
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            for run in await open_runs(self._desk, self._lots):
                if owed := await self._owed(run.run):
                    await self._tell(run.run, run.opened.lot, owed)
            await rest(began, LOOK_SECONDS)

    async def _owed(self, run: str) -> list[str]:
        desk = self._desk
        request = api.ListNoticesRequest(site=self._site, run=run, only_open=True)
        pages = desk.platform.pages(self._clinical.ListNotices, request, desk.actor)
        try:
            owed = [notice.pseudonym async for page in pages for notice in page.notices]
        except Refused:
            return []
        return [name for name in owed if (run, name) not in self._told]

    async def _tell(self, run: str, lot: str, patients: list[str]) -> None:
        at = moment(self._desk.clock.now())
        for start in range(0, len(patients), _BULK):
            bulk = patients[start : start + _BULK]
            request = api.RecordNoticesRequest(
                request_id=self._desk.request("notices", run, *bulk),
                site=self._site,
                notices=[
                    clinical.NoticeRecorded(
                        run=run,
                        pseudonym=name,
                        outcome=clinical.NOTICE_OUTCOME_UNREACHABLE
                        if name in self._away
                        else clinical.NOTICE_OUTCOME_NOTIFIED,
                        at=at,
                    )
                    for name in bulk
                ],
            )
            answer = await self._desk.call(self._clinical.RecordNotices, request)
            check_facts(answer.receipt, "RecordNotices")
            self._told |= {(run, name) for name in bulk}
        self._desk.say(f"{self._site}: told {len(patients)} patients about {short(lot)}")
