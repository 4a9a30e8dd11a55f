"""Who is exposed to a lot, who is compared with them, and what is counted of each.

    exposed      was dispensed the lot in the period
    comparator   was dispensed a sibling lot in the same period (same product, not
                 implicated in the run), and never any implicated lot
    neither      all others, and everybody of another site or under another follow-up

A patient counts once, with the first outcome seen while observed: time at risk
ends there, and the patient is a case if it falls in time of the lots that put
the patient into the arm (`person_time`). Someone who was not asked, or did not
answer, is not followed for prompted outcomes and is in no prompted table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Literal

from services.clinical.domain.evidence import person_time
from services.clinical.domain.evidence.person_time import Observation, Pack
from services.clinical.domain.evidence.tables import Cells, K, Stratum, Table, stratum_of

Arm = Literal["exposed", "comparator"]


@dataclass(frozen=True)
class Comparison(Generic[K]):
    """One lot of a run at one site. Dispensed in the period: from `begin` up to `end`, without it.

    `implicated`: all lots of the run. `follow_up`: the name of the way in
    which both arms are followed, for example the version of the question.
    `window`: the risk window after a supply ends.
    """

    kind: K
    site: str
    product: str
    lot: str
    implicated: frozenset[str]
    begin: datetime
    end: datetime
    follow_up: str
    window: timedelta


@dataclass(frozen=True)
class Followed(Generic[K]):
    """A patient who is followed for one kind of outcome; `packs` and `outcomes` in any order."""

    kind: K
    site: str
    follow_up: str
    age_years: int | None
    sex: str
    packs: tuple[Pack, ...]
    observation: Observation
    outcomes: tuple[datetime, ...] = ()


def arm_of(patient: Followed[K], comparison: Comparison[K]) -> Arm | None:
    """The arm in which the patient counts; None for neither."""
    if (patient.kind, patient.site, patient.follow_up) != (
        comparison.kind,
        comparison.site,
        comparison.follow_up,
    ):
        return None
    lots = arm_lots(patient.packs, comparison)
    if not lots:
        return None
    return "exposed" if comparison.lot in lots else "comparator"


def arm_lots(packs: Sequence[Pack], comparison: Comparison[K]) -> frozenset[str]:
    """The lots that put whoever had these packs into an arm: the compared lot, or sibling lots; or none."""
    in_period = frozenset(
        pack.lot
        for pack in packs
        if pack.product == comparison.product and comparison.begin <= pack.start < comparison.end
    )
    if comparison.lot in in_period:
        return frozenset({comparison.lot})
    if any(pack.lot in comparison.implicated for pack in packs):
        return frozenset()
    return in_period


def table(comparison: Comparison[K], patients: Iterable[Followed[K]]) -> Table[K]:
    """The strata of the comparison. Raises Malformed for an age or a supply out of range."""
    strata: dict[Stratum, Cells] = {}
    for patient in patients:
        arm = arm_of(patient, comparison)
        if arm is None:
            continue
        stratum = stratum_of(patient.age_years, patient.sex)
        strata[stratum] = strata.get(stratum, Cells(0, 0, 0, 0)) + _counted(patient, comparison, arm)
    return Table(comparison.kind, strata)


def _counted(patient: Followed[K], comparison: Comparison[K], arm: Arm) -> Cells:
    lots = arm_lots(patient.packs, comparison)
    packs = [pack for pack in patient.packs if pack.product == comparison.product]
    parts = person_time.spans(packs, patient.observation, comparison.window)
    first = min((at for at in patient.outcomes if person_time.span_at(parts, at)), default=None)
    case = 0
    if first is not None:
        hit = person_time.span_at(parts, first)
        case = int(hit is not None and hit.lot in lots)
        parts = person_time.until(parts, first)
    days = sum(length for lot, length in person_time.days_of(parts).items() if lot in lots)
    if arm == "exposed":
        return Cells(case, 1, 0, 0, days, 0.0)
    return Cells(0, 0, case, 1, 0.0, days)
