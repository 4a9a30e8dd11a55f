"""Reminders: who hears of a plan again, when, and that nobody hears of it twice."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from services.clinical.handlers.due import FOLLOW_UP_STEP
from services.clinical.views import PLANS
from services.kit.ids import plan_id
from services.kit.work import STEPS, moment_text
from tests.unit.clinical.memory_site import START
from tests.unit.clinical.passing import Killed, pass_time
from tests.unit.clinical.patches import template
from tests.unit.clinical.teller import RUN, Teller, subject_of


def reminded(told: Teller) -> list[tuple[int, datetime, list[str]]]:
    """What was said on the site's own topic: hours, when, who."""
    return [
        (one.hours, one.at.ToDatetime(START.tzinfo), sorted(plan.pseudonym for plan in one.plans))
        for one in told.site.all(clinical.RemindersDue)
    ]


def complete(told: Teller) -> bool:
    return told.summary.complete


@pytest.fixture
def told() -> Teller:
    teller = Teller()
    teller.register(template(hours=120))
    for name in ("P-1", "P-2"):
        teller.subject(name)
    teller.enter("P-1", "P-2")
    teller.hazard()
    return teller


def test_who_has_not_answered_is_reminded_after_a_day_and_after_three(told: Teller) -> None:
    pass_time(told, 23.9)
    assert not reminded(told)
    told.answer("P-2", days=-1)
    pass_time(told, 1)
    pass_time(told, 50)
    day, third = START + timedelta(hours=24), START + timedelta(hours=72)
    assert reminded(told) == [(24, day, ["P-1"]), (72, third, ["P-1"])]
    held = told.site.states(PLANS)[plan_id(RUN, "P-1")].reminded
    assert held == {"24": moment_text(day), "72": moment_text(third)}
    assert not complete(told)
    pass_time(told, 48)
    assert complete(told)
    assert len(reminded(told)) == 2


def test_nobody_is_reminded_who_withdrew_died_moved_or_took_nothing(told: Teller) -> None:
    for name in ("P-3", "P-4"):
        told.subject(name)
    told.enter("P-3", "P-4")
    told.subject("P-1", consent=False, days=1)
    told.subject("P-2", days=1, status="DECEASED")
    told.subject("P-3", days=1, status="MOVED")
    told.became("P-4", "RETURNED_UNOPENED")
    pass_time(told, 80)
    assert not reminded(told)


def test_a_follow_up_that_ends_before_a_reminder_has_none() -> None:
    told = Teller()  # eight hours
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    assert [row.key for row in told.site.states(STEPS).values() if row.step == FOLLOW_UP_STEP] == [RUN]


@pytest.mark.req("G2d")
@pytest.mark.parametrize(("hours", "wanted"), [(24, []), (25, [24]), (72, [24]), (73, [24, 72])])
def test_a_reminder_that_would_be_due_at_the_end_is_not_given(hours: int, wanted: list[int]) -> None:
    told = Teller()
    told.register(template(hours=hours))
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    pass_time(told, 24)
    pass_time(told, 48)
    assert [one[0] for one in reminded(told)] == wanted


def test_the_time_of_a_draft_begins_when_the_hazard_is_evaluated() -> None:
    told = Teller()
    told.register(template(hours=120))
    told.subject("P-1")
    told.enter("P-1")
    pass_time(told, 30)
    told.hazard()
    told.subject("P-2")
    pass_time(told, 10)
    told.enter("P-2")
    pass_time(told, 14)
    assert reminded(told) == [(24, START + timedelta(hours=54), ["P-1"])]
    pass_time(told, 10)
    assert reminded(told)[1:] == [(24, START + timedelta(hours=64), ["P-2"])]


def test_each_is_reminded_once_whatever_crashes(told: Teller) -> None:
    names = [f"Q-{n}" for n in range(700)]
    told.fact(*(subject_of(name) for name in names))
    told.enter(*names)
    with pytest.raises(Killed):
        pass_time(told, 24, dies_after=1)
    pass_time(told, 0)  # the row stands, and is claimed again
    heard = [name for hours, _, who in reminded(told) for name in who if hours == 24]
    assert sorted(heard) == sorted(["P-1", "P-2", *names])
    assert max(len(who) for _, _, who in reminded(told)) <= 500


def test_a_run_that_a_person_ended_reminds_nobody(told: Teller) -> None:
    told.trace(loops.LoopClosed(run=RUN, outcome=loops.RUN_OUTCOME_CANCELLED))
    pass_time(told, 80)
    assert not reminded(told)


@pytest.mark.req("G2d")
def test_a_clock_that_goes_on_while_a_handler_runs_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handler is started anew until all that it reads is loaded; each time the clock shows more."""
    told = Teller()
    told.register(template(hours=120))
    for name in ("P-1", "P-2"):
        told.subject(name)
    later = told.site.clock.now

    def ticking() -> datetime:
        told.site.clock.advance(1)
        return later()

    monkeypatch.setattr(told.site.clock, "now", ticking)
    told.enter("P-1", "P-2")
    told.hazard()
    monkeypatch.undo()
    steps = [row for row in told.site.states(STEPS).values() if row.payload.get("hours")]
    assert sorted(row.payload["hours"] for row in steps) == ["24", "72"]
    pass_time(told, 25)
    assert [one[2] for one in reminded(told)] == [["P-1", "P-2"]]
