"""Mantel-Haenszel estimates from terms that add over strata and over sites.

A site gives away only `Sums`. Because every estimate is made of sums over
strata, and no stratum spans two sites, adding the sums of the sites gives the
estimate of the pooled rows itself, not an average of estimates.

With a, n1, b, n0, t1, t0 of one stratum (`Cells`), N = n1 + n0, T = t1 + t0, m = a + b:

    risk ratio        R = a n0 / N,  S = b n1 / N,  P = (n1 n0 m - a b N) / N^2
                      RR = sum R / sum S,  var(ln RR) = sum P / (sum R  sum S)
    rate difference   D = (a t0 - b t1) / T,  W = t1 t0 / T,  Q = (a t0^2 + b t1^2) / T^2
                      RD = sum D / sum W,  var(RD) = sum Q / (sum W)^2
    test of no effect U = a - n1 m / N = R - S,  V = n1 n0 m (N - m) / (N^2 (N - 1))
                      chi^2 = (sum U)^2 / sum V, without continuity correction

Sources: Mantel and Haenszel, J Natl Cancer Inst 1959;22:719; Greenland and
Robins, Biometrics 1985;41:55 (both variances). They hold for few large as well
as for many sparse strata.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, Literal

from services.clinical.domain.evidence.tables import Cells, K, Table
from services.refusals import Malformed

#: Why an estimate, or its interval, is not given. Only strata with both arms are looked at. The last two are
#: of laboratory results (`labs`).
Reason = Literal[
    "",
    "NO_CASES",
    "NO_EXPOSED_CASES",
    "NO_COMPARATOR_CASES",
    "NO_PERSON_TIME",
    "NO_RESULTS",
    "FEW_RESULTS",
]


@dataclass(frozen=True)
class Sums(Generic[K]):
    """Sums over strata of the terms above, named as there. Those of rates are in days."""

    kind: K
    r: float = 0.0
    s: float = 0.0
    p: float = 0.0
    d: float = 0.0
    w: float = 0.0
    q: float = 0.0
    v: float = 0.0

    @property
    def score(self) -> float:
        """Cases among the exposed beyond what is expected without an effect; its variance is `v`."""
        return self.r - self.s

    def __add__(self, other: Sums[K]) -> Sums[K]:
        """Raises Malformed where one is of prompted and the other of routine outcomes."""
        if self.kind != other.kind:
            said = "prompted and routine outcomes are not pooled; add sums of one kind"
            raise Malformed("KINDS_DIFFER", said, "kind")
        return Sums(self.kind, *(x + y for x, y in zip(_terms(self), _terms(other), strict=True)))


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval; None, and the reason, where the data give none.

    `standard_error` is that of the logarithm of a ratio, or of a difference.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    standard_error: float | None = None
    reason: Reason = ""


def sums(table: Table[K]) -> Sums[K]:
    """What a site adds to the pooled estimates. A stratum with one arm only adds nothing."""
    columns = zip(*(_of(cells) for _, cells in sorted(table.strata.items())), strict=True)
    return Sums(table.kind, *(math.fsum(column) for column in columns))


def risk_ratio(total: Sums[K], level: float = 0.95) -> Estimate:
    """Risk of the exposed over that of the comparators; interval on the log scale.

    Without a case among the exposed the ratio is 0 and has no interval;
    without one among the comparators there is none. Nothing is added to cells.
    """
    z = _quantile(level)
    if total.s == 0:
        return Estimate(None, reason="NO_COMPARATOR_CASES" if total.r else "NO_CASES")
    if total.r == 0:
        return Estimate(0.0, reason="NO_EXPOSED_CASES")
    ratio, error = total.r / total.s, math.sqrt(total.p / (total.r * total.s))
    return Estimate(ratio, ratio * math.exp(-z * error), ratio * math.exp(z * error), error)


def rate_difference(total: Sums[K], level: float = 0.95) -> Estimate:
    """Rate of the exposed less that of the comparators, in cases a day.

    Needs one stratum with person-time in both arms. Without any case it is 0
    and has no interval: an estimated variance of 0 would feign certainty.
    """
    z = _quantile(level)
    if total.w == 0:
        return Estimate(None, reason="NO_PERSON_TIME")
    difference, error = total.d / total.w, math.sqrt(total.q) / total.w
    if error == 0:
        return Estimate(difference, reason="NO_CASES")
    return Estimate(difference, difference - z * error, difference + z * error, error)


def chi_square(total: Sums[K]) -> float | None:
    """The test of no effect (1 degree of freedom, no continuity correction); None without information."""
    return total.score**2 / total.v if total.v > 0 else None


def _terms(total: Sums[K]) -> tuple[float, ...]:
    return total.r, total.s, total.p, total.d, total.w, total.q, total.v


def _of(cells: Cells) -> tuple[float, ...]:
    """The terms of one stratum, in the order of `Sums`."""
    return *_risk(cells), *_rate(cells), _information(cells)


def _risk(cells: Cells) -> tuple[float, float, float]:
    a, n1, b, n0 = cells.a, cells.n1, cells.b, cells.n0
    if not (n1 and n0):
        return 0.0, 0.0, 0.0
    n = n1 + n0
    return a * n0 / n, b * n1 / n, (n1 * n0 * (a + b) - a * b * n) / n**2


def _rate(cells: Cells) -> tuple[float, float, float]:
    a, b, t1, t0 = cells.a, cells.b, cells.t1, cells.t0
    if not (t1 and t0):
        return 0.0, 0.0, 0.0
    t = t1 + t0
    return (a * t0 - b * t1) / t, t1 * t0 / t, (a * t0**2 + b * t1**2) / t**2


def _information(cells: Cells) -> float:
    n1, n0, m = cells.n1, cells.n0, cells.a + cells.b
    if not (n1 and n0):
        return 0.0
    n = n1 + n0
    return n1 * n0 * m * (n - m) / (n**2 * (n - 1))


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise Malformed("OUT_OF_RANGE", f"a level is between 0 and 1, for example 0.95; not {level}", "level")
    return NormalDist().inv_cdf((1 + level) / 2)
