"""The developer's plant: the lots of its medicine, each with the readings of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import events_pb2 as trace
from pharmaloop.traceability.v1 import service_pb2 as trace_api
from services.kit.ids import lot_key, parse_lot
from services.world.actors.desk import Desk
from services.world.ids import moment, stamp
from services.world.platform_api import check_facts
from services.world.treatment import TAG, TAGS, UNIT, CampaignLot

_SAMPLES, _STEP = 20, timedelta(hours=2)
_NOISE = 0.1
_AT_ONCE = 6


class Campaign:
    """Records the lots that the plant has made, and releases them."""

    def __init__(self, desk: Desk, plant: str, product: str, lots: Sequence[CampaignLot]) -> None:
        self._desk, self._plant, self._product, self._lots = desk, plant, product, lots

    async def record(self) -> None:
        """Equipment, runs and releases; what is done already is not done again."""
        for equipment in sorted({lot.equipment for lot in self._lots}):
            await self._register(equipment)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def make(lot: CampaignLot) -> None:
            async with gate:
                if not self._desk.progress.is_done(f"campaign:{lot.lot}"):
                    await self._make(lot)

        await asyncio.gather(*(make(lot) for lot in self._lots))
        self._desk.say(f"{self._plant}: {len(self._lots)} lots of its campaign recorded and released")

    async def _register(self, equipment: str) -> None:
        request = api.RegisterEquipmentRequest(
            request_id=self._desk.request("register", equipment),
            equipment=equipment,
            plant=self._plant,
            tags=[events.Tag(name=name, unit=unit) for name, unit in TAGS.items()],
        )
        await self._desk.call(self._desk.platform.production.RegisterEquipment, request)

    async def _make(self, lot: CampaignLot) -> None:
        desk, production = self._desk, self._desk.platform.production
        await self._record_material(lot)
        start = api.StartLotRequest(
            request_id=desk.request("start", lot.lot),
            lot=lot.lot,
            product=self._product,
            equipment=lot.equipment,
            at=stamp(lot.started),
        )
        await desk.call(production.StartLot, start)
        readings = api.RecordReadingsRequest(
            request_id=desk.request("readings", lot.lot), batches=[_readings(lot)]
        )
        answer = await desk.call(production.RecordReadings, readings)
        check_facts(answer.receipt, "RecordReadings")
        complete = api.CompleteLotRequest(
            request_id=desk.request("complete", lot.lot), lot=lot.lot, at=stamp(lot.completed)
        )
        await desk.call(production.CompleteLot, complete)
        release = api.ReleaseLotRequest(request_id=desk.request("release", lot.lot), lot=lot.lot)
        await desk.call(production.ReleaseLot, release)
        desk.progress.finish(f"campaign:{lot.lot}")

    async def _record_material(self, lot: CampaignLot) -> None:
        request = trace_api.RecordMaterialRequest(
            request_id=self._desk.request("material", lot.lot),
            materials=made_from(lot.lot, self._plant, lot.started),
        )
        answer = await self._desk.call(self._desk.platform.traceability.RecordMaterial, request)
        check_facts(answer.receipt, "RecordMaterial")


def made_from(lot: str, plant: str, started: datetime) -> list[trace.MaterialRecorded]:
    """What a lot of the medicine was made from: a lot of glucose of its own, received three days before."""
    parts = parse_lot(lot)
    raw = lot_key(parts.owner, "item", "glucose", f"R-{parts.lot}")
    received, source = moment(started - timedelta(days=3)), f"{plant}/mes"
    return [
        trace.MaterialRecorded(lot=raw, at=received, record=f"IN-{parts.lot}", source=source),
        trace.MaterialRecorded(
            lot=lot,
            inputs=[trace.MaterialInput(lot=raw)],
            at=moment(started),
            record=f"MB-{parts.lot}",
            source=source,
        ),
    ]


def _readings(lot: CampaignLot) -> events.ReadingsRecorded:
    """A run's readings: what the temperature truly was, with the sensor's noise."""
    draw = Random(f"readings/{lot.lot}")
    values = [lot.mean + draw.gauss(0, _NOISE) for _ in range(_SAMPLES)]
    return events.ReadingsRecorded(
        equipment=lot.equipment,
        lot=lot.lot,
        start=moment(lot.started),
        offsets_ms=[int((index * _STEP).total_seconds() * 1000) for index in range(_SAMPLES)],
        tags=[events.TagReadings(tag=TAG, unit=UNIT, values=values)],
    )
