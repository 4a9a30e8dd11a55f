"""What is counted at one site: by stratum, exposed patients beside comparators, of one kind of outcome.

Prompted outcomes (answers to a question we asked) and routine ones (what came
into the records by itself) are found with different chances, so they are never
added. The kind is part of the type: mypy refuses a sum of two kinds, and the
sum itself refuses them at run time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, Literal, TypeVar

from services.refusals import Malformed


class Kind(StrEnum):
    PROMPTED = "prompted"
    ROUTINE = "routine"


PROMPTED: Final = Kind.PROMPTED
ROUTINE: Final = Kind.ROUTINE
K = TypeVar("K", Literal[Kind.PROMPTED], Literal[Kind.ROUTINE])

#: First year of each age band: children by ICH E11, the old by ICH E7, adults cut at 45.
AGE_BANDS = (0, 2, 12, 18, 45, 65, 75)
#: Stands for the band of those whose age is not known.
AGE_UNKNOWN = -1


@dataclass(frozen=True, order=True)
class Stratum:
    """Patients of one age band (by its first year, or AGE_UNKNOWN) and sex ("F", "M" or "U") at one site."""

    age_from: int
    sex: str


def stratum_of(age_years: int | None, sex: str) -> Stratum:
    """Those whose age is not known are compared with one another. Raises Malformed for a negative age."""
    if age_years is None:
        return Stratum(AGE_UNKNOWN, sex)
    if age_years < 0:
        raise Malformed("OUT_OF_RANGE", "an age is 0 years or more", "age_years")
    return Stratum(max(first for first in AGE_BANDS if first <= age_years), sex)


@dataclass(frozen=True)
class Cells:
    """One stratum: `a` cases among `n1` exposed, `b` cases among `n0` comparators.

    `t1` and `t0` are their person-time in days; both 0 where it is not known.
    """

    a: int
    n1: int
    b: int
    n0: int
    t1: float = 0.0
    t0: float = 0.0

    def __post_init__(self) -> None:
        for cases, total, field in ((self.a, self.n1, "a"), (self.b, self.n0, "b")):
            if not 0 <= cases <= total:
                raise Malformed("OUT_OF_RANGE", f"cases are 0 to {total}, the patients; not {cases}", field)
        for time, field in ((self.t1, "t1"), (self.t0, "t0")):
            if not (math.isfinite(time) and time >= 0):
                raise Malformed("OUT_OF_RANGE", f"person-time is 0 days or more, not {time}", field)

    def __add__(self, other: Cells) -> Cells:
        return Cells(
            self.a + other.a,
            self.n1 + other.n1,
            self.b + other.b,
            self.n0 + other.n0,
            self.t1 + other.t1,
            self.t0 + other.t0,
        )


@dataclass(frozen=True)
class Table(Generic[K]):
    """The strata of one lot's comparison at one site."""

    kind: K
    strata: Mapping[Stratum, Cells]
