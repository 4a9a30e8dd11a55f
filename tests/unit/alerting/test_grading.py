"""How grave an alert is: by class and distance when it is raised, and by what is known later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from google.protobuf.message import Message

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.api import shown
from services.alerting.domain import grading
from services.alerting.endings import ESCALATE_STEP, Desk
from services.alerting.handlers import commands_of, events_of
from services.alerting.views import ALERTS
from services.kit.ids import study_case, transfer_case
from services.kit.runners.reactor import Reactor
from services.kit.work import STEPS
from tests.unit.memory_service import MemoryService, Said

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT = "maker/gtin/A/L1"
MINOR, MAJOR, CRITICAL = (
    alerting.ALERT_SEVERITY_MINOR,
    alerting.ALERT_SEVERITY_MAJOR,
    alerting.ALERT_SEVERITY_CRITICAL,
)
NOBODY = production.SEVERITY_UNSPECIFIED


def _at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def _service() -> MemoryService:
    desk = Desk()
    return MemoryService("alerting", Reactor("alerts", events_of(desk)), commands_of(desk))


def _said(message: Message, minutes: float = 0) -> Said:
    source = f"{type(message).__name__}-{hash(message.SerializeToString(deterministic=True))}"
    return Said(message, source, 1, source, _at(minutes), LOT)


def _detected(
    magnitude: float = 3.1, proposed: production.Severity = NOBODY, name: str = "d-1", minutes: float = 0
) -> Said:
    detected = production.DeviationDetected(
        deviation=name, lot=LOT, tag="T", magnitude=magnitude, limit=3.0, proposed_severity=proposed
    )
    return _said(detected, minutes)


def _updated(magnitude: float, proposed: production.Severity = NOBODY, minutes: float = 2) -> Said:
    updated = production.DeviationUpdated(
        deviation="d-1", lot=LOT, magnitude=magnitude, proposed_severity=proposed
    )
    return _said(updated, minutes)


def _alert(service: MemoryService) -> api.Alert:
    (alert,) = service.states(ALERTS).values()
    return shown(alert)


def _told(*said: Said) -> MemoryService:
    service = _service()
    service.deliver(*said)
    return service


@pytest.mark.parametrize(
    ("proposed", "magnitude", "limit", "graded"),
    [
        (NOBODY, 3.1, 3.0, MINOR),
        (NOBODY, 5.9, 3.0, MINOR),
        (NOBODY, 6.0, 3.0, MAJOR),
        (NOBODY, 15.0, 3.0, CRITICAL),
        (NOBODY, 34.7, 3.0, CRITICAL),
        (NOBODY, 34.7, 12.0, MAJOR),
        (NOBODY, 34.7, 0.0, MAJOR),
        (production.SEVERITY_MINOR, 3.1, 3.0, MINOR),
        (production.SEVERITY_MINOR, 14.9, 3.0, MINOR),
        (production.SEVERITY_MINOR, 15.0, 3.0, MAJOR),
        (production.SEVERITY_MAJOR, 3.1, 3.0, MAJOR),
        (production.SEVERITY_MAJOR, 34.7, 3.0, CRITICAL),
        (production.SEVERITY_CRITICAL, 3.1, 3.0, CRITICAL),
        (production.SEVERITY_CRITICAL, 34.7, 3.0, CRITICAL),
    ],
)
def test_class_and_distance_say_how_grave_a_deviation_is(
    proposed: production.Severity, magnitude: float, limit: float, graded: alerting.AlertSeverity
) -> None:
    assert grading.of_deviation(proposed, magnitude, limit) == graded


def test_the_farther_of_two_deviations_is_asked_for_sooner() -> None:
    near, far = _alert(_told(_detected(3.1))), _alert(_told(_detected(34.7)))
    assert (near.severity, near.next_escalation.ToDatetime(UTC)) == (MINOR, _at(60))
    assert (far.severity, far.next_escalation.ToDatetime(UTC)) == (CRITICAL, _at(5))


def test_a_deviation_that_goes_further_out_is_as_grave_as_it_is_by_then() -> None:
    service = _told(_detected(3.1), _updated(7.0, minutes=2), _updated(8.0, minutes=3))
    (told,) = service.all(alerting.AlertSeverityRaised)
    assert (told.severity, told.actor) == (MAJOR, "platform")
    assert told.reason == "it went to 7.0 standard deviations (limit 3.0)"
    assert _alert(service).next_escalation.ToDatetime(UTC) == _at(17)
    service.deliver(_updated(34.7, minutes=5))
    assert (_alert(service).severity, _alert(service).next_escalation.ToDatetime(UTC)) == (CRITICAL, _at(10))
    assert [row.due for row in service.states(STEPS).values() if row.step == ESCALATE_STEP] == [
        _at(10).isoformat(timespec="microseconds")
    ]


def test_an_update_that_is_no_worse_and_one_of_an_unknown_limit_change_nothing() -> None:
    assert not _told(_detected(34.7), _updated(40.0)).all(alerting.AlertSeverityRaised)
    without = production.DeviationDetected(deviation="d-1", lot=LOT, tag="T", magnitude=3.1)
    assert not _told(_said(without), _updated(34.7)).all(alerting.AlertSeverityRaised)


def test_of_two_that_share_an_alert_the_one_that_goes_out_makes_it_grave() -> None:
    service = _told(_detected(3.1), _detected(3.2, name="d-2", minutes=1), _updated(34.7))
    alert = _alert(service)
    assert (alert.count, alert.severity) == (2, CRITICAL)


def test_a_role_that_was_just_asked_has_its_time_though_the_worse_news_is_old() -> None:
    service = _told(_detected(3.1))
    over = alerting.AlertEscalated(alert=_alert(service).raised.alert, level=1)
    service.command("EscalateAlert", over, _at(600))
    service.deliver(_updated(34.7, minutes=2))
    alert = _alert(service)
    assert (alert.level, alert.next_escalation.ToDatetime(UTC)) == (2, _at(605))


# -- late stages ---------------------------------------------------------------------


def _stalled(case: str = LOT) -> Said:
    return _said(loops.LoopStalled(run="run-1", case=case, stage="notify", waiting_for="a site"))


def _hazard(hazard: production.HazardClass, minutes: float = 2) -> Said:
    told = production.HazardEvaluated(
        run="run-1", lot=LOT, hazard_class=hazard, text="Your pack may be too strong.", actor="dr-li"
    )
    return _said(told, minutes)


@pytest.mark.parametrize(
    ("case", "graded"),
    [(LOT, MAJOR), (transfer_case("s-1", "plant-b"), MINOR), (study_case("study-1"), MINOR)],
)
def test_late_is_graver_where_patients_may_wait(case: str, graded: alerting.AlertSeverity) -> None:
    assert _alert(_told(_stalled(case))).severity == graded


@pytest.mark.parametrize(
    ("hazard", "graded"),
    [
        (production.HAZARD_CLASS_I, CRITICAL),
        (production.HAZARD_CLASS_II, MAJOR),
        (production.HAZARD_CLASS_III, MAJOR),
    ],
)
def test_a_late_run_is_as_grave_as_its_hazard_in_any_order(
    hazard: production.HazardClass, graded: alerting.AlertSeverity
) -> None:
    for order in permutations([_stalled(), _hazard(hazard)]):
        service = _told(*order)
        assert _alert(service).severity == graded
        raised = service.all(alerting.AlertSeverityRaised)
        assert [(one.actor, one.severity) for one in raised] == (
            [("dr-li", CRITICAL)] if graded == CRITICAL else []
        )


def test_the_hazard_of_another_run_changes_nothing() -> None:
    other = production.HazardEvaluated(run="run-2", lot=LOT, hazard_class=production.HAZARD_CLASS_I)
    assert _alert(_told(_stalled(), _said(other, 1))).severity == MAJOR
