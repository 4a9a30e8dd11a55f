"""What happened to a patient, by one term: who tells of it, and which of that is one event.

A plan asks and a patient answers (solicited); the hospital reports by itself
(spontaneous). Reports of the same patient and term whose onsets lie close to
one another are one event with several sources: sorted by onset, a report that
began at most `WINDOW` after the one before belongs to the same event. So the
events follow from the reports alone, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.clinical.domain.vocabulary import OTHER

Source = Literal["solicited", "spontaneous"]
#: Patients seldom know the day: onsets of one event that two people wrote down are days apart.
WINDOW = timedelta(days=7)


@dataclass(frozen=True)
class Report:
    """Somebody tells that it happened. `report` is the fact's id, `text` a serialised Sealed; `onset` and
    `at`, when it was told (empty in what was kept before that was), are ISO, UTC."""

    report: str
    source: Source
    onset: str
    serious: bool = False
    text: bytes = b""
    at: str = ""


@dataclass(frozen=True)
class Course:
    """Every report of one patient by one term, by onset."""

    pseudonym: str
    term: str
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True)
class Event:
    """One event: everything that is told of it, the earliest first."""

    reports: tuple[Report, ...]

    @property
    def onset(self) -> str:
        return self.reports[0].onset

    @property
    def serious(self) -> bool:
        return any(report.serious for report in self.reports)

    def told_by(self, source: Source) -> int:
        return sum(report.source == source for report in self.reports)


def reported(course: Course, report: Report) -> Course:
    """The course with a report; one that is there already stays as it was."""
    if any(known.report == report.report for known in course.reports):
        return course
    reports = sorted((*course.reports, report), key=lambda one: (one.onset, one.report))
    return replace(course, reports=tuple(reports))


def events(course: Course, *, solicited: bool = True) -> list[Event]:
    """What happened, the earliest first; not `solicited`: without what the patient answered."""
    kept = [report for report in course.reports if solicited or report.source == "spontaneous"]
    if course.term == OTHER:
        return [Event((report,)) for report in kept]
    return [Event(tuple(group)) for group in _close(kept)]


def told_until(course: Course, moment: datetime) -> Course:
    """The course as far as it was told at the moment."""
    known = (one for one in course.reports if not one.at or datetime.fromisoformat(one.at) <= moment)
    return replace(course, reports=tuple(known))


def _close(reports: Sequence[Report]) -> Iterator[list[Report]]:
    group: list[Report] = []
    for report in reports:
        if group and _began(report) - _began(group[-1]) > WINDOW:
            yield group
            group = []
        group.append(report)
    if group:
        yield group


def _began(report: Report) -> datetime:
    return datetime.fromisoformat(report.onset)
