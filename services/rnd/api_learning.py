"""The gRPC face of what research computes and learns: trials, transfers, findings, candidates."""

from __future__ import annotations

import asyncio
from typing import Any

from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.app import App
from services.kit.errors import Unknown
from services.kit.ids import check_product
from services.rnd import answers
from services.rnd.api_base import RndBase
from services.rnd.domain import trials
from services.rnd.handlers.refusals import refusals
from services.rnd.views import TRIAL_ROWS, TRIALS


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
            per_arm=design.per_arm,
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
    "per_arm": "design.per_arm",
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
