"""Dose finding by BOIN, the Bayesian optimal interval design (Liu and Yuan, J R Stat Soc C 2015;64:507).

With phi the toxicity rate aimed at, phi1 = 0.6 phi and phi2 = 1.4 phi by default,

    lambda_e = ln((1 - phi1) / (1 - phi)) / ln(phi (1 - phi1) / (phi1 (1 - phi)))
    lambda_d = ln((1 - phi) / (1 - phi2)) / ln(phi2 (1 - phi) / (phi (1 - phi2)))

escalate when the observed rate is at most lambda_e, de-escalate when at least lambda_d, else stay.
With 3 patients or more, a dose and all above it are eliminated when Pr(p > phi | data) is above the
cutoff under a Beta(1, 1) prior; when that is the lowest dose, the trial stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from services.refusals import Malformed
from services.rnd.domain.errors import out_of_range

Decision: TypeAlias = Literal["escalate", "stay", "de-escalate", "eliminate", "stop"]
#: So many patients a dose needs before it is eliminated.
LEAST_PATIENTS = 3


@dataclass(frozen=True)
class Boin:
    """The target rate, the rates that are too low and too high, and when a dose is eliminated. Raises
    Malformed for a target outside 0.05 to 0.6, or rates within a tenth of it."""

    target: float
    low: float | None = None
    high: float | None = None
    cutoff: float = 0.95

    def __post_init__(self) -> None:
        if not 0.05 <= self.target <= 0.6:
            raise out_of_range("the target toxicity rate is from 0.05 to 0.6", "target")
        if not 0 < self.too_low <= 0.9 * self.target:
            raise out_of_range("the rate that is too low is above 0 and at most 0.9 of the target", "low")
        if not 1.1 * self.target <= self.too_high < 1:
            raise out_of_range("the rate that is too high is at least 1.1 of the target, below 1", "high")
        if not 0.5 < self.cutoff < 1:
            raise out_of_range("the cutoff is above 0.5 and below 1", "cutoff")

    @property
    def too_low(self) -> float:
        return 0.6 * self.target if self.low is None else self.low

    @property
    def too_high(self) -> float:
        return 1.4 * self.target if self.high is None else self.high

    @property
    def lambda_e(self) -> float:
        """Escalate at an observed rate of at most this."""
        low, target = self.too_low, self.target
        return math.log((1 - low) / (1 - target)) / math.log(target * (1 - low) / (low * (1 - target)))

    @property
    def lambda_d(self) -> float:
        """De-escalate at an observed rate of at least this."""
        high, target = self.too_high, self.target
        return math.log((1 - target) / (1 - high)) / math.log(high * (1 - target) / (target * (1 - high)))


@dataclass(frozen=True)
class Boundary:
    """At `patients` on a dose: escalate at `escalate` toxicities or fewer, de-escalate at `de_escalate`
    or more, eliminate at `eliminate` or more (None: never at so few)."""

    patients: int
    escalate: int
    de_escalate: int
    eliminate: int | None


def boundary(design: Boin, patients: int) -> Boundary:
    """The boundaries at so many patients on a dose. Raises Malformed below 1."""
    if patients < 1:
        raise out_of_range("a boundary needs at least one patient", "patients")
    eliminate = None
    if patients >= LEAST_PATIENTS:
        eliminate = next((y for y in range(1, patients + 1) if too_toxic(design, y, patients)), None)
    # What the two products miss of a whole number by rounding alone is not a step.
    escalate = math.floor(design.lambda_e * patients + 1e-12)
    down = math.ceil(design.lambda_d * patients - 1e-12)
    return Boundary(patients, escalate, down if eliminate is None else min(down, eliminate), eliminate)


def table(design: Boin, patients: Sequence[int]) -> tuple[Boundary, ...]:
    """The boundaries at each number of patients, as a protocol prints them."""
    return tuple(boundary(design, one) for one in patients)


def too_toxic(design: Boin, toxicities: int, patients: int) -> bool:
    """Whether Pr(p > target) is above the cutoff under a Beta(1, 1) prior.

    With whole numbers the Beta tail is a binomial one: p | data is
    Beta(1 + y, 1 + n - y), above phi with the chance of at most y events in n + 1.
    """
    phi, trials = design.target, patients + 1
    terms = (math.comb(trials, k) * phi**k * (1 - phi) ** (trials - k) for k in range(toxicities + 1))
    return math.fsum(terms) > design.cutoff


@dataclass(frozen=True)
class Next:
    """What to do after a cohort: the decision, the level to treat next (from 0; None when the trial
    stops), the levels still open, and why in a sentence."""

    decision: Decision
    level: int | None
    open_levels: int
    reason: str


def after_cohort(
    design: Boin,
    patients: Sequence[int],
    toxicities: Sequence[int],
    level: int,
    open_levels: int | None = None,
) -> Next:
    """The next dose after a cohort on `level`. Cohorts may be of any size.

    `patients` and `toxicities` count all so far at each level; `open_levels`:
    levels from this one on were eliminated before (all open when None). Raises Malformed.
    """
    still = len(patients) if open_levels is None else open_levels
    _check(patients, toxicities)
    if not 0 <= level < still <= len(patients):
        raise out_of_range("the level treated is an open one", "level")
    if not patients[level]:
        raise out_of_range("somebody was treated on the level", "patients")
    return _moved(boundary(design, patients[level]), toxicities[level], level, still)


def _moved(at: Boundary, y: int, level: int, still: int) -> Next:
    n = at.patients
    seen = f"{y} of {n} patients with toxicity"
    if at.eliminate is not None and y >= at.eliminate:
        if level == 0:
            return Next("stop", None, 0, f"{seen}: the lowest dose is too toxic, no dose is selected")
        return Next("eliminate", level - 1, level, f"{seen}: this dose and all above it are eliminated")
    if y <= at.escalate and level + 1 < still:
        return Next("escalate", level + 1, still, f"{seen}, at most {at.escalate}")
    if y >= at.de_escalate and level > 0:
        return Next("de-escalate", level - 1, still, f"{seen}, at least {at.de_escalate}")
    why = f"between {at.escalate} and {at.de_escalate}"
    if y <= at.escalate:
        why = f"at most {at.escalate}, but this is the highest open dose"
    elif y >= at.de_escalate:
        why = f"at least {at.de_escalate}, but this is the lowest dose"
    return Next("stay", level, still, f"{seen}, {why}")


def selected(design: Boin, patients: Sequence[int], toxicities: Sequence[int]) -> int | None:
    """The maximum tolerated dose: the level whose rate, made to rise with dose, is closest to the target.

    Rates are (y + 0.05) / (n + 0.1), pooled by isotonic regression over the
    levels treated and not eliminated; of equals, the higher below the target and
    the lower above it. None when the lowest dose is eliminated or nobody was treated. Raises Malformed.
    """
    _check(patients, toxicities)
    levels = []
    for level, (n, y) in enumerate(zip(patients, toxicities, strict=True)):
        if n >= LEAST_PATIENTS and too_toxic(design, y, n):
            break
        if n:
            levels.append(level)
    if not levels:
        return None
    raw = [(toxicities[one] + 0.05) / (patients[one] + 0.1) for one in levels]
    weights = [  # inverse variances of the Beta posterior
        (patients[one] + 0.1) ** 2
        * (patients[one] + 1.1)
        / ((toxicities[one] + 0.05) * (patients[one] - toxicities[one] + 0.05))
        for one in levels
    ]
    rising = _isotonic(raw, weights)
    # A hair that rises with the level breaks ties: it favours higher doses below the target, lower above.
    distance = [abs(rate + 1e-10 * order - design.target) for order, rate in enumerate(rising)]
    return levels[distance.index(min(distance))]


def _isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising sequence closest to the values by weighted least squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            total = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]


def _check(patients: Sequence[int], toxicities: Sequence[int]) -> None:
    if not patients or len(patients) != len(toxicities):
        raise Malformed("MISMATCH", "every level has its patients and its toxicities", "toxicities")
    if any(not 0 <= y <= n for n, y in zip(patients, toxicities, strict=True)):
        raise out_of_range("toxicities are from 0 to the patients of the level", "toxicities")
