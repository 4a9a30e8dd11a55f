"""Sequential testing of one lot: few planned looks, a fixed end, one budget of false alarms.

The statistic is the Mantel-Haenszel score U with its variance V as information
(`mantel_haenszel`). Over looks at information I_1 < I_2 < ... the values
Z_k = U_k / sqrt(I_k) are jointly normal with means theta sqrt(I_k) and
correlations sqrt(I_j / I_k), theta being the effect: the expected U for each
unit of information, 0 for a lot that does no harm. The test is one-sided: it
signals where Z_k reaches its boundary.

The boundaries spend alpha as Lan and DeMets do after O'Brien and Fleming
(Biometrika 1983;70:659): by the fraction t of the maximum information,

    alpha(t) = 2 - 2 Phi(z_(alpha/2) / sqrt(t))

is spent. A boundary is found by propagating the density of Z over the looks
that did not signal (Armitage, McPherson and Rowe, J R Stat Soc A 1969;132:235;
Jennison and Turnbull, Group Sequential Methods, 2000, chapter 19):

    g_k(z) = integral up to b_(k-1) of g_(k-1)(u) f(z | u) du
    Z_k given Z_(k-1) = u is normal: mean (u sqrt(I_(k-1)) + theta D) / sqrt(I_k), variance D / I_k,
    D = I_k - I_(k-1)

by Gauss-Legendre quadrature, exact to about 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.refusals import Malformed

Floats: TypeAlias = npt.NDArray[np.float64]

#: A look needs so much more information than the one before it, as a fraction of the maximum.
LEAST_STEP = 0.001
#: A look that may spend no more than this never signals: its boundary is infinite.
LEAST_SPENT = 1e-12
_REACH = 8.5  # standard deviations from the mean beyond which nothing is integrated
_PANEL = 4.0  # width of a panel of 16 nodes, in standard deviations of one step
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Design:
    """What is fixed before the first look.

    `max_information`: the V at which the test ends. `looks`: the fractions of
    it at which to look, rising, the last one 1. `alpha`: one-sided, over all
    looks together. Raises Malformed.
    """

    max_information: float
    looks: tuple[float, ...]
    alpha: float = 0.025

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_information) and self.max_information > 0):
            raise Malformed("OUT_OF_RANGE", "the maximum information is above 0", "max_information")
        if not 0 < self.alpha < 0.5:
            raise Malformed("OUT_OF_RANGE", "alpha is above 0 and below 0.5", "alpha")
        steps = [after - before for before, after in pairwise((0.0, *self.looks))]
        if not self.looks or self.looks[-1] != 1 or min(steps) < LEAST_STEP:
            said = f"looks rise by at least {LEAST_STEP} and end with 1, for example (0.25, 0.5, 0.75, 1)"
            raise Malformed("OUT_OF_RANGE", said, "looks")


@dataclass(frozen=True)
class Look:
    """A look that was taken, and the boundary that its `z` had to reach."""

    information: float
    z: float
    boundary: float

    @property
    def signal(self) -> bool:
        return self.z >= self.boundary


def look(design: Design, taken: Sequence[Look], score: float, information: float) -> Look:
    """The next look. `taken` are those before it, in order.

    A planned look is due when its information is reached. It is judged at the
    information there is, so looks that were skipped cost no alpha; at the
    maximum or beyond, the look is the last and spends what is left. Raises
    Malformed for a look that is not due, and after a signal or the last look.
    """
    due = next_due(design, taken)
    if due is None:
        raise Malformed("STOPPED", "the test has signalled, or took its last look; it is over", "information")
    if not due <= information < math.inf:
        said = f"the next look is planned at information {due:.6g}, this is {information:.6g}; wait for it"
        raise Malformed("NOT_PLANNED", said, "information")
    fractions = [past.information / design.max_information for past in taken]
    boundary = _next_boundary(fractions, [past.boundary for past in taken], information, design)
    return Look(information, score / math.sqrt(information), boundary)


def next_due(design: Design, taken: Sequence[Look]) -> float | None:
    """The information at which the next look is due; None when the test is over."""
    before = taken[-1].information if taken else 0.0
    if (taken and taken[-1].signal) or _reached(design, before) == len(design.looks):
        return None
    due = design.max_information * design.looks[_reached(design, before)]
    return max(due, before + LEAST_STEP * design.max_information)


def boundaries(looks: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The boundaries at looks that are taken at exactly these fractions of the information."""
    design = Design(1.0, tuple(looks), alpha)
    found: list[float] = []
    for index, fraction in enumerate(design.looks):
        found.append(_next_boundary(design.looks[:index], found, fraction, design))
    return tuple(found)


def crossing(looks: Sequence[float], bounds: Sequence[float], drift: float) -> tuple[float, ...]:
    """The chance of the first signal at each look. `drift` is theta times the root of the maximum
    information: the mean of Z at fraction 1."""
    return tuple(step.beyond(bound) for step, bound in zip(_steps(looks, bounds, drift), bounds, strict=True))


@dataclass(frozen=True)
class Expected:
    """A stratum as planned: its share of all patients (or any number in proportion to it), the
    exposed among them, and the comparators' risk."""

    weight: float
    exposed_share: float
    risk: float


def sized(
    risk_ratio: float,
    strata: Sequence[Expected],
    looks: Sequence[float],
    alpha: float = 0.025,
    power: float = 0.9,
) -> Design:
    """The design that finds a true `risk_ratio`, the same in all strata, with the stated power.

    For many patients: with f exposed, risks p1 and p0 of the two arms and p of
    both together, one patient adds to the expected U, to V and to the true
    variance of U

        f (1 - f) times  p1 - p0,  p (1 - p),  (1 - f) p1 (1 - p1) + f p0 (1 - p0)

    theta is the first over the second; the third over the second is by how
    much the variance of Z exceeds 1 where there is an effect. Raises Malformed.
    """
    if not 1 < risk_ratio < math.inf:
        raise Malformed("OUT_OF_RANGE", "the risk ratio to find is above 1", "risk_ratio")
    if not alpha < power < 1:
        raise Malformed("OUT_OF_RANGE", "the power is above alpha and below 1", "power")
    if not strata:
        raise Malformed("REQUIRED", "name at least one stratum", "strata")
    terms = [_expected(risk_ratio, stratum, f"strata[{index}]") for index, stratum in enumerate(strata)]
    score, information, variance = (math.fsum(column) for column in zip(*terms, strict=True))
    drift = drift_for(looks, alpha, power, math.sqrt(variance / information))
    return Design((drift * information / score) ** 2, tuple(looks), alpha)


def drift_for(looks: Sequence[float], alpha: float, power: float, deviation: float = 1.0) -> float:
    """The drift at which the looks together signal with the stated power.

    `deviation` is that of Z under the effect; dividing Z and its bounds by it leaves the chances as they are.
    """
    bounds = [bound / deviation for bound in boundaries(looks, alpha)]
    low, high = 0.0, 2 * _REACH
    while high - low > 1e-10:
        middle = (low + high) / 2
        enough = sum(crossing(looks, bounds, middle)) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high * deviation


def _expected(risk_ratio: float, stratum: Expected, field: str) -> tuple[float, float, float]:
    """What a stratum adds to the expected U, to V and to the variance of U."""
    f, p0, p1 = stratum.exposed_share, stratum.risk, stratum.risk * risk_ratio
    if not 0 < stratum.weight < math.inf:
        raise Malformed("OUT_OF_RANGE", "a stratum's weight is above 0", f"{field}.weight")
    if not 0 < f < 1:
        raise Malformed("OUT_OF_RANGE", "the exposed share is within 0 and 1", f"{field}.exposed_share")
    if not 0 < p0 < p1 < 1:
        raise Malformed("OUT_OF_RANGE", "the risk, also times the ratio, is within 0 and 1", f"{field}.risk")
    p, weight = f * p1 + (1 - f) * p0, stratum.weight * f * (1 - f)
    return (
        weight * (p1 - p0),
        weight * p * (1 - p),
        weight * ((1 - f) * p1 * (1 - p1) + f * p0 * (1 - p0)),
    )


def spent(fraction: float, alpha: float) -> float:
    """How much of alpha may be spent up to a fraction of the maximum information."""
    if fraction >= 1:
        return alpha
    return 2 * _upper(-_NORMAL.inv_cdf(alpha / 2) / math.sqrt(fraction))


@dataclass(frozen=True)
class _Step:
    """From the looks before to one more. Each node of Z at the look before has its chance in `masses`;
    from there, Z at this look is normal with its mean in `means` and the deviation `spread`."""

    masses: Floats
    means: Floats
    spread: float

    def beyond(self, bound: float) -> float:
        """The chance that Z is at or beyond the bound."""
        tails = np.array([_upper((bound - mean) / self.spread) for mean in self.means.tolist()])
        return float(self.masses @ tails)

    def density(self, at: Floats) -> Floats:
        scaled = (at[:, None] - self.means) / self.spread
        result: Floats = np.exp(-0.5 * scaled**2) @ self.masses / (self.spread * math.sqrt(2 * math.pi))
        return result


def _steps(looks: Sequence[float], bounds: Sequence[float], drift: float) -> Iterator[_Step]:
    """The step to each look, of what stayed below the bounds before it (one fewer than looks will do)."""
    step = _Step(np.ones(1), np.array([drift * math.sqrt(looks[0])]), 1.0)
    yield step
    for (before, now), bound in zip(pairwise(looks), bounds, strict=False):
        spread = math.sqrt((now - before) / now)
        centre = drift * math.sqrt(before)
        high = min(bound, centre + _REACH)
        nodes, weights = _grid(min(centre - _REACH, high), high, min(step.spread, spread))
        means = (nodes * math.sqrt(before) + drift * (now - before)) / math.sqrt(now)
        step = _Step(weights * step.density(nodes), means, spread)
        yield step


def _next_boundary(
    fractions: Sequence[float], bounds: Sequence[float], information: float, design: Design
) -> float:
    """The bound that spends what may be spent now, given the looks before.

    The chance of a first signal lies between that of Z being beyond, less what
    was spent before, and that of Z being beyond: the bracket. Newton's method
    from its lower end, where the chance is convex, does not leave it.
    """
    now = information / design.max_information
    total = spent(now, design.alpha)
    wanted = total - (spent(fractions[-1], design.alpha) if fractions else 0.0)
    if wanted < LEAST_SPENT:
        return math.inf
    *_, step = _steps([*fractions, now], bounds, 0.0)
    bound, highest = _quantile(total), _quantile(wanted)
    for _ in range(50):
        slope = float(step.density(np.array([bound]))[0])
        change = (step.beyond(bound) - wanted) / slope
        bound = min(bound + change, highest)
        if abs(change) < 1e-12:
            break
    return bound


def _reached(design: Design, information: float) -> int:
    """How many of the planned looks the information has reached."""
    return sum(design.max_information * fraction <= information for fraction in design.looks)


def _grid(low: float, high: float, spread: float) -> tuple[Floats, Floats]:
    """Nodes and weights for an integral of functions as narrow as `spread`."""
    panels = max(1, math.ceil((high - low) / (_PANEL * spread)))
    nodes, weights = _legendre()
    half = (high - low) / (2 * panels)
    middles = low + half * (2 * np.arange(panels) + 1)
    return (middles[:, None] + half * nodes).ravel(), np.tile(half * weights, panels)


@cache
def _legendre() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(16)
    return nodes, weights


def _upper(z: float) -> float:
    """The chance that a standard normal value is above z, also far out."""
    return math.erfc(z / math.sqrt(2)) / 2


def _quantile(upper: float) -> float:
    """The value that is exceeded with this chance."""
    return -_NORMAL.inv_cdf(upper)
