"""Alerts: raised once each, in any order of events, and taken by one person."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.alerting.domain.alerts import Alert
from services.alerting.domain.triggers import PATIENCE
from services.alerting.endings import Desk
from services.alerting.handlers import NO_RUN_STEP, commands_of, events_of
from services.alerting.views import ALERTS, RUNS
from services.kit.errors import Rejected, Unknown
from services.kit.ids import study_case, transfer_case
from services.kit.runners.reactor import Reactor
from services.kit.work import STEPS
from tests.unit.memory_service import MemoryService, Said

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT = "maker/gtin/A/L1"


def _service() -> MemoryService:
    desk = Desk()
    return MemoryService("alerting", Reactor("alerts", events_of(desk)), commands_of(desk))


def _said(message: Message, source: str, minutes: float = 0, seq: int = 1) -> Said:
    at = START + timedelta(minutes=minutes)
    return Said(message, source, seq, f"{source}#{seq}", at, LOT)


def _detected(deviation: str = "d-1") -> production.DeviationDetected:
    point = production.EvidencePoint(value=78.25, expected=71, low=68.5, high=73.5)
    return production.DeviationDetected(
        deviation=deviation,
        lot=LOT,
        equipment="plant-1/dryer-1",
        tag="DryerTemp",
        phase="drying",
        magnitude=6.34,
        limit=4,
        unit="Cel",
        evidence=[point],
    )


def _confirmed(deviation: str = "d-1") -> production.DeviationConfirmed:
    return production.DeviationConfirmed(deviation=deviation, lot=LOT, product="maker/gtin/A", tag="T")


def _opened(deviation: str = "d-1", run: str = "run-1") -> loops.SafetyRunOpened:
    return loops.SafetyRunOpened(run=run, case=LOT, lot=LOT, deviation=deviation)


def _after_seal() -> traceability.ExposureAfterSeal:
    return traceability.ExposureAfterSeal(run="run-1", successor="run-2", root=LOT)


def _followed(run: str = "run-2") -> loops.SafetyRunOpened:
    return loops.SafetyRunOpened(run=run, case=LOT, lot=LOT, follows="run-1")


def _sealed(run: str = "run-1") -> traceability.ExposureSealed:
    return traceability.ExposureSealed(run=run, version=1)


TRANSFER, STUDY = transfer_case("s-1", "plant-b"), study_case("bleeding-1")
RELEASED = rnd.ParameterSetReleased(set="s-1", version=2, plant="plant-b", product="maker/gtin/A")
TRANSFERRED = loops.TransferRunOpened(run="run-t", case=TRANSFER, set="s-1", version=2, plant="plant-b")
REQUESTED = exchange.StudyRequested(study="bleeding-1", product="maker/gtin/A")
STUDIED = loops.EvidenceRunOpened(run="run-e", case=STUDY, study="bleeding-1")


def _pass_deadlines(service: MemoryService) -> None:
    """Run the steps that are due, as their command does."""
    for row in [row for row in service.states(STEPS).values() if row.step == NO_RUN_STEP]:
        assert row.due == (START + PATIENCE).isoformat(timespec="microseconds")
        request = production.DeviationConfirmed(deviation=row.key)
        service.command("ReportMissingRun", request, START + PATIENCE)


def _kinds(service: MemoryService) -> list[alerting.AlertKind]:
    return [raised.kind for raised in service.all(alerting.AlertRaised)]


def test_a_deviation_alert_says_what_where_and_how_far_out() -> None:
    service = _service()
    service.deliver(_said(_detected(), "lot"))
    (raised,) = service.all(alerting.AlertRaised)
    for word in ("DryerTemp", LOT, "plant-1/dryer-1", "drying", "6.3", "4.0", "78.25 Cel", "73.5", "d-1"):
        assert word in raised.text
    assert (raised.kind, raised.lot) == (alerting.ALERT_KIND_DEVIATION, LOT)
    assert raised.at.ToDatetime(UTC) == START


def test_an_alert_is_raised_once_for_a_deviation_and_for_a_run_that_is_late() -> None:
    service = _service()
    stalled = [loops.LoopStalled(run="run-1", case=LOT, stage=stage, waiting_for="a site") for stage in "aab"]
    service.deliver(_said(_detected(), "lot"), _said(_detected(), "lot"), _said(_detected(), "lot", seq=2))
    service.deliver(*(_said(message, "run", seq=n + 1) for n, message in enumerate(stalled)))
    assert _kinds(service) == [alerting.ALERT_KIND_DEVIATION, alerting.ALERT_KIND_LOOP_STALLED]
    assert [alert.count for alert in _alerts(service)] == [1, 2], "two stages of one run"
    last = service.events()[-1]
    assert (last.case, last.run) == (LOT, "run-1")


def test_a_confirmed_deviation_without_a_run_raises_an_alert_at_its_deadline() -> None:
    service = _service()
    service.deliver(_said(_confirmed(), "lot"))
    assert not service.rows()
    _pass_deadlines(service)
    _pass_deadlines(service)
    (raised,) = service.all(alerting.AlertRaised)
    assert (raised.kind, raised.lot) == (alerting.ALERT_KIND_NO_RUN, LOT)
    assert "d-1" in raised.text
    assert service.events()[-1].case == LOT


def test_a_successor_that_nobody_opened_is_named_with_the_run_that_it_follows() -> None:
    service = _service()
    service.deliver(_said(_after_seal(), "journal"))
    _pass_deadlines(service)
    (raised,) = service.all(alerting.AlertRaised)
    assert (raised.lot, raised.run) == (LOT, "run-1")
    assert "run-2" in raised.text


@pytest.mark.parametrize(
    ("trigger", "case", "words"),
    [
        (RELEASED, TRANSFER, ("version 2", "s-1", "plant-b", "transfer loop")),
        (REQUESTED, STUDY, ("bleeding-1", "evidence loop")),
    ],
    ids=["release", "study"],
)
def test_a_release_and_a_study_without_a_run_raise_an_alert_that_says_what_was_asked(
    trigger: Message, case: str, words: tuple[str, ...]
) -> None:
    service = _service()
    service.deliver(_said(trigger, "asked"), _said(trigger, "asked"), _said(trigger, "asked", seq=2))
    _pass_deadlines(service)
    _pass_deadlines(service)
    (raised,) = service.all(alerting.AlertRaised)
    assert (raised.kind, raised.lot) == (alerting.ALERT_KIND_NO_RUN, case)
    assert all(word in raised.text for word in words)


def test_the_end_of_a_run_of_another_loop_is_nothing_to_a_lot() -> None:
    service = _service()
    service.deliver(_said(loops.LoopClosed(run="run-t", case=TRANSFER, loop="transfer"), "run"))
    assert not service.states(RUNS)


def _orders(said: Iterable[Said]) -> list[tuple[Said, ...]]:
    return list(permutations(said))


TAKEN_UP: dict[str, list[Said]] = {
    "its own run": [_said(_confirmed(), "lot"), _said(_opened(), "run")],
    "its own run, sealed at once": [
        _said(_confirmed(), "lot"),
        _said(_opened(), "run"),
        _said(_sealed(), "journal", 1),
    ],
    "joins the open run of its lot": [
        _said(_confirmed(), "lot"),
        _said(_opened("d-0"), "run", -60),
        _said(_sealed(), "journal", 5),
    ],
    "joins a run that another deviation opened a moment later": [
        _said(_confirmed(), "lot"),
        _said(_opened("d-2"), "run", 1),
    ],
    "a release its own": [_said(RELEASED, "set"), _said(TRANSFERRED, "run", 40)],
    "a study its own": [_said(REQUESTED, "study"), _said(STUDIED, "run", 40)],
    "the successor that a sealed run named": [
        _said(_after_seal(), "journal"),
        _said(_followed(), "run", 40),
        _said(_sealed("run-2"), "journal-2", 50),
    ],
}
MISSED: dict[str, list[Said]] = {
    "a release has the run of another version": [
        _said(RELEASED, "set"),
        _said(loops.TransferRunOpened(run="run-0", case=TRANSFER, version=1), "run", -60),
        _said(loops.LoopClosed(run="run-0", case=TRANSFER, loop="transfer"), "run-end", 7),
    ],
    "a study has the run of another": [
        _said(REQUESTED, "study"),
        _said(loops.EvidenceRunOpened(run="run-0", case=study_case("other"), study="other"), "run"),
    ],
    "no run at all": [_said(_confirmed(), "lot")],
    "the lot's run was sealed before": [
        _said(_confirmed(), "lot"),
        _said(_opened("d-0"), "run", -60),
        _said(_sealed(), "journal", -5),
        _said(loops.LoopClosed(run="run-1", case=LOT), "run-end", 7),
    ],
    "the lot's run was closed before": [
        _said(_confirmed(), "lot"),
        _said(_opened("d-0"), "run", -60),
        _said(loops.LoopClosed(run="run-1", case=LOT), "run-end", -5),
    ],
    "the successor that a sealed run named was not opened, whatever else was": [
        _said(_after_seal(), "journal"),
        _said(_opened("d-0", "run-0"), "run-0", -60),
        _said(_followed("run-3"), "run-3", 1),
    ],
    "the lot's next run opened too late": [_said(_confirmed(), "lot"), _said(_opened("d-2"), "run", 31)],
}


@pytest.mark.parametrize("story", TAKEN_UP)
def test_no_alert_when_a_run_took_the_deviation_up_in_any_order(story: str) -> None:
    for order in _orders(TAKEN_UP[story]):
        service = _service()
        for said in order:
            service.deliver(said)
        _pass_deadlines(service)
        assert not service.rows()


@pytest.mark.parametrize("story", MISSED)
def test_an_alert_when_no_run_took_the_deviation_up_in_any_order(story: str) -> None:
    for order in _orders(MISSED[story]):
        service = _service()
        for said in order:
            service.deliver(said)
        _pass_deadlines(service)
        assert _kinds(service) == [alerting.ALERT_KIND_NO_RUN]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_repeats_and_any_order_raise_the_same_alerts(data: st.DataObject) -> None:
    said = [
        _said(_detected("d-1"), "lot-1"),
        _said(_detected("d-2"), "lot-2"),
        _said(_confirmed("d-1"), "lot-3"),
        _said(_confirmed("d-2"), "lot-4"),
        _said(_opened("d-1"), "run-1", -10),
        _said(_sealed(), "journal", -5),
        _said(loops.LoopStalled(run="run-1", case=LOT, stage="seal", waiting_for="a site"), "run-1b"),
    ]
    sent = data.draw(st.permutations(said))
    sent += data.draw(st.lists(st.sampled_from(said), max_size=5))
    service = _service()
    for one in sent:
        service.deliver(one)
    _pass_deadlines(service)
    # d-1 opened the run itself; d-2 came after its seal and got none. One that is told after the other was
    # judged is an alert of its own, so two deviations are one alert or two.
    of_deviations = [one for one in _alerts(service) if one.kind == alerting.ALERT_KIND_DEVIATION]
    assert sum(alert.count for alert in of_deviations) == 2
    assert all(alert.over for alert in of_deviations)
    assert [(alert.kind, alert.count) for alert in _alerts(service)[len(of_deviations) :]] == [
        (alerting.ALERT_KIND_LOOP_STALLED, 1),
        (alerting.ALERT_KIND_NO_RUN, 1),
    ]
    no_run = alerting.ALERT_KIND_NO_RUN
    (missed,) = (raised for raised in service.all(alerting.AlertRaised) if raised.kind == no_run)
    assert "d-2" in missed.text


# -- many at once ------------------------------------------------------------------


def _alerts(service: MemoryService) -> list[Alert]:
    return sorted(service.states(ALERTS).values(), key=lambda alert: (alert.kind, alert.lot))


def _minute(count: int, lots: int = 1) -> list[Said]:
    """Deviations within a minute, of some lots in turn; each is told by an aggregate of its own."""
    said = []
    for n in range(count):
        detected = _detected(f"d-{n}")
        detected.lot = f"{LOT}-{n % lots}"
        said.append(_said(detected, f"lot-{n}", n / count))
    return said


def test_a_thousand_alerts_in_a_minute_are_one_for_each_lot_with_count_and_latest_time() -> None:
    service, said = _service(), _minute(1000, lots=4)
    service.deliver(*said[:700])
    service.deliver(*said[700:])
    service.deliver(*said[::7])
    alerts = _alerts(service)
    assert [(alert.lot, alert.count) for alert in alerts] == [(f"{LOT}-{n}", 250) for n in range(4)]
    for n, alert in enumerate(alerts):
        assert alert.at == (said[996 + n].time).isoformat(timespec="microseconds")
        assert f"d-{996 + n}" in alert.text
    assert len(service.all(alerting.AlertRaised)) == 4
    assert len(service.all(alerting.AlertRepeated)) == 996


@pytest.mark.parametrize("order", ["as it happened", "backwards"])
def test_the_latest_is_what_happened_last_and_not_what_came_last(order: str) -> None:
    service, said = _service(), _minute(5)
    service.deliver(*(said if order == "as it happened" else reversed(said)))
    (alert,) = _alerts(service)
    assert (alert.count, alert.at) == (5, said[-1].time.isoformat(timespec="microseconds"))
    assert "d-4" in alert.text


def test_what_happens_after_somebody_took_the_alert_is_one_of_its_own() -> None:
    service, said = _service(), _minute(4)
    service.deliver(*said[:2])
    (first,) = service.all(alerting.AlertRaised)
    _acknowledge(service, first.alert, "qa-1")
    service.deliver(*said[:2], *said[2:])
    taken, left = sorted(_alerts(service), key=lambda alert: alert.open)
    assert (taken.count, taken.actor) == (2, "qa-1")
    assert (left.count, left.open) == (2, True)


def _raised() -> tuple[MemoryService, str]:
    service = _service()
    service.deliver(_said(_detected(), "lot"))
    return service, service.all(alerting.AlertRaised)[0].alert


def _acknowledge(service: MemoryService, alert: str, actor: str, note: str = "mine") -> None:
    request = api.AcknowledgeAlertRequest(alert=alert, note=note, meaning="I take it")
    service.command("AcknowledgeAlert", request, START + timedelta(minutes=3), actor)


def test_a_person_takes_an_alert_and_may_say_so_again() -> None:
    service, alert = _raised()
    _acknowledge(service, alert, "qa-1")
    _acknowledge(service, alert, "qa-1", "still mine")
    assert service.all(alerting.AlertAcknowledged) == [
        alerting.AlertAcknowledged(
            alert=alert, actor="qa-1", note="mine", at=START + timedelta(minutes=3), meaning="I take it"
        )
    ]
    assert service.events()[-1].case == LOT
    row = service.states(ALERTS)[alert]
    assert (row.open, row.actor, row.note, row.meaning) == (False, "qa-1", "mine", "I take it")
    assert row.acknowledged == (START + timedelta(minutes=3)).isoformat(timespec="microseconds")


def test_an_alert_that_somebody_has_is_refused_to_another() -> None:
    service, alert = _raised()
    _acknowledge(service, alert, "qa-1")
    with pytest.raises(Rejected, match="qa-1 has taken") as refusal:
        _acknowledge(service, alert, "qa-2")
    assert (refusal.value.reason, refusal.value.field) == ("ALREADY_ACKNOWLEDGED", "alert")


@pytest.mark.parametrize(
    ("alert", "error", "reason"), [("", Unknown, "UNKNOWN_ALERT"), ("a-1", Unknown, "UNKNOWN_ALERT")]
)
def test_an_alert_that_is_not_there_is_refused(alert: str, error: type[Rejected], reason: str) -> None:
    with pytest.raises(error) as refusal:
        _acknowledge(_service(), alert, "qa-1")
    assert (refusal.value.reason, refusal.value.field) == (reason, "alert")
