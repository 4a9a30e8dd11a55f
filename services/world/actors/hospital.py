"""A hospital's clerk: its patients, and its own record of what they were given.

The same dispenses as the pharmacies', written by another hand: what is missing
there may be here, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.kit.ids import dispense_id
from services.world.actors.asking import template_for
from services.world.actors.calendar import Due, keep
from services.world.actors.desk import Desk
from services.world.entities import Dispense, FollowUp, Subject
from services.world.ids import moment
from services.world.platform_api import check_facts
from services.world.records import Change, Correction, Hospital, Late

_BATCH = 500


class HospitalClerk:
    def __init__(self, desk: Desk, hospital: Hospital) -> None:
        self._desk, self._hospital = desk, hospital
        self._clinical = desk.platform.clinical_at(hospital.site)
        #: Records that lie in the tray and will be entered in their own time.
        self.tray = {late.dispense.dispense for late in hospital.feed.late}

    # -- records ----------------------------------------------------------------

    async def send_records(self) -> None:
        """How patients are asked, who they are, what they were given; a few records go out a second time."""
        subjects, feed = self._hospital.subjects, self._hospital.feed
        for follow_up in self._hospital.follow_ups:
            step = f"template:{follow_up.product}:{follow_up.hours}"
            if not self._is_done(step):
                await self._register_template(step, follow_up)
                self._finish(step)
        for start in range(0, len(subjects), _BATCH):
            step = f"subjects:{start}"
            if not self._is_done(step):
                await self._send_subjects(step, subjects[start : start + _BATCH])
                self._finish(step)
        for start in range(0, len(feed.on_time), _BATCH):
            await self.once(f"medication:{start}", feed.on_time[start : start + _BATCH])
        await self.once("medication:again", feed.sent_twice)
        for correction in feed.corrections:
            if correction.late is None and not self._is_done(f"correction:{correction.record}"):
                await self._correct(correction)
                self._finish(f"correction:{correction.record}")
        self._desk.say(
            f"{self._hospital.site}: {len(self._hospital.bodies)} patients and "
            f"{len(feed.on_time)} medications recorded"
        )

    async def send_late(self) -> None:
        """What comes later: late records, corrections, and patients who withdraw, move or die."""
        feed = self._hospital.feed
        dues = [self._late(item) for item in feed.late]
        dues += [self._correction(item) for item in feed.corrections if item.late]
        dues += [self._change(item) for item in self._hospital.changes]
        await keep(self._desk, dues)

    def _late(self, late: Late) -> Due:
        step = f"medication:late:{late.dispense.dispense}"

        async def send() -> None:
            await self._send(step, [late.dispense])
            self.tray.discard(late.dispense.dispense)

        said = f"{self._hospital.site}: a medication was recorded late"
        return Due(late.after, self._step(step), send, said)

    def _correction(self, correction: Correction) -> Due:
        assert correction.late

        async def send() -> None:
            await self._correct(correction)

        step = self._step(f"correction:{correction.record}")
        return Due(correction.late, step, send, f"{self._hospital.site}: a wrong lot was corrected")

    def _change(self, change: Change) -> Due:
        subject = change.subject
        step = f"subject:{subject.pseudonym}:{subject.at.isoformat()}"

        async def send() -> None:
            await self._send_subjects(step, [subject])

        return Due(change.after, self._step(step), send, f"{self._hospital.site}: {_told(subject)}")

    # -- calls ----------------------------------------------------------------------

    async def once(self, step: str, dispenses: Sequence[Dispense]) -> None:
        """Enter what was given, unless that was done before."""
        if dispenses and not self._is_done(step):
            await self._send(step, dispenses)
            self._finish(step)

    async def _register_template(self, step: str, follow_up: FollowUp) -> None:
        request = api.RegisterFollowUpTemplateRequest(
            request_id=self._desk.request(step),
            site=self._hospital.site,
            template=template_for(follow_up),
        )
        await self._desk.call(self._clinical.RegisterFollowUpTemplate, request)

    async def _send_subjects(self, step: str, subjects: Sequence[Subject]) -> None:
        request = api.RecordSubjectsRequest(
            request_id=self._desk.request(step),
            site=self._hospital.site,
            subjects=[_subject(item) for item in subjects],
        )
        answer = await self._desk.call(self._clinical.RecordSubjects, request)
        check_facts(answer.receipt, "RecordSubjects")

    async def _send(self, step: str, dispenses: Sequence[Dispense]) -> None:
        request = api.RecordMedicationsRequest(
            request_id=self._desk.request(step),
            site=self._hospital.site,
            medications=[_medication(dispense) for dispense in dispenses],
        )
        answer = await self._desk.call(self._clinical.RecordMedications, request)
        check_facts(answer.receipt, "RecordMedications")

    async def _correct(self, correction: Correction) -> None:
        """Take back the wrong record, and enter what is right."""
        wrong = correction.wrong
        request = api.RecordMedicationCorrectionsRequest(
            request_id=self._desk.request("correction", correction.record),
            site=self._hospital.site,
            corrections=[
                events.MedicationCorrected(
                    dispense=wrong.dispense,
                    site=wrong.site,
                    pseudonym=wrong.pseudonym,
                    reason=correction.reason,
                    at=moment(correction.at),
                )
            ],
        )
        answer = await self._desk.call(self._clinical.RecordMedicationCorrections, request)
        check_facts(answer.receipt, "RecordMedicationCorrections")
        await self._send(f"medication:right:{correction.right.dispense}", [correction.right])

    # -- progress ---------------------------------------------------------------------

    def _step(self, step: str) -> str:
        return f"{self._hospital.site}:{step}"

    def _is_done(self, step: str) -> bool:
        return self._desk.progress.is_done(self._step(step))

    def _finish(self, step: str) -> None:
        self._desk.progress.finish(self._step(step))


def _told(subject: Subject) -> str:
    if subject.status == "MOVED":
        return f"a patient moved to {subject.moved_to}"
    if subject.status == "DECEASED":
        return "a patient died"
    return "a patient enrolled" if subject.consent else "a patient withdrew"


def _medication(dispense: Dispense) -> events.MedicationRecorded:
    """A dispense that has kept the id from before its site was known is entered under that id."""
    usual = dispense_id(dispense.site, dispense.order, dispense.lot)
    return events.MedicationRecorded(
        dispense=dispense.dispense,
        site=dispense.site,
        pseudonym=dispense.pseudonym,
        lot=dispense.lot,
        order=dispense.order if dispense.dispense == usual else "",
        at=moment(dispense.at),
        quantity=common.Quantity(value=dispense.amount, unit=dispense.unit),
    )


def _subject(subject: Subject) -> api.Subject:
    return api.Subject(
        pseudonym=subject.pseudonym,
        consent=subject.consent,
        profile=events.SubjectProfile(age_years=subject.age, sex=subject.sex, arm=subject.arm),
        at=moment(subject.at),
        status=f"SUBJECT_STATUS_{subject.status}",
        moved_to=subject.moved_to,
    )
