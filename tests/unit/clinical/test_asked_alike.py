"""Comparators are asked in the same way as the exposed, and what they answer counts in the same way."""

from __future__ import annotations

from datetime import datetime, timedelta

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.intake import Intake
from services.clinical.views import PLANS, TEMPLATES
from services.kit.work import moment_text
from tests.unit.clinical.memory_site import SITE, START, moment
from tests.unit.clinical.patches import answers, template
from tests.unit.clinical.study_site import SIBLING, Person, StudySite, exposed_run
from tests.unit.clinical.teller import LOT, RUN


def patch_run(*people: Person, hours: int = 120) -> StudySite:
    """A run whose patients are asked by the patch's template."""
    site = StudySite()
    site.register(template(hours=hours))
    site.people(people)
    site.enter(*(person.pseudonym for person in people if person.lot == LOT))
    site.hazard()
    site.work()
    return site


def siblings(count: int) -> list[Person]:
    return [Person(f"C-{number}", SIBLING) for number in range(count)]


def chosen(site: StudySite) -> list[clinical.MonitoringPlan]:
    return [plan for event in site.site.all(clinical.ComparatorsChosen) for plan in event.plans]


def pass_time(site: StudySite, hours: float) -> None:
    site.site.clock.advance(3600 * hours)
    site.work()


def reminded(site: StudySite) -> list[tuple[int, datetime, list[str]]]:
    return [
        (one.hours, one.at.ToDatetime(START.tzinfo), sorted(plan.pseudonym for plan in one.plans))
        for one in site.site.all(clinical.RemindersDue)
    ]


def fill_in(site: StudySite, pseudonym: str, itch: bool) -> None:
    """The patient answers question by question, and does not say apart whether they have a complaint."""
    plans = site.site.states(PLANS).values()
    (plan,) = (p for p in plans if p.pseudonym == pseudonym and p.stage == "open")
    assert plan.asked is not None
    asked = site.site.states(TEMPLATES)[f"{plan.asked.template}|{SITE}"].version(plan.asked.version)
    request = api.RecordResponseRequest(
        request_id=f"form {pseudonym}",
        plan=plan.plan,
        pseudonym=pseudonym,
        answers=answers(itch=itch),
        at=moment(1),
    )
    site.fact(Intake(SITE, site.sealer).response(request, asked).message, days=1)


def cells(site: StudySite) -> list[tuple[str, int, int, int, int, int]]:
    return [
        (s.template, s.version, s.exposed, s.exposed_cases, s.comparators, s.comparator_cases)
        for s in site.evidence().lots[0].strata
    ]


def test_comparators_have_the_template_the_version_and_the_time_of_the_exposed() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(2))
    (exposed,) = site.plans()
    for plan in chosen(site):
        assert (plan.template, plan.version, plan.hours, plan.question, plan.due) == (
            exposed.template,
            1,
            120,
            "Does your skin itch?",
            exposed.due,
        )


def test_each_group_is_compared_with_people_who_were_asked_by_the_same_version() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(6))
    site.register(template(hours=48))
    site.people([Person("P-2", LOT)])
    site.enter("P-2")
    site.work()
    assert sorted((plan.version, plan.hours) for plan in chosen(site)) == [(1, 120)] * 2 + [(2, 48)] * 2
    for name in ("P-1", "P-2", *site.comparators()):
        fill_in(site, name, itch=name.startswith("P"))
    name = site.plans()[0].template
    assert cells(site) == [(name, 1, 1, 1, 2, 0), (name, 2, 1, 1, 2, 0)]


def test_comparators_who_have_not_answered_are_reminded_like_the_exposed() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(2))
    fill_in(site, "C-1", itch=False)
    pass_time(site, 24)
    day, third = START + timedelta(hours=24), START + timedelta(hours=72)
    assert reminded(site) == [(24, day, ["C-0", "P-1"])]
    fill_in(site, "P-1", itch=False)
    pass_time(site, 48)
    assert reminded(site)[1:] == [(72, third, ["C-0"])]
    held = {p.pseudonym: p.reminded for p in site.site.states(PLANS).values()}
    assert held["C-0"] == {"24": moment_text(day), "72": moment_text(third)}


def test_comparators_who_are_chosen_later_are_reminded_and_waited_for_in_their_own_time() -> None:
    site = patch_run(Person("P-1", LOT))
    pass_time(site, 100)
    site.people([Person("P-2", LOT), *siblings(2)])
    site.enter("P-2")
    site.work()
    pass_time(site, 24)
    assert reminded(site)[-1] == (24, START + timedelta(hours=124), ["C-0", "C-1", "P-2"])
    fill_in(site, "P-2", itch=False)
    assert not any(release.final for release in site.released())
    pass_time(site, 95)
    assert not any(release.final for release in site.released())
    pass_time(site, 1)
    assert [release.final for release in site.released()] == [True]


def test_the_follow_up_of_the_exposed_is_over_whatever_comparators_do() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(2), hours=30)
    assert site.summary.follow_up_hours == 30
    pass_time(site, 30)
    assert (site.summary.complete, site.summary.answered) == (True, 0)


def test_an_answer_that_its_question_counts_as_a_complaint_is_a_case_in_both_arms() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(2))
    fill_in(site, "P-1", itch=True)
    fill_in(site, "C-0", itch=True)
    fill_in(site, "C-1", itch=False)
    assert cells(site) == [(site.plans()[0].template, 1, 1, 1, 2, 1)]


def test_what_the_hospital_reports_by_itself_is_no_answer() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(4))
    for name in ("P-1", "C-0"):
        site.reply(name)
    before = cells(site)
    for name in ("P-1", "P-2", "C-0", "C-1"):
        report = clinical.AdverseEventRecorded(
            report=f"R {name}", site=SITE, pseudonym=name, term="PL0101", onset=moment(2), at=moment(1)
        )
        site.fact(report, days=1)
    assert cells(site) == before
    assert cells(site)[0][2:] == (1, 0, 1, 0)


def test_comparators_are_in_no_count_of_open_plans_by_hours() -> None:
    site = patch_run(Person("P-1", LOT), *siblings(2))
    assert site.holding.lasting == {"120": 1}
    assert (site.holding.cohort.open, site.holding.cohort.longest) == (2, 120)
    assert site.site.last(clinical.PlansOpened, RUN).plans == 1  # type: ignore[union-attr]
