"""Draw the conclusions: called after every change of what the site holds of a run.

It looks at the state alone and never at what changed it, so that any order of
events ends in the same plans and the same statements. Before all announced
members are there only full bulks of plans leave: a run of ten thousand
patients must not open them all in one transaction, nor one by one.
"""

from __future__ import annotations

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import dispenses, holdings, plans, statements, templates
from services.clinical.domain.holdings import Holding
from services.clinical.domain.plans import Plan
from services.clinical.handlers.asking import chooser
from services.clinical.handlers.due import SETTLE_STEP, make_due
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.telling import tell_trace
from services.clinical.views import DISPENSES, HOLDINGS, LOTS, PLANS, STATEMENTS
from services.kit.ids import plan_id
from services.kit.store.kinds import Get
from services.kit.work import Work, moment_text


def settle(here: Here, work: Work, holding: Holding) -> Holding:
    """Tell the trace what only the site has, open plans, say what is new; the holding is kept."""
    if holding.over:
        work.put(HOLDINGS, here.id_of(holding.run), holding)
        return holding
    if (holding.matched or holding.left_out) and holding.unlooked:
        holding = _tell_trace(here, work, holding)
    before = work.get(HOLDINGS, here.id_of(holding.run))
    moment = moment_text(here.now())
    holding, opened = _open_plans(here, work, holding, moment)
    make_due(here, work, before or Holding(holding.run), holding, moment if opened else "")
    id, place = here.id_of(holding.run), {"case": holding.case, "run": holding.run}
    work.put(HOLDINGS, id, holding)
    for bulk in plans.bulks(holding.run, here.site, opened):
        work.apply(STATEMENTS, id, bulk, site=here.site, **place)
    if work.again:
        # What was said last may be ahead of what is held by now: of the half of it nothing is said.
        work.due(SETTLE_STEP, holding.run, here.now())
        return holding
    for message in statements.news(work.get(STATEMENTS, id), holding, here.site, bool(opened)):
        work.apply(STATEMENTS, id, message, **place)
    return holding


def settle_again(here: Here, work: Work, request: clinical.MonitoringPlan) -> Message:
    """Everything is folded again that was folded before the database was set back: what is new is said.

    Of own records that the journal shows the trace hears when they are taken back: it may have them from us.
    """
    holding = holding_of(here, work, request.run)
    listed = [name for name in holding.lots if holding.lot(name).listed]
    for name in listed:
        for id, dispense in work.where(DISPENSES, "lots", name).items():
            if not dispense.reported and dispenses.compared(dispense, holding.run).shown:
                work.put(DISPENSES, id, dispenses.may_be_reported(dispense))
    settle(here, work, holding)
    return request


def _tell_trace(here: Here, work: Work, holding: Holding) -> Holding:
    """Record as dispense facts what the site has of listed lots and the journal has not."""
    work.load(LOTS, holding.unlooked)
    for name in holding.unlooked:
        lot = work.get(LOTS, name)
        if lot is None or lot.own_records <= holding.lot(name).shown:
            continue
        for dispense in work.where(DISPENSES, "lots", name).values():
            own = dispense.standing
            if own is None or own.lot != name or dispense.reported:
                continue
            if not dispenses.compared(dispense, holding.run).shown:
                tell_trace(here, work, dispense, own)
    return holdings.looked(holding)


def _open_plans(
    here: Here, work: Work, holding: Holding, moment: str
) -> tuple[Holding, list[clinical.MonitoringPlan]]:
    """Open the plans of those who wait and still consent: all of them, or full bulks.

    What is said of them to the others goes under the run's case, which the journal does not tell a site.
    """
    ready = len(holding.waiting) if holding.case else 0
    if not holding.gathered:
        ready -= ready % plans.BULK
    if not ready:
        return holding, []
    waiting = _waiting(work, holding, ready)
    choose = chooser(here, work, holding, [lot for plan in waiting for lot in plan.lots])
    if choose is None:
        return holding, []
    changes, opened = [], []
    for plan in waiting:
        template = choose(plan)
        after = plans.opened(plan, moment, templates.asked(template))
        work.put(PLANS, plan.plan, after)
        changes.append((plan, after))
        opened.append(plans.message_of(after, template.questions[0].text.en))
    return holdings.replaced(holdings.taken(holding, ready), changes), opened


def _waiting(work: Work, holding: Holding, ready: int) -> list[Plan]:
    """The plans of the first of those who wait, each once; without who does not wait any more."""
    names = dict.fromkeys(holding.waiting[:ready])
    work.load_all(Get(PLANS, plan_id(holding.run, name)) for name in names)
    found = [work.get(PLANS, plan_id(holding.run, name)) for name in names]
    return [plan for plan in found if plan is not None and plan.stage == "waiting"]
