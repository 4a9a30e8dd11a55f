"""A trial of two ways to dose warfarin, run many times over on virtual patients.

    power                    share of the runs that show the difference, the model's estimates taken as true
    probability of success   the same, each run under estimates drawn from their uncertainty (assurance;
                             O'Hagan, Stevens and Campbell, Pharm Stat 2005;4:187)

In both, patients differ by covariates and by eta, readings have their residual error, and packs come
from lots with their measured potencies. The guided arm doses by the published estimates, as a clinic
would, whatever is true in that run. The endpoint is the percentage of time with INR 2 to 3.

Patients alternate between the arms, so an interim look sees both in equal number. The critical values
of the looks are turned into those of t at the same nominal level, two samples, equal variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

from services.refusals import Malformed
from services.rnd.domain.errors import named, out_of_range
from services.rnd.domain.trial import cohort, sequential, warfarin
from services.rnd.domain.trial.cohort import HAN_CHINESE, Population
from services.rnd.domain.trial.distributions import normal_upper, t_quantile
from services.rnd.domain.trial.dosing import Dosing, FixedDose, GuidedDose, Supply
from services.rnd.domain.trial.endpoint import HIGH, LOW, rosendaal, share_in_range
from services.rnd.domain.trial.warfarin import Estimates, Floats

Endpoint: TypeAlias = Literal["observed", "model"]
MOST_SUBJECTS = 20_000_000
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class TrialDesign:
    """What is fixed before the first patient. Raises Malformed.

    `per_arm` patients in each arm at the end; `days` of daily doses. INR is read on the days of `visits`,
    `visit_hour` hours after that day's dose. The endpoint `observed` is Rosendaal's percentage from
    those readings; `model` is the percentage of the model's own INR from the first visit on, four times
    a day, which no trial can see. `looks` and `alpha` as in `sequential`; one look of `alpha` on one
    side is the fixed design.
    """

    control: Dosing = field(default_factory=FixedDose)
    test: Dosing = field(default_factory=GuidedDose)
    per_arm: int = 60
    days: int = 30
    visits: tuple[int, ...] = (6, 9, 13, 17, 21, 25, 29)
    visit_hour: float = 12.0
    endpoint: Endpoint = "observed"
    looks: sequential.Design = field(
        default_factory=lambda: sequential.equal_steps("obrien_fleming", 1, alpha=0.025, sides=1)
    )
    low: float = LOW
    high: float = HIGH

    def __post_init__(self) -> None:
        if self.endpoint not in get_args(Endpoint):
            raise Malformed("UNKNOWN", f"the endpoint is one of {', '.join(get_args(Endpoint))}", "endpoint")
        if not 1 <= self.days <= 730:
            raise out_of_range("a trial lasts 1 to 730 days", "days")
        if min(self.at_look(one) for one in self.looks.looks) < 2:
            raise out_of_range("each arm has at least two patients at the first look", "per_arm")
        visits = self.visits
        if len(visits) < 2 or list(visits) != sorted(set(visits)) or visits[0] < 0 or visits[-1] >= self.days:
            said = f"there are two visits or more, on rising days from 0 to {self.days - 1}"
            raise out_of_range(said, "visits")
        if not 0 <= self.visit_hour < 24:
            raise out_of_range("a visit is 0 to 24 hours after the dose of its day", "visit_hour")

    def at_look(self, fraction: float) -> int:
        """Patients in each arm at a look."""
        return round(self.per_arm * fraction)


@dataclass(frozen=True)
class Runs:
    """What many runs of one design gave.

    Percentages are of time in range, means over all runs; `spread` is the deviation of the difference
    between runs, `inr` the mean of the readings in the control and the test arm. `success` with its 95 %
    interval (Wilson) is the share that crossed in favour of the test arm, `by_look` where; `patients` the
    expected number in both arms. `readings` says when INR was read, relative to the dose. `lots` counts
    packs by lot.
    """

    replicates: int
    control: float
    test: float
    difference: float
    spread: float
    inr: tuple[float, float]
    success: float
    success_low: float
    success_high: float
    by_look: tuple[float, ...]
    patients: float
    readings: str
    lots: tuple[tuple[str, int], ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Where the difference of a single run lies in 95 % of runs."""
        return self.difference - _Z95 * self.spread, self.difference + _Z95 * self.spread


def run(
    design: TrialDesign,
    *,
    replicates: int,
    seed: int,
    uncertain: bool = False,
    supply: Supply | None = None,
    population: Population = HAN_CHINESE,
) -> Runs:
    """So many runs. The same arguments give the same numbers; more replicates keep the first ones'
    patients. Raises Malformed."""
    if replicates < 1 or replicates * 2 * design.per_arm > MOST_SUBJECTS:
        raise out_of_range(
            f"runs have at least 1 and at most {MOST_SUBJECTS:,} patients in all", "replicates"
        )
    packs = supply or Supply()
    count = replicates * 2 * design.per_arm
    drawn = warfarin.uncertain(cohort.stream(seed, "parameters"), replicates) if uncertain else None
    counted = np.zeros(max(1, len(packs.lots)), dtype=np.int64)
    values = np.empty((2, count))
    for begin in range(0, count, cohort.BLOCK):
        subjects = np.arange(begin, min(begin + cohort.BLOCK, count))
        estimates = warfarin.PUBLISHED
        if drawn is not None:
            estimates = warfarin.chosen(drawn, subjects // (2 * design.per_arm))
        values[:, subjects] = _block(design, subjects, seed, estimates, packs, population, counted)
    lots = tuple((one.lot, int(n)) for one, n in zip(packs.lots, counted, strict=False))
    return _judged(design, values.reshape(2, replicates, design.per_arm, 2), lots)


def _block(
    design: TrialDesign,
    subjects: np.ndarray[tuple[int], np.dtype[np.int64]],
    seed: int,
    estimates: Estimates,
    supply: Supply,
    population: Population,
    counted: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Floats:
    """Endpoint and mean INR of each subject of one block of the cohort, in two rows; counts packs by lot."""
    number, size = int(subjects[0]) // cohort.BLOCK, len(subjects)
    patients = cohort.block(seed, number, population).part(slice(0, size))
    in_test = subjects % 2 == 1
    nominal = np.where(in_test, design.test.doses(patients), design.control.doses(patients))
    packs = supply.draw(cohort.BLOCK, design.days, cohort.stream(seed, "lots", number))[:, :size]
    counted += np.bincount(packs.ravel(), minlength=len(counted))
    doses = nominal * supply.potencies(packs, design.days)
    if design.endpoint == "model":
        course = warfarin.simulate(patients, doses, estimates=estimates)
        seen = course.inr[design.visits[0] :].reshape(-1, size)
        return np.stack([share_in_range(seen, design.low, design.high), seen.mean(axis=0)])
    course = warfarin.simulate(patients, doses, hours=(design.visit_hour,), estimates=estimates)
    errors = cohort.stream(seed, "residual", number).standard_normal((cohort.BLOCK, len(design.visits))).T
    read = warfarin.observed(course.inr[list(design.visits), 0], errors[:, :size], estimates)
    return np.stack([rosendaal(design.visits, read, design.low, design.high), read.mean(axis=0)])


def _judged(design: TrialDesign, values: Floats, lots: tuple[tuple[str, int], ...]) -> Runs:
    """Looks at runs whose values are of shape (endpoint and INR, replicates, patients of an arm, arms)."""
    values, inr = values
    replicates = len(values)
    bounds = sequential.boundaries(design.looks)
    going, success = np.ones(replicates, dtype=bool), []
    patients = 0.0
    for fraction, bound in zip(design.looks.looks, bounds, strict=True):
        n = design.at_look(fraction)
        z = _t_statistic(values[:, :n])
        critical = t_quantile(normal_upper(bound), 2 * n - 2) if math.isfinite(bound) else math.inf
        patients += 2 * n * float(going.mean()) if fraction == 1 else 0.0
        up = going & (z >= critical)
        down = going & (z <= -critical) if design.looks.sides == 2 else np.zeros_like(up)
        if fraction < 1:
            patients += 2 * n * float((up | down).mean())
        success.append(float(up.mean()))
        going = going & ~up & ~down
    arms = values.mean(axis=1)
    differences = arms[:, 1] - arms[:, 0]
    low, high = wilson(sum(success), replicates)
    hours = "0, 6, 12 and 18" if design.endpoint == "model" else f"{design.visit_hour:g}"
    return Runs(
        replicates=replicates,
        control=float(arms[:, 0].mean()),
        test=float(arms[:, 1].mean()),
        difference=float(differences.mean()),
        spread=float(differences.std(ddof=1)) if replicates > 1 else 0.0,
        inr=(float(inr[..., 0].mean()), float(inr[..., 1].mean())),
        success=sum(success),
        success_low=low,
        success_high=high,
        by_look=tuple(success),
        patients=patients,
        readings=f"INR {hours} h after the dose",
        lots=lots,
    )


def _t_statistic(values: Floats) -> Floats:
    """Test minus control over its standard error, of each run."""
    n = values.shape[1]
    means, variances = values.mean(axis=1), values.var(axis=1, ddof=1)
    error = np.sqrt(variances.sum(axis=1) / n)
    # Two arms without any spread show nothing, however far apart.
    result: Floats = np.where(error > 0, (means[:, 1] - means[:, 0]) / np.where(error > 0, error, 1.0), 0.0)
    return result


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many runs."""
    z2 = _Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Rule:
    """Go only if the probability of success is shown to be at least `least_probability` (the lower end
    of its interval) and the mean difference is at least `least_difference` points. Raises Malformed."""

    least_probability: float = 0.8
    least_difference: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.least_probability < 1:
            raise out_of_range("the least probability is above 0 and below 1", "least_probability")
        if not math.isfinite(self.least_difference):
            raise out_of_range("the least difference is a finite number of points", "least_difference")

    def text(self) -> str:
        return (
            f"go if the lower end of the 95 % interval of the probability of success is at least "
            f"{self.least_probability:g} and the mean difference is at least {self.least_difference:g} points"
        )


@dataclass(frozen=True)
class Verdict:
    """`go` or `no-go`, the rule it was made by, and what held or did not, in sentences."""

    verdict: Literal["go", "no-go"]
    rule: str
    reasons: tuple[str, ...]


def judged(rule: Rule, runs: Runs) -> Verdict:
    """The verdict on runs under uncertain estimates."""
    likely, enough = runs.success_low >= rule.least_probability, runs.difference >= rule.least_difference
    interval = f"{runs.success_low:.3f} to {runs.success_high:.3f}, {runs.replicates} runs"
    reasons = [
        f"probability of success {runs.success:.3f} ({interval}), "
        f"{'at least' if likely else 'not shown to reach'} {rule.least_probability:g}",
        f"mean difference {runs.difference:.2f} points, {'at least' if enough else 'below'} "
        f"{rule.least_difference:g}",
    ]
    if not likely and runs.success_high >= rule.least_probability:
        reasons.append("the interval holds the bound: more replicates could decide either way")
    return Verdict("go" if likely and enough else "no-go", rule.text(), tuple(reasons))


@dataclass(frozen=True)
class Assessment:
    """Power at the published estimates, probability of success under their uncertainty, and the verdict."""

    power: Runs
    success: Runs
    verdict: Verdict


def assess(
    design: TrialDesign,
    rule: Rule,
    *,
    replicates: int,
    seed: int,
    supply: Supply | None = None,
    population: Population = HAN_CHINESE,
) -> Assessment:
    """Both kinds of runs on the same patients, and the verdict. Raises Malformed."""
    power, success = (
        run(
            design,
            replicates=replicates,
            seed=seed,
            uncertain=uncertain,
            supply=supply,
            population=population,
        )
        for uncertain in (False, True)
    )
    return Assessment(power, success, judged(rule, success))


def described(name: str, dosing: Dosing) -> str:
    """An arm in a sentence, for people."""
    named(name, "name")
    if isinstance(dosing, FixedDose):
        return f"{name}: {dosing.dose:g} mg a day to all"
    return (
        f"{name}: by CYP2C9, VKORC1, age, weight, amiodarone and INR before treatment, to a mean INR of "
        f"{dosing.target:g}; from {dosing.lowest:g} to {dosing.highest:g} mg a day by {dosing.step:g} mg"
    )
