"""A hospital's registry of who takes the developer's medicine: who they are, what they got, how they did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.kit.ids import dispense_id
from services.world.actors.desk import Desk
from services.world.ids import OFFSET, moment
from services.world.platform_api import check_facts
from services.world.treatment import BLEEDING, DAYS, INR, INR_UNIT, Taker

_BATCH = 250
_PACK = common.Quantity(value=28, unit="{tablet}")


class Registry:
    def __init__(self, desk: Desk, site: str, takers: Sequence[Taker]) -> None:
        self._desk, self._site, self._takers = desk, site, takers
        self._clinical = desk.platform.clinical_at(site)

    async def record(self) -> None:
        """Patients, medications, reports of bleeding and laboratory values, some at a time."""
        for start in range(0, len(self._takers), _BATCH):
            step = f"registry:{self._site}:{start}"
            if not self._desk.progress.is_done(step):
                await self._send(step, self._takers[start : start + _BATCH])
                self._desk.progress.finish(step)
        self._desk.say(f"{self._site}: {len(self._takers)} patients of the registry recorded")

    async def _send(self, step: str, takers: Sequence[Taker]) -> None:
        desk, clinical, site = self._desk, self._clinical, self._site
        subjects = api.RecordSubjectsRequest(
            request_id=desk.request(step, "subjects"), subjects=map(_subject, takers), site=site
        )
        answer = await desk.call(clinical.RecordSubjects, subjects)
        check_facts(answer.receipt, "RecordSubjects")
        medications = api.RecordMedicationsRequest(
            request_id=desk.request(step, "medications"), medications=map(_medication, takers), site=site
        )
        answer = await desk.call(clinical.RecordMedications, medications)
        check_facts(answer.receipt, "RecordMedications")
        reports = [_report(taker) for taker in takers if taker.bled]
        if reports:
            adverse = api.RecordAdverseEventsRequest(
                request_id=desk.request(step, "reports"), reports=reports, site=site
            )
            answer = await desk.call(clinical.RecordAdverseEvents, adverse)
            check_facts(answer.receipt, "RecordAdverseEvents")
        labs = api.RecordFhirResourcesRequest(
            request_id=desk.request(step, "labs"),
            resources=[text for taker in takers for text in _observations(taker)],
            site=site,
        )
        answer = await desk.call(clinical.RecordFhirResources, labs)
        check_facts(answer.receipt, "RecordFhirResources")


def _subject(taker: Taker) -> api.Subject:
    profile = events.SubjectProfile(
        age_years=taker.age, sex=taker.sex, arm="anticoagulation", genotypes=[taker.genotype]
    )
    return api.Subject(
        pseudonym=taker.pseudonym,
        consent=taker.research,
        research=taker.research,
        profile=profile,
        at=moment(taker.enrolled),
    )


def _medication(taker: Taker) -> events.MedicationRecorded:
    return events.MedicationRecorded(
        dispense=dispense_id(taker.site, taker.order, taker.lot),
        site=taker.site,
        pseudonym=taker.pseudonym,
        lot=taker.lot,
        order=taker.order,
        at=moment(taker.begun),
        quantity=_PACK,
    )


def _report(taker: Taker) -> api.AdverseEventReport:
    assert taker.bled is not None
    return api.AdverseEventReport(
        report=f"AE-{taker.pseudonym}",
        pseudonym=taker.pseudonym,
        term=BLEEDING,
        onset=moment(taker.bled),
        at=moment(taker.bled + timedelta(hours=6)),
    )


def _observations(taker: Taker) -> list[str]:
    """INR before the first dose, and at the end of the window."""
    after = taker.begun + timedelta(days=DAYS - 1)
    return [
        _observation(taker, "before", taker.begun - timedelta(hours=2), taker.inr_before),
        _observation(taker, "after", after, taker.inr_after),
    ]


def _observation(taker: Taker, when: str, at: datetime, value: float) -> str:
    """https://hl7.org/fhir/R4/observation.html; of the routine: it names no plan."""
    return json.dumps(
        {
            "resourceType": "Observation",
            "id": f"INR-{taker.pseudonym}-{when}",
            "status": "final",
            "subject": {"reference": f"Patient/{taker.pseudonym}"},
            "effectiveDateTime": at.astimezone(timezone(OFFSET)).isoformat(),
            "code": {"coding": [{"system": "http://loinc.org", "code": INR}]},
            "valueQuantity": {
                "value": value,
                "unit": INR_UNIT,
                "system": "http://unitsofmeasure.org",
                "code": INR_UNIT,
            },
        }
    )
