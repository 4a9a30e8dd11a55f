"""What alerting does with events and commands: what raises an alert, and who takes it.

A trigger that gets no run is watched here and not in loops: whoever fails to
open a run cannot be the one who notices. What ends an alert is in `endings`.
"""

from __future__ import annotations

from functools import partial
from typing import cast

from google.protobuf.message import Message

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.alerting.domain import alerts, grading, texts, triggers
from services.alerting.domain.escalation import CRITICAL
from services.alerting.domain.triggers import PATIENCE, Run, Trigger
from services.alerting.endings import (
    ESCALATE_STEP,
    Desk,
    about_deviation,
    about_no_run,
    about_stage,
    endings_of,
    note_detected,
    on_deviation_judged_real,
    on_run_over,
    set_clock,
    settle_raised,
    settle_triggers,
    text_of,
)
from services.alerting.views import ALERTS, RUNS, TRIGGERS
from services.kit.envelope import Event
from services.kit.errors import Rejected, Unknown
from services.kit.ids import loop_of, study_case, transfer_case
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events
from services.kit.work import Work

NO_RUN_STEP = "no-run"


def _raise(desk: Desk, work: Work, wanted: events.AlertRaised) -> None:
    """Raise an alert once, or join the open one of its lot, run and kind; its case is the lot."""
    for told in alerts.again(work.where(ALERTS, "lot", wanted.lot).values(), wanted):
        work.apply(ALERTS, told.alert, told, case=wanted.lot, run=wanted.run)
    # Also where nothing was told: after a restore the alert is there, and its step is not.
    held = alerts.holding(work.where(ALERTS, "lot", wanted.lot).values(), wanted.alert)
    if held is not None:
        set_clock(work, settle_raised(desk, work, held, wanted.alert))


def on_deviation_detected(desk: Desk, work: Work, event: Event) -> None:
    detected = cast(production.DeviationDetected, event.message)
    wanted = alerts.raised(
        about_deviation(detected.deviation),
        events.ALERT_KIND_DEVIATION,
        texts.of_deviation(detected),
        work.now,
        lot=detected.lot,
        severity=grading.of_deviation(detected.proposed_severity, detected.magnitude, detected.limit),
        ladder=desk.ladder,
    )
    note_detected(work, wanted, detected.limit)
    _raise(desk, work, wanted)


def on_loop_stalled(desk: Desk, work: Work, event: Event) -> None:
    stalled = cast(loops.LoopStalled, event.message)
    wanted = alerts.raised(
        about_stage(stalled.run, stalled.stage),
        events.ALERT_KIND_LOOP_STALLED,
        texts.of_stall(stalled),
        work.now,
        lot=stalled.case,
        run=stalled.run,
        severity=grading.of_late_stage(loop_of(stalled.case)),
        ladder=desk.ladder,
    )
    _raise(desk, work, wanted)


def on_deviation_confirmed(desk: Desk, work: Work, event: Event) -> None:
    """It is judged, so its alert is over. From now on the clock runs for the run that must take it up,
    unless it came already."""
    on_deviation_judged_real(desk, work, event)
    judged = cast(production.DeviationConfirmed, event.message)
    before = work.get(TRIGGERS, judged.deviation) or Trigger(judged.deviation)
    deadline = event.time + PATIENCE
    trigger = triggers.confirmed(before, judged.lot, text_of(event.time), text_of(deadline))
    work.put(TRIGGERS, judged.deviation, trigger)
    if not trigger.run:
        work.due(NO_RUN_STEP, judged.deviation, deadline)


def on_exposure_after_seal(work: Work, event: Event) -> None:
    """A sealed run named its successor: the clock runs for it as for a confirmed deviation."""
    told = cast(traceability.ExposureAfterSeal, event.message)
    before = work.get(TRIGGERS, told.successor) or Trigger(told.successor)
    deadline = event.time + PATIENCE
    trigger = triggers.named(before, told.root, told.run, text_of(event.time), text_of(deadline))
    work.put(TRIGGERS, told.successor, trigger)
    if not trigger.run:
        work.due(NO_RUN_STEP, told.successor, deadline)


def on_safety_run_opened(work: Work, event: Event) -> None:
    opened = cast(loops.SafetyRunOpened, event.message)
    run = work.get(RUNS, opened.run) or Run(opened.run)
    work.put(RUNS, opened.run, triggers.opened(run, opened.lot, text_of(event.time)))
    asked = opened.run if opened.follows else opened.deviation
    if asked:
        _answer(work, asked, opened.run)
    settle_triggers(work, opened.lot, opened.run, text_of(event.time))


def on_release(work: Work, event: Event) -> None:
    """A version was released to a plant: the clock runs for its transfer."""
    released = cast(rnd.ParameterSetReleased, event.message)
    case = transfer_case(released.set, released.plant)
    _ask(work, event, _release(case, released.version), case, texts.of_release(released))


def on_study_requested(work: Work, event: Event) -> None:
    """Sites are asked a question: the clock runs for the run that takes it to its answer."""
    requested = cast(exchange.StudyRequested, event.message)
    case = study_case(requested.study)
    _ask(work, event, case, case, texts.of_study(requested))


def _ask(work: Work, event: Event, name: str, case: str, what: str) -> None:
    before = work.get(TRIGGERS, name) or Trigger(name)
    if before.confirmed:
        return  # the same asked again has its run, or its alert
    deadline = event.time + PATIENCE
    trigger = triggers.asked(before, case, what, text_of(event.time), text_of(deadline))
    work.put(TRIGGERS, name, trigger)
    if not trigger.run:
        work.due(NO_RUN_STEP, name, deadline)


def on_transfer_run_opened(work: Work, event: Event) -> None:
    opened = cast(loops.TransferRunOpened, event.message)
    _answer(work, _release(opened.case, opened.version), opened.run)
    settle_triggers(work, opened.case, opened.run, text_of(event.time))


def on_evidence_run_opened(work: Work, event: Event) -> None:
    opened = cast(loops.EvidenceRunOpened, event.message)
    _answer(work, opened.case, opened.run)
    settle_triggers(work, opened.case, opened.run, text_of(event.time))


def _answer(work: Work, name: str, run: str) -> None:
    trigger = work.get(TRIGGERS, name) or Trigger(name)
    work.put(TRIGGERS, name, triggers.answered(trigger, run))
    work.not_due(NO_RUN_STEP, name)


def _release(case: str, version: int) -> str:
    """The name of a release as a trigger: the version within its case."""
    return f"{case}|{version}"


def on_loop_closed(desk: Desk, work: Work, event: Event) -> None:
    on_run_over(desk, work, event)
    if cast(loops.LoopClosed, event.message).loop in ("", "safety"):
        on_run_ended(work, event)  # nothing joins a run of another loop


def on_run_ended(work: Work, event: Event) -> None:
    """Sealed or closed: later triggers of the lot need a run of their own."""
    ended = cast("traceability.ExposureSealed | loops.LoopClosed", event.message)
    run = work.get(RUNS, ended.run) or Run(ended.run)
    work.put(RUNS, ended.run, triggers.ended(run, text_of(event.time)))


def report_missing_run(desk: Desk, work: Work, request: production.DeviationConfirmed) -> Message:
    """The step's command, with the trigger's id alone: the time is over, did a run take it up?"""
    trigger = work.get(TRIGGERS, request.deviation) or Trigger(request.deviation)
    runs = list(work.where(RUNS, "lot", trigger.lot).values())
    if trigger.confirmed and not triggers.is_taken_up(trigger, runs):
        wanted = alerts.raised(
            about_no_run(trigger.deviation),
            events.ALERT_KIND_NO_RUN,
            _missing(trigger),
            work.now,
            lot=trigger.lot,
            run=trigger.follows,
            severity=CRITICAL,
            ladder=desk.ladder,
        )
        _raise(desk, work, wanted)
    return request


def escalate_alert(desk: Desk, work: Work, request: events.AlertEscalated) -> Message:
    """The step's command, with the alert and the level that it had: its clock ran out.

    It meets whoever takes the alert at the same moment here, in one order: taken first, it is not
    escalated; escalated first, it is taken at its new level.
    """
    alert = work.get(ALERTS, request.alert)
    if alert is None:
        return request
    for event in alerts.escalate(alert, request.level, desk.ladder, work.now):
        alert = work.apply(ALERTS, request.alert, event, case=alert.lot, run=alert.run)
    set_clock(work, alert)
    return request


def _missing(trigger: Trigger) -> texts.Told:
    if trigger.asked:
        return texts.of_unanswered(trigger.asked, loop_of(trigger.lot), trigger.lot)
    if trigger.follows:
        return texts.of_missing_successor(trigger.lot, trigger.follows, trigger.deviation)
    return texts.of_missing_run(trigger.lot, trigger.deviation)


def acknowledge_alert(work: Work, request: api.AcknowledgeAlertRequest) -> Message:
    alert = work.get(ALERTS, request.alert)
    if alert is None:
        raise Unknown(
            "UNKNOWN_ALERT", f"there is no alert {request.alert!r}; ListAlerts shows the alerts", "alert"
        )
    try:
        taken = alerts.acknowledge(alert, work.cause.actor, request.note, work.now)
    except alerts.Refused as refused:
        raise Rejected(refused.reason, refused.description, "alert") from None
    for event in taken:
        work.apply(ALERTS, request.alert, event, case=alert.lot, run=alert.run)
    work.not_due(ESCALATE_STEP, request.alert)
    return api.AcknowledgeAlertResponse()


def events_of(desk: Desk) -> Events:
    """What alerting does with each event."""
    return {
        production.DeviationDetected: partial(on_deviation_detected, desk),
        production.DeviationConfirmed: partial(on_deviation_confirmed, desk),
        loops.SafetyRunOpened: on_safety_run_opened,
        loops.LoopStalled: partial(on_loop_stalled, desk),
        loops.LoopClosed: partial(on_loop_closed, desk),
        traceability.ExposureSealed: on_run_ended,
        traceability.ExposureAfterSeal: on_exposure_after_seal,
        rnd.ParameterSetReleased: on_release,
        loops.TransferRunOpened: on_transfer_run_opened,
        exchange.StudyRequested: on_study_requested,
        loops.EvidenceRunOpened: on_evidence_run_opened,
        **endings_of(desk),
    }


def commands_of(desk: Desk) -> dict[str, Command]:
    """What alerting does with each command: the first is a person's, the others are its steps'."""
    return {
        "AcknowledgeAlert": acknowledge_alert,
        "ReportMissingRun": partial(report_missing_run, desk),
        "EscalateAlert": partial(escalate_alert, desk),
    }
