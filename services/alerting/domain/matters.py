"""What alerts are about, one by one: how each was classified, and how it ended.

A deviation is over when it is judged, confirmed or rejected, which is said once
and never taken back; a late stage when it ends, or its run does. Either may be
told before the alert is raised, so it is noted here whether there is an alert or
not, and nothing depends on the order. A trigger without a run needs no note:
what is kept of triggers and runs says it (`triggers`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from pharmaloop.alerting.v1 import events_pb2 as alerting


@dataclass(frozen=True, order=True)
class End:
    """How a matter ended. `at` is ISO text, `end` a number of AlertEnd; `actor` is empty where no person
    ended it. Ends are in order of time."""

    at: str
    end: int
    actor: str = ""
    reason: str = ""

    @property
    def alert_end(self) -> alerting.AlertEnd:
        return cast("alerting.AlertEnd", self.end)


@dataclass(frozen=True)
class Matter:
    """What an alert is, or would be, about; its id is that of the alert that it would be by itself.

    `severity` is the highest that it was classified as, by a person or by how far it went since (0 while
    neither has), `classified` when that was first said, ISO text, `classified_by` by whom, `impact` with what
    assessment. `limit` is the one that a deviation left, in residual standard deviations; 0 where none is
    known.
    """

    end: End | None = None
    severity: int = 0
    classified: str = ""
    classified_by: str = ""
    impact: str = ""
    limit: float = 0.0

    @property
    def alert_severity(self) -> alerting.AlertSeverity:
        return cast("alerting.AlertSeverity", self.severity)


def ended(matter: Matter, end: End) -> Matter:
    """The matter is over since the first of its ends."""
    return replace(matter, end=min(matter.end or end, end))


def classified(matter: Matter, severity: int, at: str, actor: str, impact: str) -> Matter:
    """It was classified. The highest counts, since it was first said: an alert is not called off
    by a second thought."""
    held = (-matter.severity, matter.classified, matter.classified_by, matter.impact)
    best = min(held, (-severity, at, actor, impact))
    return replace(matter, severity=-best[0], classified=best[1], classified_by=best[2], impact=best[3])
