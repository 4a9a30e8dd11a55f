"""From what the hospital reports by itself to tables of a run.

Everybody counts who received a lot of the run or a sibling lot in the study's
period, whether or not anybody asked them: adverse events that the hospital
reports unasked are its own records, these numbers never leave the site, and
nobody is approached. So no consent to follow-up is needed, and whoever
withdraws it stays in. Only what hospitals report is an outcome; what patients
answer to a plan is not, so that neither kind depends on the other.

A patient is observed from the first pack of the lots for which they are in an
arm to their death, to their move to another site, or to the moment at which
the run's hazard was evaluated, whichever comes first; where it is not yet, to
now. From that moment on the exposed are told, and reports that a warning
stimulates are no measure of what happened: ICH E2D names them stimulated
reporting, and Pariente et al. measured how far they inflate comparisons (the
notoriety bias, Drug Saf 2007;30:891). What is reported later of an earlier
onset is left out as well, for a warning makes people remember. Both arms end
at the same moment.

An outcome is the onset of an event. It belongs to the lot being taken then,
and time is split by lot, as `cohort` and `person_time` have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from services.clinical.domain import adverse
from services.clinical.domain.adverse import Course
from services.clinical.domain.evidence import cohort
from services.clinical.domain.evidence.cohort import Comparison, Followed
from services.clinical.domain.evidence.person_time import Observation, Pack
from services.clinical.domain.evidence.study import Study
from services.clinical.domain.evidence.tables import ROUTINE, Kind, Table

Routine = Literal[Kind.ROUTINE]
#: The name of the way in which all are followed.
WAY: Final = "routine"


@dataclass(frozen=True)
class Recipient:
    """A patient who is in an arm. `packs`: all that they received of the product; `outcomes`: what the
    hospital reported; `died` or `moved`: when they left."""

    product: str
    age_years: int | None
    sex: str
    packs: tuple[Pack, ...]
    outcomes: tuple[datetime, ...] = ()
    died: datetime | None = None
    moved: datetime | None = None


@dataclass(frozen=True)
class Recipients:
    """Everybody in either arm, observed to the moment `until` at the latest."""

    until: datetime
    members: tuple[Recipient, ...]


def product(study: Study, elsewhere: Collection[str], packs: Sequence[Pack]) -> str:
    """The product for which whoever received these packs is compared, that of their first pack in the arm;
    empty where they are in neither arm.

    `elsewhere`: lots that other runs are about, and kits. Whoever received one is no comparator.
    """
    period = [pack for pack in packs if study.within(pack.start)]
    counted = [pack for pack in period if pack.lot in study.implicated]
    if not counted and not any(p.lot in study.implicated or p.lot in elsewhere for p in packs):
        counted = period
    return min(counted, key=lambda pack: (pack.start, pack.lot)).product if counted else ""


def outcomes(courses: Iterable[Course], until: datetime) -> tuple[datetime, ...]:
    """When the events began that the hospital reported up to the moment, by its own reports alone."""
    told = (adverse.told_until(course, until) for course in courses)
    events = (event for course in told for event in adverse.events(course, solicited=False))
    return tuple(sorted(datetime.fromisoformat(event.onset) for event in events))


def tables(study: Study, recipients: Recipients, lot: str) -> dict[str, Table[Routine]]:
    """By product: who received the lot (or, for the root, any lot of the run) beside comparators."""
    found = {}
    for name in sorted({one.product for one in recipients.members}):
        comparison = study.comparison(ROUTINE, lot, name, WAY)
        followed = (
            _followed(study, one, comparison, recipients.until)
            for one in recipients.members
            if one.product == name
        )
        found[name] = cohort.table(comparison, (one for one in followed if one is not None))
    return found


def _followed(
    study: Study, recipient: Recipient, comparison: Comparison[Routine], until: datetime
) -> Followed[Routine] | None:
    """None for who is in neither arm of this lot, or left before they could be observed."""
    packs = study.named_for(comparison.lot, recipient.packs)
    begun = study.first(packs, cohort.arm_lots(packs, comparison))
    if begun is None:
        return None
    observed = Observation(begun, until, died=recipient.died, moved=recipient.moved)
    if observed.end <= begun:
        return None
    return Followed(
        kind=ROUTINE,
        site=study.site,
        follow_up=WAY,
        age_years=recipient.age_years,
        sex=recipient.sex,
        packs=packs,
        observation=observed,
        outcomes=recipient.outcomes,
    )
