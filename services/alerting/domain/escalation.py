"""Whom an alert asks, and how long each is given before the next one is asked.

An alert is raised at level 1. Nobody takes it in the time of its severity: it
goes one level up, another role is asked, and the time begins anew; at level 3
it stays. Times are platform time, so a simulated month escalates like a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.production.v1 import events_pb2 as production

#: An alert has a level from 1 to this.
TOP = 3

MINOR, MAJOR, CRITICAL = (
    alerting.ALERT_SEVERITY_MINOR,
    alerting.ALERT_SEVERITY_MAJOR,
    alerting.ALERT_SEVERITY_CRITICAL,
)
#: What a deviation's own severity makes of its alert (`grading` has the distance besides). One that no rule
#: knows is not put off.
OF_DEVIATION: Mapping[production.Severity, alerting.AlertSeverity] = {
    production.SEVERITY_UNSPECIFIED: MAJOR,
    production.SEVERITY_MINOR: MINOR,
    production.SEVERITY_MAJOR: MAJOR,
    production.SEVERITY_CRITICAL: CRITICAL,
}
#: Names of the kinds, as settings say them.
KINDS: Mapping[str, alerting.AlertKind] = {
    "deviation": alerting.ALERT_KIND_DEVIATION,
    "loop_stalled": alerting.ALERT_KIND_LOOP_STALLED,
    "no_run": alerting.ALERT_KIND_NO_RUN,
}
_NAMES: Mapping[int, str] = {kind: name for name, kind in KINDS.items()}
_OPERATOR = ("operator", "quality-head", "plant-manager")
#: Who is asked at levels 1, 2 and 3.
ROLES: Mapping[str, tuple[str, ...]] = {
    "deviation": ("quality-engineer", "quality-head", "plant-manager"),
    "loop_stalled": _OPERATOR,
    "no_run": _OPERATOR,
}


@dataclass(frozen=True)
class Ladder:
    """Minutes of platform time until the next role is asked, by severity; `of_kind` goes before it.

    `roles` are at most three for each kind of alert, by its name; with fewer the top is lower.
    """

    critical: float = 5.0
    major: float = 15.0
    minor: float = 60.0
    of_kind: Mapping[str, float] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ROLES)

    def asked(self, kind: int, level: int) -> str:
        """The role that is asked at a level."""
        roles = self._roles(kind)
        return roles[min(level, len(roles)) - 1]

    def top(self, kind: int) -> int:
        """The level at which an alert stays."""
        return min(TOP, len(self._roles(kind)))

    def next_at(self, kind: int, severity: int, level: int, at: datetime) -> datetime | None:
        """When the next role is asked about an alert that has the level since `at`; None at the top."""
        if level >= self.top(kind):
            return None
        return at + timedelta(minutes=self._minutes(kind, severity))

    def _roles(self, kind: int) -> tuple[str, ...]:
        name = _NAMES.get(kind, "no_run")
        return tuple(self.roles.get(name, ())) or ROLES[name]

    def _minutes(self, kind: int, severity: int) -> float:
        given = self.of_kind.get(_NAMES.get(kind, ""))
        if given is not None:
            return given
        of_severity: Mapping[int, float] = {MINOR: self.minor, CRITICAL: self.critical}
        return of_severity.get(severity, self.major)


def escalated(
    alert: str, kind: int, severity: int, level: int, ladder: Ladder, at: datetime
) -> alerting.AlertEscalated:
    """The event of an alert that comes to the level."""
    event = alerting.AlertEscalated(alert=alert, level=level, to=ladder.asked(kind, level))
    event.at.FromDatetime(at)
    following = ladder.next_at(kind, severity, level, at)
    if following is not None:
        event.next_escalation.FromDatetime(following)
    return event
