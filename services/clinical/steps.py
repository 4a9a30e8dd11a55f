"""What a site does by the platform clock: it ends follow-ups, reminds, chooses comparators, reviews
evidence, tells the trace again, settles again.

Each step reads what is held and ends by submitting commands, named after what
they rest on, so that doing it twice has one effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import dispenses, moments, plans, reminders
from services.clinical.domain.plans import Plan
from services.clinical.evidence import Reader, numbers
from services.clinical.handlers.comparators import plan_of
from services.clinical.handlers.due import CHOICE_STEP, FOLLOW_UP_STEP, REVIEW_STEP, SETTLE_STEP
from services.clinical.handlers.telling import TELLING_STEP
from services.clinical.held_templates import asked_by
from services.clinical.views import DISPENSES, PLANS, RELEASES
from services.kit.app import App
from services.kit.runners.step import StepFunction
from services.kit.work import Step, moment_text


class Steps:
    """The steps of one site."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._reader = Reader(app.store, app.sealer, app.site)

    def all(self) -> Mapping[str, StepFunction]:
        return {
            FOLLOW_UP_STEP: self._follow_up,
            CHOICE_STEP: self._choose,
            REVIEW_STEP: self._review,
            TELLING_STEP: self._tell,
            SETTLE_STEP: self._settle,
        }

    async def _follow_up(self, step: Step) -> None:
        if "hours" in step.payload:
            await self._remind(step.payload["run"], int(step.payload["hours"]), step.due)
        else:
            run = step.key.partition("|")[0]
            last = clinical.MonitoringPlan(run=run, due=moments.stamp_of(step.due))
            await self._submit("EndFollowUp", last, f"follow-up/{step.key}/{step.due}")

    async def _remind(self, run: str, hours: int, due: str) -> None:
        """Bulk after bulk, exposed and comparators alike; the command looks at each plan again, so that a
        restart reminds nobody twice."""
        holding = await self._reader.holding(run)
        if holding is None or holding.hazard is None:
            return
        hazard = holding.hazard.at
        async for page in self._unanswered(run):
            owed = [plan for plan in page if reminders.reminded(plan, hazard, hours, due)]
            if owed:
                told = self._reminders(run, hours, due, owed)
                await self._submit("Remind", told, f"remind/{run}/{hours}/{due}/{owed[0].plan}")

    def _reminders(self, run: str, hours: int, due: str, owed: list[Plan]) -> clinical.RemindersDue:
        told = clinical.RemindersDue(run=run, site=self._app.site, hours=hours, at=moments.stamp_of(due))
        for plan in owed:
            told.plans.add(plan=plan.plan, pseudonym=plan.pseudonym)
        return told

    async def _unanswered(self, run: str) -> AsyncIterator[list[Plan]]:
        token, wanted = "", {"run": run, "stage": "open", "answered": False}
        while True:
            page = await self._app.store.page(PLANS, wanted, "_id", False, token, plans.BULK)
            yield [item.state for item in page.items]
            token = page.token
            if not token:
                return

    async def _choose(self, step: Step) -> None:
        """Each comparator is asked by the template and version of the exposed whom they are chosen for."""
        holding = await self._reader.holding(step.key)
        if holding is None or holding.over or not holding.lacks_comparators:
            return
        found = await self._reader.choose(holding)
        moment = moment_text(self._app.clock.now())
        groups = {choice.group for choice in found}
        templates = {
            group: await asked_by(self._app.store, self._app.site, group.template, group.version)
            for group in groups
        }
        chosen = clinical.ComparatorsChosen(
            run=step.key,
            site=self._app.site,
            exposed=holding.plans,
            plans=[plan_of(step.key, choice, templates[choice.group], moment) for choice in found],
        )
        await self._submit("ChooseComparators", chosen, f"comparators/{step.key}/{holding.plans}")

    async def _review(self, step: Step) -> None:
        holding = await self._reader.holding(step.key)
        if holding is None or holding.over:
            return
        seen = numbers(holding, self._app.site, await self._reader.see(holding))
        # Numbers may come back to what they were, and what was told since is to be told anew.
        decided = await self._app.store.get(RELEASES, f"{step.key}|{self._app.site}")
        told = decided.state.number if decided else 0
        place = f"{told}/{holding.plans}/{holding.responders}/{holding.final}"
        await self._submit("ReviewEvidence", seen, f"evidence/{step.key}/{place}")

    async def _tell(self, step: Step) -> None:
        found = await self._app.store.get(DISPENSES, step.key)
        if found is not None and dispenses.unheard(found.state) is not None:
            named = traceability.DispenseRecorded(dispense=step.key, site=self._app.site)
            await self._submit("TellAgain", named, f"telling/{step.key}/{step.due}")

    async def _settle(self, step: Step) -> None:
        of_run = clinical.MonitoringPlan(run=step.key)
        await self._submit("SettleAgain", of_run, f"settle/{step.key}/{step.due}")

    async def _submit(self, method: str, request: Message, request_id: str) -> None:
        await self._app.decider.submit(method, request, request_id=request_id, actor="platform")
