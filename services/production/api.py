"""The gRPC face of production: checks form, calls, translates what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.kit.errors import Invalid, Unknown
from services.kit.facts import Fact, vector
from services.kit.ids import LotParts, check_product, derived_id, parse_lot, product_of
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp
from services.production.domain import readings
from services.production.domain.equipment import Equipment
from services.production.domain.lists import CapaRow, DeviationRow
from services.production.domain.lot import Deviation, Lot
from services.production.domain.samples import Run
from services.production.handlers.models import train
from services.production.handlers.refusals import refusals
from services.production.views import (
    CAPA_ROWS,
    DEVIATION_ROWS,
    EQUIPMENT,
    HAZARDS,
    LIMITS,
    LOTS,
    MODELS,
    RUNS,
)

_LOT_STATES = {
    "started": api.LOT_STATE_STARTED,
    "completed": api.LOT_STATE_COMPLETED,
    "held": api.LOT_STATE_HELD,
    "released": api.LOT_STATE_RELEASED,
    "rejected": api.LOT_STATE_REJECTED,
}
_DEVIATION_STATES = {
    "open": api.DEVIATION_STATE_OPEN,
    "confirmed": api.DEVIATION_STATE_CONFIRMED,
    "rejected": api.DEVIATION_STATE_REJECTED,
}
_CAPA_STATES = {"proposed": api.CAPA_STATE_PROPOSED, "approved": api.CAPA_STATE_APPROVED}


class ProductionApi(Api, api_grpc.ProductionServiceServicer):
    async def RegisterEquipment(
        self, request: api.RegisterEquipmentRequest, context: Any
    ) -> api.RegisterEquipmentResponse:
        return await self.decide("RegisterEquipment", request, api.RegisterEquipmentResponse)

    async def RecordReadings(
        self, request: api.RecordReadingsRequest, context: Any
    ) -> api.RecordReadingsResponse:
        receipt = await self.app.facts.record(
            request.batches,
            _to_fact(await self._equipment({batch.equipment for batch in request.batches})),
            all_or_nothing=request.all_or_nothing,
            actor=caller().actor,
            field="batches",
        )
        return api.RecordReadingsResponse(receipt=receipt)

    async def _equipment(self, ids: set[str]) -> dict[str, Equipment]:
        """The registered equipment by id, as it stands now."""
        found = await asyncio.gather(*(self.app.store.get(EQUIPMENT, id) for id in ids))
        return {item.id: item.state for item in found if item is not None}

    # -- lots -------------------------------------------------------------

    async def StartLot(self, request: api.StartLotRequest, context: Any) -> api.StartLotResponse:
        return await self.decide("StartLot", request, api.StartLotResponse)

    async def CompleteLot(self, request: api.CompleteLotRequest, context: Any) -> api.CompleteLotResponse:
        return await self.decide("CompleteLot", request, api.CompleteLotResponse)

    async def HoldLot(self, request: api.HoldLotRequest, context: Any) -> api.HoldLotResponse:
        return await self.decide("HoldLot", request, api.HoldLotResponse)

    async def ReleaseLot(self, request: api.ReleaseLotRequest, context: Any) -> api.ReleaseLotResponse:
        return await self.decide("ReleaseLot", request, api.ReleaseLotResponse)

    async def RejectLot(self, request: api.RejectLotRequest, context: Any) -> api.RejectLotResponse:
        return await self.decide("RejectLot", request, api.RejectLotResponse)

    async def GetLot(self, request: api.GetLotRequest, context: Any) -> api.GetLotResponse:
        parts = parse_lot(request.lot)
        await self.reach(request)
        found = await self.app.store.get(LOTS, request.lot)
        if found is None:
            raise Unknown("UNKNOWN_LOT", "no such lot in this plant's records", "lot")
        return api.GetLotResponse(lot=_lot(found.state, parts))

    # -- models -----------------------------------------------------------

    async def TrainModel(self, request: api.TrainModelRequest, context: Any) -> api.TrainModelResponse:
        """Train beside the event loop (it takes seconds), then put the model in force."""
        _check_training(request)
        await self.reach(request)
        runs = [await self._run(index, lot) for index, lot in enumerate(request.lots)]
        equipment = await self._equipment({run.equipment for run in runs})
        with refusals():
            trained = await asyncio.to_thread(train, request.product, runs, equipment)
        who = caller()
        decision = await self.app.decider.submit(
            "TrainModel",
            trained,
            request_id=request.request_id,
            actor=who.actor,
            trace=who.trace,
            seconds=who.seconds_left(),
        )
        response = api.TrainModelResponse.FromString(decision.message)
        response.receipt.CopyFrom(
            common.Receipt(
                request_id=request.request_id,
                positions=vector(decision.positions),
                pending=decision.pending,
                event_ids=decision.event_ids,
            )
        )
        return response

    async def _run(self, index: int, lot: str) -> Run:
        """The recorded run of a lot: that of its own equipment, or else the longest."""
        runs = [item.state for item in await self.app.store.where(RUNS, "lot", lot)]
        if not runs:
            said = f"no readings of {lot!r} are recorded; record its run, or leave it out"
            raise Unknown("NO_RUN", said, f"lots[{index}]")
        found = await self.app.store.get(LOTS, lot)
        own = found.state.equipment if found else ""
        return max(runs, key=lambda run: (run.equipment == own, len(run.samples)))

    async def GetModel(self, request: api.GetModelRequest, context: Any) -> api.GetModelResponse:
        check_product(request.product)
        await self.reach(request)
        found = await self.app.store.get(MODELS, request.product)
        if found is None:
            said = "no model of the product was trained; train one with TrainModel"
            raise Unknown("UNKNOWN_MODEL", said, "product")
        limits = await self.app.store.get(LIMITS, request.product)
        changed = limits.state.now() if limits else {}
        return api.GetModelResponse(model=found.state.message(), changed_limits=changed)

    # -- deviations -------------------------------------------------------

    async def ListDeviations(
        self, request: api.ListDeviationsRequest, context: Any
    ) -> api.ListDeviationsResponse:
        if request.lot:
            parse_lot(request.lot)
        await self.reach(request)
        filters = {"state": _name(_DEVIATION_STATES, request.state), "lot": request.lot}
        page = await self.page(request, DEVIATION_ROWS, filters, "at", descending=True)
        rows = [_deviation(item.state) for item in page.items]
        return api.ListDeviationsResponse(deviations=rows, next_page_token=page.token)

    async def ConfirmDeviation(
        self, request: api.ConfirmDeviationRequest, context: Any
    ) -> api.ConfirmDeviationResponse:
        return await self.decide("ConfirmDeviation", request, api.ConfirmDeviationResponse)

    async def RejectDeviation(
        self, request: api.RejectDeviationRequest, context: Any
    ) -> api.RejectDeviationResponse:
        return await self.decide("RejectDeviation", request, api.RejectDeviationResponse)

    # -- hazards -----------------------------------------------------------

    async def EvaluateHazard(
        self, request: api.EvaluateHazardRequest, context: Any
    ) -> api.EvaluateHazardResponse:
        return await self.decide("EvaluateHazard", request, api.EvaluateHazardResponse)

    async def GetHazard(self, request: api.GetHazardRequest, context: Any) -> api.GetHazardResponse:
        await self.reach(request)
        found = await self.app.store.get(HAZARDS, request.run)
        return api.GetHazardResponse(hazard=found.state.message() if found else None)

    # -- corrective actions -----------------------------------------------

    async def ListCapas(self, request: api.ListCapasRequest, context: Any) -> api.ListCapasResponse:
        await self.reach(request)
        filters = {"state": _name(_CAPA_STATES, request.state)}
        page = await self.page(request, CAPA_ROWS, filters, "at", descending=True)
        return api.ListCapasResponse(
            capas=[_capa(item.state) for item in page.items], next_page_token=page.token
        )

    async def ApproveCapa(self, request: api.ApproveCapaRequest, context: Any) -> api.ApproveCapaResponse:
        return await self.decide("ApproveCapa", request, api.ApproveCapaResponse)


# -- what comes in ----------------------------------------------------------


def _to_fact(equipment: dict[str, Equipment]) -> Callable[[int, events.ReadingsRecorded], Fact]:
    """Readings as facts: the same window of the same tags is the same fact."""

    def to_fact(_index: int, batch: events.ReadingsRecorded) -> Fact:
        parse_lot(batch.lot)
        with refusals():
            readings.check(batch, equipment.get(batch.equipment))
        start = batch.start.at.ToDatetime(tzinfo=UTC)
        first, last = batch.offsets_ms[0], batch.offsets_ms[-1]
        window = (batch.start.at.ToJsonString(), str(first), str(last), str(len(batch.offsets_ms)))
        tags = sorted(tag.tag for tag in batch.tags)
        id = derived_id("readings", batch.equipment, batch.lot, *window, *tags)
        return Fact(batch, id, _later(start, last), batch.lot)

    return to_fact


def _later(start: datetime, milliseconds: int) -> datetime:
    try:
        return start + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise Invalid("OUT_OF_RANGE", "the window ends after the year 9999", "start.at") from None


def _check_training(request: api.TrainModelRequest) -> None:
    check_product(request.product)
    if not request.lots:
        raise Invalid("REQUIRED", "name the lots to train on", "lots")
    seen: set[str] = set()
    for index, lot in enumerate(request.lots):
        parse_lot(lot, f"lots[{index}]")
        if product_of(lot) != request.product:
            said = f"{lot!r} is not a lot of {request.product!r}"
            raise Invalid("WRONG_PRODUCT", said, f"lots[{index}]")
        if lot in seen:
            raise Invalid("DUPLICATE_LOT", f"{lot!r} is named twice", f"lots[{index}]")
        seen.add(lot)


def _name(states: dict[str, Any], value: int) -> str:
    """The stored name of a state; empty for all of them."""
    if not value:
        return ""
    for name, number in states.items():
        if number == value:
            return name
    raise Invalid("OUT_OF_RANGE", f"{value} is not a state", "state")


# -- what goes out ----------------------------------------------------------


def _lot(lot: Lot, parts: LotParts) -> api.Lot:
    shown = api.Lot(
        lot=lot.lot,
        key=common.LotKey(owner=parts.owner, scheme=parts.scheme, item=parts.item, lot=parts.lot),
        product=lot.product or product_of(lot.lot),
        equipment=lot.equipment,
        state=_LOT_STATES[lot.state],
        reason=lot.reason,
        deviations=[_deviation(deviation) for deviation in lot.deviations],
        runs=lot.runs,
    )
    if lot.started:
        shown.started.CopyFrom(timestamp(datetime.fromisoformat(lot.started)))
    if lot.completed:
        shown.completed.CopyFrom(timestamp(datetime.fromisoformat(lot.completed)))
    return shown


def _deviation(held: Deviation | DeviationRow) -> api.Deviation:
    detected = events.DeviationDetected.FromString(held.detected)
    if not held.detected:
        detected.deviation = held.deviation
    return api.Deviation(
        detected=detected, state=_DEVIATION_STATES[held.state], actor=held.actor, reason=held.reason
    )


def _capa(row: CapaRow) -> api.Capa:
    proposed = events.CapaProposed.FromString(row.proposed)
    return api.Capa(proposed=proposed, state=_CAPA_STATES[row.state], actor=row.actor)
