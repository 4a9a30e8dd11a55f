"""The gRPC face of a site. Whoever means another site is refused before anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.clinical.v1 import service_pb2_grpc as api_grpc
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain import dispenses, moments, plans
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.plans import Plan
from services.clinical.intake import Intake, check_response, check_site
from services.clinical.views import DISPENSES, HOLDINGS, LOTS, PLANS
from services.kit.app import App
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.facts import Fact
from services.kit.ids import parse_lot
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller

M = TypeVar("M", bound=Message)


class ClinicalApi(Api, api_grpc.ClinicalServiceServicer):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._intake = Intake(app.site, app.sealer)

    async def RecordSubjects(
        self, request: api.RecordSubjectsRequest, context: Any
    ) -> api.RecordSubjectsResponse:
        check_site(request.site, self.app.site)
        receipt = await self._record(
            request.subjects, self._intake.subject, request.all_or_nothing, "subjects"
        )
        return api.RecordSubjectsResponse(receipt=receipt)

    async def RecordMedications(
        self, request: api.RecordMedicationsRequest, context: Any
    ) -> api.RecordMedicationsResponse:
        check_site(request.site, self.app.site)
        receipt = await self._record(
            request.medications, self._intake.medication, request.all_or_nothing, "medications"
        )
        return api.RecordMedicationsResponse(receipt=receipt)

    async def RecordMedicationCorrections(
        self, request: api.RecordMedicationCorrectionsRequest, context: Any
    ) -> api.RecordMedicationCorrectionsResponse:
        check_site(request.site, self.app.site)
        receipt = await self._record(
            request.corrections, self._intake.correction, request.all_or_nothing, "corrections"
        )
        return api.RecordMedicationCorrectionsResponse(receipt=receipt)

    async def ExplainDifference(
        self, request: api.ExplainDifferenceRequest, context: Any
    ) -> api.ExplainDifferenceResponse:
        check_site(request.site, self.app.site)
        return await self.decide("ExplainDifference", request, api.ExplainDifferenceResponse)

    async def RecordResponse(
        self, request: api.RecordResponseRequest, context: Any
    ) -> api.RecordResponseResponse:
        check_site(request.site, self.app.site)
        check_response(request)
        await self._check_plan(request.plan, request.pseudonym)
        fact = await asyncio.to_thread(self._intake.response, request)
        receipt = await self.app.facts.record(
            [fact.message], lambda _, __: fact, all_or_nothing=True, actor=caller().actor, field=""
        )
        return api.RecordResponseResponse(receipt=receipt)

    async def RecordNotices(
        self, request: api.RecordNoticesRequest, context: Any
    ) -> api.RecordNoticesResponse:
        check_site(request.site, self.app.site)
        receipt = await self._record(request.notices, self._intake.notice, request.all_or_nothing, "notices")
        return api.RecordNoticesResponse(receipt=receipt)

    async def ListNotices(self, request: api.ListNoticesRequest, context: Any) -> api.ListNoticesResponse:
        check_site(request.site, self.app.site)
        if not request.run:
            raise Invalid("REQUIRED", "name the run whose patients are to be told", "run")
        await self.reach(request)
        holding = await self.app.store.get(HOLDINGS, f"{request.run}|{self.app.site}")
        if holding is None or holding.state.hazard is None:
            return api.ListNoticesResponse()
        hazard = holding.state.hazard
        filters = {"run": request.run, "notice": "owed" if request.only_open else ""}
        page = await self.page(request, PLANS, filters)
        return api.ListNoticesResponse(
            notices=[_notice(item.state) for item in page.items if item.state.notice],
            next_page_token=page.token,
            hazard_class=hazard.hazard_class,
            text=hazard.text,
            instruction=hazard.instruction,
        )

    async def _record(
        self, records: Iterable[M], judge: Callable[[M], Fact], all_or_nothing: bool, field: str
    ) -> common.FactReceipt:
        """Judge the records beside the event loop (sealing makes keys on disk), then record the good ones."""
        judged = await asyncio.to_thread(lambda: [_judged(judge, record) for record in records])

        def to_fact(index: int, _: M) -> Fact:
            fact = judged[index]
            if isinstance(fact, Invalid):
                raise fact
            return fact

        return await self.app.facts.record(
            records, to_fact, all_or_nothing=all_or_nothing, actor=caller().actor, field=field
        )

    async def _check_plan(self, plan: str, pseudonym: str) -> None:
        stored = await self.app.store.get(PLANS, plan)
        if stored is None or not stored.state.due:
            raise Unknown("UNKNOWN_PLAN", f"there is no plan {plan!r}; ListPlans shows the plans", "plan")
        if stored.state.pseudonym != pseudonym:
            raise Invalid("OTHER_PATIENT", "the plan belongs to another patient", "pseudonym")
        holding = await self.app.store.get(HOLDINGS, f"{stored.state.run}|{self.app.site}")
        if stored.state.stage != "open" or (holding is not None and holding.state.over):
            said = "the plan is closed and takes no more answers; record a complaint as an adverse event"
            raise Rejected("PLAN_CLOSED", said, "plan")
        if holding is None or holding.state.hazard is None:
            said = "the plan is a draft: nobody is asked before the health hazard is evaluated"
            raise Rejected("PLAN_IS_DRAFT", said, "plan")

    async def ListPlans(self, request: api.ListPlansRequest, context: Any) -> api.ListPlansResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        filters: dict[str, Any] = {"run": request.run, "pseudonym": request.pseudonym, "stage": "open"}
        if request.only_open:
            filters["answered"] = False
        page = await self.page(request, PLANS, filters)
        drafts = await self._drafts({item.state.run for item in page.items})
        return api.ListPlansResponse(
            plans=[_plan(item.state, item.state.run in drafts) for item in page.items],
            next_page_token=page.token,
        )

    async def _drafts(self, runs: Iterable[str]) -> set[str]:
        """Those of the runs whose hazard nobody has evaluated."""
        found = {run: await self.app.store.get(HOLDINGS, f"{run}|{self.app.site}") for run in runs}
        return {run for run, holding in found.items() if holding is None or holding.state.hazard is None}

    async def ListExposures(
        self, request: api.ListExposuresRequest, context: Any
    ) -> api.ListExposuresResponse:
        check_site(request.site, self.app.site)
        if not request.run:
            raise Invalid("REQUIRED", "name the run whose exposures you ask for", "run")
        await self.reach(request)
        page = await self.page(request, DISPENSES, {"runs": request.run})
        holding = await self.app.store.get(HOLDINGS, f"{request.run}|{self.app.site}")
        return api.ListExposuresResponse(
            exposures=[row for item in page.items for row in _exposures(item.state, request.run)],
            next_page_token=page.token,
            total=holding.state.members if holding else 0,
        )

    async def GetLotSummary(
        self, request: api.GetLotSummaryRequest, context: Any
    ) -> api.GetLotSummaryResponse:
        check_site(request.site, self.app.site)
        parse_lot(request.lot)
        await self.reach(request)
        received = await self.app.store.where(DISPENSES, "lots", request.lot)
        patients = {name for item in received for name in dispenses.received_by(item.state, request.lot)}
        responses = await self._responses(request.lot)
        return api.GetLotSummaryResponse(lot=request.lot, patients=len(patients), responses=responses)

    async def _responses(self, lot: str) -> clinical.LotResponses:
        """The answers to the plans of every run that listed the lot."""
        total = clinical.LotResponses(lot=lot)
        stored = await self.app.store.get(LOTS, lot)
        for run in stored.state.runs if stored else ():
            holding = await self.app.store.get(HOLDINGS, f"{run}|{self.app.site}")
            if holding is not None:
                count = holding.state.lot(lot)
                total.plans += count.plans
                total.answered += count.answered
                total.affected += count.affected
        return total


def _judged(judge: Callable[[M], Fact], record: M) -> Fact | Invalid:
    try:
        return judge(record)
    except Invalid as error:
        return error


def _plan(plan: Plan, draft: bool) -> api.PlanView:
    return api.PlanView(plan=plans.message_of(plan), answered=plan.answered, draft=draft)


def _notice(plan: Plan) -> api.Notice:
    outcomes = {
        "notified": clinical.NOTICE_OUTCOME_NOTIFIED,
        "unreachable": clinical.NOTICE_OUTCOME_UNREACHABLE,
    }
    outcome = outcomes.get(plan.notice, clinical.NOTICE_OUTCOME_UNSPECIFIED)
    return api.Notice(pseudonym=plan.pseudonym, lots=plan.lots, outcome=outcome)


def _exposures(dispense: Dispense, run: str) -> Iterator[api.Exposure]:
    """One row for everybody whom the run's journal names; nearly always one."""
    own = dispense.standing
    for member in dispense.members_of(run):
        yield api.Exposure(
            dispense=dispense.dispense,
            pseudonym=member.pseudonym,
            lot=member.lot,
            at=moments.stamp_of(member.at) if member.at else None,
            at_site=own is not None and own.pseudonym == member.pseudonym,
            possible=member.possible,
            disposition=member.disposition,
            explained=dispense.explained,
        )
