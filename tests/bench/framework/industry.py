"""A small industry on a running stack, fed through the public gRPC APIs: lots, patients, faults.

It prepares what a run of the safety loop needs: a trained model, faulty lots
with an open deviation each, their descendants, and who was given them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as trace_events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.kit.ids import lot_key, product_key
from services.world.dryer_runs import TAGS, profile_of, sample_counts
from services.world.entities import PlantedFault
from services.world.ids import moment, stamp
from services.world.platform_api import Platform, check_facts
from services.world.signals import Model, Profile

SITE = "hospital-a"
PRODUCT = product_key("acme", "local", "patch-mass")
_BEGAN = datetime(2026, 1, 5, 6, tzinfo=UTC)
_SAMPLE = timedelta(minutes=1)
_MANY = 500
_AT_ONCE = 8
#: A step that the detector finds in every run, late enough to have a baseline.
_FAULT_ONSET, _FAULT_SIZE, _FAULT_TAG = 0.3, 15.0, "DryerTemp"


def raw_lot(name: str) -> str:
    return lot_key("acme", "local", "patch-mass", name)


@dataclass(frozen=True)
class Root:
    """A faulty lot, the packed lots made from it, and how many patients were given one of them."""

    lot: str
    children: tuple[str, ...]
    patients: int

    def dispenses(self) -> Iterable[tuple[str, str]]:
        """(lot, pseudonym) of everybody who was given some of it."""
        for number in range(self.patients):
            yield self.children[number % len(self.children)], patient(number)


def patient(number: int) -> str:
    return f"P{number:06}"


def root(name: str, patients: int, children: int = 3) -> Root:
    packed = tuple(lot_key("acme", "gtin", "09506000134352", f"{name}-{child}") for child in range(children))
    return Root(raw_lot(name), packed, patients)


def window(
    lot: str, equipment: str, began: datetime, profile: Profile, start: int, end: int
) -> production_events.ReadingsRecorded:
    """Some samples of a run, all tags."""
    step = int(_SAMPLE.total_seconds() * 1000)
    return production_events.ReadingsRecorded(
        equipment=equipment,
        lot=lot,
        start=moment(began + start * _SAMPLE),
        offsets_ms=[index * step for index in range(end - start)],
        tags=[
            production_events.TagReadings(tag=tag.name, unit=tag.unit, values=profile[tag.name][start:end])
            for tag in TAGS
        ],
    )


class Industry:
    """Prepares and triggers; `actor` is the name that its calls carry."""

    def __init__(self, platform: Platform, actor: str = "bench") -> None:
        self._platform = platform
        self._actor = actor
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._places: dict[tuple[str, int], int] = {}

    async def register(self, equipment: Iterable[str]) -> None:
        tags = [production_events.Tag(name=tag.name, unit=tag.unit, set_point=tag.set_point) for tag in TAGS]
        for name in equipment:
            request = production.RegisterEquipmentRequest(
                request_id=str(uuid.uuid4()), equipment=name, plant="plant-1", tags=tags
            )
            await self._platform.call(self._platform.production.RegisterEquipment, request, self._actor)

    async def start_lot(self, lot: str, equipment: str, began: datetime = _BEGAN) -> None:
        request = production.StartLotRequest(
            request_id=f"start|{lot}", lot=lot, product=PRODUCT, equipment=equipment, at=stamp(began)
        )
        await self._platform.call(self._platform.production.StartLot, request, self._actor)

    async def record(self, batches: Sequence[production_events.ReadingsRecorded]) -> None:
        request = production.RecordReadingsRequest(request_id=str(uuid.uuid4()), batches=batches)
        answer = await self._platform.call(self._platform.production.RecordReadings, request, self._actor)
        check_facts(answer.receipt, "RecordReadings")
        for place in answer.receipt.positions.positions:
            key = (place.topic, place.partition)
            self._places[key] = max(place.offset, self._places.get(key, -1))

    async def run_lot(self, lot: str, equipment: str, profile: Profile) -> None:
        """A lot's whole process run at once."""
        async with self._gate:
            await self.start_lot(lot, equipment)
            samples = len(next(iter(profile.values())))
            await self.record([window(lot, equipment, _BEGAN, profile, 0, samples)])

    async def train(self, equipment: str, runs: Sequence[int]) -> Model:
        """The golden model of real runs, in force."""
        lots = [raw_lot(f"history-{number}") for number in runs]
        pairs = zip(lots, runs, strict=True)
        await asyncio.gather(*(self.run_lot(lot, equipment, profile_of(run)) for lot, run in pairs))
        places = [common.LogPosition(topic=t, partition=p, offset=o) for (t, p), o in self._places.items()]
        request = production.TrainModelRequest(
            request_id="train",
            product=PRODUCT,
            lots=lots,
            min_position=common.PositionVector(positions=places),
        )
        await self._platform.call(self._platform.production.TrainModel, request, self._actor)
        asked = production.GetModelRequest(product=PRODUCT)
        answer = await self._platform.call(self._platform.production.GetModel, asked, self._actor)
        return Model.of(answer.model)

    async def run_faulty(self, roots: Sequence[Root], equipment: str, model: Model) -> None:
        """Each root's run, with a planted step that the detector must find."""
        fault = PlantedFault(tag=_FAULT_TAG, kind="step", onset=_FAULT_ONSET, magnitude=_FAULT_SIZE)
        longest = sorted(sample_counts(), key=sample_counts().__getitem__)[-20:]
        profiles = [profile_of(run, fault, model) for run in longest]
        await asyncio.gather(
            *(self.run_lot(one.lot, equipment, profiles[n % len(profiles)]) for n, one in enumerate(roots))
        )

    async def open_deviations(self) -> dict[str, str]:
        """The first open deviation of each lot."""
        request = production.ListDeviationsRequest(state=production.DEVIATION_STATE_OPEN)
        found: dict[str, str] = {}
        async for page in self._platform.pages(
            self._platform.production.ListDeviations, request, self._actor
        ):
            for one in page.deviations:
                found.setdefault(one.detected.lot, one.detected.deviation)
        return found

    async def confirm(self, lot: str, deviation: str) -> None:
        request = production.ConfirmDeviationRequest(
            request_id=f"confirm|{deviation}", lot=lot, deviation=deviation, reason="planted by the benchmark"
        )
        await self._platform.call(self._platform.production.ConfirmDeviation, request, self._actor)

    async def record_descent(self, roots: Iterable[Root]) -> None:
        materials = [
            trace_events.MaterialRecorded(
                lot=child,
                inputs=[trace_events.MaterialInput(lot=one.lot)],
                at=moment(_BEGAN + timedelta(days=1)),
                record=f"pack {child}",
                source=self._actor,
            )
            for one in roots
            for child in one.children
        ]
        for start in range(0, len(materials), _MANY):
            request = traceability.RecordMaterialRequest(
                request_id=str(uuid.uuid4()), materials=materials[start : start + _MANY]
            )
            answer = await self._platform.call(
                self._platform.traceability.RecordMaterial, request, self._actor
            )
            check_facts(answer.receipt, "RecordMaterial")

    async def record_patients(self, count: int) -> None:
        subjects = [
            clinical.Subject(pseudonym=patient(number), consent=True, at=moment(_BEGAN))
            for number in range(count)
        ]
        parts = [subjects[start : start + _MANY] for start in range(0, count, _MANY)]
        await asyncio.gather(*(self._subjects(part) for part in parts))

    async def _subjects(self, part: Sequence[clinical.Subject]) -> None:
        async with self._gate:
            request = clinical.RecordSubjectsRequest(request_id=str(uuid.uuid4()), site=SITE, subjects=part)
            answer = await self._platform.call(
                self._platform.clinical_at(SITE).RecordSubjects, request, self._actor
            )
            check_facts(answer.receipt, "RecordSubjects")

    async def record_use(self, roots: Iterable[Root]) -> None:
        """Who was given what: told by the pharmacy and, a second source, by the hospital."""
        given = [
            (lot, pseudonym, f"{lot.rsplit('/', 1)[-1]}-{pseudonym}")
            for one in roots
            for lot, pseudonym in one.dispenses()
        ]
        parts = [given[start : start + _MANY] for start in range(0, len(given), _MANY)]
        await asyncio.gather(*(self._dispenses(part) for part in parts))
        await asyncio.gather(*(self._medications(part) for part in parts))

    async def _dispenses(self, part: Sequence[tuple[str, str, str]]) -> None:
        at, one = moment(_BEGAN + timedelta(days=9)), common.Quantity(value=1, unit="{patch}")
        async with self._gate:
            request = traceability.RecordDispenseRequest(
                request_id=str(uuid.uuid4()),
                dispenses=[
                    trace_events.DispenseRecorded(
                        lot=lot, site=SITE, pseudonym=who, at=at, quantity=one, order=order
                    )
                    for lot, who, order in part
                ],
            )
            answer = await self._platform.call(
                self._platform.traceability.RecordDispense, request, self._actor
            )
            check_facts(answer.receipt, "RecordDispense")

    async def _medications(self, part: Sequence[tuple[str, str, str]]) -> None:
        at, one = moment(_BEGAN + timedelta(days=9)), common.Quantity(value=1, unit="{patch}")
        async with self._gate:
            request = clinical.RecordMedicationsRequest(
                request_id=str(uuid.uuid4()),
                site=SITE,
                medications=[
                    clinical_events.MedicationRecorded(
                        site=SITE, lot=lot, pseudonym=who, at=at, quantity=one, order=order
                    )
                    for lot, who, order in part
                ],
            )
            answer = await self._platform.call(
                self._platform.clinical_at(SITE).RecordMedications, request, self._actor
            )
            check_facts(answer.receipt, "RecordMedications")
