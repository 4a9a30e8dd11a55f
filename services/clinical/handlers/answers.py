"""What patients answer, and what happens to them: by a plan's questions, by laboratories, by the hospital.

Facts may come twice, late, and before the plan that they answer: each is kept by its own id.
"""

from __future__ import annotations

from typing import cast

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import adverse, holdings, moments, plans, routine_labs
from services.clinical.domain.adverse import Course, Report
from services.clinical.domain.plans import Answer, Plan, Result
from services.clinical.domain.routine_labs import RoutineLabs
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.settle import settle
from services.clinical.views import ADVERSE, PLANS, ROUTINE_LABS
from services.kit.envelope import Event
from services.kit.store.kinds import Get
from services.kit.work import Work


def on_response_recorded(here: Here, work: Work, event: Event) -> None:
    """A patient's answer; one to a plan that is not open yet is kept with the plan.

    What happened has happened: a complaint stays, also when a later answer tells of none.
    """
    response = cast(clinical.ResponseRecorded, event.message)
    terms = [complaint.term for complaint in response.complaints]
    courses = [Get(ADVERSE, _course_id(response.pseudonym, term)) for term in terms]
    work.load_all([Get(PLANS, response.plan), *courses])
    at = moments.text_of(response.at.at)
    for complaint in response.complaints:
        onset = moments.text_of(complaint.onset.at)
        _report(work, response.pseudonym, complaint.term, Report(event.id, "solicited", onset, at=at))
    before = work.get(PLANS, response.plan) or Plan(response.plan)
    text = response.text.SerializeToString() if response.HasField("text") else b""
    answer = Answer(at, response.affected, event.id, text)
    plan = plans.answered(before, answer)
    if plan is None:
        return
    work.put(PLANS, response.plan, plan)
    if plan.stage == "open":
        settle(here, work, holdings.changed(holding_of(here, work, plan.run), before, plan))


def on_lab_recorded(here: Here, work: Work, event: Event) -> None:
    """A laboratory result that a plan asked for, or one of the routine; it stays sealed."""
    lab = cast(clinical.LabRecorded, event.message)
    if not lab.plan:
        _keep_routine(work, lab, event.id)
        return
    plan = work.get(PLANS, lab.plan) or Plan(lab.plan)
    result = Result(moments.text_of(lab.at.at), event.id, lab.result.SerializeToString())
    work.put(PLANS, lab.plan, plans.with_lab(plan, lab.code, result))


def _keep_routine(work: Work, lab: clinical.LabRecorded, record: str) -> None:
    id = f"{lab.pseudonym}|{lab.code}"
    before = work.get(ROUTINE_LABS, id) or RoutineLabs(lab.pseudonym, lab.code)
    result = routine_labs.Result(record, moments.text_of(lab.at.at), lab.result.SerializeToString())
    after = routine_labs.with_result(before, result)
    if after != before:
        work.put(ROUTINE_LABS, id, after)


def on_adverse_event_recorded(here: Here, work: Work, event: Event) -> None:
    """The hospital reports that something happened to a patient, whether or not a plan asked for it."""
    told = cast(clinical.AdverseEventRecorded, event.message)
    text = told.text.SerializeToString() if told.HasField("text") else b""
    onset = moments.text_of(told.onset.at)
    report = Report(event.id, "spontaneous", onset, told.serious, text, moments.text_of(told.at.at))
    _report(work, told.pseudonym, told.term, report)


def _report(work: Work, pseudonym: str, term: str, report: Report) -> None:
    id = _course_id(pseudonym, term)
    before = work.get(ADVERSE, id) or Course(pseudonym, term)
    after = adverse.reported(before, report)
    if after != before:
        work.put(ADVERSE, id, after)


def _course_id(pseudonym: str, term: str) -> str:
    return f"{pseudonym}|{term}"
