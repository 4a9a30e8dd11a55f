"""The developer's plant: registers its lines, signs transfers, and makes a first lot of each.

Its regulatory affairs assess filings: whoever records a validation does not.

The plant sees what the platform shows it, never what a lot will truly be: that it
learns from its own laboratory, as every plant does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import events_pb2 as trace
from pharmaloop.traceability.v1 import service_pb2 as trace_api
from services.kit.ids import lot_key, parse_lot
from services.world.actors.campaign import made_from
from services.world.actors.desk import Desk
from services.world.ids import moment, short, stamp
from services.world.platform_api import Refused, check_facts
from services.world.timing import LOOK_SECONDS
from services.world.treatment import TAGS

THINKING = timedelta(minutes=30)
_RUN = timedelta(hours=400)
#: So many times the readings of a lot are sent, and its twin looked at.
_PARTS = 4
_LIMITS: dict[str, tuple[float | None, float | None, str]] = {
    "titre": (2.2, 6.0, "g/L"),
    "impurity": (None, 1.2, "%"),
}


class Fermenters(Protocol):
    """The plant's vessels and laboratory, and somebody who knows what nobody measures."""

    def ferment(
        self, lot: str, points: Mapping[str, float]
    ) -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
        """Make a lot by set-points: the hours of its readings, and what the sensors say by tag."""

    def test(self, lot: str, points: Mapping[str, float]) -> Mapping[str, float]:
        """What the laboratory finds in a lot, name to value."""

    def hear(self, lot: str, hour: float, biomass: float) -> str:
        """Take in what the twin says of a lot (g/L) at an hour; answers how far it is off, in words."""


class PlantManager:
    """`lines` by plant and line: the vessels. `pattern` is a lot key whose number is replaced.
    `regulatory` is the desk of regulatory affairs."""

    def __init__(
        self,
        desk: Desk,
        regulatory: Desk,
        product: str,
        equipment: str,
        lines: Mapping[tuple[str, str], events.LineDetail],
        pattern: str,
        fermenters: Fermenters,
    ) -> None:
        self._desk, self._regulatory = desk, regulatory
        self._product, self._equipment = product, equipment
        self._lines, self._fermenters = lines, fermenters
        self._parts = parse_lot(pattern)
        self._seen: dict[tuple[str, int, int], object] = {}
        self._told: set[tuple[str, int]] = set()

    async def register(self) -> None:
        """The vessels, as the plant's engineers measured them; from then on the plants have keys."""
        for (plant, line), detail in self._lines.items():
            equipment = f"{plant}/{self._equipment.partition('/')[2]}"
            known = api.RegisterEquipmentRequest(
                request_id=self._desk.request("equipment", equipment),
                equipment=equipment,
                plant=plant,
                tags=[events.Tag(name=name, unit=unit) for name, unit in TAGS.items()],
            )
            await self._desk.call(self._desk.platform.production.RegisterEquipment, known)
            request = api.RegisterLineRequest(
                request_id=self._desk.request("line", plant, line),
                plant=plant,
                line=line,
                equipment=equipment,
                products=[self._product],
                detail=detail,
            )
            await self._desk.call(self._desk.platform.production.RegisterLine, request)

    async def run(self) -> None:
        while True:
            for transfer in await self._transfers():
                try:
                    await self._look_at(transfer)
                except Refused as refusal:
                    self._desk.say(f"{self._desk.actor}: {refusal}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _transfers(self) -> list[api.Transfer]:
        desk, plants = self._desk, {plant for plant, _ in self._lines}
        request = api.ListTransfersRequest()
        return [
            transfer
            async for page in desk.platform.pages(desk.platform.production.ListTransfers, request, desk.actor)
            for transfer in page.transfers
            if transfer.plant in plants
        ]

    async def _look_at(self, transfer: api.Transfer) -> None:
        """Do what the transfer waits for, half an hour after it was seen to wait."""
        self._tell(transfer)
        now, key = self._desk.clock.now(), (transfer.transfer, transfer.version, transfer.state)
        since = self._seen.setdefault(key, now)
        if now - since < THINKING:  # type: ignore[operator]
            return
        if transfer.state == api.TRANSFER_STATE_PROPOSED:
            await self._decide(transfer)
        elif transfer.state == api.TRANSFER_STATE_IN_CHANGE_CONTROL:
            await self._control(transfer)
        elif transfer.state == api.TRANSFER_STATE_EFFECTIVE:
            await self._make(transfer)

    def _tell(self, transfer: api.Transfer) -> None:
        key = (transfer.transfer, transfer.version)
        if transfer.state == api.TRANSFER_STATE_REFUSED and key not in self._told:
            self._told.add(key)
            reasons = ", ".join(sorted({one.rule for one in transfer.refused.reasons}))
            self._desk.say(f"transfer of {transfer.set} to {transfer.plant} refused by the twin: {reasons}")

    async def _decide(self, transfer: api.Transfer) -> None:
        """Accept what gains for sure; the rest is not worth a change."""
        desk, proposed = self._desk, transfer.proposed
        gains = bool(proposed.moved) and proposed.gain.HasField("lower") and proposed.gain.lower > 0
        request = api.DecideTransferRequest(
            request_id=desk.request("decide", transfer.transfer, proposed.proposal),
            transfer=transfer.transfer,
            proposal=proposed.proposal,
            accepted=gains,
            reason="it gains, and stays inside the proven range" if gains else "the gain is not certain",
            meaning="I have read the gap table and the prediction, and decide for the plant.",
        )
        await desk.call(desk.platform.production.DecideTransfer, request)
        word = "accepted" if gains else "declined"
        desk.say(f"proposal for {transfer.set} version {transfer.version} {word} at {transfer.plant}")

    async def _control(self, transfer: api.Transfer) -> None:
        """Record what change control still lacks."""
        desk, regulatory, name = self._desk, self._regulatory, transfer.transfer
        version = str(transfer.version)
        if not transfer.HasField("validated"):
            validation = api.RecordRecipeValidationRequest(
                request_id=desk.request("validate", name, version),
                transfer=name,
                version=transfer.version,
                record=f"PPQ-{transfer.version:03d}",
                statement="Three engineering runs at the new set-points met every acceptance criterion.",
                meaning="The validation of this recipe is on record as I say here.",
            )
            await desk.call(desk.platform.production.RecordRecipeValidation, validation)
        if not transfer.HasField("filing"):
            filing = api.RecordRecipeFilingRequest(
                request_id=regulatory.request("file", name, version),
                transfer=name,
                version=transfer.version,
                category=events.FILING_CATEGORY_NOT_REPORTED,
                statement="The set-points lie inside the ranges that are filed.",
                meaning="I have assessed what this recipe needs and stand for it.",
            )
            await regulatory.call(regulatory.platform.production.RecordRecipeFiling, filing)

    async def _make(self, transfer: api.Transfer) -> None:
        """The first lot by the recipe: made, measured, tested, packed."""
        desk, production = self._desk, self._desk.platform.production
        lot = self._lot(transfer.version)
        if desk.progress.is_done(f"transfer-lot:{lot}"):
            return
        asked = api.GetTransferRequest(transfer=transfer.transfer)
        answer = await desk.call(production.GetTransfer, asked)
        points = {one.parameter: one.value for one in answer.recipe}
        start = api.StartLotRequest(
            request_id=desk.request("start", lot),
            lot=lot,
            product=self._product,
            equipment=self._equipment,
            at=stamp(desk.clock.now() - _RUN),
            transfer=transfer.transfer,
        )
        await desk.call(production.StartLot, start)
        # As it stands on record: a world that was started again goes on with the same run.
        known = await desk.call(production.GetLot, api.GetLotRequest(lot=lot))
        started = known.lot.started.ToDatetime(UTC)
        await self._run(lot, started, points)
        complete = api.CompleteLotRequest(
            request_id=desk.request("complete", lot), lot=lot, at=stamp(started + _RUN)
        )
        await desk.call(production.CompleteLot, complete)
        await self._test(lot, points)
        await self._pack(lot, started)
        desk.progress.finish(f"transfer-lot:{lot}")
        desk.say(f"lot {short(lot)} made by {transfer.set} version {transfer.version} and tested")

    async def _run(self, lot: str, started: datetime, points: Mapping[str, float]) -> None:
        """The lot's readings in parts, and a look at its twin after each."""
        desk, production = self._desk, self._desk.platform.production
        hours, values = self._fermenters.ferment(lot, points)
        size, said = -(-len(hours) // _PARTS), ""
        for first in range(0, len(hours), size):
            part = slice(first, first + size)
            batch = events.ReadingsRecorded(
                equipment=self._equipment,
                lot=lot,
                start=moment(started),
                offsets_ms=[int(hour * 3_600_000) for hour in hours[part]],
                tags=[
                    events.TagReadings(tag=tag, unit=TAGS[tag], values=read[part])
                    for tag, read in values.items()
                ],
            )
            request = api.RecordReadingsRequest(
                request_id=desk.request("readings", lot, str(first)), batches=[batch]
            )
            receipt = (await desk.call(production.RecordReadings, request)).receipt
            check_facts(receipt, "RecordReadings")
            asked = api.GetTwinRequest(lot=lot, min_position=receipt.positions)
            try:
                twin = await desk.call(production.GetTwin, asked)
            except Refused as refusal:  # the lot is made all the same; `verify` misses the answer
                desk.say(f"{desk.actor}: {refusal}")
                continue
            biomass = next(state.value for state in twin.states if state.name == "biomass")
            hour = (twin.at.ToDatetime(UTC) - started) / timedelta(hours=1)
            said = self._fermenters.hear(lot, hour, biomass)
        if said:
            desk.say(f"the twin's biomass of {short(lot)} is off by {said}")

    async def _test(self, lot: str, points: Mapping[str, float]) -> None:
        desk = self._desk
        request = api.RecordTestResultsRequest(request_id=desk.request("tests", lot))
        for name, value in sorted(self._fermenters.test(lot, points).items()):
            low, high, unit = _LIMITS[name]
            request.results.append(
                events.TestResultRecorded(
                    lot=lot,
                    test=name,
                    value=value,
                    unit=unit,
                    low=low,
                    high=high,
                    at=moment(desk.clock.now()),
                    record=f"{name}-{short(lot)}",
                    source=f"{self._equipment.split('/', maxsplit=1)[0]}/lims",
                )
            )
        answer = await desk.call(desk.platform.production.RecordTestResults, request)
        check_facts(answer.receipt, "RecordTestResults")

    async def _pack(self, lot: str, started: datetime) -> None:
        """Record what the lot was made from, and the packs that its tablets went into."""
        desk, parts = self._desk, parse_lot(lot)
        plant = self._equipment.partition("/")[0]
        packed = trace.MaterialRecorded(
            lot=lot_key(parts.owner, parts.scheme, parts.item, f"{parts.lot}-P"),
            inputs=[trace.MaterialInput(lot=lot)],
            at=moment(desk.clock.now()),
            record=f"PK-{parts.lot}",
            source=f"{plant}/mes",
        )
        request = trace_api.RecordMaterialRequest(
            request_id=desk.request("material", lot), materials=[*made_from(lot, plant, started), packed]
        )
        answer = await desk.call(desk.platform.traceability.RecordMaterial, request)
        check_facts(answer.receipt, "RecordMaterial")

    def _lot(self, version: int) -> str:
        parts = self._parts
        return lot_key(parts.owner, parts.scheme, parts.item, f"{parts.lot}-T{version:03d}")
