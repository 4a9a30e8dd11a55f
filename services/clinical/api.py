"""The gRPC face of a site: patients, medication, exposures, notices. Whoever means another site is
refused before anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.clinical.v1 import service_pb2_grpc as api_grpc
from services.clinical import board
from services.clinical.api_follow_up import FollowUpApi
from services.clinical.cohorts import CohortReader
from services.clinical.domain import dispenses, moments
from services.clinical.domain.cohort import definition
from services.clinical.domain.dispenses import Dispense, OwnRecord
from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Plan
from services.clinical.evidence import Reader
from services.clinical.intake import check_site
from services.clinical.shown import evidence_of
from services.clinical.views import DISPENSES, HOLDINGS, LOTS, PLANS, RELEASES
from services.kit.app import App
from services.kit.errors import Invalid, Unknown
from services.kit.ids import parse_lot
from services.kit.refused import refusals
from services.kit.work import moment_text


class ClinicalApi(FollowUpApi, api_grpc.ClinicalServiceServicer):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._evidence = Reader(app.store, app.sealer, app.site)
        self._cohorts = CohortReader(app.store, app.sealer, app.site)

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

    async def ListExposures(
        self, request: api.ListExposuresRequest, context: Any
    ) -> api.ListExposuresResponse:
        check_site(request.site, self.app.site)
        if not request.run:
            raise Invalid("REQUIRED", "name the run whose exposures you ask for", "run")
        await self.reach(request)
        stored = await self.app.store.get(HOLDINGS, f"{request.run}|{self.app.site}")
        holding = stored.state if stored else Holding(request.run)
        if request.only_differences:
            return await self._differences(request, holding)
        page = await self.page(request, DISPENSES, {"runs": request.run})
        return api.ListExposuresResponse(
            exposures=[row for item in page.items for row in _exposures(item.state, request.run)],
            next_page_token=page.token,
            total=holding.members,
        )

    async def _differences(
        self, request: api.ListExposuresRequest, holding: Holding
    ) -> api.ListExposuresResponse:
        """Read on until a page has one: most exposures have none."""
        found = await self._only_at_site(holding) if not request.page_token else []
        token = request.page_token
        while holding.only_in_trace:
            page = await self.page(_at(request, token), DISPENSES, {"runs": holding.run})
            rows = [row for item in page.items for row in _exposures(item.state, holding.run)]
            found += [row for row in rows if row.difference]
            token = page.token
            if found or not token:
                break
        total = holding.only_in_trace + holding.only_at_site
        return api.ListExposuresResponse(exposures=found, next_page_token=token, total=total)

    async def _only_at_site(self, holding: Holding) -> list[api.Exposure]:
        """Own records of the run's lots that its journal does not have."""
        if not holding.only_at_site:
            return []
        lots = {name for name, count in holding.lots.items() if count.listed}
        held = await self.app.store.among(DISPENSES, "lots", lots)
        found = {item.id: dispenses.unshown(item.state, holding.run, lots) for item in held}
        return [_own(id, own) for id, own in sorted(found.items()) if own is not None]

    async def GetSiteBoard(self, request: api.GetSiteBoardRequest, context: Any) -> api.GetSiteBoardResponse:
        check_site(request.site, self.app.site)
        await self.reach(request)
        now = moment_text(self.app.clock.now())
        return await board.read(self.app.store, self.app.site, request.run, now)

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

    async def GetEvidence(self, request: api.GetEvidenceRequest, context: Any) -> api.GetEvidenceResponse:
        """Made anew of what is held, so that an answer is in it as soon as it is folded."""
        check_site(request.site, self.app.site)
        if not request.run:
            raise Invalid("REQUIRED", "name the run whose evidence you ask for", "run")
        await self.reach(request)
        holding = await self._evidence.holding(request.run)
        if holding is None:
            said = f"the site holds nothing of a run {request.run!r}; ask loops for its runs"
            raise Unknown("UNKNOWN_RUN", said, "run")
        seen = await self._evidence.see(holding, self.app.clock.now())
        decided = await self.app.store.get(RELEASES, f"{request.run}|{self.app.site}")
        labs = await self._evidence.labs(request.run)
        shown = (self.app.site, holding, seen, decided.state if decided else None, labs)
        return await asyncio.to_thread(evidence_of, *shown)

    async def GetCohort(self, request: api.GetCohortRequest, context: Any) -> api.GetCohortResponse:
        """Rows of patients: for the hospital's own agent alone, which lets sums out."""
        check_site(request.site, self.app.site)
        await self.reach(request)
        with refusals("definition"):
            asked = definition.read(request.definition)
        return await self._cohorts.read(asked, self.app.clock.now())

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


def _notice(plan: Plan) -> api.Notice:
    outcomes = {
        "notified": clinical.NOTICE_OUTCOME_NOTIFIED,
        "unreachable": clinical.NOTICE_OUTCOME_UNREACHABLE,
    }
    outcome = outcomes.get(plan.notice, clinical.NOTICE_OUTCOME_UNSPECIFIED)
    return api.Notice(pseudonym=plan.pseudonym, lots=plan.lots, outcome=outcome)


def _at(request: api.ListExposuresRequest, token: str) -> api.ListExposuresRequest:
    further = api.ListExposuresRequest()
    further.CopyFrom(request)
    further.page_token = token
    return further


def _own(dispense: str, own: OwnRecord) -> api.Exposure:
    return api.Exposure(
        dispense=dispense,
        pseudonym=own.pseudonym,
        lot=own.lot,
        at=moments.stamp_of(own.at) if own.at else None,
        at_site=True,
        difference=api.EXPOSURE_DIFFERENCE_ONLY_AT_SITE,
    )


def _exposures(dispense: Dispense, run: str) -> Iterator[api.Exposure]:
    """One row for everybody whom the run's journal names; nearly always one."""
    own = dispense.standing
    for member in dispense.members_of(run):
        at_site = own is not None and own.pseudonym == member.pseudonym
        lacks = not (at_site or member.void or dispense.explained)
        yield api.Exposure(
            dispense=dispense.dispense,
            pseudonym=member.pseudonym,
            lot=member.lot,
            at=moments.stamp_of(member.at) if member.at else None,
            at_site=at_site,
            possible=member.possible,
            disposition=member.disposition,
            explained=dispense.explained,
            difference=(
                api.EXPOSURE_DIFFERENCE_ONLY_IN_TRACE if lacks else api.EXPOSURE_DIFFERENCE_UNSPECIFIED
            ),
        )
