"""The warfarin twin: INR under daily doses, by Xia et al., Sci Rep 2024;14:14894.

A K-PD model of Han Chinese patients (646 patients, 9 centres): no plasma
data, the amount of drug drives the effect. Units: h, mg, mg/L, L/h.

    CL    = (0.174 n1 + 0.0879 n2 + 0.0422 n3) (1 - 0.00571 (AGE - 71)),    V = 14.3
    EC50  = (4.3 nG + 1.14 nA) (WT / 60)^1.34 (1 - 0.602 AMIO) e^eta,       eta ~ N(0, ln(1 + 0.558^2))
    A     falls by CL / V; each dose is added at once;   C = A / V
    E     = C^1.39 / (EC50^1.39 + C^1.39)
    two chains of three, all from 1:  dS1 = k (1 - E - S1), dS2 = k (S1 - S2), dS3 = k (S2 - S3),
            k = 3 / 27.2 for S and 3 / 110.9 for L
    INR   = INR0 + 20 (1 - (S3 + L3) / 2),    observed: INR (1 + eps), SD(eps) = 0.365

How it is solved: within a dosing interval A is an exponential, so E is known in closed form, and
the chains are linear in 1 - E. E is replaced by the polynomial through its values at `NODES`
Chebyshev points of the interval, and the chains are solved exactly for that polynomial; they
restart at every dose. The weights are the same for all subjects, so an interval costs a subject
one power, `NODES` divisions and a few dozen multiplications. E is so smooth in a day that INR is
within 1e-6 of what a solver with a fine step gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.refusals import Malformed
from services.rnd.domain.errors import out_of_range, positive

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

VOLUME = 14.3
HILL = 1.39
CLEARANCE = (0.174, 0.0879, 0.0422)
AGE_EFFECT, AGE_REFERENCE = -0.00571, 71.0
WEIGHT_REFERENCE = 60.0
TRANSIT_RATES = (3 / 27.2, 3 / 110.9)
LARGEST_RISE = 20.0
#: Of eta, from its coefficient of variation.
VARIANCE = math.log(1 + 0.558**2)
NODES = 5
#: So many subjects are worked on together, so that their numbers stay in the processor's cache.
BLOCK = 2048
_CHAIN = 3


@dataclass(frozen=True)
class Estimates:
    """The estimated parameters, each with its relative standard error where `uncertain` draws it anew.

    A field is one number, or one for each subject. `variance` is that of eta.
    """

    ec50_g: Floats | float = 4.3
    ec50_a: Floats | float = 1.14
    weight_exponent: Floats | float = 1.34
    amiodarone: Floats | float = -0.602
    variance: Floats | float = VARIANCE
    residual: Floats | float = 0.365


PUBLISHED = Estimates()
#: What was estimated, with its relative standard error: the paper gives eta by its coefficient of variation.
_ESTIMATED = {
    "ec50_g": 4.3,
    "ec50_a": 1.14,
    "weight_exponent": 1.34,
    "amiodarone": -0.602,
    "cv": 0.558,
    "residual": 0.365,
}
RELATIVE_ERRORS = {
    "ec50_g": 0.163,
    "ec50_a": 0.077,
    "weight_exponent": 0.343,
    "amiodarone": 0.467,
    "cv": 0.082,
    "residual": 0.041,
}


def uncertain(rng: np.random.Generator, count: int) -> Estimates:
    """`count` draws of the estimates from their uncertainty, each independent and normal.

    What cannot be is moved to the edge of what can: EC50 of at least 5 % of its
    estimate, amiodarone that takes off at most 95 % of EC50, no negative deviation.
    """

    # A row for each draw, so that more draws begin with the same ones.
    normal = rng.standard_normal((count, len(RELATIVE_ERRORS)))
    drawn = {
        name: value * (1 + RELATIVE_ERRORS[name] * normal[:, place])
        for place, (name, value) in enumerate(_ESTIMATED.items())
    }
    return Estimates(
        ec50_g=np.maximum(drawn["ec50_g"], 0.05 * _ESTIMATED["ec50_g"]),
        ec50_a=np.maximum(drawn["ec50_a"], 0.05 * _ESTIMATED["ec50_a"]),
        weight_exponent=drawn["weight_exponent"],
        amiodarone=np.maximum(drawn["amiodarone"], -0.95),
        variance=np.log1p(np.maximum(drawn["cv"], 0.0) ** 2),
        residual=np.maximum(drawn["residual"], 0.0),
    )


def chosen(drawn: Estimates, which: Ints) -> Estimates:
    """For each subject, the draw of the estimates that it lives under."""
    columns = {one.name: getattr(drawn, one.name) for one in fields(drawn)}
    return Estimates(**{name: column[which] for name, column in columns.items()})


@dataclass(frozen=True)
class Patients:
    """Virtual patients; each field holds one value a patient. Raises Malformed.

    `age` in years, `weight` in kg; `star1`, `star2`, `star3`: alleles of CYP2C9
    (two in all), `g`: G alleles of VKORC1 -1639 (0 to 2); `amiodarone` and
    `female` 0 or 1; `inr0`: INR before the first dose; `eta`: standard normal,
    scaled by the model's deviation when EC50 is computed.
    """

    age: Floats
    weight: Floats
    star1: Ints
    star2: Ints
    star3: Ints
    g: Ints
    amiodarone: Ints
    female: Ints
    inr0: Floats
    eta: Floats

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, one.name)) for one in fields(self)}
        if len(lengths) != 1:
            raise Malformed("MISMATCH", "every field names equally many patients", "patients")
        rules = (
            ("age", "age is from 0 to 120 years", (self.age >= 0) & (self.age <= 120)),
            ("weight", "weight is above 0 and at most 400 kg", (self.weight > 0) & (self.weight <= 400)),
            ("inr0", "INR before treatment is above 0 and finite", (self.inr0 > 0) & np.isfinite(self.inr0)),
            ("g", "a patient has 0, 1 or 2 G alleles of VKORC1", np.isin(self.g, (0, 1, 2))),
            ("amiodarone", "amiodarone is 0 or 1", np.isin(self.amiodarone, (0, 1))),
            ("eta", "eta is finite", np.isfinite(self.eta)),
        )
        for field, rule, holds in rules:
            if not np.all(holds):
                raise out_of_range(rule, field)
        alleles = np.stack([self.star1, self.star2, self.star3])
        if np.any(alleles < 0) or np.any(alleles.sum(axis=0) != 2):
            raise out_of_range("a patient has two alleles of CYP2C9 in all", "star1")

    def __len__(self) -> int:
        return len(self.age)

    def part(self, which: slice) -> Patients:
        return Patients(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def joined(parts: Sequence[Patients]) -> Patients:
    """The patients of all parts, in order."""
    return Patients(
        **{one.name: np.concatenate([getattr(p, one.name) for p in parts]) for one in fields(Patients)}
    )


def clearance(patients: Patients) -> Floats:
    """CL of each patient, L/h."""
    one, two, three = CLEARANCE
    alleles = one * patients.star1 + two * patients.star2 + three * patients.star3
    result: Floats = alleles * (1 + AGE_EFFECT * (patients.age - AGE_REFERENCE))
    return result


def typical_ec50(patients: Patients, estimates: Estimates = PUBLISHED) -> Floats:
    """EC50 in mg/L of a patient with these covariates and eta 0."""
    alleles = estimates.ec50_g * patients.g + estimates.ec50_a * (2 - patients.g)
    scale = (patients.weight / WEIGHT_REFERENCE) ** estimates.weight_exponent
    result: Floats = alleles * scale * (1 + estimates.amiodarone * patients.amiodarone)
    return result


def ec50(patients: Patients, estimates: Estimates = PUBLISHED) -> Floats:
    """EC50 of each patient, mg/L."""
    result: Floats = typical_ec50(patients, estimates) * np.exp(np.sqrt(estimates.variance) * patients.eta)
    return result


@dataclass(frozen=True)
class Course:
    """INR over time. `inr` has the shape (days, hours after the dose, patients); `hours[j]` after the
    dose of day i is `24 i + hours[j]` hours (for an interval of 24) after the first dose."""

    hours: tuple[float, ...]
    interval: float
    inr: Floats

    def time(self, day: int, which: int) -> float:
        """Hours since the first dose."""
        return day * self.interval + self.hours[which]


def simulate(
    patients: Patients,
    doses: npt.ArrayLike,
    *,
    hours: Sequence[float] = (0.0, 6.0, 12.0, 18.0),
    estimates: Estimates = PUBLISHED,
    interval: float = 24.0,
) -> Course:
    """The INR that the model gives, without residual error.

    `doses` (mg) is of shape (days, patients), or (days, 1) for the same to
    all; the dose of a day is taken at its hour 0, and the INR at hour 0 is that
    just before it (INR does not jump). `hours` are within an interval (h).
    Raises Malformed.
    """
    positive(interval, "interval")
    amounts = np.asarray(doses, dtype=np.float64)
    if amounts.ndim != 2 or amounts.shape[1] not in (1, len(patients)) or not amounts.shape[0]:
        raise Malformed("MISMATCH", f"doses are days by {len(patients)} patients, or days by 1", "doses")
    if not np.all(np.isfinite(amounts) & (amounts >= 0)):
        raise out_of_range("a dose is finite and not below 0 mg", "doses")
    if not hours or min(hours) < 0 or max(hours) > interval:
        raise out_of_range(f"hours after the dose are from 0 to the interval of {interval:g}", "hours")
    solver = _solver(tuple(hours), interval)
    inr = np.empty((len(amounts), len(hours), len(patients)))
    rate, half = clearance(patients) / VOLUME, ec50(patients, estimates)
    if np.any(rate <= 0):
        raise out_of_range("clearance is above 0; the model ends at an age of 246", "age")
    for begin in range(0, len(patients), BLOCK):
        part = slice(begin, begin + BLOCK)
        taken = amounts if amounts.shape[1] == 1 else amounts[:, part]
        solver.run(rate[part], half[part], taken, patients.inr0[part], inr[:, :, part])
    return Course(tuple(hours), interval, inr)


def observed(inr: Floats, errors: Floats, estimates: Estimates = PUBLISHED) -> Floats:
    """INR as a laboratory reads it, given standard normal errors of the same shape; never below 0.1."""
    read: Floats = np.maximum(inr * (1 + estimates.residual * errors), 0.1)
    return read


@dataclass(frozen=True)
class _Solver:
    """What is the same for all subjects: nodes of the interval, and the linear maps over it.

    With x the six compartments and u = 1 - E at the nodes, the compartments
    after the interval are `carry @ x + drive @ u`, and (S3 + L3) / 2 at each of
    the hours is `read_x @ x + read_u @ u`.
    """

    nodes: Floats
    interval: float
    carry: Floats
    drive: Floats
    read_x: Floats
    read_u: Floats

    def run(self, rate: Floats, half: Floats, doses: Floats, inr0: Floats, out: Floats) -> None:
        """Fills INR of shape (days, hours, subjects) for subjects with elimination `rate` and EC50 `half`."""
        state = np.ones((2 * _CHAIN, len(rate)))
        falling = np.exp(HILL * self.nodes[:, None] * rate)  # (C(0) / C(t))^Hill at each node
        left = np.exp(-self.interval * rate)
        scale = half * VOLUME
        amount = np.zeros_like(rate)
        for day, dose in enumerate(doses):
            amount = amount * left + dose
            with np.errstate(divide="ignore"):  # nothing taken yet: the ratio is infinite and E is 0
                ratio = (scale / amount) ** HILL
            inhibited = falling * ratio
            free = inhibited / (1 + inhibited) if np.all(amount > 0) else 1 - 1 / (1 + inhibited)
            reached = self.read_x @ state
            reached += self.read_u @ free
            np.multiply(reached, -LARGEST_RISE, out=out[day])
            out[day] += LARGEST_RISE + inr0
            state = self.carry @ state + self.drive @ free


@cache
def _solver(hours: tuple[float, ...], interval: float) -> _Solver:
    nodes = interval / 2 * (1 - np.cos(np.pi * (2 * np.arange(NODES) + 1) / (2 * NODES)))
    carry, drive = _maps(interval, nodes)
    reads = [_maps(hour, nodes) for hour in hours]
    last = [_CHAIN - 1, 2 * _CHAIN - 1]
    return _Solver(
        nodes=nodes,
        interval=interval,
        carry=carry,
        drive=drive,
        read_x=np.stack([x[last].mean(axis=0) for x, _ in reads]),
        read_u=np.stack([u[last].mean(axis=0) for _, u in reads]),
    )


def _maps(time: float, nodes: Floats) -> tuple[Floats, Floats]:
    """How the six compartments after `time` depend on those at 0 and on 1 - E at the nodes.

    A compartment passes on what it has after an Erlang time: from the j-th
    before it, (k t)^j / j! e^(-k t) is there after t, and what entered the
    chain at s is in the i-th with density k (k (t - s))^(i-1) / (i-1)! e^(-k (t - s)).
    """
    points, weights = np.polynomial.legendre.leggauss(32)
    moments, weights = time / 2 * (1 + points), time / 2 * weights
    basis = _lagrange(nodes, moments)
    carry, drive = np.zeros((2 * _CHAIN, 2 * _CHAIN)), np.zeros((2 * _CHAIN, len(nodes)))
    for chain, rate in enumerate(TRANSIT_RATES):
        for i in range(_CHAIN):
            row = chain * _CHAIN + i
            for j in range(i + 1):
                carry[row, chain * _CHAIN + j] = _erlang(rate, time, i - j)
            density = rate * np.array([_erlang(rate, time - at, i) for at in moments.tolist()])
            drive[row] = basis @ (weights * density)
    return carry, drive


def _erlang(rate: float, time: float, stages: int) -> float:
    return (rate * time) ** stages / math.factorial(stages) * math.exp(-rate * time)


def _lagrange(nodes: Floats, at: Floats) -> Floats:
    """The polynomials that are 1 at their own node and 0 at the others, at each moment: (nodes, moments)."""
    rows = []
    for own, node in enumerate(nodes):
        others = np.delete(nodes, own)
        rows.append(np.prod((at - others[:, None]) / (node - others[:, None]), axis=0))
    return np.stack(rows)
