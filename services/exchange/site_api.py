"""The gRPC face of the exchange for agents of sites. Nothing of a round is stored or logged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import ACCEPTED, JOB_OVER, Declined, Room
from services.exchange.domain.aggregation.messages import MaskedVector, Opening, Statement
from services.exchange.handlers.refusals import refusals
from services.exchange.views import DATASETS
from services.kit.app import App
from services.kit.errors import Unknown


class SiteApi(api_grpc.SiteServiceServicer):
    def __init__(self, app: App, hub: Hub) -> None:
        self._app, self._hub = app, hub

    async def WatchTasks(
        self, request: api.WatchTasksRequest, context: Any
    ) -> AsyncIterator[api.WatchTasksResponse]:
        if not await self._app.store.where(DATASETS, "site", request.site):
            said = f"{request.site!r} has no dataset; register one with RegisterDataset"
            raise Unknown("UNKNOWN_SITE", said, "site")
        async for task in self._hub.watch(request.site):
            yield task

    async def SubmitCohort(self, request: api.SubmitCohortRequest, context: Any) -> api.SubmitCohortResponse:
        outcome = self._said(request.job, lambda room: room.cohort(request))
        return api.SubmitCohortResponse(receipt=_receipt(request), outcome=outcome)

    async def SubmitContribution(
        self, request: api.SubmitContributionRequest, context: Any
    ) -> api.SubmitContributionResponse:
        vector = MaskedVector(
            job=request.job,
            round=request.round,
            attempt=request.attempt,
            context=request.context,
            words=request.words,
            statement=_statement(request.statement),
        )
        outcome = self._said(request.job, lambda room: room.vector(vector))
        following = await self._next(request.job, vector.site, outcome)
        return api.SubmitContributionResponse(receipt=_receipt(request), outcome=outcome, next=following)

    async def SubmitOpening(
        self, request: api.SubmitOpeningRequest, context: Any
    ) -> api.SubmitOpeningResponse:
        opening = Opening(context=request.context, site=request.site, seed=request.seed)
        outcome = self._said(request.job, lambda room: room.opening(opening))
        following = await self._next(request.job, request.site, outcome)
        return api.SubmitOpeningResponse(receipt=_receipt(request), outcome=outcome, next=following)

    async def ConfirmCohort(
        self, request: api.ConfirmCohortRequest, context: Any
    ) -> api.ConfirmCohortResponse:
        seconds, signature = request.compute_seconds, request.signature
        outcome = self._said(request.job, lambda room: room.confirm(request.site, seconds, signature))
        return api.ConfirmCohortResponse(receipt=_receipt(request), outcome=outcome)

    async def DeclineTask(self, request: api.DeclineTaskRequest, context: Any) -> api.DeclineTaskResponse:
        declined = Declined(request.refusal.reason or "REFUSED", request.refusal.statement)
        outcome = self._said(request.job, lambda room: room.decline(request.site, declined))
        return api.DeclineTaskResponse(receipt=_receipt(request), outcome=outcome)

    async def SubmitEvaluation(
        self, request: api.SubmitEvaluationRequest, context: Any
    ) -> api.SubmitEvaluationResponse:
        outcome = self._said(request.job, lambda room: room.sealed(request))
        return api.SubmitEvaluationResponse(receipt=_receipt(request), outcome=outcome)

    async def _next(self, job: str, site: str, outcome: str) -> api.WatchTasksResponse | None:
        room = self._hub.rooms.get(job)
        return await room.next(site) if room is not None and outcome == ACCEPTED else None

    def _said(self, job: str, take: Callable[[Room], str]) -> str:
        """What became of it; for a job that is over it is ignored."""
        room = self._hub.rooms.get(job)
        if room is None:
            return JOB_OVER
        with refusals():
            return take(room)


def _statement(said: api.RoundStatement) -> Statement:
    return Statement(site=said.site, vector=said.vector, seed=said.seed, signature=said.signature)


def _receipt(request: Any) -> common.Receipt:
    return common.Receipt(request_id=request.request_id)
