"""The gRPC face of the exchange for analysts and owners: checks form, calls, translates what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.exchange.coordinator.hub import Hub
from services.exchange.domain import models
from services.exchange.domain.datasets import Dataset
from services.exchange.domain.disclosure import budget
from services.exchange.domain.studies import Job, Study, budget_breaches, spent
from services.exchange.views import DATASETS, ROWS, RUNS, STUDIES
from services.kit.app import App
from services.kit.errors import Unknown
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp
from services.sayings import saying

_STATES: dict[str, api.StudyState] = {
    "requested": api.STUDY_STATE_REQUESTED,
    "approved": api.STUDY_STATE_APPROVED,
    "computing": api.STUDY_STATE_COMPUTING,
    "suspended": api.STUDY_STATE_SUSPENDED,
    "answered": api.STUDY_STATE_ANSWERED,
    "refused": api.STUDY_STATE_REFUSED,
    "stopped": api.STUDY_STATE_STOPPED,
    "expired": api.STUDY_STATE_EXPIRED,
    "failed": api.STUDY_STATE_FAILED,
}
_NAMES = {number: name for name, number in _STATES.items()}


class ExchangeApi(Api, api_grpc.ExchangeServiceServicer):
    def __init__(self, app: App, hub: Hub) -> None:
        super().__init__(app)
        self._hub = hub

    async def RegisterDataset(
        self, request: api.RegisterDatasetRequest, context: Any
    ) -> api.RegisterDatasetResponse:
        return await self.decide("RegisterDataset", request, api.RegisterDatasetResponse)

    async def ListDatasets(self, request: api.ListDatasetsRequest, context: Any) -> api.ListDatasetsResponse:
        await self.reach(request)
        page = await self.page(request, DATASETS, {"site": request.site})
        mine = [found.state for found in await self.app.store.where(STUDIES, "actor", caller().actor)]
        datasets = [self._shown(item.state, mine) for item in page.items]
        return api.ListDatasetsResponse(datasets=datasets, next_page_token=page.token)

    def _shown(self, dataset: Dataset, mine: list[Study]) -> api.Dataset:
        left = budget.left(dataset.grant, spent(dataset, mine))
        return api.Dataset(
            registered=dataset.message(),
            connected=bool(self._hub.connected([dataset.site])),
            queries_left=left.queries,
            rounds_left=left.rounds,
            epsilon_left=left.epsilon,
        )

    async def RequestStudy(self, request: api.RequestStudyRequest, context: Any) -> api.RequestStudyResponse:
        await asyncio.to_thread(models.load)  # the request's specification is read by them
        return await self.decide("RequestStudy", request, api.RequestStudyResponse)

    async def ApproveStudy(self, request: api.ApproveStudyRequest, context: Any) -> api.ApproveStudyResponse:
        return await self.decide("ApproveStudy", request, api.ApproveStudyResponse)

    async def RefuseStudy(self, request: api.RefuseStudyRequest, context: Any) -> api.RefuseStudyResponse:
        answer = await self.decide("RefuseStudy", request, api.RefuseStudyResponse)
        self._hub.stop(request.study, f"the owner of {request.site} refused the study")
        return answer

    async def StopStudy(self, request: api.StopStudyRequest, context: Any) -> api.StopStudyResponse:
        answer = await self.decide("StopStudy", request, api.StopStudyResponse)
        self._hub.stop(request.study, "the study was stopped")
        return answer

    async def GetStudy(self, request: api.GetStudyRequest, context: Any) -> api.GetStudyResponse:
        await self.reach(request)
        study = await self._study(request.study)
        if study is None:
            raise Unknown("UNKNOWN_STUDY", "no such study; list them with ListStudies", "study")
        return api.GetStudyResponse(study=study)

    async def ListStudies(self, request: api.ListStudiesRequest, context: Any) -> api.ListStudiesResponse:
        await self.reach(request)
        filters = {"state": _NAMES.get(request.state, "") if request.state else "", "sites": request.site}
        page = await self.page(request, ROWS, filters, "at", descending=not request.oldest_first)
        found = await asyncio.gather(*(self._study(item.id) for item in page.items))
        return api.ListStudiesResponse(
            studies=[one for one in found if one is not None], next_page_token=page.token
        )

    async def _study(self, id: str) -> api.Study | None:
        study, run, row = await asyncio.gather(
            self.app.store.get(STUDIES, id), self.app.store.get(RUNS, id), self.app.store.get(ROWS, id)
        )
        if study is None:
            return None
        shown = shown_study(study.state)
        shown.run = run.state.run if run else ""
        for job in shown.jobs:
            room = self._hub.rooms.get(job.opened.job)
            if room is not None and not job.rounds and not job.HasField("ended"):
                job.progress.CopyFrom(room.progress())
        if row is not None and row.state.at:
            shown.at.CopyFrom(timestamp(datetime.fromisoformat(row.state.at)))
        if not shown.statement and (waits := await self._waits_for(study.state)) is not None:
            shown.statement, parts = waits
            shown.statement_sayings.append(parts)
        return shown

    async def _waits_for(self, study: Study) -> tuple[str, common.Saying] | None:
        """What a study that goes on waits for, in words and in parts; None for one that does not."""
        if study.state == "requested":
            owners = ", ".join(sorted(set(study.sites) - set(study.approved_by)))
            return f"waits for the owners of {owners}", saying("WAITS_FOR_OWNERS", sites=owners)
        if study.state in ("approved", "suspended"):
            if said := await self._overspent(study):
                return said
            if agents := ", ".join(sorted(set(study.sites) - self._hub.connected(study.sites))):
                return f"waits for the agents of {agents}", saying("WAITS_FOR_AGENTS", sites=agents)
            return "waits for its next job", saying("WAITS_FOR_JOB")
        return None

    async def _overspent(self, study: Study) -> tuple[str, common.Saying] | None:
        """Which budget is spent, so that no job is opened; None where one may be."""
        mine = [found.state for found in await self.app.store.where(STUDIES, "actor", study.actor)]
        held = await self.app.store.among(DATASETS, "_id", study.datasets)
        epsilon = study.message().epsilon
        breaches = (
            (f"{one.description} [{one.reason}]", saying(one.reason, dataset=item.state.dataset))
            for item in held
            for one in budget_breaches(item.state, mine, epsilon)
        )
        return next(breaches, None)


def shown_study(study: Study) -> api.Study:
    """A study as it is answered."""
    return api.Study(
        requested=study.message(),
        state=_STATES[study.state],
        approvals=_told(study.approvals, events.StudyApproved.FromString),
        jobs=[_job(job) for job in study.jobs],
        insight=events.InsightPublished.FromString(study.insight) if study.insight else None,
        contributions=_told(study.contributions, events.ContributionMetered.FromString),
        statement=study.ended,
        ended_by=study.ended_by,
        ended_meaning=study.ended_meaning,
        statement_sayings=_why_it_ended(study),
    )


def _why_it_ended(study: Study) -> list[common.Saying]:
    """The parts of what a study's end says, where no person and no site said it."""
    if study.state == "expired":
        return [saying("TIME_OVER")]
    last = study.jobs[-1].end() if study.jobs and study.jobs[-1].ended else None
    return list(last.statement_sayings) if last and last.statement == study.ended else []


def _told(kept: tuple[bytes, ...], read: Callable[[bytes], Any]) -> list[Any]:
    return [read(one) for one in kept]


def _job(job: Job) -> api.Job:
    rounds = events.JobAudited.FromString(job.audited).rounds if job.audited else ()
    return api.Job(
        opened=events.JobOpened.FromString(job.opened),
        rounds=rounds,
        ended=job.end() if job.ended else None,
    )
