"""A hospital's laboratory: reads the blood of patients whose follow-up asks for it.

What it reads it sends as FHIR R4 observations, each under a number of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from pharmaloop.clinical.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.entities import Tube
from services.world.ids import OFFSET
from services.world.timing import LOOK_SECONDS

_AT_ONCE = 100
#: The run was ended, or the patient turned out to be none of it, while the blood was read.
_LATE = "PLAN_CLOSED"


@dataclass(frozen=True)
class _Sample:
    """Blood that was taken for a plan, and the test that is wanted of it."""

    plan: str
    tube: Tube
    at: datetime


class BloodLaboratory:
    """`tubes` are what it would read in everybody."""

    def __init__(self, desk: Desk, site: str, tubes: Iterable[Tube]) -> None:
        self._desk, self._site = desk, site
        self._tubes = {(tube.pseudonym, tube.code): tube for tube in tubes}
        self._samples: list[_Sample] = []

    def take(self, plan: str, pseudonym: str, codes: Iterable[str]) -> None:
        """Somebody has come: take what their plan asks for."""
        now = self._desk.clock.now()
        self._samples += [_Sample(plan, self._tubes[pseudonym, code], now) for code in codes]

    def waiting(self) -> int:
        """Samples that were not read yet."""
        return len(self._samples)

    async def run(self) -> None:
        while True:
            if some := self._samples[:_AT_ONCE]:
                await self._send(some)
                del self._samples[: len(some)]
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _send(self, samples: list[_Sample]) -> None:
        desk, clinical = self._desk, self._desk.platform.clinical_at(self._site)
        request = api.RecordFhirResourcesRequest(
            request_id=desk.request("blood", *(f"{one.plan}/{one.tube.code}" for one in samples)),
            site=self._site,
            resources=[self._observation(one) for one in samples],
        )
        answer = await desk.call(clinical.RecordFhirResources, request)
        refused = Counter(failure.reason for failure in answer.receipt.refused if failure.reason != _LATE)
        for reason, count in sorted(refused.items()):
            desk.say(f"{self._site}: {count} laboratory results were refused: {reason}")

    def _observation(self, sample: _Sample) -> str:
        """https://hl7.org/fhir/R4/observation.html."""
        tube = sample.tube
        return json.dumps(
            {
                "resourceType": "Observation",
                "id": self._desk.request("observation", sample.plan, tube.code),
                "status": "final",
                "basedOn": [{"reference": f"CarePlan/{sample.plan}"}],
                "subject": {"reference": f"Patient/{tube.pseudonym}"},
                "effectiveDateTime": sample.at.astimezone(timezone(OFFSET)).isoformat(),
                "code": {"coding": [{"system": "http://loinc.org", "code": tube.code}]},
                "valueQuantity": {
                    "value": tube.value,
                    "unit": tube.unit,
                    "system": "http://unitsofmeasure.org",
                    "code": tube.unit,
                },
            }
        )
