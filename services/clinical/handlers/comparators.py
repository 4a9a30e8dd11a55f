"""Comparators are chosen, turn out to be exposed, and evidence is reviewed.

Who was chosen is an event of the site's own, folded here like everything
else: the plan of a comparator stands as long as no run names the patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import comparators, holdings, plans, releases, templates
from services.clinical.domain.comparators import Choice, Comparator
from services.clinical.domain.going import Going
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Plan
from services.clinical.handlers.here import Here, holding_of, holding_reads, noted
from services.clinical.handlers.settle import settle
from services.clinical.views import ALL_RUNS, COMPARATORS, GOING, HOLDINGS, PATIENTS, PLANS, RELEASES
from services.kit.envelope import Event
from services.kit.ids import derived_id
from services.kit.store.kinds import Get, Where
from services.kit.work import Work


def plan_of(
    run: str, choice: Choice, template: clinical.FollowUpTemplate, moment: str
) -> clinical.MonitoringPlan:
    """A comparator's plan as it is opened at a moment of platform time."""
    name = choice.pseudonym
    plan = Plan(
        derived_id("comparator", run, name), run, name, dict.fromkeys(choice.lots, 1), role="comparator"
    )
    opened = plans.opened(plan, moment, templates.asked(template))
    return plans.message_of(opened, template.questions[0].text.en)


def on_comparators_chosen(here: Here, work: Work, event: Event) -> None:
    """Their plans are open, unless something that is known already speaks against it."""
    told = cast(clinical.ComparatorsChosen, event.message)
    names = [plan.pseudonym for plan in told.plans]
    work.load_all(
        [
            *holding_reads(here, told.run),
            *(Get(PLANS, plan.plan) for plan in told.plans),
            *(Get(kind, name) for name in names for kind in (PATIENTS, COMPARATORS)),
            *(Where(PLANS, "pseudonym", name) for name in names),
        ]
    )
    hold_going(here, work)
    holding = noted(holding_of(here, work, told.run), event)
    cohort = replace(holding.cohort, chosen_for=max(holding.cohort.chosen_for, told.exposed))
    holding = replace(holding, cohort=cohort)
    for message in told.plans:
        holding = holdings.changed(holding, *_chosen(work, message))
    settle(here, work, holding)


def _chosen(work: Work, message: clinical.MonitoringPlan) -> tuple[Plan, Plan]:
    name = message.pseudonym
    before = work.get(PLANS, message.plan) or Plan(message.plan)
    others = work.where(PLANS, "pseudonym", name).values()
    patient = work.get(PATIENTS, name) or Patient(name)
    after = comparators.stands(comparators.chosen(before, message), patient, others)
    known = work.get(COMPARATORS, name) or Comparator(name)
    work.put(COMPARATORS, name, replace(known, runs=tuple(sorted({*known.runs, message.run}))))
    work.put(PLANS, message.plan, after)
    return before, after


def hold_going(here: Here, work: Work) -> None:
    """Entries that name a patient may be folded now: they write their run's holding, or this document."""
    going = work.get(GOING, ALL_RUNS) or Going()
    work.put(GOING, ALL_RUNS, going)
    work.hold(HOLDINGS, [here.id_of(run) for run in going.runs])


def follow(here: Here, work: Work, names: Iterable[str]) -> None:
    """Patients whom a run names, or does not name any more: comparators among them leave, or come back."""
    mine = [name for name in names if work.get(COMPARATORS, name) is not None]
    work.load_all(read for name in mine for read in (Where(PLANS, "pseudonym", name), Get(PATIENTS, name)))
    for name in mine:
        of_patient = work.where(PLANS, "pseudonym", name)
        patient = work.get(PATIENTS, name) or Patient(name)
        for id, before in of_patient.items():
            if before.role == "comparator":
                after = comparators.stands(before, patient, of_patient.values())
                if after != before:
                    work.put(PLANS, id, after)
                    settle(here, work, holdings.changed(holding_of(here, work, before.run), before, after))


def choose_comparators(here: Here, work: Work, request: clinical.ComparatorsChosen) -> Message:
    """Put a choice on record, once for so many exposed patients."""
    id = here.id_of(request.run)
    held, holding = work.get(RELEASES, id), work.get(HOLDINGS, id)
    if held is not None and held.chosen_for >= request.exposed:
        return clinical.ComparatorsChosen()
    case = holding.case if holding else ""
    for start in range(0, max(1, len(request.plans)), plans.BULK):
        bulk = clinical.ComparatorsChosen(run=request.run, site=request.site, exposed=request.exposed)
        bulk.plans.extend(request.plans[start : start + plans.BULK])
        work.apply(RELEASES, id, bulk, site=here.site, case=case, run=request.run)
    return clinical.ComparatorsChosen()


def review_evidence(here: Here, work: Work, request: clinical.EvidenceReleased) -> Message:
    """Take the look and make the release that are due; `request` holds every number."""
    id = here.id_of(request.run)
    for message in releases.review(work.get(RELEASES, id), request):
        work.apply(RELEASES, id, message, site=here.site, case=request.lot, run=request.run)
    return clinical.EvidenceReleased()
