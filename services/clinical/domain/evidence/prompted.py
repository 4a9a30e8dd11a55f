"""From answers to a question that was asked to tables of a run.

The question is how the patient has felt since taking the medicine, so a
complaint belongs to the lot for which the patient is in an arm, whatever they
took since; it is counted at the end of their time on that lot. Time runs from
the first pack of that lot to the answer, and is split by the lot being taken.

Patients are compared within their product and the template by which they were
asked, so both are part of the stratum; one with several products counts in
that of their first pack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.clinical.domain.evidence import cohort, person_time
from services.clinical.domain.evidence.cohort import Comparison, Followed
from services.clinical.domain.evidence.person_time import Observation, Pack
from services.clinical.domain.evidence.study import WINDOW, Study
from services.clinical.domain.evidence.tables import PROMPTED, Kind, Table

Prompted = Literal[Kind.PROMPTED]
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, order=True)
class Group:
    """Patients who are compared with one another: they received one product, and were asked by one version
    of one template."""

    product: str
    template: str
    version: int

    @property
    def way(self) -> str:
        """The name of the way in which they are followed."""
        return f"{self.template} {self.version}"


@dataclass(frozen=True)
class Responder:
    """A patient of either arm who answered at a moment. `packs`: all that they received of the product."""

    group: Group
    age_years: int | None
    sex: str
    packs: tuple[Pack, ...]
    at: datetime
    affected: bool


def tables(study: Study, responders: Iterable[Responder], lot: str) -> dict[Group, Table[Prompted]]:
    """By group: who received the lot (or, for the root, any lot of the run) beside comparators."""
    grouped: dict[Group, list[Responder]] = {}
    for one in responders:
        grouped.setdefault(one.group, []).append(replace(one, packs=study.named_for(lot, one.packs)))
    found = {}
    for group, members in sorted(grouped.items()):
        comparison = study.comparison(PROMPTED, lot, group.product, group.way)
        followed = [_followed(study, one, comparison) for one in members]
        found[group] = cohort.table(comparison, [one for one in followed if one is not None])
    return found


def person_days(study: Study, responders: Iterable[Responder]) -> dict[str, float]:
    """The observed time of all responders in days by lot; under "" what belongs to none."""
    total: dict[str, float] = {}
    for one in responders:
        observed = _observed(study, one, _arm_lots(study, one))
        if observed is None:
            continue
        parts = person_time.spans(one.packs, observed, WINDOW)
        for lot, days in person_time.days_of(parts).items():
            total[lot or ""] = total.get(lot or "", 0.0) + days
    return dict(sorted(total.items()))


def _arm_lots(study: Study, responder: Responder) -> frozenset[str]:
    mine = frozenset(pack.lot for pack in responder.packs)
    return mine & study.implicated or mine


def _observed(study: Study, responder: Responder, lots: frozenset[str]) -> Observation | None:
    """From the first pack of these lots to the answer; one dated before it counts as given just after."""
    begun = study.first(responder.packs, lots)
    return Observation(begun, max(responder.at, begun + _INSTANT)) if begun else None


def _followed(
    study: Study, responder: Responder, comparison: Comparison[Prompted]
) -> Followed[Prompted] | None:
    lots = cohort.arm_lots(responder.packs, comparison)
    observed = _observed(study, responder, lots)
    if observed is None:
        return None
    return Followed(
        kind=PROMPTED,
        site=comparison.site,
        follow_up=responder.group.way,
        age_years=responder.age_years,
        sex=responder.sex,
        packs=responder.packs,
        observation=observed,
        outcomes=_outcomes(responder, observed, lots),
    )


def _outcomes(responder: Responder, observed: Observation, lots: frozenset[str]) -> tuple[datetime, ...]:
    """A complaint, at the last moment of the time on the lots; none of who took nothing of them yet."""
    spans = person_time.spans(responder.packs, observed, WINDOW)
    ends = [span.end for span in spans if span.lot in lots]
    return (max(ends) - _INSTANT,) if responder.affected and ends else ()
