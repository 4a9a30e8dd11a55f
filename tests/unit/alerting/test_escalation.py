"""Escalation: an alert that nobody takes asks the next role when its clock runs out, and says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.api import shown
from services.alerting.domain.alerts import Alert, evolve
from services.alerting.domain.escalation import ROLES, TOP, Ladder
from services.alerting.endings import ESCALATE_STEP, Desk
from services.alerting.handlers import commands_of, events_of
from services.alerting.main import AlertingSettings, ladder_of
from services.alerting.views import ALERTS
from services.kit.errors import Invalid
from services.kit.runners.reactor import Reactor
from services.kit.settings import service_settings
from services.kit.work import STEPS, Step
from tests.unit.memory_service import MemoryService, Said

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT = "maker/gtin/A/L1"
MINOR, MAJOR, CRITICAL = production.SEVERITY_MINOR, production.SEVERITY_MAJOR, production.SEVERITY_CRITICAL


def _service(ladder: Ladder | None = None) -> MemoryService:
    desk = Desk()
    desk.ladder = ladder or Ladder()
    return MemoryService("alerting", Reactor("alerts", events_of(desk)), commands_of(desk))


def _at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def _said(message: Message, source: str, minutes: float = 0) -> Said:
    return Said(message, source, 1, source, _at(minutes), LOT)


def _deviation(name: str = "d-1", severity: production.Severity = CRITICAL, minutes: float = 0) -> Said:
    detected = production.DeviationDetected(deviation=name, lot=LOT, tag="T", proposed_severity=severity)
    return _said(detected, name, minutes)


def _alert(service: MemoryService) -> Alert:
    (alert,) = service.states(ALERTS).values()
    return alert


def _clock(service: MemoryService) -> Step | None:
    """The step of the only alert's clock."""
    rows = [row for row in service.states(STEPS).values() if row.step == ESCALATE_STEP]
    assert len(rows) < 2
    return rows[0] if rows else None


def _run_out(service: MemoryService, minutes: float | None = None) -> None:
    """The clock runs out: its step does what it does, when it is due or so much later."""
    row = _clock(service)
    assert row is not None
    at = datetime.fromisoformat(row.due) if minutes is None else _at(minutes)
    over = alerting.AlertEscalated(alert=row.key, level=int(row.payload["level"]))
    service.command("EscalateAlert", over, at)


def _take(service: MemoryService, minutes: float) -> None:
    request = api.AcknowledgeAlertRequest(alert=_alert(service).alert, note="on it")
    service.command("AcknowledgeAlert", request, _at(minutes), "qa-1")


@pytest.mark.parametrize(("severity", "minutes"), [(CRITICAL, 5), (MAJOR, 15), (MINOR, 60), (0, 15)])
def test_an_alert_that_nobody_takes_climbs_to_the_top_and_stays_there(
    severity: production.Severity, minutes: int
) -> None:
    service = _service()
    service.deliver(_deviation(severity=severity))
    for _ in range(TOP - 1):
        _run_out(service)
    told = service.all(alerting.AlertEscalated)
    assert [(one.level, one.to, one.at.ToDatetime(UTC)) for one in told] == [
        (2, "quality-head", _at(minutes)),
        (3, "plant-manager", _at(2 * minutes)),
    ]
    view = shown(_alert(service))
    assert (view.level, view.asked, len(view.escalations)) == (3, "plant-manager", 2)
    assert not view.HasField("next_escalation")
    assert service.events()[-1].case == LOT


def test_the_clock_is_seen_from_the_beginning() -> None:
    service = _service()
    service.deliver(_deviation())
    view = shown(_alert(service))
    assert (view.level, view.asked, view.severity) == (
        1,
        "quality-engineer",
        alerting.ALERT_SEVERITY_CRITICAL,
    )
    assert view.next_escalation.ToDatetime(UTC) == _at(5)


def test_whoever_takes_the_alert_stops_its_clock() -> None:
    service = _service()
    service.deliver(_deviation())
    _run_out(service)
    _take(service, 7)
    assert _clock(service) is None
    view = shown(_alert(service))
    assert (view.level, view.actor) == (2, "qa-1")
    assert not view.HasField("next_escalation")


@pytest.mark.parametrize("first", ["taken", "escalated"])
def test_taken_and_escalated_at_the_same_moment_is_decided_once(first: str) -> None:
    service = _service()
    service.deliver(_deviation())
    row = _clock(service)
    assert row is not None
    over = alerting.AlertEscalated(alert=row.key, level=1)
    if first == "taken":
        _take(service, 5)
        service.command("EscalateAlert", over, _at(5))
    else:
        service.command("EscalateAlert", over, _at(5))
        _take(service, 5)
    alert = _alert(service)
    assert (alert.open, alert.level) == (False, 1 if first == "taken" else 2)
    assert _clock(service) is None


def test_a_step_that_runs_twice_escalates_once() -> None:
    service = _service()
    service.deliver(_deviation())
    row = _clock(service)
    assert row is not None
    for _ in range(2):
        service.command("EscalateAlert", alerting.AlertEscalated(alert=row.key, level=1), _at(5))
    assert _alert(service).level == 2
    assert _clock(service) == Step(ESCALATE_STEP, row.key, _alert(service).next_escalation, {"level": "2"})


def test_a_service_that_was_away_gives_the_next_role_its_whole_time() -> None:
    service = _service()
    service.deliver(_deviation())
    _run_out(service, minutes=600)
    view = shown(_alert(service))
    assert (view.level, view.next_escalation.ToDatetime(UTC)) == (2, _at(605))


def test_a_worse_one_that_joins_shortens_the_clock_and_a_lesser_one_does_not() -> None:
    service = _service()
    service.deliver(_deviation("d-1", MINOR))
    service.deliver(_deviation("d-2", CRITICAL, 10), _deviation("d-3", MINOR, 11))
    alert = _alert(service)
    assert (alert.count, alert.severity) == (3, alerting.ALERT_SEVERITY_CRITICAL)
    row = _clock(service)
    assert row is not None
    assert row.due == alert.next_escalation == _at(15).isoformat(timespec="microseconds")


def test_what_joins_at_the_top_does_not_start_the_clock_anew() -> None:
    service = _service()
    service.deliver(_deviation("d-1"))
    _run_out(service)
    _run_out(service)
    service.deliver(_deviation("d-2", minutes=12))
    assert (_alert(service).level, _alert(service).next_escalation) == (3, "")
    assert not shown(_alert(service)).HasField("next_escalation")


@given(st.permutations([("d-1", MINOR, 0.0), ("d-2", CRITICAL, 3.0), ("d-3", MAJOR, 1.0)]))
def test_severity_and_clock_are_the_same_in_any_order(
    order: list[tuple[str, production.Severity, float]],
) -> None:
    service = _service()
    for name, severity, minutes in order:
        service.deliver(_deviation(name, severity, minutes))
    alert = _alert(service)
    assert (alert.severity, alert.next_escalation) == (
        alerting.ALERT_SEVERITY_CRITICAL,
        _at(8).isoformat(timespec="microseconds"),
    )


def test_a_stall_asks_the_operator_first() -> None:
    service = _service()
    service.deliver(_said(loops.LoopStalled(run="run-1", case=LOT, stage="seal", waiting_for="x"), "run"))
    assert _alert(service).asked == "operator"
    assert _alert(service).next_escalation == _at(15).isoformat(timespec="microseconds")


def test_an_alert_of_before_there_were_levels_is_shown_and_has_no_clock() -> None:
    old = alerting.AlertRaised(alert="a", kind=alerting.ALERT_KIND_DEVIATION, lot=LOT, text="t")
    view = shown(evolve(None, old))
    assert (view.level, view.asked, view.severity) == (1, "", alerting.ALERT_SEVERITY_UNSPECIFIED)
    assert not view.HasField("next_escalation")


# -- settings ----------------------------------------------------------------------


def _settings(monkeypatch: pytest.MonkeyPatch, **given: str) -> AlertingSettings:
    for name, value in given.items():
        monkeypatch.setenv(f"PHARMALOOP_ALERTING_{name.upper()}", value)
    return service_settings("alerting", AlertingSettings)


def test_settings_say_how_long_and_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(
        monkeypatch,
        escalate_critical_minutes="2",
        escalate_kind_minutes='{"loop_stalled": 30}',
        escalate_roles='{"deviation": ["shift-lead", "quality-head"]}',
    )
    service = _service(ladder_of(settings))
    service.deliver(_deviation())
    assert (_alert(service).asked, _alert(service).next_escalation) == (
        "shift-lead",
        _at(2).isoformat(timespec="microseconds"),
    )
    _run_out(service)
    assert (_alert(service).asked, _alert(service).next_escalation) == ("quality-head", "")
    ladder = ladder_of(settings)
    assert ladder.next_at(alerting.ALERT_KIND_LOOP_STALLED, alerting.ALERT_SEVERITY_MAJOR, 1, START) == _at(
        30
    )
    assert ladder.asked(alerting.ALERT_KIND_NO_RUN, 1) == ROLES["no_run"][0], "what is not set stays"


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("escalate_critical_minutes", "0", "greater than 0"),
        ("escalate_kind_minutes", '{"fire": 3}', "fire"),
        ("escalate_kind_minutes", '{"no_run": -1}', "above 0"),
        ("escalate_roles", '{"no_run": []}', "1 to 3 roles"),
        ("escalate_roles", '{"no_run": ["a", "b", "c", "d"]}', "1 to 3 roles"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, word: str
) -> None:
    with pytest.raises(Invalid, match=word) as refusal:
        _settings(monkeypatch, **{name: value})
    assert refusal.value.field == f"PHARMALOOP_ALERTING_{name.upper()}"
