"""The hospital's own facts: patients, what they were given, what they answer.

Facts may come twice, late, and before the run that makes them matter: each
is kept by its own id, and every run that it concerns is settled again.
"""

from __future__ import annotations

from typing import cast

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain import dispenses, holdings, lots, moments, patients, plans
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.lots import Lot
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Answer, Plan
from services.clinical.handlers.here import Here, holding_of
from services.clinical.handlers.settle import settle
from services.clinical.views import DISPENSES, LOTS, PATIENTS, PLANS
from services.kit.envelope import Event
from services.kit.ids import plan_id
from services.kit.store.kinds import Get
from services.kit.work import Work


def on_subject_recorded(here: Here, work: Work, event: Event) -> None:
    """A patient, and whether they consent: runs that named them may now resolve them."""
    subject = cast(clinical.SubjectRecorded, event.message)
    before = work.get(PATIENTS, subject.pseudonym) or Patient(subject.pseudonym)
    patient = patients.recorded(before, subject, moments.text_of(subject.at.at), event.id)
    if patient is None:
        return
    work.put(PATIENTS, patient.pseudonym, patient)
    for run in patient.unplanned:
        _resolve(here, work, run, patient.pseudonym, patient.consent)


def _resolve(here: Here, work: Work, run: str, pseudonym: str, consent: bool) -> None:
    """The patient of a run, who had no plan in it, is known now or has changed their mind."""
    id = plan_id(run, pseudonym)
    plan = work.get(PLANS, id) or Plan(id)
    stage = plans.first_stage(True, consent)
    if stage == plan.stage:
        return
    if stage == "waiting":
        patient = work.get(PATIENTS, pseudonym) or Patient(pseudonym)
        work.put(PATIENTS, pseudonym, patients.with_plan(patient, run))
    work.put(PLANS, id, plans.at_stage(plan, stage))
    holding = holding_of(here, work, run)
    settle(here, work, holdings.patient_resolved(holding, pseudonym, plan.stage, stage))


def on_medication_recorded(here: Here, work: Work, event: Event) -> None:
    """The second source: compared with the journal of every run that it concerns."""
    record = cast(clinical.MedicationRecorded, event.message)
    work.load_all([Get(DISPENSES, record.dispense), Get(LOTS, record.lot)])
    before = work.get(DISPENSES, record.dispense) or Dispense(record.dispense)
    dispense = dispenses.recorded(before, record, moments.text_of(record.at.at))
    if dispense is None:
        return
    lot = work.get(LOTS, record.lot) or Lot(record.lot)
    work.put(LOTS, record.lot, lots.recorded(lot))
    work.put(DISPENSES, record.dispense, dispense)
    members = dispenses.runs_with(dispense)
    for run in members:
        settle(here, work, holdings.own_of_member(holding_of(here, work, run), record.lot))
    for run in lot.runs:
        if run not in members:
            settle(here, work, holdings.own_of_listed(holding_of(here, work, run), record.lot))


def on_response_recorded(here: Here, work: Work, event: Event) -> None:
    """A patient's answer; one to a plan that is not open yet is kept with the plan."""
    response = cast(clinical.ResponseRecorded, event.message)
    before = work.get(PLANS, response.plan) or Plan(response.plan)
    text = response.text.SerializeToString() if response.HasField("text") else b""
    answer = Answer(moments.text_of(response.at.at), response.affected, event.id, text)
    plan = plans.answered(before, answer)
    if plan is None:
        return
    work.put(PLANS, response.plan, plan)
    if plan.stage == "open":
        settle(here, work, holdings.answer_changed(holding_of(here, work, plan.run), before, plan))
