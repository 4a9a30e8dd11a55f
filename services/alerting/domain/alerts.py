"""Alerts: what they say, who took them, and how they end.

What happens again while nobody has taken its alert joins it: one alert for
each lot, run and kind, however often. Whoever takes it has seen all of it;
what happens later is an alert of its own. An open alert has a clock: when it
runs out, the alert goes one level up and another role is asked (`escalation`).
When all that it stands for is judged or over (`matters`), it is resolved: nobody
has to look any more, and what happens later is an alert of its own as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.common.v1 import types_pb2 as common
from services.alerting.domain.escalation import MAJOR, Ladder, escalated
from services.alerting.domain.matters import End, Matter
from services.alerting.domain.texts import Told


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
    the top, and for an alert of before there were levels. `open` is an alert that
    nobody took and that is not `over`; `ended` is the bytes of the event that says
    how it was resolved; `meaning` what the signature of `actor` means; `sayings` are the bytes of the parts
    of `text`.
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
    over: bool = False
    ended: bytes = b""
    sayings: tuple[bytes, ...] = ()

    @property
    def abouts(self) -> tuple[str, ...]:
        """Ids of all that it stands for, as alerts of their own."""
        return (self.alert, *self.merged)

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
            sayings=_bytes(event.sayings),
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
    if isinstance(event, alerting.AlertSeverityRaised):
        return replace(state, severity=event.severity, next_escalation=_next(event))
    if isinstance(event, alerting.AlertResolved):
        ended = event.SerializeToString(deterministic=True)
        return replace(state, open=False, over=True, ended=ended, next_escalation="")
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
    at, text, sayings = max(
        (state.at, state.text, state.sayings), (_text(event.at), event.text, _bytes(event.sayings))
    )
    clocks = [clock for clock in (state.next_escalation, _next(event)) if clock]
    return replace(
        state,
        at=at,
        text=text,
        sayings=sayings,
        merged=tuple(sorted({*state.merged, event.about})),
        severity=max(state.severity, event.severity),
        next_escalation=min(clocks) if state.next_escalation else "",
    )


def _bytes(sayings: Iterable[common.Saying]) -> tuple[bytes, ...]:
    return tuple(one.SerializeToString(deterministic=True) for one in sayings)


def _next(
    event: alerting.AlertRaised
    | alerting.AlertRepeated
    | alerting.AlertEscalated
    | alerting.AlertSeverityRaised,
) -> str:
    return _text(event.next_escalation) if event.HasField("next_escalation") else ""


def _text(stamp: Timestamp) -> str:
    """A moment as ISO text that sorts in time order."""
    return stamp.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds")


def again(
    of_lot: Iterable[Alert], raised: alerting.AlertRaised
) -> list[alerting.AlertRaised | alerting.AlertRepeated]:
    """What a new alert becomes beside those of its lot: itself, one more of an open one, or nothing new."""
    alike = [alert for alert in of_lot if (alert.kind, alert.run) == (raised.kind, raised.run)]
    if any(raised.alert in alert.abouts for alert in alike):
        return []
    for alert in sorted(alike, key=lambda alert: alert.alert):
        if alert.open:
            return [_again(alert, raised)]
    return [raised]


def _again(alert: Alert, raised: alerting.AlertRaised) -> alerting.AlertRepeated:
    repeated = alerting.AlertRepeated(
        alert=alert.alert,
        about=raised.alert,
        text=raised.text,
        sayings=raised.sayings,
        at=raised.at,
        severity=raised.severity,
    )
    if raised.HasField("next_escalation"):
        repeated.next_escalation.CopyFrom(raised.next_escalation)
    return repeated


def holding(of_lot: Iterable[Alert], alert: str) -> Alert | None:
    """The alert of that id, or the one that it joined."""
    return next((held for held in of_lot if alert in held.abouts), None)


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
        if state.actor:
            raise Refused("ALREADY_ACKNOWLEDGED", f"{state.actor} has taken this alert; speak to them")
        said = "what the alert is about is judged or over; nobody has to take it any more"
        raise Refused("ALREADY_RESOLVED", said)
    taken = alerting.AlertAcknowledged(alert=state.alert, actor=actor, note=note)
    taken.at.FromDatetime(at)
    return [taken]


def worse(state: Alert, matter: Matter, ladder: Ladder) -> list[alerting.AlertSeverityRaised]:
    """The alert of a matter that was classified as worse than the alert; nothing where it is not, or the
    alert is over. Its clock begins anew with the shorter time, and never runs out later than before; the role
    that is asked now has that time from when it was asked, also where the class is of before."""
    if state.over or matter.severity <= state.severity:
        return []
    at = datetime.fromisoformat(matter.classified)
    event = alerting.AlertSeverityRaised(
        alert=state.alert,
        severity=matter.alert_severity,
        actor=matter.classified_by,
        reason=matter.impact,
    )
    event.at.FromDatetime(at)
    asked = [datetime.fromisoformat(step.at) for step in state.escalations[-1:]]
    following = ladder.next_at(state.kind, matter.severity, state.level, max([at, *asked]))
    if state.next_escalation and following is not None:
        event.next_escalation.FromDatetime(min(following, datetime.fromisoformat(state.next_escalation)))
    return [event]


def resolve(state: Alert, ends: Sequence[End | None]) -> list[alerting.AlertResolved]:
    """The alert is over when all that it stands for is: `ends` has one for each, None for what goes on.
    The last end is the one that is told."""
    known = [end for end in ends if end is not None]
    if state.over or not known or len(known) < len(ends):
        return []
    last = max(known)
    event = alerting.AlertResolved(
        alert=state.alert, end=last.alert_end, actor=last.actor, reason=last.reason
    )
    # What ended before its alert was raised is told late; an alert does not end before it begins.
    event.at.FromDatetime(datetime.fromisoformat(max(last.at, state.at)))
    return [event]


def raised(
    alert: str,
    kind: alerting.AlertKind,
    told: Told,
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
        text=told.text,
        sayings=told.sayings,
        severity=severity,
        to=ladder.asked(kind, 1),
    )
    event.at.FromDatetime(at)
    following = ladder.next_at(kind, severity, 1, at)
    if following is not None:
        event.next_escalation.FromDatetime(following)
    return event
