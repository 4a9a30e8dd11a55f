"""What the site tells itself, and what a person explains under signature."""

from __future__ import annotations

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain import holdings, moments, reminders, sites, statements
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.settle import settle
from services.clinical.views import DISPENSES, EXPLANATIONS, HOLDINGS, PLANS, SITES, STATEMENTS
from services.kit.errors import Rejected, Unknown
from services.kit.words import check_words
from services.kit.work import Work


def register_site(work: Work, request: clinical.SiteRegistered) -> Message:
    for registered in sites.register(work.get(SITES, request.site), request):
        work.apply(SITES, request.site, registered)
    return request


def end_follow_up(here: Here, work: Work, request: clinical.MonitoringPlan) -> Message:
    """The clock passed the due time of a run's last plan: who has not answered will not be waited for."""
    holding = holding_of(here, work, request.run)
    over = holdings.follow_up_over(holding, moments.text_of(request.due))
    return statements.summary(settle(here, work, over), here.site)


def remind(here: Here, work: Work, request: clinical.RemindersDue) -> Message:
    """The clock passed the time of a reminder: those of the plans whose patients still have to answer."""
    id = here.id_of(request.run)
    work.load(PLANS, [asked.plan for asked in request.plans])
    told = clinical.RemindersDue()
    told.CopyFrom(request)
    del told.plans[:]
    holding = work.get(HOLDINGS, id)
    if holding is None or holding.hazard is None or holding.over:
        return told
    moment = moments.text_of(request.at)
    for asked in request.plans:
        plan = work.get(PLANS, asked.plan)
        after = reminders.reminded(plan, holding.hazard.at, request.hours, moment) if plan else None
        if after is not None:
            work.put(PLANS, after.plan, after)
            told.plans.append(asked)
    if told.plans:
        work.apply(STATEMENTS, id, told, site=here.site, case=holding.case, run=holding.run)
    return told


def explain_difference(
    here: Here, work: Work, request: api.ExplainDifferenceRequest
) -> api.ExplainDifferenceResponse:
    """A member that the own records do not show is explained; a second time changes nothing."""
    for field in ("reason", "meaning"):
        check_words(getattr(request, field), field)
    dispense = work.get(DISPENSES, request.dispense)
    if dispense is None or not dispense.runs:
        said = "no run names this dispense at the site; ListExposures shows those that it does"
        raise Unknown("UNKNOWN_DISPENSE", said, "dispense")
    if work.get(EXPLANATIONS, request.dispense) is not None:
        return api.ExplainDifferenceResponse()
    own = dispense.standing
    missing = [m for m in dispense.members if m.entered and (own is None or own.pseudonym != m.pseudonym)]
    if not missing:
        raise Rejected(
            "NO_DIFFERENCE", "the site's own records show the dispense as the trace does", "dispense"
        )
    told = clinical.DifferenceExplained(
        dispense=request.dispense,
        site=here.site,
        reason=request.reason,
        actor=work.cause.actor,
        meaning=request.meaning,
        pseudonym=missing[0].pseudonym,
    )
    work.apply(EXPLANATIONS, request.dispense, told, site=here.site)
    return api.ExplainDifferenceResponse()
