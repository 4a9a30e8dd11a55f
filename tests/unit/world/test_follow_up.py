"""Patients and the hospitals that follow them up: what is asked, who answers when, whose blood is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from services.clinical import fhir
from services.clinical.domain import reminders
from services.clinical.domain.answers import judged
from services.clinical.domain.template_rules import check
from services.kit.ids import product_of
from services.world.actors.asking import template_for
from services.world.actors.blood import BloodLaboratory
from services.world.actors.desk import Desk
from services.world.actors.hospital import HospitalClerk
from services.world.actors.patients import PostRoom
from services.world.entities import Body, FollowUp
from services.world.records import Hospital, World
from services.world.sizes import WS
from tests.unit.world.support import ANCHOR, Recorder, for_a_while

DeskFor = Callable[[str], Desk]


def plan_for(pseudonym: str, plan: str) -> clinical.PlanView:
    return clinical.PlanView(plan=clinical_events.MonitoringPlan(plan=plan, run="run-1", pseudonym=pseudonym))


def at_once(hospital: Hospital) -> list[Body]:
    """Who answers without a reminder."""
    return [body for body in hospital.bodies if body.answers and not body.reminders]


def follow_up_of(symptom: str, hospital: Hospital) -> FollowUp:
    return next(one for one in hospital.follow_ups if one.symptom == symptom)


def post_room(hospital: Hospital, desk_for: DeskFor, taken: list[tuple[str, str, Any]]) -> PostRoom:
    """`taken` is the blood that was given: plan, pseudonym, tests."""
    desk = desk_for(f"{hospital.site}/patients")
    return PostRoom(desk, hospital.site, hospital.bodies, lambda *given: taken.append(given))


async def test_patients_answer_once_from_their_own_body(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = world.hospitals[0]
    silent = next(body for body in hospital.bodies if not body.answers)
    well = next(body for body in at_once(hospital) if not body.complaint)
    unwell = next(body for body in at_once(hospital) if body.complaint)
    views = [plan_for(body.pseudonym, f"plan-{body.pseudonym}") for body in (silent, well, unwell)]
    recorder.answers["ListPlans"] = lambda request: clinical.ListPlansResponse(plans=views)
    await for_a_while(post_room(hospital, desk_for, []).run())
    answered = {request.pseudonym: request.affected for request in recorder.of("RecordResponse")}
    assert answered == {well.pseudonym: False, unwell.pseudonym: True}
    assert len(recorder.of("RecordResponse")) == 2


async def test_a_patient_with_several_questions_answers_each(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = world.hospitals[0]
    unwell = next(body for body in at_once(hospital) if body.complaint)
    view = plan_for(unwell.pseudonym, "plan-1")
    view.template.CopyFrom(template_for(follow_up_of("PL0101", hospital)))
    recorder.answers["ListPlans"] = lambda request: clinical.ListPlansResponse(plans=[view])
    await for_a_while(post_room(hospital, desk_for, []).run())
    (request,) = recorder.of("RecordResponse")
    found = judged(view.template, request.answers, request.affected)
    assert (request.affected, found.affected) == (False, True)
    assert [term for term, _ in found.complaints] == ["PL0101"]


async def test_a_hospital_registers_a_template_that_the_platform_takes(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    hospital = world.hospitals[0]
    await HospitalClerk(desk_for(f"{hospital.site}/clerk"), hospital).send_records()
    templates = [request.template for request in recorder.of("RegisterFollowUpTemplate")]
    for template in templates:
        check(template)
    dispensed = {product_of(item.lot) for one in world.hospitals for item in one.feed.on_time}
    assert {template.product for template in templates} <= dispensed
    assert all({lab.code for lab in template.labs} for template in templates)


def test_a_follow_up_of_the_whole_industry_lasts_beyond_the_first_reminder() -> None:
    assert max(item.follow_up for item in WS.products) > reminders.AFTER_HOURS[0]


async def test_who_needs_reminders_answers_after_as_many_and_not_before(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = world.hospitals[1]
    late = {n: next(b for b in hospital.bodies if b.answers and b.reminders == n) for n in (1, 2)}
    silent = next(body for body in hospital.bodies if not body.answers)
    views = {name: plan_for(name, f"plan-{name}") for name in (late[1].pseudonym, late[2].pseudonym)}
    views[silent.pseudonym] = plan_for(silent.pseudonym, "plan-silent")
    recorder.answers["ListPlans"] = lambda request: clinical.ListPlansResponse(plans=views.values())
    room = asyncio.create_task(post_room(hospital, desk_for, []).run())
    answered = []
    for _ in range(3):
        await asyncio.sleep(0.1)
        answered.append({request.pseudonym for request in recorder.of("RecordResponse")})
        for view in views.values():
            view.reminded.add().FromDatetime(ANCHOR)
    room.cancel()
    assert answered == [set(), {late[1].pseudonym}, {late[1].pseudonym, late[2].pseudonym}]
    assert len(recorder.of("RecordResponse")) == 2, "nobody answers twice"


async def test_who_has_blood_taken_is_tested_for_what_the_plan_asks(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = world.hospitals[1]
    follow_up = follow_up_of("PL0601", hospital)
    gives = next(body for body in at_once(hospital) if body.gives_blood)
    spares = next(body for body in at_once(hospital) if not body.gives_blood)
    views = [plan_for(body.pseudonym, f"plan-{body.pseudonym}") for body in (gives, spares)]
    views.append(plan_for(gives.pseudonym, "plan-of-the-open-question"))
    for view in views[:2]:
        view.template.CopyFrom(template_for(follow_up))
    recorder.answers["ListPlans"] = lambda request: clinical.ListPlansResponse(plans=views)
    taken: list[tuple[str, str, Any]] = []
    await for_a_while(post_room(hospital, desk_for, taken).run())
    assert taken == [(views[0].plan.plan, gives.pseudonym, list(follow_up.labs))]


async def test_what_is_read_in_blood_is_sent_in_the_form_that_the_platform_reads(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    """Each value once, under a number that a repeat keeps; as large as the truth says."""
    hospital = world.hospitals[1]
    body = next(body for body in hospital.bodies if body.gives_blood)
    truth = {one.code: one for one in world.blood if one.pseudonym == body.pseudonym}
    lab = BloodLaboratory(desk_for(f"{hospital.site}/laboratory"), hospital.site, hospital.tubes)
    for _ in range(2):
        lab.take("plan-1", body.pseudonym, sorted(truth))
    assert lab.waiting() == 2 * len(truth)
    await for_a_while(lab.run())
    assert lab.waiting() == 0
    (request,) = recorder.of("RecordFhirResources")
    found = [fhir.parsed(resource) for resource in request.resources]
    read = [one for one in found if isinstance(one, fhir.FhirLab)]
    assert len({one.number for one in read}) == len(truth) == len(read) / 2
    for one in read:
        blood = truth[one.lab.code]
        assert (one.lab.plan, one.lab.pseudonym) == ("plan-1", body.pseudonym)
        assert (one.result.value.value, one.result.value.unit) == (blood.value, blood.unit)
