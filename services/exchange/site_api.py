"""The gRPC face of the exchange for agents of sites. Nothing of a round is stored or logged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import JOB_OVER, Declined, Room
from services.exchange.domain.aggregation.messages import MaskedVector, Opening, Statement
from services.exchange.views import DATASETS
from services.kit.app import App
from services.kit.errors import Invalid, Unknown
from services.kit.log import get_logger
from services.kit.refused import refusals
from services.refusals import Refusal

_log = get_logger("exchange.sites")


class SiteApi(api_grpc.SiteServiceServicer):
    def __init__(self, app: App, hub: Hub) -> None:
        self._app, self._hub = app, hub

    async def Work(
        self, said: AsyncIterator[api.WorkRequest], context: Any
    ) -> AsyncIterator[api.WorkResponse]:
        site = (await anext(aiter(said), api.WorkRequest())).hello.site
        if not site:
            raise Invalid("REQUIRED", "say first which site this is (hello)", "hello")
        if not await self._app.store.where(DATASETS, "site", site):
            raise Unknown(
                "UNKNOWN_SITE", f"{site!r} has no dataset; register one with RegisterDataset", "site"
            )
        hearing = asyncio.ensure_future(self._hear(site, said))
        hearing.add_done_callback(_ending(asyncio.current_task()))
        try:
            async for task in self._hub.watch(site):
                yield task
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _hear(self, site: str, said: AsyncIterator[api.WorkRequest]) -> None:
        """Take what the site says of rounds; what is refused it is told."""
        async for one in said:
            name = one.WhichOneof("said")
            told = getattr(one, name) if name else None
            if not isinstance(told, api.RoundVector | api.RoundOpening):
                continue
            try:
                self.take(told)
            except Refusal as refusal:
                self._hub.refuse(site, told.job, refusal.reason, refusal.description)
            except Exception as error:  # noqa: BLE001 -- the call goes on: it is that of other jobs, too
                _log.error("not taken", job=told.job, site=site, exc_info=error)
                said_ = "the exchange failed at what the site said; its log says why"
                self._hub.refuse(site, told.job, "EXCHANGE_FAULT", said_)

    def take(self, said: api.RoundVector | api.RoundOpening) -> str:
        """What became of it: "ACCEPTED", "DUPLICATE" or why it was ignored. Raises Refusal."""
        room = self._hub.rooms.get(said.job)
        if room is None:
            return JOB_OVER
        return (
            room.vector(_vector(said)) if isinstance(said, api.RoundVector) else room.opening(_opening(said))
        )

    async def SubmitCohort(self, request: api.SubmitCohortRequest, context: Any) -> api.SubmitCohortResponse:
        outcome = self._said(request.job, lambda room: room.cohort(request))
        return api.SubmitCohortResponse(receipt=_receipt(request), outcome=outcome)

    async def ConfirmCohort(
        self, request: api.ConfirmCohortRequest, context: Any
    ) -> api.ConfirmCohortResponse:
        said = (request.site, request.compute_seconds, request.nonce, request.signature)
        outcome = self._said(request.job, lambda room: room.confirm(*said))
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

    def _said(self, job: str, take: Callable[[Room], str]) -> str:
        """What became of it; for a job that is over it is ignored."""
        room = self._hub.rooms.get(job)
        if room is None:
            return JOB_OVER
        with refusals():
            return take(room)


def _ending(call: asyncio.Task[Any] | None) -> Callable[[asyncio.Task[None]], None]:
    """Ends a call in which nobody can be heard any more: the site makes another."""

    def end(heard: asyncio.Task[None]) -> None:
        if heard.cancelled() or call is None:
            return
        if error := heard.exception():
            _log.warning("a site is not heard", error=str(error))
        call.cancel()

    return end


def _vector(said: api.RoundVector) -> MaskedVector:
    return MaskedVector(
        job=said.job,
        round=said.round,
        attempt=said.attempt,
        context=said.context,
        words=said.words,
        statement=_statement(said.statement),
    )


def _opening(said: api.RoundOpening) -> Opening:
    return Opening(context=said.context, site=said.site, seed=said.seed)


def _statement(said: api.RoundStatement) -> Statement:
    return Statement(site=said.site, vector=said.vector, seed=said.seed, signature=said.signature)


def _receipt(request: Any) -> common.Receipt:
    return common.Receipt(request_id=request.request_id)
