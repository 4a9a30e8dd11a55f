"""Follow-up templates: what is refused, which one holds, and what a plan keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from services.clinical.domain.plans import Plan
from services.clinical.views import PLANS
from services.kit.errors import Invalid
from services.kit.ids import plan_id
from tests.unit.clinical.memory_site import START, stamp
from tests.unit.clinical.patches import PRODUCT, template, wording
from tests.unit.clinical.teller import LOT, RUN, Teller
from tests.unit.memory_service import Said

OTHER_PRODUCT = "maker/gtin/B"
OTHER_LOT = f"{OTHER_PRODUCT}/L.7"
Spoil = Callable[[clinical.FollowUpTemplate], object]


def _no_number(wrong: clinical.FollowUpTemplate) -> None:
    wrong.questions[1].complaint_from = float("nan")


REFUSED: list[tuple[Spoil, str, str]] = [
    (lambda t: setattr(t, "duration_hours", 0), "REQUIRED", "duration_hours"),
    (lambda t: setattr(t, "duration_hours", -1), "OUT_OF_RANGE", "duration_hours"),
    (lambda t: setattr(t, "duration_hours", 87_601), "OUT_OF_RANGE", "duration_hours"),
    (lambda t: setattr(t, "product", "not canonical"), "NOT_CANONICAL", "product"),
    (lambda t: t.ClearField("questions"), "REQUIRED", "questions"),
    (lambda t: setattr(t.questions[1], "id", "itch"), "DUPLICATE", "questions[1].id"),
    (lambda t: setattr(t.questions[1], "id", "No Id"), "MALFORMED", "questions[1].id"),
    (lambda t: setattr(t.questions[0].text, "zh", " "), "REQUIRED", "questions[0].text.zh"),
    (lambda t: setattr(t.questions[0].text, "en", ""), "REQUIRED", "questions[0].text.en"),
    (lambda t: setattr(t.questions[0], "answer", 0), "REQUIRED", "questions[0].answer"),
    (lambda t: setattr(t.questions[1], "unit", ""), "REQUIRED", "questions[1].unit"),
    (
        lambda t: setattr(t.questions[1], "complaint_from", float("nan")),
        "NOT_FINITE",
        "questions[1].complaint_from",
    ),
    (lambda t: setattr(t.questions[3], "unit", "kg"), "CONTRADICTS", "questions[3].unit"),
    (lambda t: setattr(t.questions[0], "complaint_from", 1), "CONTRADICTS", "questions[0].complaint_from"),
    (lambda t: setattr(t.questions[0], "term", "PL0000"), "UNKNOWN_TERM", "questions[0].term"),
    (lambda t: setattr(t.questions[0], "term", "itching"), "UNKNOWN_TERM", "questions[0].term"),
    (lambda t: setattr(t.questions[0], "yes_is_complaint", False), "CONTRADICTS", "questions[0].term"),
    (lambda t: t.questions[2].options.pop(), "REQUIRED", "questions[2].options"),
    (lambda t: setattr(t.questions[2].options[1], "id", "not"), "DUPLICATE", "questions[2].options[1].id"),
    (lambda t: setattr(t.labs[0], "code", "ALT"), "MALFORMED", "labs[0].code"),
    (lambda t: t.labs.add(code=t.labs[0].code, text=wording("again")), "DUPLICATE", "labs[1].code"),
    (lambda t: setattr(t.visits[1], "offset_hours", 121), "OUT_OF_RANGE", "visits[1].offset_hours"),
    (lambda t: setattr(t.visits[0], "offset_hours", -1), "OUT_OF_RANGE", "visits[0].offset_hours"),
    (lambda t: setattr(t.visits[1], "id", "first"), "DUPLICATE", "visits[1].id"),
]


@pytest.mark.parametrize(("spoil", "reason", "field"), REFUSED)
def test_a_template_that_breaks_a_rule_is_refused_by_field(spoil: Spoil, reason: str, field: str) -> None:
    told, wrong = Teller(), template()
    spoil(wrong)
    with pytest.raises(Invalid) as refused:
        told.register(wrong)
    assert (refused.value.reason, refused.value.field) == (reason, f"template.{field}")
    assert not told.site.rows()


def test_versions_count_what_is_new_and_carry_who_registered_it() -> None:
    told = Teller()
    first = told.register(template(), actor="nurse")
    assert told.register(template(), actor="doctor") == first == (f"{PRODUCT}:any", 1)
    assert told.register(template(hours=48), actor="doctor") == (first[0], 2)
    registered = told.site.all(clinical.FollowUpTemplateRegistered)
    assert [(one.content.version, one.actor) for one in registered] == [(1, "nurse"), (2, "doctor")]


def test_the_template_for_everybody_is_there_from_the_beginning_and_may_be_replaced() -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    (plan,) = told.plans()
    assert (plan.template, plan.version) == ("any:any", 1)
    assert plan.question.startswith("How have you felt since you took this medicine?")
    assert plan.due == stamp(START + timedelta(hours=8))
    assert told.register(template(product="")) == ("any:any", 2)


def open_plan(told: Teller, pseudonym: str, *lots: str) -> Plan:
    told.subject(pseudonym)
    for lot in lots:
        told.enter(pseudonym, lot=lot, announce=False)
    told.announce()
    return plan_of(told, pseudonym)


def plan_of(told: Teller, pseudonym: str) -> Plan:
    return told.site.states(PLANS)[plan_id(RUN, pseudonym)]


def asked(plan: Plan) -> tuple[str, int, int]:
    assert plan.asked is not None
    return plan.asked.template, plan.asked.version, plan.asked.hours


def test_a_plan_keeps_the_version_with_which_it_was_opened() -> None:
    told = Teller()
    told.register(template(hours=120))
    open_plan(told, "P-1", LOT)
    told.register(template(hours=240))
    open_plan(told, "P-2", LOT)
    told.subject("P-1", days=2)  # whatever is recorded of them later
    assert asked(plan_of(told, "P-1")) == (f"{PRODUCT}:any", 1, 120)
    assert asked(plan_of(told, "P-2")) == (f"{PRODUCT}:any", 2, 240)
    announced = {plan.pseudonym: (plan.version, plan.due, plan.question) for plan in told.plans()}
    assert announced["P-1"] == (1, stamp(START + timedelta(hours=120)), "Does your skin itch?")
    assert announced["P-2"] == (2, stamp(START + timedelta(hours=240)), "Does your skin itch?")


@pytest.mark.parametrize(
    ("lots", "tag", "wanted"),
    [
        ((LOT,), "Temp", f"{PRODUCT}:Temp"),
        ((LOT,), "Load", f"{PRODUCT}:any"),
        ((OTHER_LOT,), "Temp", "any:Temp"),
        ((OTHER_LOT,), "Load", "any:any"),
        ((OTHER_LOT, LOT), "Load", f"{PRODUCT}:any"),
    ],
)
def test_the_most_particular_template_holds(lots: tuple[str, ...], tag: str, wanted: str) -> None:
    told = Teller()
    for product, kind in ((PRODUCT, "Temp"), (PRODUCT, ""), ("", "Temp"), ("", "")):
        told.register(template(product, kind))
    told.about(tag)
    assert asked(open_plan(told, "P-1", *lots))[0] == wanted


def test_of_two_products_the_longer_follow_up_holds() -> None:
    told = Teller()
    told.register(template(PRODUCT, hours=30))
    told.register(template(OTHER_PRODUCT, hours=40))
    assert asked(open_plan(told, "P-1", LOT, OTHER_LOT))[2] == 40


def test_plans_wait_for_what_the_run_is_about_only_where_a_template_depends_on_it() -> None:
    told = Teller()
    told.register(template(OTHER_PRODUCT, "Temp"))
    assert open_plan(told, "P-1", LOT).stage == "open"
    assert open_plan(told, "P-2", OTHER_LOT).stage == "waiting"
    last = told.site.last(clinical.PlansOpened, RUN)
    assert last is not None
    assert (last.plans, last.members.pending) == (1, 1)
    told.about("Temp")
    assert asked(plan_of(told, "P-2"))[0] == f"{OTHER_PRODUCT}:Temp"
    assert told.opened == (2, 2, 0)


@pytest.mark.parametrize("known_first", [False, True])
def test_a_run_that_follows_is_about_what_the_run_before_is_about(known_first: bool) -> None:
    told = Teller()
    told.register(template(PRODUCT, "Temp"))
    before = loops.SafetyRunOpened(run="run-0", case=LOT, lot=LOT, tag="Temp")
    first = Said(before, "/svc/loops/first", 1, "first#1", START, LOT, "run-0")
    if known_first:
        told.site.deliver(first)
    told.about("", follows="run-0")
    plan = open_plan(told, "P-1", LOT)
    if not known_first:
        assert plan.stage == "waiting"
        told.site.deliver(first)
    assert asked(plan_of(told, "P-1"))[0] == f"{PRODUCT}:Temp"


# -- what holds of plans in general holds of these ------------------------------------------


def test_a_patient_with_a_template_who_withdraws_dies_moves_or_takes_nothing_is_not_waited_for() -> None:
    told = Teller()
    told.register(template())
    for name in ("P-no", "P-withdraws", "P-dies", "P-moves", "P-returns"):
        told.subject(name, consent=name != "P-no")
    told.enter("P-no", "P-withdraws", "P-dies", "P-moves", "P-returns")
    assert told.opened == (5, 4, 1)
    told.subject("P-withdraws", consent=False, days=1)
    told.subject("P-dies", days=1, status="DECEASED")
    told.subject("P-moves", days=1, status="MOVED")
    told.became("P-returns", "RETURNED_UNOPENED")
    assert told.opened == (5, 0, 2)
    assert told.summary.complete


def test_a_follow_up_with_a_template_is_over_when_the_template_says() -> None:
    told = Teller()
    told.register(template(hours=120))
    told.subject("P-1")
    told.enter("P-1")
    told.site.clock.advance(36_000)
    told.hazard()
    end = START + timedelta(hours=10 + 120)
    told.site.command(
        "EndFollowUp", clinical.MonitoringPlan(run=RUN, due=stamp(end - timedelta(hours=1))), end
    )
    assert not told.summary.complete
    told.site.command("EndFollowUp", clinical.MonitoringPlan(run=RUN, due=stamp(end)), end)
    assert told.summary.complete
