"""What is due by the platform clock: the end of a run's follow-up, and the reminders before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import moments, plans, reminders
from services.clinical.domain.plans import Plan
from services.clinical.views import HOLDINGS, PLANS
from services.kit.store.protocol import AsyncStore
from services.kit.work import Step


class Submit(Protocol):
    """Submits a command in the name of the platform."""

    def __call__(self, method: str, request: Message, *, request_id: str) -> Awaitable[object]: ...


class FollowUp:
    """The step of a site."""

    def __init__(self, site: str, store: AsyncStore, submit: Submit) -> None:
        self._site, self._store, self._submit = site, store, submit

    async def __call__(self, step: Step) -> None:
        if "hours" in step.payload:
            await self._remind(step.payload["run"], int(step.payload["hours"]), step.due)
        else:
            await self._end(step.key, step.due)

    async def _end(self, run: str, due: str) -> None:
        last = clinical.MonitoringPlan(run=run, due=moments.stamp_of(due))
        await self._submit("EndFollowUp", last, request_id=f"follow-up/{run}/{due}")

    async def _remind(self, run: str, hours: int, due: str) -> None:
        """Bulk after bulk; the command looks at each plan again, so that a restart reminds nobody twice."""
        holding = await self._store.get(HOLDINGS, f"{run}|{self._site}")
        if holding is None or holding.state.hazard is None:
            return
        hazard = holding.state.hazard.at
        async for page in self._unanswered(run):
            owed = [plan for plan in page if reminders.reminded(plan, hazard, hours, due)]
            if owed:
                request = self._request(run, hours, due, owed)
                await self._submit("Remind", request, request_id=f"remind/{run}/{hours}/{due}/{owed[0].plan}")

    def _request(self, run: str, hours: int, due: str, owed: list[Plan]) -> clinical.RemindersDue:
        told = clinical.RemindersDue(run=run, site=self._site, hours=hours, at=moments.stamp_of(due))
        for plan in owed:
            told.plans.add(plan=plan.plan, pseudonym=plan.pseudonym)
        return told

    async def _unanswered(self, run: str) -> AsyncIterator[list[Plan]]:
        token, wanted = "", {"run": run, "stage": "open", "answered": False}
        while True:
            page = await self._store.page(PLANS, wanted, "_id", False, token, plans.BULK)
            yield [item.state for item in page.items]
            token = page.token
            if not token:
                return
