"""Alerts end when all that they stand for is judged or over, in whatever order it is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.alerting.api import shown
from services.alerting.domain.alerts import Alert
from services.alerting.domain.triggers import PATIENCE
from services.alerting.endings import ESCALATE_STEP, Desk
from services.alerting.handlers import commands_of, events_of
from services.alerting.views import ALERTS, MATTERS, TRIGGERS
from services.kit.errors import Rejected
from services.kit.ids import transfer_case
from services.kit.runners.reactor import Reactor
from services.kit.work import STEPS
from tests.unit.memory_service import MemoryService, Said

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT = "maker/gtin/A/L1"
TRANSFER = transfer_case("s-1", "plant-b")
MINOR, MAJOR, CRITICAL = production.SEVERITY_MINOR, production.SEVERITY_MAJOR, production.SEVERITY_CRITICAL
OPEN, TAKEN, RESOLVED = api.ALERT_STATE_OPEN, api.ALERT_STATE_TAKEN, api.ALERT_STATE_RESOLVED


def _service() -> MemoryService:
    desk = Desk()
    return MemoryService("alerting", Reactor("alerts", events_of(desk)), commands_of(desk))


def _at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def _text(minutes: float) -> str:
    return _at(minutes).isoformat(timespec="microseconds")


def _said(message: Message, minutes: float = 0) -> Said:
    source = f"{type(message).__name__}-{hash(message.SerializeToString(deterministic=True))}"
    return Said(message, source, 1, source, _at(minutes), LOT)


def _detected(name: str = "d-1", severity: production.Severity = MAJOR, minutes: float = 0) -> Said:
    detected = production.DeviationDetected(deviation=name, lot=LOT, tag="T", proposed_severity=severity)
    return _said(detected, minutes)


def _rejected(name: str = "d-1", minutes: float = 7) -> Said:
    said = "the probe was out of the bed"
    return _said(production.DeviationRejected(deviation=name, lot=LOT, actor="qa-1", reason=said), minutes)


def _confirmed(name: str = "d-1", minutes: float = 0) -> Said:
    said = "the jacket drifted"
    return _said(production.DeviationConfirmed(deviation=name, lot=LOT, actor="qa-3", reason=said), minutes)


def _closed(name: str = "d-1", minutes: float = 9) -> Said:
    return _said(
        production.DeviationClosed(deviation=name, lot=LOT, actor="qa-2", reason="CAPA done"), minutes
    )


def _classified(name: str = "d-1", severity: production.Severity = CRITICAL, minutes: float = 4) -> Said:
    return _said(
        production.DeviationClassified(
            lot=LOT, deviation=name, severity=severity, impact="dose may be low", actor="qa-1"
        ),
        minutes,
    )


def _stalled(stage: str = "seal", minutes: float = 0) -> Said:
    return _said(loops.LoopStalled(run="run-1", case=LOT, stage=stage, waiting_for="a site"), minutes)


def _completed(stage: str = "seal", minutes: float = 5) -> Said:
    return _said(loops.StageCompleted(run="run-1", case=LOT, stage=stage, loop="safety"), minutes)


def _cancelled(minutes: float = 6) -> Said:
    ended = loops.LoopClosed(
        run="run-1", case=LOT, outcome=loops.RUN_OUTCOME_CANCELLED, actor="op-1", reason="opened by mistake"
    )
    return _said(ended, minutes)


def _told(said: Iterable[Said]) -> MemoryService:
    service = _service()
    for one in said:
        service.deliver(one)
    return service


def _alert(service: MemoryService) -> Alert:
    (alert,) = service.states(ALERTS).values()
    return alert


def _clocks(service: MemoryService) -> list[str]:
    return [row.due for row in service.states(STEPS).values() if row.step == ESCALATE_STEP]


def _take(service: MemoryService, minutes: float = 3, actor: str = "qa-9") -> None:
    request = api.AcknowledgeAlertRequest(alert=_alert(service).alert, note="on it")
    service.command("AcknowledgeAlert", request, _at(minutes), actor)


@pytest.mark.parametrize(
    ("said", "end", "actor", "reason", "minutes"),
    [
        (
            (_detected(), _rejected()),
            alerting.ALERT_END_DEVIATION_REJECTED,
            "qa-1",
            "the probe was out of the bed",
            7,
        ),
        (
            (_detected(), _confirmed(minutes=8)),
            alerting.ALERT_END_DEVIATION_CONFIRMED,
            "qa-3",
            "the jacket drifted",
            8,
        ),
        (
            (_detected(), _closed(), _confirmed(minutes=8)),
            alerting.ALERT_END_DEVIATION_CONFIRMED,
            "qa-3",
            "the jacket drifted",
            8,
        ),
        ((_stalled(), _completed()), alerting.ALERT_END_STAGE_COMPLETED, "", "seal", 5),
        ((_stalled(), _cancelled()), alerting.ALERT_END_RUN_ENDED, "op-1", "opened by mistake", 6),
    ],
    ids=["rejected", "confirmed", "confirmed and closed", "stage ended", "run cancelled"],
)
def test_an_alert_ends_with_its_matter_and_says_what_ended_it(
    said: Sequence[Said], end: alerting.AlertEnd, actor: str, reason: str, minutes: float
) -> None:
    for order in permutations([*said, said[-1]]):
        service = _told(order)
        told = alerting.AlertResolved(
            alert=_alert(service).alert, end=end, actor=actor, reason=reason, at=_at(minutes)
        )
        assert service.all(alerting.AlertResolved) == [told]
        view = shown(_alert(service))
        assert (view.state, view.resolved) == (RESOLVED, told)
        assert not view.HasField("next_escalation")
        assert not _clocks(service), "an alert that is over asks nobody"
        assert service.events()[-1].case == LOT


def test_a_closing_that_is_told_before_the_judgement_ends_nothing() -> None:
    service = _told([_detected(), _closed()])
    assert shown(_alert(service)).state == OPEN
    assert _clocks(service) == [_text(15)]


def test_the_class_of_a_judged_deviation_opens_no_alert_again() -> None:
    service = _told([_detected(severity=MINOR), _confirmed(minutes=2), _classified(), _closed()])
    assert shown(_alert(service)).state == RESOLVED
    assert not service.all(alerting.AlertSeverityRaised)
    assert not _clocks(service)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_an_alert_whose_confirmation_did_not_end_it_yet_ends_with_the_closing(rebuilt: bool) -> None:
    """As an earlier version left it: confirmed and nothing noted of its end; its views made anew, or not."""
    service = _told([_detected()])
    other = _told([_confirmed(minutes=2)])
    kept = (TRIGGERS, MATTERS) if rebuilt else (TRIGGERS,)
    for kind in kept:
        service.database.docs[kind.name].update(other.database.docs[kind.name])
    service.deliver(_closed())
    view = shown(_alert(service))
    assert (view.state, view.resolved.end, view.resolved.actor) == (
        (RESOLVED, alerting.ALERT_END_DEVIATION_CONFIRMED, "qa-3")
        if rebuilt
        else (RESOLVED, alerting.ALERT_END_DEVIATION_CLOSED, "qa-2")
    )


def test_an_alert_of_many_ends_with_the_last_of_them() -> None:
    service = _told([_detected("d-1"), _detected("d-2", minutes=1), _rejected("d-1")])
    assert (shown(_alert(service)).state, _alert(service).count) == (OPEN, 2)
    service.deliver(_confirmed("d-2", 9))
    view = shown(_alert(service))
    assert (view.state, view.resolved.end) == (RESOLVED, alerting.ALERT_END_DEVIATION_CONFIRMED)


def test_a_stage_that_ended_leaves_the_alert_of_the_next_late_one() -> None:
    service = _told([_stalled("trace"), _stalled("seal", 1), _completed("trace")])
    assert shown(_alert(service)).state == OPEN
    service.deliver(_cancelled())
    assert shown(_alert(service)).state == RESOLVED


def test_the_end_of_another_stage_or_run_is_nothing_to_it() -> None:
    other = _said(loops.LoopClosed(run="run-2", case=LOT, loop="safety"))
    service = _told([_stalled("seal"), _completed("trace"), other, _rejected("d-7")])
    assert shown(_alert(service)).state == OPEN


def test_what_happens_after_the_end_is_an_alert_of_its_own() -> None:
    service = _told([_detected("d-1"), _rejected("d-1"), _detected("d-2", minutes=8), _detected("d-1")])
    states = sorted(shown(alert).state for alert in service.states(ALERTS).values())
    assert states == [OPEN, RESOLVED]


def test_a_taken_alert_is_resolved_too_and_keeps_who_took_it() -> None:
    service = _told([_detected()])
    _take(service)
    assert shown(_alert(service)).state == TAKEN
    service.deliver(_rejected())
    view = shown(_alert(service))
    assert (view.state, view.actor, view.resolved.actor) == (RESOLVED, "qa-9", "qa-1")
    _take(service, 11)  # by the same person again: nothing happens
    with pytest.raises(Rejected, match="qa-9 has taken") as refusal:
        _take(service, 12, "qa-3")
    assert refusal.value.reason == "ALREADY_ACKNOWLEDGED"


def test_nobody_takes_what_is_over() -> None:
    service = _told([_detected(), _rejected()])
    with pytest.raises(Rejected, match="judged or over") as refusal:
        _take(service, 10)
    assert (refusal.value.reason, refusal.value.field) == ("ALREADY_RESOLVED", "alert")


def test_a_clock_that_runs_out_as_the_matter_ends_escalates_nothing() -> None:
    service = _told([_detected(severity=CRITICAL), _rejected(minutes=5)])
    over = alerting.AlertEscalated(alert=_alert(service).alert, level=1)
    service.command("EscalateAlert", over, _at(5))
    assert not service.all(alerting.AlertEscalated)


# -- how bad it is -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["as it happened", "backwards"])
def test_classified_as_worse_the_alert_is_as_severe_and_its_clock_begins_anew(order: str) -> None:
    said = [_detected(severity=MINOR), _classified()]
    service = _told(said if order == "as it happened" else reversed(said))
    (told,) = service.all(alerting.AlertSeverityRaised)
    assert (told.actor, told.reason, told.severity) == (
        "qa-1",
        "dose may be low",
        alerting.ALERT_SEVERITY_CRITICAL,
    )
    view = shown(_alert(service))
    assert view.severity == alerting.ALERT_SEVERITY_CRITICAL
    assert view.next_escalation.ToDatetime(UTC) == _at(9)
    assert _clocks(service) == [_text(9)]


def test_a_worse_class_never_gives_more_time() -> None:
    service = _told([_detected(severity=MAJOR), _classified(minutes=14)])
    assert _clocks(service) == [_text(15)]


def test_a_lesser_class_and_a_second_thought_take_nothing_back() -> None:
    service = _told([_detected(severity=MAJOR), _classified(severity=MINOR)])
    assert not service.all(alerting.AlertSeverityRaised)
    service.deliver(_classified(severity=CRITICAL, minutes=5), _classified(severity=MAJOR, minutes=6))
    assert shown(_alert(service)).severity == alerting.ALERT_SEVERITY_CRITICAL
    assert len(service.all(alerting.AlertSeverityRaised)) == 1


def test_classified_after_somebody_took_it_is_told_and_starts_no_clock() -> None:
    service = _told([_detected(severity=MINOR)])
    _take(service)
    service.deliver(_classified())
    view = shown(_alert(service))
    assert (view.state, view.severity) == (TAKEN, alerting.ALERT_SEVERITY_CRITICAL)
    assert not view.HasField("next_escalation")
    assert not _clocks(service)


def test_classified_at_the_top_asks_nobody_else() -> None:
    service = _told([_detected(severity=MAJOR)])
    for level in (1, 2):
        over = alerting.AlertEscalated(alert=_alert(service).alert, level=level)
        service.command("EscalateAlert", over, _at(15 * level))
    service.deliver(_classified(minutes=40))
    assert (_alert(service).level, _alert(service).next_escalation) == (3, "")


# -- triggers without a run ---------------------------------------------------------


def _missed(*said: Said) -> MemoryService:
    """A trigger whose time is over."""
    service = _told(said)
    for row in [row for row in service.states(STEPS).values() if row.step == "no-run"]:
        request = production.DeviationConfirmed(deviation=row.key)
        service.command("ReportMissingRun", request, START + PATIENCE)
    return service


def _opened(deviation: str, minutes: float) -> Said:
    return _said(loops.SafetyRunOpened(run="run-5", case=LOT, lot=LOT, deviation=deviation), minutes)


def test_a_run_that_is_opened_late_ends_the_alert_that_there_was_none() -> None:
    service = _missed(_confirmed())
    assert shown(_alert(service)).state == OPEN
    service.deliver(_closed(minutes=35))
    assert shown(_alert(service)).state == OPEN, "whoever was exposed is not traced by closing the deviation"
    service.deliver(_opened("d-1", 40))
    view = shown(_alert(service))
    assert (view.state, view.resolved.end, view.resolved.reason) == (
        RESOLVED,
        alerting.ALERT_END_RUN_OPENED,
        "run-5",
    )


def test_it_ends_when_every_trigger_that_joined_has_its_run() -> None:
    service = _missed(_confirmed("d-1"), _confirmed("d-2"))
    assert _alert(service).count == 2
    service.deliver(_opened("d-1", 40))
    assert shown(_alert(service)).state == OPEN
    # A service that was away opens the run as of the confirmation, and the other deviation joins it.
    again = _missed(_confirmed("d-1"), _confirmed("d-2"))
    again.deliver(_opened("d-1", 0))
    assert shown(_alert(again)).state == RESOLVED


def test_a_release_is_taken_up_by_the_run_of_its_version_alone() -> None:
    released = rnd.ParameterSetReleased(set="s-1", version=2, plant="plant-b", product="maker/gtin/A")
    service = _missed(_said(released))
    for version, state in ((1, OPEN), (2, RESOLVED)):
        opened = loops.TransferRunOpened(run=f"run-{version}", case=TRANSFER, set="s-1", version=version)
        service.deliver(_said(opened, 40))
        assert shown(_alert(service)).state == state


# -- any order ----------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_order_and_repeats_leave_open_exactly_what_goes_on(data: st.DataObject) -> None:
    said = [
        _detected("d-1", MINOR),
        _detected("d-2", MAJOR, 1),
        _detected("d-3", MAJOR, 2),
        _classified("d-1"),
        _rejected("d-1"),
        _confirmed("d-2", 8),
        _closed("d-2"),
        _stalled("trace"),
        _stalled("seal", 1),
        _completed("trace"),
        _cancelled(),
    ]
    sent = data.draw(st.permutations(said))
    sent += data.draw(st.lists(st.sampled_from(said), max_size=5))
    service = _told(sent)
    notes = service.states(MATTERS)
    assert notes == _told(said).states(MATTERS), "what is kept does not depend on the order"
    ends = {one.end for one in service.all(alerting.AlertResolved)}
    assert alerting.ALERT_END_DEVIATION_CLOSED not in ends, "the judgement ends it, whichever comes first"
    for alert in service.states(ALERTS).values():
        left = [about for about in alert.abouts if not (about in notes and notes[about].end)]
        assert alert.over == (alert.kind == alerting.ALERT_KIND_LOOP_STALLED or not left)
        assert alert.open != alert.over
    (calling,) = (one for one in service.states(ALERTS).values() if one.open)
    assert _clocks(service) == [calling.next_escalation]
