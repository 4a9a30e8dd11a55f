"""The gRPC face of production: checks form, calls, translates what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.kit.errors import Invalid, Unknown
from services.kit.facts import vector
from services.kit.ids import check_product, parse_lot, product_of
from services.kit.refused import refusals
from services.kit.rpc.changes import events_of
from services.kit.rpc.context import caller
from services.kit.rpc.states import stored
from services.kit.store.kinds import Prefix
from services.production import answers, lot_changes
from services.production.api_transfers import TransferApi
from services.production.api_wall import WallApi
from services.production.domain.equipment import Equipment
from services.production.domain.samples import Run
from services.production.handlers.models import charts_of, check_price, train
from services.production.intake import readings_fact, result_fact
from services.production.views import (
    CAPA_ROWS,
    DEVIATION_ROWS,
    EQUIPMENT,
    HAZARDS,
    LIMITS,
    LOTS,
    MODELS,
    RESULT_ROWS,
    RUNS,
    TRENDS,
    trend_id,
)


class ProductionApi(TransferApi, WallApi, api_grpc.ProductionServiceServicer):
    async def RegisterEquipment(
        self, request: api.RegisterEquipmentRequest, context: Any
    ) -> api.RegisterEquipmentResponse:
        return await self.decide("RegisterEquipment", request, api.RegisterEquipmentResponse)

    async def RecordReadings(
        self, request: api.RecordReadingsRequest, context: Any
    ) -> api.RecordReadingsResponse:
        receipt = await self.app.facts.record(
            request.batches,
            readings_fact(await self._equipment({batch.equipment for batch in request.batches})),
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
        return api.GetLotResponse(lot=answers.lot(found.state, parts))

    # -- models -----------------------------------------------------------

    async def WatchLots(
        self, request: api.WatchLotsRequest, context: Any
    ) -> AsyncIterator[api.WatchLotsResponse]:
        wanted, watching = lot_changes.chosen(request), self.app.watching
        topics = watching.topics(lot_changes.types_of(request))
        who, start = caller().actor, request.from_start
        following = watching.follow(topics, request.after, wanted, actor=who, from_start=start)
        async with aclosing(following) as batches:
            async for batch in batches:
                changes = lot_changes.changes(events_of(batch.records))
                yield api.WatchLotsResponse(changes=changes, position=batch.position, lag=batch.lag)

    async def TrainModel(self, request: api.TrainModelRequest, context: Any) -> api.TrainModelResponse:
        """Train beside the event loop (it takes seconds), then put the model in force."""
        _check_training(request)
        with refusals():
            charts = charts_of(request.charts)
        await self.reach(request)
        runs = [await self._run(index, lot) for index, lot in enumerate(request.lots)]
        equipment = await self._equipment({run.equipment for run in runs})
        with refusals():
            trained = await asyncio.to_thread(train, request.product, runs, equipment, charts)
            if request.HasField("most_false_alarms"):
                check_price(trained, request.most_false_alarms)
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
        answer = api.GetModelResponse(model=found.state.message())
        if limits is not None:
            answer.changed_limits.update(limits.state.now())
            answer.limits_version = limits.state.version
        return answer

    # -- deviations -------------------------------------------------------

    async def ListDeviations(
        self, request: api.ListDeviationsRequest, context: Any
    ) -> api.ListDeviationsResponse:
        if request.lot:
            parse_lot(request.lot)
        filters: dict[str, Any] = {
            "state": stored(answers.DEVIATION_STATES, request.state),
            "_id": request.deviation,
            "lot": request.lot,
        }
        if request.product:
            check_product(request.product)
            if request.lot and product_of(request.lot) != request.product:
                said = f"the lot is of product {product_of(request.lot)!r}; give that, or leave it out"
                raise Invalid("WRONG_PRODUCT", said, "product")
            filters["lot"] = request.lot or Prefix(f"{request.product}/")
        await self.reach(request)
        page = await self.page(request, DEVIATION_ROWS, filters, "at", descending=not request.oldest_first)
        rows = [answers.deviation_row(item.state) for item in page.items]
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

    async def StartInvestigation(
        self, request: api.StartInvestigationRequest, context: Any
    ) -> api.StartInvestigationResponse:
        return await self.decide("StartInvestigation", request, api.StartInvestigationResponse)

    async def ClassifyDeviation(
        self, request: api.ClassifyDeviationRequest, context: Any
    ) -> api.ClassifyDeviationResponse:
        return await self.decide("ClassifyDeviation", request, api.ClassifyDeviationResponse)

    async def CloseDeviation(
        self, request: api.CloseDeviationRequest, context: Any
    ) -> api.CloseDeviationResponse:
        return await self.decide("CloseDeviation", request, api.CloseDeviationResponse)

    async def SetSeverityRules(
        self, request: api.SetSeverityRulesRequest, context: Any
    ) -> api.SetSeverityRulesResponse:
        return await self.decide("SetSeverityRules", request, api.SetSeverityRulesResponse)

    # -- laboratory results ------------------------------------------------

    async def RecordTestResults(
        self, request: api.RecordTestResultsRequest, context: Any
    ) -> api.RecordTestResultsResponse:
        units = await self._units({(product_of(one.lot), one.test) for one in request.results})
        receipt = await self.app.facts.record(
            request.results,
            result_fact(units, caller().actor),
            all_or_nothing=request.all_or_nothing,
            actor=caller().actor,
            field="results",
        )
        return api.RecordTestResultsResponse(receipt=receipt)

    async def _units(self, tests: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The unit of each product's test, where one is known now."""
        found = await asyncio.gather(*(self.app.store.get(TRENDS, trend_id(*test)) for test in tests))
        return {test: item.state.unit for test, item in zip(tests, found, strict=True) if item is not None}

    async def CloseInvestigation(
        self, request: api.CloseInvestigationRequest, context: Any
    ) -> api.CloseInvestigationResponse:
        return await self.decide("CloseInvestigation", request, api.CloseInvestigationResponse)

    async def ListResults(self, request: api.ListResultsRequest, context: Any) -> api.ListResultsResponse:
        if request.lot:
            parse_lot(request.lot)
        await self.reach(request)
        filters = {"state": stored(answers.RESULT_STATES, request.state), "lot": request.lot}
        page = await self.page(request, RESULT_ROWS, filters, "at", descending=True)
        rows = [answers.result(item.state) for item in page.items]
        return api.ListResultsResponse(results=rows, next_page_token=page.token)

    # -- corrective actions -----------------------------------------------

    async def ListCapas(self, request: api.ListCapasRequest, context: Any) -> api.ListCapasResponse:
        if request.lot:
            parse_lot(request.lot)
        if request.product:
            check_product(request.product)
        await self.reach(request)
        filters = {
            "state": stored(answers.CAPA_STATES, request.state),
            "_id": request.capa,
            "lot": request.lot,
            "run": request.run,
            "deviation": request.deviation,
            "product": request.product,
        }
        page = await self.page(request, CAPA_ROWS, filters, "at", descending=not request.oldest_first)
        return api.ListCapasResponse(
            capas=[answers.capa(item.state) for item in page.items], next_page_token=page.token
        )

    async def ApproveCapa(self, request: api.ApproveCapaRequest, context: Any) -> api.ApproveCapaResponse:
        return await self.decide("ApproveCapa", request, api.ApproveCapaResponse)

    async def RefuseCapa(self, request: api.RefuseCapaRequest, context: Any) -> api.RefuseCapaResponse:
        return await self.decide("RefuseCapa", request, api.RefuseCapaResponse)

    async def RecordValidation(
        self, request: api.RecordValidationRequest, context: Any
    ) -> api.RecordValidationResponse:
        return await self.decide("RecordValidation", request, api.RecordValidationResponse)

    async def RecordFilingAssessment(
        self, request: api.RecordFilingAssessmentRequest, context: Any
    ) -> api.RecordFilingAssessmentResponse:
        return await self.decide("RecordFilingAssessment", request, api.RecordFilingAssessmentResponse)

    async def RecordEffectivenessCheck(
        self, request: api.RecordEffectivenessCheckRequest, context: Any
    ) -> api.RecordEffectivenessCheckResponse:
        return await self.decide("RecordEffectivenessCheck", request, api.RecordEffectivenessCheckResponse)


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
