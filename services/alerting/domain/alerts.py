"""Alerts: what they say, and who took them.

What happens again while nobody has taken its alert joins it: one alert for
each lot, run and kind, however often. Whoever takes it has seen all of it;
what happens later is an alert of its own.
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


class Refused(ValueError):
    """A rule refused a command; carries a machine-readable reason."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason
        self.description = description


@dataclass(frozen=True)
class Alert:
    """An alert. `raised` is the event's bytes; `kind` its number; moments are ISO text.

    `at` and `text` are of the latest time; `merged` are the ids that the others
    would have had as alerts of their own.
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

    @property
    def count(self) -> int:
        return 1 + len(self.merged)


def evolve(state: Alert | None, event: Message) -> Alert:
    """The alert after one of its own events."""
    if isinstance(event, alerting.AlertRaised):
        raised = event.SerializeToString()
        return Alert(event.alert, event.kind, event.lot, event.run, raised, _text(event.at), text=event.text)
    if isinstance(event, alerting.AlertRepeated):
        assert state is not None
        at, text = max((state.at, state.text), (_text(event.at), event.text))
        return replace(state, at=at, text=text, merged=tuple(sorted({*state.merged, event.about})))
    assert isinstance(event, alerting.AlertAcknowledged)
    assert state is not None
    return replace(state, open=False, actor=event.actor, note=event.note, acknowledged=_text(event.at))


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
            return [
                alerting.AlertRepeated(alert=alert.alert, about=raised.alert, text=raised.text, at=raised.at)
            ]
    return [raised]


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
    alert: str, kind: alerting.AlertKind, text: str, at: datetime, lot: str = "", run: str = ""
) -> alerting.AlertRaised:
    """The event of a new alert."""
    event = alerting.AlertRaised(alert=alert, kind=kind, lot=lot, run=run, text=text)
    event.at.FromDatetime(at)
    return event
