"""The gRPC face of what research computes and learns: trials, transfers, findings, candidates."""

from __future__ import annotations

import asyncio
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.app import App
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product
from services.kit.refused import refusals
from services.kit.rpc.states import stored
from services.rnd import answers
from services.rnd.api_base import RndBase
from services.rnd.domain import calibration, candidates, findings, trials
from services.rnd.domain.findings import FindingRow
from services.rnd.views import (
    CALIBRATIONS,
    FINDING_ROWS,
    FINDINGS,
    HYPOTHESIS_ROWS,
    OUTCOMES,
    PRODUCTS,
    RANKING_ROWS,
    TRIAL_ROWS,
    TRIALS,
)


class LearningApi(RndBase):
    def __init__(self, app: App) -> None:
        super().__init__(app)
        #: One trial after the other: each takes a core for itself.
        self._trying = asyncio.Lock()

    # -- virtual trials ------------------------------------------------------------

    async def RunTrial(self, request: api.RunTrialRequest, context: Any) -> api.RunTrialResponse:
        """Run it beside the event loop, unless it was run before."""
        check_product(request.product)
        asked = _question(request)
        async with self._trying:
            found = await self.app.store.get(TRIALS, asked.trial)
            if found is not None:
                completed = found.state.message()
            else:
                completed = await asyncio.to_thread(trials.run, asked)
        return await self.submit(request, "RunTrial", completed, api.RunTrialResponse)

    async def ListTrials(self, request: api.ListTrialsRequest, context: Any) -> api.ListTrialsResponse:
        await self.reach(request)
        page = await self.page(request, TRIAL_ROWS, {"product": request.product}, "at", descending=True)
        found = [answers.trial(item.state) for item in page.items]
        return api.ListTrialsResponse(trials=found, next_page_token=page.token)

    async def GetTrial(self, request: api.GetTrialRequest, context: Any) -> api.GetTrialResponse:
        await self.reach(request)
        found = await self.app.store.get(TRIAL_ROWS, request.trial)
        if found is None:
            raise Unknown("UNKNOWN_TRIAL", "no such virtual trial; list them with ListTrials", "trial")
        return api.GetTrialResponse(trial=answers.trial(found.state))

    # -- transfers -----------------------------------------------------------------

    async def GetTransferGaps(
        self, request: api.GetTransferGapsRequest, context: Any
    ) -> api.GetTransferGapsResponse:
        check_product(request.product)
        if not request.plant:
            raise Invalid("REQUIRED", "name the plant whose transfers you ask for", "plant")
        await self.reach(request)
        id = calibration.calibration_id(request.plant, request.product)
        known = [item.state for item in await self.app.store.where(OUTCOMES, "calibration", id)]
        learned = await self.app.store.get(CALIBRATIONS, id)
        return api.GetTransferGapsResponse(
            outcomes=[answers.outcome(one) for one in calibration.in_order(known)],
            calibration=learned.state.message().attributes if learned else (),
        )

    # -- findings, hypotheses, candidates --------------------------------------------

    async def ListFindings(self, request: api.ListFindingsRequest, context: Any) -> api.ListFindingsResponse:
        await self.reach(request)
        state = stored(answers.FINDING_STATES, request.state)
        filters = {"product": request.product, "state": state}
        page = await self.page(request, FINDING_ROWS, filters, "at", descending=not request.oldest_first)
        found = [answers.finding(item.state, *await self._reason(item.state)) for item in page.items]
        return api.ListFindingsResponse(findings=found, next_page_token=page.token)

    async def _reason(self, row: FindingRow) -> tuple[str, list[common.Saying]]:
        """Why a finding waits, as things are now, with the parts of it; why it was declined."""
        held = await self.app.store.get(FINDINGS, row.insight) if row.state == "waiting" else None
        if held is None:
            return row.reason, []
        product = await self.app.store.get(PRODUCTS, row.product)
        told = (held.state.message(), product.state if product else None)
        waits = (
            findings.waits_for(*told) or "no rule could take it up when it came; take it up, or decline it"
        )
        return waits, findings.waiting_sayings(*told)

    async def TakeUpInsight(
        self, request: api.TakeUpInsightRequest, context: Any
    ) -> api.TakeUpInsightResponse:
        return await self.decide("TakeUpInsight", request, api.TakeUpInsightResponse)

    async def DeclineInsight(
        self, request: api.DeclineInsightRequest, context: Any
    ) -> api.DeclineInsightResponse:
        return await self.decide("DeclineInsight", request, api.DeclineInsightResponse)

    async def ListHypotheses(
        self, request: api.ListHypothesesRequest, context: Any
    ) -> api.ListHypothesesResponse:
        await self.reach(request)
        if request.state not in events.HypothesisState.values():
            raise Invalid("OUT_OF_RANGE", f"{request.state} is not a state", "state")
        filters = {"product": request.product, "state": request.state or None}
        page = await self.page(request, HYPOTHESIS_ROWS, filters, "at", descending=True)
        found = [answers.hypothesis(item.state) for item in page.items]
        return api.ListHypothesesResponse(hypotheses=found, next_page_token=page.token)

    async def ListCandidates(
        self, request: api.ListCandidatesRequest, context: Any
    ) -> api.ListCandidatesResponse:
        await self.reach(request)
        page = await self.page(request, RANKING_ROWS, {"indication": request.indication})
        weights, caution = candidates.explained()
        return api.ListCandidatesResponse(
            rankings=[answers.ranking(item.state) for item in page.items],
            weights=weights,
            caution=caution,
            weights_sayings=candidates.weights_sayings(),
            caution_sayings=candidates.caution_sayings(),
            next_page_token=page.token,
        )


def _question(request: api.RunTrialRequest) -> trials.Question:
    design = request.design
    least = design.least_difference if design.HasField("least_difference") else None
    with refusals(inside=_INSIDE):
        return trials.question(
            request.product,
            request.context_of_use,
            request.seed,
            control_dose=design.control_dose_mg,
            target=design.target_inr,
            per_arm=design.patients_each,
            days=design.days,
            visits=tuple(design.visits),
            looks=design.looks,
            alpha=design.alpha,
            replicates=design.replicates,
            least_probability=design.least_probability,
            least_difference=least,
            lots=tuple((one.lot, one.potency, one.share) for one in design.lots),
        )


#: Where the domain's names stand in the request.
_INSIDE = {
    "dose": "design.control_dose_mg",
    "target": "design.target_inr",
    "per_arm": "design.patients_each",
    "days": "design.days",
    "visits": "design.visits",
    "looks": "design.looks",
    "alpha": "design.alpha",
    "replicates": "design.replicates",
    "least_probability": "design.least_probability",
    "least_difference": "design.least_difference",
    "lot": "design.lots",
    "lots": "design.lots",
    "potency": "design.lots",
    "share": "design.lots",
}
