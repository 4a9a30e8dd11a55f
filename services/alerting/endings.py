"""What ends alerts, and what makes them worse: judgements of deviations and how far they go, the evaluation
of a health hazard, stages and runs that end, runs that take a trigger up. What is told before its alert is
raised is kept and counts then (`settle_raised`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.domain import alerts, grading, matters, triggers
from services.alerting.domain.alerts import Alert
from services.alerting.domain.escalation import OF_DEVIATION, Ladder
from services.alerting.domain.matters import End, Matter
from services.alerting.views import ALERTS, MATTERS, RUNS, TRIGGERS
from services.kit.envelope import Event
from services.kit.ids import derived_id
from services.kit.runners.reactor import Events
from services.kit.work import Work, moment_text

ESCALATE_STEP = "escalate"
#: Whose word it is that a deviation went further out.
PLATFORM = "platform"


class Desk:
    """Whom alerts ask. The handlers are made before the process has read its settings, so they hold this,
    which is told before any of them is called."""

    def __init__(self) -> None:
        self.ladder = Ladder()


def about_deviation(deviation: str) -> str:
    """Id of the alert that a deviation is by itself."""
    return derived_id("alert", "deviation", deviation)


def about_stage(run: str, stage: str) -> str:
    """Id of the alert that a late stage of a run is by itself; without a stage, what is kept of the run."""
    return derived_id("alert", "stalled", run, stage)


def about_no_run(trigger: str) -> str:
    """Id of the alert that a trigger without a run is by itself."""
    return derived_id("alert", "no-run", trigger)


def text_of(moment: datetime) -> str:
    return moment_text(moment.astimezone(UTC))


# -- clocks ------------------------------------------------------------------------


def set_clock(work: Work, alert: Alert) -> None:
    if alert.next_escalation:
        at = datetime.fromisoformat(alert.next_escalation)
        work.due(ESCALATE_STEP, alert.alert, at, level=str(alert.level))


# -- alerts of deviations and of late stages -----------------------------------------


def settle_raised(desk: Desk, work: Work, alert: Alert, about: str) -> Alert:
    """The alert that was raised about something, or that it joined: was something told of that before?"""
    noted = [about, *_of_run(alert)]
    work.load(MATTERS, noted)
    if all(work.get(MATTERS, id) is None for id in noted):
        return alert
    return settle(desk, work, alert)


def _of_run(alert: Alert) -> list[str]:
    """Where the end of the whole run is noted, for an alert about its stages."""
    return [about_stage(alert.run, "")] if alert.kind == events.ALERT_KIND_LOOP_STALLED else []


def settle(desk: Desk, work: Work, alert: Alert) -> Alert:
    """The alert after all that is known of what it stands for: how bad it is, and whether it is over."""
    if alert.over or alert.kind == events.ALERT_KIND_NO_RUN:
        return alert
    of_run = _of_run(alert)
    work.load(MATTERS, [*alert.abouts, *of_run])
    known = [work.get(MATTERS, about) or Matter() for about in alert.abouts]
    of_runs = [held for about in of_run if (held := work.get(MATTERS, about))]
    for matter in (*known, *of_runs):
        for worse in alerts.worse(alert, matter, desk.ladder):
            alert = work.apply(ALERTS, alert.alert, worse, case=alert.lot, run=alert.run)
    over = [held.end for held in of_runs]
    return _resolve(work, alert, [_first([matter.end, *over]) for matter in known])


def _first(ends: Sequence[End | None]) -> End | None:
    return min((end for end in ends if end is not None), default=None)


def _resolve(work: Work, alert: Alert, ends: Sequence[End | None]) -> Alert:
    for event in alerts.resolve(alert, ends):
        alert = work.apply(ALERTS, alert.alert, event, case=alert.lot, run=alert.run)
        work.not_due(ESCALATE_STEP, alert.alert)
    return alert


def _end(desk: Desk, work: Work, about: str, lot: str, end: End) -> None:
    work.put(MATTERS, about, matters.ended(work.get(MATTERS, about) or Matter(), end))
    _settle_held(desk, work, about, lot)


def _settle_held(desk: Desk, work: Work, about: str, lot: str) -> None:
    """Settle the alert that stands for this, where there is one yet."""
    held = alerts.holding(work.where(ALERTS, "lot", lot).values(), about)
    if held is not None:
        settle(desk, work, held)


def on_deviation_rejected(desk: Desk, work: Work, event: Event) -> None:
    judged = cast(production.DeviationRejected, event.message)
    end = End(text_of(event.time), events.ALERT_END_DEVIATION_REJECTED, judged.actor, judged.reason)
    _end(desk, work, about_deviation(judged.deviation), judged.lot, end)


def on_deviation_judged_real(desk: Desk, work: Work, event: Event) -> None:
    judged = cast(production.DeviationConfirmed, event.message)
    end = End(text_of(event.time), events.ALERT_END_DEVIATION_CONFIRMED, judged.actor, judged.reason)
    _end(desk, work, about_deviation(judged.deviation), judged.lot, end)


def on_deviation_closed(desk: Desk, work: Work, event: Event) -> None:
    """Only what was confirmed is closed, and the confirmation ended the alert, or will where it is told
    later: a closing ends nothing of its own, so that the end is the same whatever the order.

    Except where the confirmation was taken in by a version that did not let it end the alert: its trigger
    is there and no end is. Such an alert is over now.
    """
    closed = cast(production.DeviationClosed, event.message)
    about = about_deviation(closed.deviation)
    matter = work.get(MATTERS, about) or Matter()
    trigger = work.get(TRIGGERS, closed.deviation)
    if matter.end is None and trigger is not None and trigger.confirmed:
        end = End(text_of(event.time), events.ALERT_END_DEVIATION_CLOSED, closed.actor, closed.reason)
        work.put(MATTERS, about, matters.ended(matter, end))
    _settle_held(desk, work, about, closed.lot)


def on_deviation_classified(desk: Desk, work: Work, event: Event) -> None:
    """A person says how bad it is: the alert is at least as severe."""
    said = cast(production.DeviationClassified, event.message)
    about, severity = about_deviation(said.deviation), OF_DEVIATION.get(said.severity, 0)
    before = work.get(MATTERS, about) or Matter()
    after = matters.classified(before, severity, text_of(event.time), said.actor, said.impact)
    work.put(MATTERS, about, after)
    _set_worse(desk, work, about, said.lot)


def _set_worse(desk: Desk, work: Work, about: str, lot: str) -> None:
    """The alert that stands for this, where there is one yet, and its clock."""
    held = alerts.holding(work.where(ALERTS, "lot", lot).values(), about)
    if held is not None:
        set_clock(work, settle(desk, work, held))


def note_detected(work: Work, raised: events.AlertRaised, limit: float) -> None:
    """Keep which limit a deviation left, for how far it goes later is told without it, and how grave that
    was."""
    matter = work.get(MATTERS, raised.alert) or Matter()
    if limit <= 0 or matter.limit == limit:
        return
    at = text_of(raised.at.ToDatetime(UTC))
    after = matters.classified(matter, raised.severity, at, PLATFORM, "")
    work.put(MATTERS, raised.alert, replace(after, limit=limit))


def on_deviation_updated(desk: Desk, work: Work, event: Event) -> None:
    """It went on since it was detected: the alert is as grave as it is by now."""
    told = cast(production.DeviationUpdated, event.message)
    about = about_deviation(told.deviation)
    before = work.get(MATTERS, about) or Matter()
    if not before.limit:
        return  # detected before limits were kept: a person classifies it
    severity = grading.of_deviation(told.proposed_severity, told.magnitude, before.limit)
    said = f"it went to {told.magnitude:.1f} standard deviations (limit {before.limit:.1f})"
    after = matters.classified(before, severity, text_of(event.time), PLATFORM, said)
    if after.severity > before.severity:
        work.put(MATTERS, about, after)
        _set_worse(desk, work, about, told.lot)


def on_hazard_evaluated(desk: Desk, work: Work, event: Event) -> None:
    """A physician says how dangerous it is: that the run is late is at least as grave."""
    told = cast(production.HazardEvaluated, event.message)
    about, severity = about_stage(told.run, ""), grading.OF_HAZARD.get(told.hazard_class, 0)
    before = work.get(MATTERS, about) or Matter()
    after = matters.classified(before, severity, text_of(event.time), told.actor, told.text)
    work.put(MATTERS, about, after)
    for held in work.where(ALERTS, "run", told.run).values():
        if held.kind == events.ALERT_KIND_LOOP_STALLED:
            set_clock(work, settle(desk, work, held))


def on_stage_completed(desk: Desk, work: Work, event: Event) -> None:
    done = cast(loops.StageCompleted, event.message)
    end = End(text_of(event.time), events.ALERT_END_STAGE_COMPLETED, reason=done.stage)
    _end(desk, work, about_stage(done.run, done.stage), done.case, end)


def on_run_over(desk: Desk, work: Work, event: Event) -> None:
    """A run is closed, cancelled, or ended otherwise: none of its stages is late any more."""
    closed = cast(loops.LoopClosed, event.message)
    about = about_stage(closed.run, "")
    end = End(text_of(event.time), events.ALERT_END_RUN_ENDED, closed.actor, closed.reason)
    work.put(MATTERS, about, matters.ended(work.get(MATTERS, about) or Matter(), end))
    for held in work.where(ALERTS, "run", closed.run).values():
        if held.kind == events.ALERT_KIND_LOOP_STALLED:
            settle(desk, work, held)


# -- alerts of triggers without a run ------------------------------------------------


def settle_triggers(work: Work, lot: str, run: str, at: str) -> None:
    """A run was opened: alerts of the lot (or case) whose triggers all have their run by now are over."""
    held = [one for one in work.where(ALERTS, "lot", lot).values() if one.kind == events.ALERT_KIND_NO_RUN]
    if all(alert.over for alert in held):
        return
    runs = list(work.where(RUNS, "lot", lot).values())
    taken = {
        about_no_run(trigger.deviation)
        for trigger in work.where(TRIGGERS, "lot", lot).values()
        if triggers.is_taken_up(trigger, runs)
    }
    end = End(at, events.ALERT_END_RUN_OPENED, reason=run)
    for alert in held:
        _resolve(work, alert, [end if about in taken else None for about in alert.abouts])


def endings_of(desk: Desk) -> Events:
    """What alerting does with the events that do nothing but end alerts, or make them worse."""
    return {
        production.DeviationRejected: partial(on_deviation_rejected, desk),
        production.DeviationClosed: partial(on_deviation_closed, desk),
        production.DeviationClassified: partial(on_deviation_classified, desk),
        production.DeviationUpdated: partial(on_deviation_updated, desk),
        production.HazardEvaluated: partial(on_hazard_evaluated, desk),
        loops.StageCompleted: partial(on_stage_completed, desk),
    }
