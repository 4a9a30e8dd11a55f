"""Which patients of the site belong to a cohort, and the row of numbers of each.

A member received the product, consents to research, and took the first dose in
the period. They are observed from then for the days of the definition, to
their death or move or to now, whichever comes first. The lot of the first dose
is theirs: a later lot is another exposure, and would be counted for both.

An adverse event counts by the hospital's own reports alone, for what patients
answer depends on who was asked. It is the first after the first dose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pharmaloop.exchange.v1 import cohort_pb2 as exchange
from services.clinical.domain.cohort.definition import ADVERSE, BAND, GENOTYPE, Definition
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.profiles import LotProfile

#: From a unit and another to what makes a number in the one a number in the other; None where nothing does.
Conversion = Callable[[str, str], Callable[[float], float] | None]
Outside = Literal["not eligible", "no consent", "incomplete"]
_DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Reading:
    """A laboratory value of a patient: when the sample was taken, UCUM unit."""

    at: datetime
    value: float
    unit: str


@dataclass(frozen=True)
class Person:
    """What the site knows of a patient. `packs`: of the product, by time; `outcomes`: when the events of the
    definition's terms began that the hospital reported; `age_years` None and `sex` "U" where not known."""

    pseudonym: str
    research: bool
    packs: Sequence[Pack]
    age_years: int | None = None
    sex: str = "U"
    genotypes: frozenset[str] | None = None
    outcomes: Sequence[datetime] = ()
    labs: Sequence[Reading] = ()
    died: datetime | None = None
    moved: datetime | None = None


@dataclass(frozen=True)
class Member:
    """A member: the lot of the first dose, and the numbers by the name of their column."""

    pseudonym: str
    lot: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def member(
    definition: Definition,
    person: Person,
    profiles: Mapping[str, LotProfile],
    conversion: Conversion,
    now: datetime,
) -> Member | Outside:
    """The patient as a member, or why they are none."""
    first = min(person.packs, key=lambda pack: (pack.start, pack.lot), default=None)
    if first is None or not definition.begin <= first.start < definition.end:
        return "not eligible"
    ends = [end for end in (first.start + definition.window, person.died, person.moved, now) if end]
    observed = min(ends)
    if observed <= first.start:
        return "not eligible"
    if not person.research:
        return "no consent"
    found = (
        _exposed(definition, person, profiles.get(first.lot), conversion, first.lot),
        _outcome(definition, person, conversion, first.start, observed),
        _covariates(definition, person, conversion, first.start),
    )
    numbers: dict[str, float] = {}
    for part in found:
        if part is None:
            return "incomplete"
        numbers |= part
    return Member(person.pseudonym, first.lot, numbers)


def _exposed(
    definition: Definition, person: Person, profile: LotProfile | None, conversion: Conversion, lot: str
) -> dict[str, float] | None:
    exposure = definition.exposure
    if exposure.kind == GENOTYPE:
        if person.genotypes is None:
            return None
        return {"exposed": float(exposure.genotype in person.genotypes)}
    if exposure.kind == BAND:
        inside = _in_band(exposure, profile, conversion)
        return None if inside is None else {"exposed": float(inside)}
    return {"exposed": float(lot in exposure.lots)}


def _in_band(
    exposure: exchange.CohortExposure, profile: LotProfile | None, conversion: Conversion
) -> bool | None:
    """None where the lot's run is not known, or does not have the tag in a unit that converts."""
    held = profile.parameters.get(exposure.tag) if profile else None
    convert = conversion(held.unit, exposure.unit) if held else None
    if held is None or convert is None:
        return None
    value = convert(held.mean)
    low = exposure.low if exposure.HasField("low") else float("-inf")
    high = exposure.high if exposure.HasField("high") else float("inf")
    return low <= value < high


def _outcome(
    definition: Definition, person: Person, conversion: Conversion, start: datetime, end: datetime
) -> dict[str, float] | None:
    if definition.outcome.kind == ADVERSE:
        first = min((at for at in person.outcomes if start < at <= end), default=None)
        days = ((first or end) - start).total_seconds() / _DAY_SECONDS
        return {"event": float(first is not None), "time_days": days}
    before = _before(definition, person, conversion, start)
    after = _newest(definition, conversion, [one for one in person.labs if start < one.at <= end])
    return None if before is None or after is None else {"change": after - before}


def _before(definition: Definition, person: Person, conversion: Conversion, start: datetime) -> float | None:
    """The last value up to the first dose."""
    return _newest(definition, conversion, [one for one in person.labs if one.at <= start])


def _newest(definition: Definition, conversion: Conversion, labs: Sequence[Reading]) -> float | None:
    """The last value, in the definition's unit; None without one, or where its unit does not convert."""
    newest = max(labs, key=lambda one: (one.at, one.value), default=None)
    convert = conversion(newest.unit, definition.outcome.unit) if newest else None
    return convert(newest.value) if newest and convert else None


def _covariates(
    definition: Definition, person: Person, conversion: Conversion, start: datetime
) -> dict[str, float] | None:
    """The numbers of what else is asked; None where one is not known."""
    message, numbers = definition.message, dict[str, float]()
    if definition.asks(exchange.COVARIATE_AGE_BAND):
        bands = list(message.age_bands)
        if person.age_years is None or person.age_years < bands[0]:
            return None
        held = max(age for age in bands if age <= person.age_years)
        numbers |= {f"age_{age}": float(age == held) for age in bands[1:]}
    if definition.asks(exchange.COVARIATE_SEX):
        if person.sex not in ("F", "M"):
            return None
        numbers["female"] = float(person.sex == "F")
    if definition.asks(exchange.COVARIATE_GENOTYPE):
        if person.genotypes is None:
            return None
        numbers["genotype"] = float(message.genotype in person.genotypes)
    if definition.asks(exchange.COVARIATE_DOSE):
        end = start + definition.window
        numbers["packs"] = float(sum(start <= pack.start <= end for pack in person.packs))
    if definition.asks(exchange.COVARIATE_LAB_BEFORE):
        before = _before(definition, person, conversion, start)
        if before is None:
            return None
        numbers["lab_before"] = before
    return numbers
