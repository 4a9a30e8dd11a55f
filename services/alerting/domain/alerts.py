"""Alerts: what they say, and who took them.

What happens again while nobody has taken its alert joins it: one alert for
each lot, run and kind, however often. Whoever takes it has seen all of it;
what happens later is an alert of its own. An open alert has a clock: when it
runs out, the alert goes one level up and another role is asked (`escalation`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.alerting.domain.escalation import MAJOR, Ladder, escalated


class Refused(ValueError):
    """A rule refused a command; carries a machine-readable reason."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description


@dataclass(frozen=True)
class Escalation:
    """The alert came to a level, and another role was asked. `at` is ISO text."""

    level: int
    to: str
    at: str


@dataclass(frozen=True)
class Alert:
    """An alert. `raised` is the event's bytes; `kind` and `severity` are numbers; moments are ISO text.

    `at` and `text` are of the latest time; `merged` are the ids that the others
    would have had as alerts of their own. `asked` is the role that is asked now,
    `next_escalation` when the next one is: empty when somebody took the alert, at
    the top, and for an alert of before there were levels. `meaning` is what the
    signature of `actor` means.
    """

    alert: str
    kind: int
    lot: str
    run: str
    raised: bytes
    at: str
    open: bool = True
    actor: str = ""
    note: str = ""
    acknowledged: str = ""
    text: str = ""
    merged: tuple[str, ...] = ()
    severity: int = 0
    level: int = 1
    asked: str = ""
    next_escalation: str = ""
    escalations: tuple[Escalation, ...] = ()
    meaning: str = ""

    @property
    def count(self) -> int:
        return 1 + len(self.merged)


def evolve(state: Alert | None, event: Message) -> Alert:
    """The alert after one of its own events."""
    if isinstance(event, alerting.AlertRaised):
        return Alert(
            event.alert,
            event.kind,
            event.lot,
            event.run,
            event.SerializeToString(),
            _text(event.at),
            text=event.text,
            severity=event.severity,
            asked=event.to,
            next_escalation=_next(event),
        )
    assert state is not None
    if isinstance(event, alerting.AlertRepeated):
        return _repeated(state, event)
    if isinstance(event, alerting.AlertEscalated):
        step = Escalation(event.level, event.to, _text(event.at))
        return replace(
            state,
            level=event.level,
            asked=event.to,
            next_escalation=_next(event),
            escalations=(*state.escalations, step),
        )
    assert isinstance(event, alerting.AlertAcknowledged)
    return replace(
        state,
        open=False,
        actor=event.actor,
        note=event.note,
        meaning=event.meaning,
        acknowledged=_text(event.at),
        next_escalation="",
    )


def _repeated(state: Alert, event: alerting.AlertRepeated) -> Alert:
    """One more joined: the highest severity counts, and the earliest clock. At the top there is none."""
    at, text = max((state.at, state.text), (_text(event.at), event.text))
    clocks = [clock for clock in (state.next_escalation, _next(event)) if clock]
    return replace(
        state,
        at=at,
        text=text,
        merged=tuple(sorted({*state.merged, event.about})),
        severity=max(state.severity, event.severity),
        next_escalation=min(clocks) if state.next_escalation else "",
    )


def _next(event: alerting.AlertRaised | alerting.AlertRepeated | alerting.AlertEscalated) -> str:
    return _text(event.next_escalation) if event.HasField("next_escalation") else ""


def _text(stamp: Timestamp) -> str:
    """A moment as ISO text that sorts in time order."""
    return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")


def again(
    of_lot: Iterable[Alert], raised: alerting.AlertRaised
) -> list[alerting.AlertRaised | alerting.AlertRepeated]:
    """What a new alert becomes beside those of its lot: itself, one more of an open one, or nothing new."""
    alike = [alert for alert in of_lot if (alert.kind, alert.run) == (raised.kind, raised.run)]
    if any(raised.alert in (alert.alert, *alert.merged) for alert in alike):
        return []
    for alert in sorted(alike, key=lambda alert: alert.alert):
        if alert.open:
            return [_again(alert, raised)]
    return [raised]


def _again(alert: Alert, raised: alerting.AlertRaised) -> alerting.AlertRepeated:
    repeated = alerting.AlertRepeated(
        alert=alert.alert, about=raised.alert, text=raised.text, at=raised.at, severity=raised.severity
    )
    if raised.HasField("next_escalation"):
        repeated.next_escalation.CopyFrom(raised.next_escalation)
    return repeated


def holding(of_lot: Iterable[Alert], alert: str) -> Alert | None:
    """The alert of that id, or the one that it joined."""
    return next((held for held in of_lot if alert in (held.alert, *held.merged)), None)


def escalate(state: Alert, level: int, ladder: Ladder, at: datetime) -> list[alerting.AlertEscalated]:
    """The clock of an alert at the level ran out; nothing where somebody took it, it is higher already,
    or its clock was set anew."""
    over = bool(state.next_escalation) and state.next_escalation <= _iso(at)
    if not (state.open and over and state.level == level):
        return []
    return [escalated(state.alert, state.kind, state.severity, level + 1, ladder, at)]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def acknowledge(state: Alert, actor: str, note: str, at: datetime) -> list[alerting.AlertAcknowledged]:
    """Somebody takes the alert. Taking one's own again changes nothing."""
    if not state.open:
        if state.actor == actor:
            return []
        raise Refused("ALREADY_ACKNOWLEDGED", f"{state.actor} has taken this alert; speak to them")
    taken = alerting.AlertAcknowledged(alert=state.alert, actor=actor, note=note)
    taken.at.FromDatetime(at)
    return [taken]


def of_deviation(detected: production.DeviationDetected) -> str:
    """What an alert about a deviation says: what left its limits, where, and how far out it is."""
    phase = f" in phase {detected.phase}" if detected.phase else ""
    return (
        f"{detected.tag} on {detected.equipment} left the golden run{phase}: "
        f"{detected.magnitude:.1f} standard deviations (limit {detected.limit:.1f}){_last_point(detected)}; "
        f"judge deviation {detected.deviation} of lot {detected.lot}"
    )


def _last_point(detected: production.DeviationDetected) -> str:
    if not detected.evidence:
        return ""
    last = detected.evidence[-1]
    return f", at last {last.value:.4g} {detected.unit} where {last.low:.4g} to {last.high:.4g} are allowed"


def of_stall(stalled: loops.LoopStalled) -> str:
    """What an alert about a stalled loop says."""
    return f"run {stalled.run} is late in stage {stalled.stage}: it waits for {stalled.waiting_for}"


def of_missing_run(lot: str, deviation: str) -> str:
    """What an alert about a trigger without a run says."""
    return (
        f"deviation {deviation} of lot {lot} was confirmed and no safety run was opened; "
        "check the loops service"
    )


def of_missing_successor(lot: str, follows: str, successor: str) -> str:
    """What an alert about a sealed run whose successor was not opened says."""
    return (
        f"something came after the seal of run {follows} of lot {lot}, and its successor {successor} was not "
        "opened: patients may be missing; check the loops service"
    )


def of_release(released: rnd.ParameterSetReleased) -> str:
    """What was asked of the transfer loop."""
    return (
        f"version {released.version} of parameter set {released.set} was released to plant {released.plant}"
    )


def of_study(requested: exchange.StudyRequested) -> str:
    """What was asked of the evidence loop."""
    return f"study {requested.study} was requested"


def of_unanswered(asked: str, loop: str) -> str:
    """What an alert about a release or a study without a run says."""
    return f"{asked} and no run of the {loop} loop was opened; check the loops service"


def raised(
    alert: str,
    kind: alerting.AlertKind,
    text: str,
    at: datetime,
    lot: str = "",
    run: str = "",
    *,
    severity: alerting.AlertSeverity = MAJOR,
    ladder: Ladder | None = None,
) -> alerting.AlertRaised:
    """The event of a new alert, with whom it asks first and when the next one is asked."""
    ladder = ladder or Ladder()
    event = alerting.AlertRaised(
        alert=alert,
        kind=kind,
        lot=lot,
        run=run,
        text=text,
        severity=severity,
        to=ladder.asked(kind, 1),
    )
    event.at.FromDatetime(at)
    following = ladder.next_at(kind, severity, 1, at)
    if following is not None:
        event.next_escalation.FromDatetime(following)
    return event
