"""Laboratory results: what is refused, what stops a release, what is out of trend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.envelope import Event
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.reactor import Reactor
from services.production.domain import trend
from services.production.domain.trend import Measured, Trend
from services.production.handlers import LABORATORY, LISTS
from services.production.intake import result_fact
from services.production.views import LOTS, RESULT_ROWS
from tests.unit.production.memory import Memory, minutes, said

PRODUCT, OVEN = "maker/item/API", "plant-1/oven-1"
LOT = f"{PRODUCT}/1"
LAB = Reactor("laboratory", LABORATORY)
LIST = Reactor("lists", LISTS, emits=False)
Said = tuple[Event, str]


def result(value: float, record: str = "r1", at: float = 0, lot: str = LOT) -> events.TestResultRecorded:
    made = events.TestResultRecorded(
        lot=lot, test="assay", value=value, unit="%", low=95.0, high=105.0, record=record, source="lims"
    )
    made.at.at.FromDatetime(minutes(at))
    return made


def told(recorded: events.TestResultRecorded) -> Said:
    event, topic = said(recorded, minutes(0), subject=recorded.lot)
    return event._replace(id=result_fact({}, "lims")(0, recorded).id), topic


def plant(memory: Memory, *lots: str) -> None:
    tags = [events.Tag(name="Temp", unit="Cel")]
    memory.ask("RegisterEquipment", api.RegisterEquipmentRequest(equipment=OVEN, plant="p", tags=tags))
    for lot in lots:
        memory.ask("StartLot", api.StartLotRequest(lot=lot, equipment=OVEN))
        memory.ask("CompleteLot", api.CompleteLotRequest(lot=lot))


def measure(memory: Memory, *results: events.TestResultRecorded) -> None:
    memory.give(LAB, [told(one) for one in results])


def investigation(memory: Memory) -> str:
    (held,) = memory.states(LOTS)[LOT].investigations
    found: str = held.investigation
    return found


def close(memory: Memory, outcome: events.InvestigationOutcome) -> None:
    request = api.CloseInvestigationRequest(
        lot=LOT, investigation=investigation(memory), outcome=outcome, reason="looked"
    )
    memory.ask("CloseInvestigation", request)


def release(memory: Memory) -> str:
    """The reason why the lot is not released; empty when it is."""
    try:
        memory.ask("ReleaseLot", api.ReleaseLotRequest(lot=LOT))
    except Rejected as refused:
        return refused.reason
    return ""


# -- form -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        (lambda r: setattr(r, "lot", "7"), "NOT_CANONICAL", "lot"),
        (lambda r: setattr(r, "test", " "), "REQUIRED", "test"),
        (lambda r: setattr(r, "record", ""), "REQUIRED", "record"),
        (lambda r: r.ClearField("at"), "REQUIRED", "at.at"),
        (lambda r: setattr(r.at.at, "seconds", 10**12), "OUT_OF_RANGE", "at.at"),
        (lambda r: setattr(r, "unit", "per cent"), "NOT_UCUM", "unit"),
        (lambda r: setattr(r, "unit", "mg/g"), "WRONG_UNIT", "unit"),
        (lambda r: setattr(r, "value", math.nan), "NOT_FINITE", "value"),
        (lambda r: setattr(r, "high", math.inf), "NOT_FINITE", "high"),
        (lambda r: setattr(r, "low", 106.0), "OUT_OF_RANGE", "low"),
    ],
)
def test_a_malformed_result_is_refused_with_field_and_rule(
    change: Callable[[events.TestResultRecorded], object], reason: str, field: str
) -> None:
    recorded = result(100)
    result_fact({(PRODUCT, "assay"): "%"}, "lims")(0, recorded)
    change(recorded)
    with pytest.raises(Invalid) as refused:
        result_fact({(PRODUCT, "assay"): "%"}, "lims")(0, recorded)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_one_call_cannot_bring_a_test_in_two_units() -> None:
    judge = result_fact({}, "lims")
    judge(0, result(100))
    other = result(1, "r2")
    other.unit = "mg/g"
    with pytest.raises(Invalid, match="WRONG_UNIT"):
        judge(1, other)


def test_a_record_of_a_source_is_one_fact_however_often_it_is_told() -> None:
    first, again, other = result(100), result(100), result(100, "r2")
    nameless = result(100)
    nameless.source = ""
    judge = result_fact({}, "lims")
    assert judge(0, first).id == judge(5, again).id == judge(0, nameless).id
    assert judge(0, other).id != judge(0, first).id


# -- out of specification -----------------------------------------------------


@pytest.mark.parametrize(("value", "out"), [(94.9, True), (95.0, False), (105.0, False), (105.1, True)])
def test_a_result_beyond_a_limit_stops_the_release_and_the_refusal_names_it(
    memory: Memory, value: float, out: bool
) -> None:
    plant(memory, LOT)
    measure(memory, result(value))
    assert bool(memory.out(events.LaboratoryInvestigationOpened)) == out
    if not out:
        assert release(memory) == ""
        return
    with pytest.raises(Rejected, match="OOS_OPEN") as refused:
        memory.ask("ReleaseLot", api.ReleaseLotRequest(lot=LOT))
    assert investigation(memory) in refused.value.description
    assert f"{value:g}" in refused.value.description


def test_a_result_without_limits_is_on_record_and_stops_nothing(memory: Memory) -> None:
    plant(memory, LOT)
    free = result(-1000)
    free.ClearField("low")
    free.ClearField("high")
    measure(memory, free)
    assert release(memory) == ""


def test_a_result_that_comes_twice_opens_one_investigation(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80), result(80))
    measure(memory, result(80))
    assert len(memory.out(events.LaboratoryInvestigationOpened)) == 1


def test_a_result_that_overtakes_its_lot_stops_it_when_it_is_known(memory: Memory) -> None:
    measure(memory, result(80))
    assert memory.out() == []
    memory.look_aside(LAB)
    assert memory.out() == []
    plant(memory, LOT)
    memory.look_aside(LAB)
    assert release(memory) == "OOS_OPEN"


def test_an_error_of_the_laboratory_needs_a_retest_within_specification(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80, at=10))
    close(memory, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert release(memory) == "RETEST_MISSING"
    measure(memory, result(100, "earlier", at=5))
    assert release(memory) == "RETEST_MISSING", "what was tested before is no retest"
    measure(memory, result(100, "retest", at=20))
    assert release(memory) == ""


def test_a_retest_during_the_investigation_counts_and_does_not_close_it(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80, at=10), result(100, "retest", at=20))
    assert release(memory) == "OOS_OPEN"
    close(memory, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert release(memory) == ""


def test_a_retest_that_comes_first_counts_as_well(memory: Memory) -> None:
    """A laboratory's records come in any order; what was tested when decides."""
    plant(memory, LOT)
    measure(memory, result(100, "retest", at=20), result(100, "before", at=5), result(80, at=10))
    assert release(memory) == "OOS_OPEN"
    close(memory, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert release(memory) == ""


def test_the_retest_of_another_lot_does_not_count(memory: Memory) -> None:
    plant(memory, LOT, f"{PRODUCT}/2")
    measure(memory, result(100, "other", at=20, lot=f"{PRODUCT}/2"), result(80, at=10))
    close(memory, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert release(memory) == "RETEST_MISSING"


def test_a_retest_out_of_specification_is_investigated_too(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80, at=10), result(82, "retest", at=20))
    assert len(memory.states(LOTS)[LOT].investigations) == 2


def test_a_result_that_stands_leaves_only_rejection(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80, at=10))
    close(memory, events.INVESTIGATION_OUTCOME_CONFIRMED)
    measure(memory, result(100, "retest", at=20))
    assert release(memory) == "OOS_CONFIRMED"
    assert memory.states(LOTS)[LOT].state == "held"
    memory.ask("RejectLot", api.RejectLotRequest(lot=LOT, reason="out of specification"))


def test_a_result_that_stands_recalls_a_released_lot(memory: Memory) -> None:
    plant(memory, LOT)
    assert release(memory) == ""
    measure(memory, result(80))
    close(memory, events.INVESTIGATION_OUTCOME_CONFIRMED)
    assert memory.states(LOTS)[LOT].state == "held"


@pytest.mark.parametrize(
    ("request_", "error", "told"),
    [
        ({"investigation": "x"}, Unknown, ("UNKNOWN_INVESTIGATION", "investigation")),
        ({"lot": f"{PRODUCT}/9"}, Unknown, ("UNKNOWN_LOT", "lot")),
        ({"outcome": 0}, Invalid, ("REQUIRED", "outcome")),
        ({"outcome": 9}, Invalid, ("REQUIRED", "outcome")),
        ({"reason": " "}, Invalid, ("REQUIRED", "reason")),
    ],
)
def test_closing_is_refused_with_the_reason(
    memory: Memory, request_: dict[str, Any], error: type[Rejected], told: tuple[str, str]
) -> None:
    plant(memory, LOT)
    measure(memory, result(80))
    whole: dict[str, Any] = {
        "lot": LOT,
        "investigation": investigation(memory),
        "outcome": events.INVESTIGATION_OUTCOME_CONFIRMED,
        "reason": "looked",
    }
    with pytest.raises(error) as refused:
        memory.ask("CloseInvestigation", api.CloseInvestigationRequest(**{**whole, **request_}))
    assert (refused.value.reason, refused.value.field) == told


def test_what_an_investigation_found_is_not_changed(memory: Memory) -> None:
    plant(memory, LOT)
    measure(memory, result(80))
    close(memory, events.INVESTIGATION_OUTCOME_CONFIRMED)
    with pytest.raises(Rejected, match="ALREADY_CLOSED"):
        close(memory, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)


# -- out of trend ---------------------------------------------------------------

EARLIER = (99.8, 100.3, 100.1, 99.6, 100.4, 99.9, 100.2, 99.7)


def history(memory: Memory, values: tuple[float, ...] = EARLIER) -> None:
    lots = [f"{PRODUCT}/h{n}" for n in range(len(values))]
    plant(memory, LOT, *lots)
    measure(
        memory, *(result(v, f"h{n}", n, lot) for n, (v, lot) in enumerate(zip(values, lots, strict=True)))
    )


@pytest.mark.parametrize("sigmas", [2.99, 3.01, -2.99, -3.01])
def test_a_result_beyond_three_sigma_of_eight_earlier_ones_is_reviewed(memory: Memory, sigmas: float) -> None:
    history(memory)
    mean, deviation = float(np.mean(EARLIER)), float(np.std(EARLIER, ddof=1))
    measure(memory, result(mean + sigmas * deviation, at=100))
    reviews = memory.out(events.TrendReviewOpened)
    assert bool(reviews) == (abs(sigmas) > 3)
    if reviews:
        opened = reviews[0].message
        assert isinstance(opened, events.TrendReviewOpened)
        assert (opened.mean, opened.deviation) == pytest.approx((mean, deviation))
        assert (opened.lot, opened.earlier) == (LOT, 8)
    assert release(memory) == "", "a review does not stop a release"


def test_seven_results_say_nothing_of_a_trend(memory: Memory) -> None:
    history(memory, EARLIER[:7])
    measure(memory, result(104.9, at=100))
    assert not memory.out(events.TrendReviewOpened)


def test_a_result_is_compared_with_those_tested_before_it_only(memory: Memory) -> None:
    history(memory)
    measure(memory, result(104.9, at=3.5))
    assert not memory.out(events.TrendReviewOpened)


def test_results_out_of_specification_are_no_part_of_a_trend(memory: Memory) -> None:
    history(memory)
    measure(memory, result(20.0, "out", at=50, lot=f"{PRODUCT}/h0"), result(104.9, at=100))
    (review,) = memory.out(events.TrendReviewOpened)
    assert isinstance(review.message, events.TrendReviewOpened)
    assert review.message.earlier == 8


def student_7(t: float) -> float:
    """How seldom Student's t with 7 degrees of freedom is beyond +-t (Abramowitz & Stegun 26.7.3)."""
    angle = math.atan(t / math.sqrt(7))
    cosine = math.cos(angle)
    within = angle + math.sin(angle) * (cosine + 2 / 3 * cosine**3 + 8 / 15 * cosine**5)
    return 1 - 2 / math.pi * within


def test_good_results_are_reviewed_as_seldom_as_the_rule_promises() -> None:
    """Of a new result and the mean of eight, the difference has the variance 1 + 1/8."""
    promised = student_7(3 / math.sqrt(1 + 1 / 8))
    assert promised == pytest.approx(1 / 40, rel=0.05)
    draws = np.random.default_rng(1).normal(100, 0.3, size=(4000, 9))
    hits = 0
    for draw in draws.tolist():
        held = Trend("%", tuple(Measured(f"{n}", f"{n}", value, LOT) for n, value in enumerate(draw[:8])))
        hits += bool(trend.review(held, Measured("9", "9", draw[8], LOT), result(draw[8])))
    spread = math.sqrt(promised * (1 - promised) / len(draws))
    assert hits / len(draws) == pytest.approx(promised, abs=4 * spread)


# -- the list -------------------------------------------------------------------


@pytest.mark.parametrize("judged_first", [False, True])
def test_a_row_is_the_same_whichever_topic_is_read_first(memory: Memory, judged_first: bool) -> None:
    opened = events.LaboratoryInvestigationOpened(lot=LOT, investigation="i1", result="x", rule="below")
    closed = events.InvestigationClosed(
        lot=LOT,
        investigation="i1",
        result="x",
        outcome=events.INVESTIGATION_OUTCOME_LABORATORY_ERROR,
        actor="li",
        reason="wrong column",
    )
    recorded, topic = told(result(80))
    facts = [(recorded._replace(id="x"), topic)]
    judged = [said(opened, minutes(1), seq=1, subject=LOT), said(closed, minutes(2), seq=2, subject=LOT)]
    for told_ in [judged, facts, facts] if judged_first else [facts, judged, facts]:
        memory.give(LIST, told_)
    (row,) = memory.states(RESULT_ROWS).values()
    assert (row.state, row.investigation, row.actor, row.reason) == ("void", "i1", "li", "wrong column")
    assert events.TestResultRecorded.FromString(row.recorded).value == 80
    assert row.at[:16] == "2026-03-01T00:00"
