"""The runs that go on at the site, in numbers: what waits for its people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain import moments, reminders
from services.clinical.domain.going import Going
from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Plan
from services.clinical.views import ALL_RUNS, GOING, HOLDINGS, PLANS
from services.kit.errors import Unknown
from services.kit.store.protocol import AsyncStore

_PAGE = 1000


class Overdue(NamedTuple):
    """Patients whose answer is overdue, and late; and comparators whose answer is overdue."""

    overdue: int = 0
    late: int = 0
    comparators: int = 0


async def read(store: AsyncStore, site: str, run: str, now: str) -> api.GetSiteBoardResponse:
    """The board at a moment of platform time (ISO, UTC); of one run where it is named."""
    rows = []
    for name in [run] if run else await _going(store):
        stored = await store.get(HOLDINGS, f"{name}|{site}")
        if stored is not None:
            row = shown(stored.state, await _overdue(store, stored.state, now))
            rows.append((_place(row), row))
    if run and not rows:
        said = f"the site holds nothing of a run {run!r}; leave it out for all that go on"
        raise Unknown("UNKNOWN_RUN", said, "run")
    return api.GetSiteBoardResponse(runs=[row for _, row in sorted(rows, key=lambda one: one[0])])


async def _going(store: AsyncStore) -> tuple[str, ...]:
    stored = await store.get(GOING, ALL_RUNS)
    return (stored.state if stored else Going()).runs


async def _overdue(store: AsyncStore, holding: Holding, now: str) -> Overdue:
    """Only who is asked can be overdue; of most runs everybody has answered, and nothing is read."""
    if holding.hazard is None or holding.over:
        return Overdue()
    at, overdue, late, others = holding.hazard.at, 0, 0, 0
    async for plan in _unanswered(store, holding.run):
        if not reminders.overdue(plan, at, now):
            continue
        if plan.role == "comparator":
            others += 1
        else:
            overdue, late = overdue + 1, late + reminders.late(plan, at, now)
    return Overdue(overdue, late, others)


async def _unanswered(store: AsyncStore, run: str) -> AsyncIterator[Plan]:
    token, filters = "", {"run": run, "stage": "open", "answered": False}
    while True:
        page = await store.page(PLANS, filters, "_id", False, token, _PAGE)
        for item in page.items:
            yield item.state
        token = page.token
        if not token:
            return


def shown(holding: Holding, found: Overdue) -> api.RunBoard:
    """A run's row."""
    asked = holding.hazard is not None and not holding.over
    row = api.RunBoard(
        run=holding.run,
        draft=holding.hazard is None,
        hazard_class=holding.hazard.hazard_class if holding.hazard else "",
        patients={stage: count.patients for stage, count in holding.stages.items() if count.patients},
        plans=holding.plans,
        answered=holding.answered,
        awaited=holding.plans - holding.answered if asked else 0,
        overdue=found.overdue,
        late=found.late,
        comparators_overdue=found.comparators,
        notices_owed=holding.notices.get("owed", 0) if asked else 0,
        only_in_trace=holding.only_in_trace,
        only_at_site=holding.only_at_site,
        explained=holding.explained,
        acknowledged=holding.matched,
        notified=holding.notices.get("notified", 0),
        unreachable=holding.notices.get("unreachable", 0),
    )
    if asked and holding.ends:
        row.ends.CopyFrom(moments.stamp_of(holding.ends))
    return row


def _place(row: api.RunBoard) -> tuple[int, int, int, str]:
    return -row.late, -row.overdue, -(row.only_in_trace + row.only_at_site), row.run
