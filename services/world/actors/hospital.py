"""The hospital's clerk: its patients, and its own record of what they were given.

The same dispenses as the pharmacy's, written by another hand: what is missing
there may be here, and the other way round. When the platform shows an exposure
that the hospital's own records lack, the clerk looks it up in the paper charts
and enters it: a difference between two sources is explained by a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import service_pb2 as loops
from services.world.actors.desk import Desk
from services.world.entities import Dispense, Feed, Subject
from services.world.ids import moment, short
from services.world.platform_api import Refused, check_facts
from services.world.timing import LOOK_SECONDS

_BATCH = 100
#: How long it takes to find a paper chart.
LOOKING_UP = timedelta(minutes=20)


class HospitalClerk:
    def __init__(self, desk: Desk, site: str, subjects: Sequence[Subject], feed: Feed) -> None:
        self._desk = desk
        self._site = site
        self._subjects = subjects
        self._feed = feed
        self._charts = {dispense.dispense: dispense for dispense in feed.never}
        self._noticed: dict[str, datetime] = {}

    async def send_records(self) -> None:
        """The patients, then what they were given; a few records go out a second time."""
        for start in range(0, len(self._subjects), _BATCH):
            await self._send_subjects(f"subjects:{start}", self._subjects[start : start + _BATCH])
        on_time = self._feed.on_time
        for start in range(0, len(on_time), _BATCH):
            await self._send(f"medication:{start}", on_time[start : start + _BATCH])
        await self._send("medication:again", self._feed.sent_twice)
        self._desk.say(f"hospital: {len(self._subjects)} patients, {len(on_time)} medications recorded")

    async def send_late(self) -> None:
        """What arrives late, each record at its own time after the runs began."""
        waited = timedelta()
        for late in self._feed.late:
            step = f"medication:late:{late.dispense.dispense}"
            if self._desk.progress.is_done(step):
                continue
            await self._desk.sleep(late.after - waited)
            waited = late.after
            await self._send(step, [late.dispense])
            self._desk.say("hospital: a medication was recorded late")

    async def look_up_differences(self) -> None:
        """Enter from the charts what a run of the loop shows and the own records lack."""
        while True:
            for run in await self._open_runs():
                for exposure in await self._not_at_site(run.run):
                    await self._look_up(exposure)
            await asyncio.sleep(LOOK_SECONDS)

    async def _open_runs(self) -> list[loops.Run]:
        desk = self._desk
        pages = desk.platform.pages(desk.platform.loops.ListRuns, loops.ListRunsRequest(), desk.actor)
        return [run async for page in pages for run in page.runs if run.state != loops.RUN_STATE_CLOSED]

    async def _not_at_site(self, run: str) -> list[api.Exposure]:
        desk = self._desk
        request = api.ListExposuresRequest(site=self._site, run=run)
        try:
            pages = desk.platform.pages(desk.platform.clinical.ListExposures, request, desk.actor)
            return [item async for page in pages for item in page.exposures if not item.at_site]
        except Refused:
            return []  # the run has not reached the site yet

    async def _look_up(self, exposure: api.Exposure) -> None:
        chart = self._charts.get(exposure.dispense)
        now = self._desk.clock.now()
        if chart is None or now - self._noticed.setdefault(exposure.dispense, now) < LOOKING_UP:
            return
        step = f"medication:chart:{chart.dispense}"
        if not self._desk.progress.is_done(step):
            await self._send(step, [chart])
            self._desk.say(f"hospital: a medication of {short(chart.lot)} was entered from the paper chart")

    async def _send_subjects(self, step: str, subjects: Sequence[Subject]) -> None:
        desk = self._desk
        if desk.progress.is_done(step):
            return
        request = api.RecordSubjectsRequest(
            request_id=desk.request(step), site=self._site, subjects=[_subject(item) for item in subjects]
        )
        answer = await desk.call(desk.platform.clinical.RecordSubjects, request)
        check_facts(answer.receipt, "RecordSubjects")
        desk.progress.finish(step)

    async def _send(self, step: str, dispenses: Sequence[Dispense]) -> None:
        desk = self._desk
        if desk.progress.is_done(step):
            return
        request = api.RecordMedicationsRequest(
            request_id=desk.request(step),
            site=self._site,
            medications=[self._message(dispense) for dispense in dispenses],
        )
        answer = await desk.call(desk.platform.clinical.RecordMedications, request)
        check_facts(answer.receipt, "RecordMedications")
        desk.progress.finish(step)

    def _message(self, dispense: Dispense) -> events.MedicationRecorded:
        return events.MedicationRecorded(
            site=self._site,
            pseudonym=dispense.pseudonym,
            lot=dispense.lot,
            order=dispense.order,
            at=moment(dispense.at),
            quantity=common.Quantity(value=dispense.amount, unit="{patch}"),
        )


def _subject(subject: Subject) -> api.Subject:
    return api.Subject(
        pseudonym=subject.pseudonym,
        consent=subject.consent,
        profile=events.SubjectProfile(age_years=subject.age, sex=subject.sex, arm=subject.arm),
        at=moment(subject.at),
    )
