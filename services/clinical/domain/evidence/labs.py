"""Laboratory results of the exposed beside those of their comparators.

Results of one test in one unit are compared by geometric means, for what
laboratories measure in blood is skewed to the right and faults multiply it.
With x the logarithms of n1 exposed and y those of n0 comparators, and s^2 their
variances (n - 1):

    ratio = exp(mean x - mean y),  var(ln ratio) = s1^2 / n1 + s0^2 / n0

(Altman, Practical Statistics for Medical Research, 1991, section 9.6). The
interval is that of large samples, and left out below ten results in an arm. It
is crude: not by product, age or sex, which few results would not bear.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

from services.clinical.domain.evidence.mantel_haenszel import Estimate

#: Fewest results of an arm for an interval.
FEWEST = 10
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Read:
    """A result as it was read: the newest of a patient and a test (LOINC code, UCUM unit)."""

    code: str
    unit: str
    exposed: bool
    value: float


@dataclass(frozen=True)
class Compared:
    """One test in one unit: results and geometric mean of each arm (None without any), and their ratio."""

    code: str
    unit: str
    exposed: int
    comparators: int
    exposed_mean: float | None
    comparator_mean: float | None
    ratio: Estimate


def compared(read: Iterable[Read]) -> list[Compared]:
    """By test and unit. Results that are not above 0 have no logarithm and are left out."""
    found: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for one in read:
        if one.value > 0:
            found[one.code, one.unit][one.exposed].append(math.log(one.value))
    return [_compared(*test, arms[True], arms[False]) for test, arms in sorted(found.items())]


def _compared(code: str, unit: str, exposed: list[float], others: list[float]) -> Compared:
    return Compared(
        code, unit, len(exposed), len(others), _mean(exposed), _mean(others), _ratio(exposed, others)
    )


def _mean(logs: list[float]) -> float | None:
    return math.exp(fmean(logs)) if logs else None


def _ratio(exposed: list[float], others: list[float]) -> Estimate:
    if not exposed or not others:
        return Estimate(None, reason="NO_RESULTS")
    middle = fmean(exposed) - fmean(others)
    if min(len(exposed), len(others)) < FEWEST:
        return Estimate(math.exp(middle), reason="FEW_RESULTS")
    half = _Z * math.sqrt(variance(exposed) / len(exposed) + variance(others) / len(others))
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
