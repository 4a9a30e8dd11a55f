"""The hospital's own facts: patients, what they were given, what they were told.

Facts may come twice, late, and before the run that makes them matter: each
is kept by its own id, and every run that it concerns is settled again.
"""

from __future__ import annotations

from typing import cast

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import dispenses, holdings, lots, moments, patients, plans
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.going import Going
from services.clinical.domain.lots import Lot
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Plan
from services.clinical.handlers.comparators import hold_going
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.settle import settle
from services.clinical.views import ALL_RUNS, DISPENSES, GOING, LOTS, PATIENTS, PLANS
from services.kit.envelope import Event
from services.kit.ids import derived_id, plan_id
from services.kit.store.kinds import Get
from services.kit.work import Work


def on_subject_recorded(here: Here, work: Work, event: Event) -> None:
    """A patient, and whether they consent: every run that goes on and names them hears of it."""
    subject = cast(clinical.SubjectRecorded, event.message)
    before = work.get(PATIENTS, subject.pseudonym) or Patient(subject.pseudonym)
    patient = patients.recorded(before, subject, moments.text_of(subject.at.at), event.id)
    if patient is None:
        return
    work.put(PATIENTS, patient.pseudonym, patient)
    hold_going(here, work)
    going = work.get(GOING, ALL_RUNS) or Going()
    for plan in work.where(PLANS, "pseudonym", patient.pseudonym).values():
        if plan.run in going.runs:
            _place(here, work, plan, patient)


def _place(here: Here, work: Work, before: Plan, patient: Patient) -> None:
    """A patient of a run is known now, has changed their mind, died or left."""
    after = plans.placed(before, patient)
    if after != before:
        work.put(PLANS, before.plan, after)
        settle(here, work, holdings.changed(holding_of(here, work, before.run), before, after))


def on_medication_recorded(here: Here, work: Work, event: Event) -> None:
    """The second source: compared with the journal of every run that it concerns."""
    record = cast(clinical.MedicationRecorded, event.message)
    work.load_all([Get(DISPENSES, record.dispense), Get(LOTS, record.lot)])
    before = work.get(DISPENSES, record.dispense) or Dispense(record.dispense)
    after = dispenses.recorded(before, record, moments.text_of(record.at.at))
    if after is not None:
        _compare(here, work, before, after)


def on_medication_corrected(here: Here, work: Work, event: Event) -> None:
    """The hospital takes its own record back; the trace hears of it where it was told of the record."""
    told = cast(clinical.MedicationCorrected, event.message)
    before = work.get(DISPENSES, told.dispense) or Dispense(told.dispense)
    if before.taken_back:
        return
    # Of a database that was set back nobody knows whether it had told the trace.
    if before.own is not None and (before.reported or work.again):
        fact = dispenses.correction(before, before.own, here.site, told)
        id = derived_id("correction", here.site, told.dispense)
        work.emit_fact(fact, id, subject=told.dispense)
    _compare(here, work, before, dispenses.taken_back(before))


def on_difference_explained(here: Here, work: Work, event: Event) -> None:
    """A person said why the own records do not show a dispense: it is no open difference any more."""
    told = cast(clinical.DifferenceExplained, event.message)
    before = work.get(DISPENSES, told.dispense) or Dispense(told.dispense)
    _compare(here, work, before, dispenses.explained(before))


def _compare(here: Here, work: Work, before: Dispense, after: Dispense) -> None:
    """What the site itself says of a dispense is other than before: every run compares it again."""
    if after == before:
        return
    work.put(DISPENSES, after.dispense, after)
    own = after.own
    change = int(after.standing is not None) - int(before.standing is not None)
    listing: tuple[str, ...] = ()
    if own is not None and change:
        lot = work.get(LOTS, own.lot) or Lot(own.lot)
        listing = lot.runs
        work.put(LOTS, own.lot, lots.with_records(lot, change))
    for run in sorted({*after.runs, *listing}):
        was, now = dispenses.compared(before, run), dispenses.compared(after, run)
        holding = holding_of(here, work, run)
        if own is not None and run in listing:
            holding = holdings.own_records(holding, own.lot, change)
        settle(here, work, holdings.compared(holding, was, now))


def on_notice_recorded(here: Here, work: Work, event: Event) -> None:
    """A patient was told, or was not reached; one whom no run names yet is kept with the plan."""
    notice = cast(clinical.NoticeRecorded, event.message)
    id = plan_id(notice.run, notice.pseudonym)
    before = work.get(PLANS, id) or Plan(id)
    notified = notice.outcome == clinical.NOTICE_OUTCOME_NOTIFIED
    after = plans.told(before, notified, moments.text_of(notice.at.at))
    if after is None:
        return
    work.put(PLANS, id, after)
    if before.stage != "unnamed":
        settle(here, work, holdings.replaced(holding_of(here, work, before.run), [(before, after)]))
