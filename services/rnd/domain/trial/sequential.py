"""Group-sequential designs: boundaries, power, inflation and expected size.

The statistics of the looks are jointly normal with means theta sqrt(t_k) and correlations
sqrt(t_j / t_k); t are the fractions of the information, theta the drift (the mean at the end). What
crosses first at each look comes from the recursive integration of Armitage, McPherson and Rowe
(J R Stat Soc A 1969;132:235), as in Jennison and Turnbull, Group Sequential Methods, 2000, chapter 19.

    kind            boundary at look k of K, C solved so that the total error is alpha
    pocock          C
    obrien_fleming  C / sqrt(t_k)                          C sqrt(K / k) for equal steps
    wang_tsiatis    C t_k^(shape - 1/2)                    shape 0.5 is Pocock, 0 is O'Brien-Fleming
    spend_obf       one side spends 2 - 2 Phi(z_(1 - a/2) / sqrt(t)) up to t     Lan and DeMets 1983
    spend_pocock    one side spends a ln(1 + (e - 1) t) up to t

`alpha` is over `sides` together; with two sides each spends a = alpha / 2, and the test stops at
either. Power is that of crossing in the direction of the effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import numpy as np

from services.refusals import Malformed
from services.rnd.domain.errors import fraction, out_of_range
from services.rnd.domain.trial.distributions import (
    normal_quantile,
    normal_upper,
    normal_uppers,
    root,
)
from services.rnd.domain.trial.warfarin import Floats

Kind: TypeAlias = Literal["pocock", "obrien_fleming", "wang_tsiatis", "spend_obf", "spend_pocock"]
#: A look needs so much more information than the one before it, as a fraction of the maximum.
LEAST_STEP = 1e-3
MOST_LOOKS = 50
#: A look that may spend no more than this never stops the trial: its boundary is infinite.
LEAST_SPENT = 1e-12
_REACH = 8.5  # standard deviations from the mean beyond which nothing is integrated
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANEL = 4.0  # width of a panel of 16 nodes, in standard deviations of one step


@dataclass(frozen=True)
class Design:
    """What is fixed before the first look: its kind, the fractions of information at which it looks
    (rising, the last one 1), the error over all `sides`. Raises Malformed."""

    kind: Kind
    looks: tuple[float, ...]
    alpha: float = 0.05
    sides: int = 2
    shape: float = 0.25

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            said = f"the kind is one of {', '.join(get_args(Kind))}; this is {self.kind!r}"
            raise Malformed("UNKNOWN", said, "kind")
        _check(self.looks)
        if self.looks[-1] != 1:
            raise out_of_range("the last look is at fraction 1, for example looks (0.5, 1)", "looks")
        if self.sides not in (1, 2):
            raise out_of_range("a test has 1 or 2 sides", "sides")
        if not 0 < self.alpha < self.sides / 2:
            raise out_of_range(f"alpha is above 0 and below {self.sides / 2:g}", "alpha")
        if not -1 <= self.shape <= 1:
            raise out_of_range("the shape of Wang and Tsiatis is from -1 to 1", "shape")


def equal_steps(kind: Kind, count: int, alpha: float = 0.05, sides: int = 2, shape: float = 0.25) -> Design:
    """A design of so many looks, equally spaced. Raises Malformed."""
    if not 1 <= count <= MOST_LOOKS:
        raise out_of_range(f"a design has 1 to {MOST_LOOKS} looks", "looks")
    return Design(kind, (*(k / count for k in range(1, count)), 1.0), alpha, sides, shape)


@dataclass(frozen=True)
class Characteristics:
    """What a design costs. Sizes are in units of the fixed design's size with the same error and power.

    `critical` values are of the standardised statistic; `nominal` are their
    levels on one side. `inflation` is the largest size, `asn_h1` and `asn_h0` the
    expected ones with the effect and without; `drift` the mean of the
    statistic at the end under the effect. `spent` is the error of one side
    up to each look, `reached` the power up to each look.
    """

    critical: tuple[float, ...]
    nominal: tuple[float, ...]
    spent: tuple[float, ...]
    reached: tuple[float, ...]
    drift: float
    inflation: float
    asn_h1: float
    asn_h0: float


def characteristics(design: Design, power: float = 0.8) -> Characteristics:
    """Boundaries and sizes. Raises Malformed for a power that is not between one side's error and 1."""
    side = design.alpha / design.sides
    if not side < power < 1:
        raise out_of_range(f"the power is above {side:g}, the error of one side, and below 1", "power")
    bounds = boundaries(design)
    fixed = normal_quantile(side) + normal_quantile(1 - power)

    def short(drift: float) -> float:
        return sum(crossings(design.looks, bounds, drift, design.sides).upper) - power

    drift = root(short, 0.0, 2 * fixed + 4)
    with_effect = crossings(design.looks, bounds, drift, design.sides)
    without = crossings(design.looks, bounds, 0.0, design.sides)
    inflation = (drift / fixed) ** 2
    return Characteristics(
        critical=bounds,
        nominal=tuple(normal_upper(one) for one in bounds),
        spent=_summed(without.upper),
        reached=_summed(with_effect.upper),
        drift=drift,
        inflation=inflation,
        asn_h1=inflation * _expected(design.looks, with_effect),
        asn_h0=inflation * _expected(design.looks, without),
    )


def boundaries(design: Design) -> tuple[float, ...]:
    """The critical value at each look."""
    if design.kind in ("spend_obf", "spend_pocock"):
        found: list[float] = []
        for index, now in enumerate(design.looks):
            found.append(next_boundary(design, design.looks[:index], found, now))
        return tuple(found)
    exponent = {"pocock": 0.0, "obrien_fleming": -0.5}.get(design.kind, design.shape - 0.5)
    form = [t**exponent for t in design.looks]
    side = design.alpha / design.sides

    def saved(constant: float) -> float:
        bounds = [constant * one for one in form]
        return side - sum(crossings(design.looks, bounds, 0.0, design.sides).upper)

    # At the lower end one look alone spends all; at the upper end the looks together cannot (Bonferroni).
    low = normal_quantile(side) / max(form)
    high = normal_quantile(side / len(form)) / min(form)
    constant = low if len(form) == 1 else root(saved, min(low, high), high)
    return tuple(constant * one for one in form)


def next_boundary(design: Design, taken: Sequence[float], bounds: Sequence[float], now: float) -> float:
    """The critical value of a look at fraction `now`, under a spending design, after looks at fractions
    `taken` with these `bounds`.

    The looks need not be the planned ones: skipped, additional and uneven ones
    are judged by what may be spent at their own fraction. A fraction of 1 or more
    is the last look and spends what is left. Raises Malformed.
    """
    if design.kind not in ("spend_obf", "spend_pocock"):
        said = f"the boundaries of {design.kind} hold for its planned looks only; use a spending design"
        raise Malformed("NOT_SPENDING", said, "kind")
    if len(taken) != len(bounds):
        raise Malformed("MISMATCH", "every look taken has its boundary", "bounds")
    _check([*taken, now])
    before = spent(design, taken[-1]) if taken else 0.0
    wanted = spent(design, now) - before
    if taken and taken[-1] >= 1:
        raise Malformed("STOPPED", "the last look was taken at fraction 1; nothing is left to spend", "now")
    if wanted < LEAST_SPENT:
        return math.inf
    looks = [*taken, now]

    def saved(bound: float) -> float:
        return wanted - crossings(looks, [*bounds, bound], 0.0, design.sides).upper[-1]

    low = normal_quantile(min(0.5, spent(design, now))) - 1e-9 if design.sides == 1 else 0.0
    return root(saved, low, normal_quantile(wanted) + 1e-9)


def spent(design: Design, now: float) -> float:
    """What one side may spend up to a fraction of the information."""
    side = design.alpha / design.sides
    if now >= 1:
        return side
    if design.kind == "spend_obf":
        return 2 * normal_upper(normal_quantile(side / 2) / math.sqrt(now))
    return side * math.log1p((math.e - 1) * now)


@dataclass(frozen=True)
class Crossings:
    """The chance that the statistic first crosses at each look, above and below."""

    upper: tuple[float, ...]
    lower: tuple[float, ...]


def crossings(looks: Sequence[float], bounds: Sequence[float], drift: float, sides: int) -> Crossings:
    """First crossings of `bounds` (with two sides, also of their negatives) under a drift.

    Nodes of the statistic that went on at a look carry their chances to the
    next look: given the value u at t_j, the statistic at t_k is normal with
    mean (u sqrt(t_j) + drift (t_k - t_j)) / sqrt(t_k) and variance (t_k - t_j) / t_k.
    """
    masses, means, spread = np.ones(1), np.array([drift * math.sqrt(looks[0])]), 1.0
    upper, lower = [], []
    for index, (now, bound) in enumerate(zip(looks, bounds, strict=True)):
        upper.append(float(masses @ normal_uppers((bound - means) / spread)))
        lower.append(float(masses @ normal_uppers((bound + means) / spread)) if sides == 2 else 0.0)
        if index + 1 == len(looks):
            break
        after = looks[index + 1]
        step = math.sqrt((after - now) / after)
        centre = drift * math.sqrt(now)
        low = max(-bound, centre - _REACH) if sides == 2 else centre - _REACH
        high = min(bound, centre + _REACH)
        if high <= low:  # all but nothing goes on
            low, high = min(low, high), min(low, high) + 1e-9
        nodes, weights = _grid(low, high, min(spread, step))
        scaled = (nodes[:, None] - means) / spread
        density = np.exp(-0.5 * scaled**2) @ masses / (spread * math.sqrt(2 * math.pi))
        masses = weights * density
        means = (nodes * math.sqrt(now) + drift * (after - now)) / math.sqrt(after)
        spread = step
    return Crossings(tuple(upper), tuple(lower))


def conditional_power(z: float, now: float, critical: float, drift: float | None = None) -> float:
    """The chance to end above `critical` at fraction 1, given the statistic `z` at fraction `now`.

    Under the `drift` that was planned, or, when None, the one seen so far,
    z / sqrt(now). Only the final look counts. Raises Malformed.
    """
    fraction(now, "now")
    trend = z / math.sqrt(now) if drift is None else drift
    mean = z * math.sqrt(now) + trend * (1 - now)
    return normal_upper((critical - mean) / math.sqrt(1 - now))


def _expected(looks: Sequence[float], crossed: Crossings) -> float:
    """The expected fraction of the largest size."""
    stopped = [up + down for up, down in zip(crossed.upper, crossed.lower, strict=True)][:-1]
    return 1 - sum(chance * (1 - look) for chance, look in zip(stopped, looks, strict=False))


def _summed(chances: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.cumsum(chances).tolist())


def _check(looks: Sequence[float]) -> None:
    steps = [after - before for before, after in pairwise((0.0, *looks))]
    if (
        not 1 <= len(looks) <= MOST_LOOKS
        or not all(math.isfinite(one) for one in looks)
        or min(steps) < LEAST_STEP
    ):
        said = f"there are 1 to {MOST_LOOKS} looks, each at least {LEAST_STEP} after the one before it"
        raise out_of_range(f"{said}, for example (0.25, 0.5, 1)", "looks")


def _grid(low: float, high: float, spread: float) -> tuple[Floats, Floats]:
    """Nodes and weights for an integral of functions as narrow as `spread`."""
    panels = max(1, math.ceil((high - low) / (_PANEL * spread)))
    half = (high - low) / (2 * panels)
    middles = low + half * (2 * np.arange(panels) + 1)
    return (middles[:, None] + half * _NODES).ravel(), np.tile(half * _WEIGHTS, panels)
