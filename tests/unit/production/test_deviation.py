"""A deviation's states: every pair, what is proposed, what a person says, and what a lot waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Rejected
from services.kit.runners.reactor import Reactor
from services.production.domain import deviation as deviations
from services.production.domain import lot as lots
from services.production.domain import severity
from services.production.domain.record import Lot, known
from services.production.domain.severity import Rules
from services.production.handlers import LISTS, QUALITY
from services.production.views import DEVIATION_ROWS, LOTS
from services.refusals import Absent, Malformed, Refusal
from tests.unit.production.memory import START, Memory, minutes
from tests.unit.production.test_quality import CHILD, ROOT, implicated, opened, plant

KEY, PRODUCT = "maker/item/API/1", "maker/item/API"
STATES = ("open", "under_investigation", "confirmed", "rejected", "capa_required", "closed")
LEGAL = {
    ("open", "under_investigation"),
    ("open", "confirmed"),
    ("open", "rejected"),
    ("under_investigation", "confirmed"),
    ("under_investigation", "rejected"),
    ("confirmed", "capa_required"),
    ("confirmed", "closed"),
    ("capa_required", "closed"),
}
MAJOR = events.SEVERITY_MAJOR


def detected(lot: str = KEY) -> events.DeviationDetected:
    found = events.DeviationDetected(deviation="d", lot=lot, product=PRODUCT, tag="Temp")
    found.detected.FromDatetime(START)
    return found


def fold(lot: Lot | None, *decided: Message) -> Lot:
    for event in decided:
        lot = lots.evolve(lot, event)
    return known(lot)


def move(lot: Lot, to: str) -> list[Message]:
    """The decision that leads to a state; of a CAPA that the deviation does not wait for, none."""
    ways: dict[str, Callable[[], list[Message]]] = {
        "open": lambda: deviations.decide_detect(lot, detected()),
        "under_investigation": lambda: deviations.decide_investigate(lot, "d", "why", "qa"),
        "confirmed": lambda: lots.decide_confirm(lot, "d", "why", "qa"),
        "rejected": lambda: deviations.decide_reject(lot, "d", "why", "qa"),
        "capa_required": lambda: deviations.decide_require_capa(lot, "d", "c1"),
        "closed": lambda: deviations.decide_close(lot, "d", "why", "qa"),
    }
    return ways[to]()


def lot_in(state: str, classified: bool = True) -> Lot:
    """A lot whose run is over, with a deviation that came to the state by legal steps."""
    lot = fold(None, events.LotStarted(lot=KEY, product=PRODUCT), events.LotCompleted(lot=KEY), detected())
    if classified:
        lot = fold(lot, *deviations.decide_classify(lot, "d", MAJOR, "none", "qa"))
    paths = {
        "open": [],
        "capa_required": ["confirmed", "capa_required"],
        "closed": ["confirmed", "closed"],
    }
    for step in paths.get(state, [state]):
        lot = fold(lot, *move(lot, step))
    return lot


def state_of(lot: Lot) -> str:
    (held,) = lot.deviations
    return held.state


@pytest.mark.parametrize("to", STATES)
@pytest.mark.parametrize("state", STATES)
def test_every_pair_of_states_is_a_way_or_refused_with_the_reason(state: str, to: str) -> None:
    lot = lot_in(state)
    assert state_of(lot) == state
    if (state, to) in LEGAL:
        assert state_of(fold(lot, *move(lot, to))) == to
    elif to in ("open", "capa_required"):  # what the platform says itself has no effect
        assert move(lot, to) == []
    else:
        with pytest.raises(Refusal) as refused:
            move(lot, to)
        judgement = to in ("confirmed", "rejected")
        assert refused.value.reason == ("ALREADY_JUDGED" if judgement else "ILLEGAL_TRANSITION")
        assert refused.value.field == "deviation"
        assert state.rsplit("_", maxsplit=1)[-1] in refused.value.description


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("open", "DEVIATION_OPEN"),
        ("under_investigation", "DEVIATION_OPEN"),
        ("confirmed", "DEVIATION_CONFIRMED"),
        ("capa_required", "DEVIATION_CONFIRMED"),
        ("rejected", ""),
        ("closed", ""),
    ],
)
def test_a_lot_waits_for_the_disposition_of_its_deviation(state: str, reason: str) -> None:
    lot = lot_in(state)
    if not reason:
        assert lots.decide_release(lot, "qa")
        return
    with pytest.raises(Refusal, match=reason) as refused:
        lots.decide_release(lot, "qa")
    assert "deviation d" in refused.value.description


def test_a_critical_deviation_leaves_only_rejection() -> None:
    lot = lot_in("confirmed")
    lot = fold(lot, *deviations.decide_classify(lot, "d", events.SEVERITY_CRITICAL, "harm", "qa"))
    lot = fold(lot, *move(lot, "closed"))
    with pytest.raises(Refusal, match="DEVIATION_CRITICAL"):
        lots.decide_release(lot, "qa")
    assert lots.decide_reject(lot, "critical", "qa")


def test_a_deviation_is_not_closed_before_it_is_classified() -> None:
    with pytest.raises(Refusal, match="NOT_CLASSIFIED"):
        move(lot_in("confirmed", classified=False), "closed")


def test_what_closed_with_its_capa_is_still_to_be_classified_before_the_release() -> None:
    lot = lot_in("capa_required", classified=False)
    assert deviations.decide_close_with(lot, "another", "qa") == []
    lot = fold(lot, *deviations.decide_close_with(lot, "c1", "qa"))
    assert state_of(lot) == "closed"
    with pytest.raises(Refusal, match="NOT_CLASSIFIED"):
        lots.decide_release(lot, "qa")
    lot = fold(lot, *deviations.decide_classify(lot, "d", MAJOR, "none", "qa"))
    assert lots.decide_release(lot, "qa")
    with pytest.raises(Refusal, match="ILLEGAL_TRANSITION"):
        deviations.decide_classify(lot, "d", events.SEVERITY_MINOR, "less", "qa")


@pytest.mark.parametrize(
    ("deviation", "severity_", "impact", "error", "told"),
    [
        ("x", MAJOR, "none", Absent, ("UNKNOWN_DEVIATION", "deviation")),
        ("d", events.SEVERITY_UNSPECIFIED, "none", Malformed, ("REQUIRED", "severity")),
        ("d", MAJOR, " ", Malformed, ("REQUIRED", "impact")),
    ],
)
def test_a_classification_is_refused_with_the_reason(
    deviation: str, severity_: events.Severity, impact: str, error: type[Refusal], told: tuple[str, str]
) -> None:
    with pytest.raises(error) as refused:
        deviations.decide_classify(lot_in("open"), deviation, severity_, impact, "qa")
    assert (refused.value.reason, refused.value.field) == told


# -- a lot that a run implicated --------------------------------------------------


def test_an_implicated_lot_waits_for_the_deviation_of_the_run(memory: Memory) -> None:
    plant(memory, CHILD)
    memory.ask("CompleteLot", api.CompleteLotRequest(lot=CHILD))
    quality = Reactor("quality", QUALITY)
    memory.give(quality, [opened(), implicated(CHILD, 2)])
    release = api.ReleaseLotRequest(lot=CHILD)
    with pytest.raises(Rejected, match="DEVIATION_OPEN") as refused:
        memory.ask("ReleaseLot", release)
    assert "d1" in refused.value.description


# -- what is proposed ---------------------------------------------------------------


def rules(**more: Any) -> Rules:
    rule = events.SeverityRule(tag="Temp", severity=events.SEVERITY_MINOR, unit="Cel", **more)
    return severity.evolve(None, events.SeverityRulesSet(product=PRODUCT, rules=[rule]))


@pytest.mark.parametrize(
    ("held", "unit", "values", "proposed"),
    [
        (None, "Cel", [99.0], events.SEVERITY_UNSPECIFIED),
        (rules(), "Cel", [99.0], events.SEVERITY_MINOR),
        (rules(critical_parameter=True, low=20, high=80), "Cel", [20.0, 80.0], events.SEVERITY_MINOR),
        (rules(critical_parameter=True, low=20, high=80), "Cel", [50.0, 80.1], MAJOR),
        (rules(critical_parameter=True, low=20), "Cel", [19.9], MAJOR),
        (rules(critical_parameter=False, low=20, high=80), "Cel", [99.0], events.SEVERITY_MINOR),
        (rules(critical_parameter=True, low=20, high=80), "K", [50.0], MAJOR),
    ],
)
def test_a_critical_parameter_outside_its_range_is_at_least_major(
    held: Rules | None, unit: str, values: list[float], proposed: events.Severity
) -> None:
    assert severity.propose(held, "Temp", unit, values) == proposed


def test_a_critical_rule_stays_critical_and_another_tag_has_none() -> None:
    rule = events.SeverityRule(
        tag="Temp", severity=events.SEVERITY_CRITICAL, critical_parameter=True, low=1, unit="Cel"
    )
    held = severity.evolve(None, events.SeverityRulesSet(rules=[rule]))
    assert severity.propose(held, "Temp", "Cel", [0.0]) == events.SEVERITY_CRITICAL
    assert severity.propose(held, "Load", "Cel", [0.0]) == events.SEVERITY_UNSPECIFIED


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"tag": ""}, ("REQUIRED", "rules[0].tag")),
        ({"severity": 0}, ("REQUIRED", "rules[0].severity")),
        ({"critical_parameter": True}, ("REQUIRED", "rules[0].low")),
        ({"low": float("nan")}, ("NOT_FINITE", "rules[0].low")),
        ({"low": 2, "high": 1}, ("OUT_OF_RANGE", "rules[0].low")),
        ({"low": 2, "unit": "x y"}, ("NOT_UCUM", "rules[0].unit")),
    ],
)
def test_rules_are_refused_with_field_and_rule(rule: dict[str, Any], told: tuple[str, str]) -> None:
    whole: dict[str, Any] = {"tag": "Temp", "severity": MAJOR, "unit": "Cel"}
    asked = events.SeverityRulesSet(rules=[events.SeverityRule(**{**whole, **rule})])
    with pytest.raises(Malformed) as refused:
        severity.decide_set(None, asked)
    assert (refused.value.reason, refused.value.field) == told


def test_the_same_rules_again_are_no_event(memory: Memory) -> None:
    rule = events.SeverityRule(tag="Temp", severity=MAJOR)
    for _ in range(2):
        memory.ask("SetSeverityRules", api.SetSeverityRulesRequest(product=PRODUCT, rules=[rule]))
    assert len(memory.out(events.SeverityRulesSet)) == 1
    with pytest.raises(Rejected, match="DUPLICATE_TAG"):
        memory.ask("SetSeverityRules", api.SetSeverityRulesRequest(product=PRODUCT, rules=[rule, rule]))


# -- commands and the list ------------------------------------------------------------


def test_the_life_of_a_deviation_is_on_record_and_in_the_list(memory: Memory) -> None:
    plant(memory, ROOT)
    asked: dict[str, Any] = {"lot": ROOT, "deviation": "d"}
    memory.apply(LOTS, ROOT, detected(ROOT))
    memory.ask("StartInvestigation", api.StartInvestigationRequest(**asked, reason="trend looks odd"))
    memory.ask("ClassifyDeviation", api.ClassifyDeviationRequest(**asked, severity=MAJOR, impact="potency"))
    memory.ask("ConfirmDeviation", api.ConfirmDeviationRequest(**asked, reason="real"))
    memory.ask("CloseDeviation", api.CloseDeviationRequest(**asked, reason="assessed"), minutes(3), "li")
    memory.give(Reactor("lists", LISTS, emits=False), memory.told())
    (row,) = memory.states(DEVIATION_ROWS).values()
    assert (row.lot, row.state, row.severity, row.impact) == (ROOT, "closed", MAJOR, "potency")
    assert (row.actor, row.reason, row.at[:16]) == ("li", "assessed", "2026-03-01T00:00")
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert (held.state, held.severity, held.impact) == (row.state, row.severity, row.impact)
