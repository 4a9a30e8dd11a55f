"""The gRPC face of the exchange for the evaluator of contributions. Nothing of a valuation is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.coordinator.desk import Desk
from services.kit.app import App
from services.kit.refused import refusals
from services.kit.rpc.api import Api


class EvaluatorApi(Api, api_grpc.EvaluatorServiceServicer):
    def __init__(self, app: App, desk: Desk) -> None:
        super().__init__(app)
        self._desk = desk

    async def RegisterEvaluator(
        self, request: api.RegisterEvaluatorRequest, context: Any
    ) -> api.RegisterEvaluatorResponse:
        return await self.decide("RegisterEvaluator", request, api.RegisterEvaluatorResponse)

    async def WatchValuations(
        self, request: api.WatchValuationsRequest, context: Any
    ) -> AsyncIterator[api.WatchValuationsResponse]:
        async for task in self._desk.watch(request.evaluator):
            yield task

    async def AskCoalition(self, request: api.AskCoalitionRequest, context: Any) -> api.AskCoalitionResponse:
        with refusals():
            vectors = await self._desk.ask(request)
        receipt = common.Receipt(request_id=request.request_id)
        return api.AskCoalitionResponse(receipt=receipt, vectors=vectors)

    async def SubmitValues(self, request: api.SubmitValuesRequest, context: Any) -> api.SubmitValuesResponse:
        with refusals():
            outcome = self._desk.take(request)
        receipt = common.Receipt(request_id=request.request_id)
        return api.SubmitValuesResponse(receipt=receipt, outcome=outcome)
