"""What the twin foretold of a transfer, what the plant made of it, and what the next prediction learns.

For each critical quality attribute (CQA) of a product at a plant, the gap is actual minus predicted, on
the attribute's own scale or, for one that is compared by ratios, on logarithms. Gaps are taken as normal
with a bias and a spread of the plant, both unknown, under the conjugate normal inverse chi-square prior:

    bias 0, worth `strength` transfers;  spread that of the twin's own prediction, worth `freedom` transfers

After gaps d of total weight n with mean m and sum of squares S around it,

    bias     n m / (strength + n)                                          shrunken towards 0
    spread^2 (freedom s^2 + S + m^2 strength n / (strength + n)) / (freedom + n)
    the next value is Student t with freedom + n degrees of freedom around predicted + bias,
             with the scale spread sqrt(1 + 1 / (strength + n))

(Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.3). So a bias first widens the interval,
as it is surprising, and once known moves the prediction and lets the interval narrow.

Gaps are taken against what the twin itself predicted, not against what was told after correction: else a
bias that was corrected would be learned away again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from services.refusals import Malformed
from services.rnd.domain.errors import named, out_of_range, positive
from services.rnd.domain.trial.distributions import t_quantile

Scale: TypeAlias = Literal["difference", "ratio"]


@dataclass(frozen=True)
class Outcome:
    """One CQA of one transfer. Raises Malformed.

    `predicted` is the twin's own value and `deviation` its standard deviation (on the scale: of the logarithm
    for a ratio); `told` what was told after correction, with `low` to `high`; `actual` what the lot
    had. `model` is the twin's version; `event` the id of the event that told the outcome, `at` when.
    """

    transfer: str
    event: str
    at: datetime
    product: str
    plant: str
    cqa: str
    unit: str
    predicted: float
    deviation: float
    told: float
    low: float
    high: float
    actual: float
    model: str
    scale: Scale = "difference"

    def __post_init__(self) -> None:
        for name in ("transfer", "event", "product", "plant", "cqa", "unit", "model"):
            named(getattr(self, name), name)
        if self.at.tzinfo is None:
            raise Malformed("MALFORMED", "at is a moment with its offset from UTC", "at")
        if self.scale not in get_args(Scale):
            raise Malformed("UNKNOWN", f"the scale is one of {', '.join(get_args(Scale))}", "scale")
        positive(self.deviation, "deviation")
        for name in ("predicted", "told", "low", "high", "actual"):
            on_line(self.scale, getattr(self, name), name)
        if not self.low <= self.told <= self.high:
            raise out_of_range("what was told lies in its interval", "told")

    @property
    def gap(self) -> float:
        """Actual minus what the twin itself predicted, on the line where gaps are added up."""
        return on_line(self.scale, self.actual, "actual") - on_line(self.scale, self.predicted, "predicted")

    @property
    def gap_told(self) -> float:
        """Actual minus what was told after correction: what a person saw as the gap."""
        return on_line(self.scale, self.actual, "actual") - on_line(self.scale, self.told, "told")

    @property
    def inside(self) -> bool:
        return self.low <= self.actual <= self.high


@dataclass(frozen=True)
class Prior:
    """What is believed before the first transfer, in transfers' worth: of no bias (`strength`) and of the
    twin's own spread (`freedom`). Gaps of another version of the twin count `other_model` each. Raises
    Malformed."""

    strength: float = 1.0
    freedom: float = 4.0
    other_model: float = 0.25

    def __post_init__(self) -> None:
        positive(self.strength, "strength")
        positive(self.freedom, "freedom")
        if not 0 <= self.other_model <= 1:
            raise out_of_range("gaps of another model count from 0 to 1", "other_model")


@dataclass(frozen=True)
class Calibration:
    """What was learned of one CQA at one plant; `weight` is in transfers. `bias` and `spread` are on the line
    where gaps are added up (logarithms for a ratio). `events` told it."""

    cqa: str
    scale: Scale
    bias: float
    spread: float
    weight: float
    strength: float
    freedom: float
    events: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The next value after correction, and the interval of the stated level."""

    value: float
    low: float
    high: float
    level: float


def calibrate(
    outcomes: Iterable[Outcome], *, deviation: float, model: str, prior: Prior | None = None
) -> Calibration:
    """What the outcomes of one CQA at one plant teach a prediction by `model`, which states the standard
    deviation `deviation`. The order of outcomes and repetitions of an event do not matter.

    Raises Malformed for outcomes of several attributes, products, plants, units or scales, and for none.
    """
    before = prior or Prior()
    positive(deviation, "deviation")
    known = _of_one(outcomes)
    weights = [1.0 if one.model == model else before.other_model for one in known]
    n = math.fsum(weights)
    mean = math.fsum(w * one.gap for w, one in zip(weights, known, strict=True)) / n if n else 0.0
    around = math.fsum(w * (one.gap - mean) ** 2 for w, one in zip(weights, known, strict=True))
    total = before.strength + n
    squares = before.freedom * deviation**2 + around + mean**2 * before.strength * n / total
    return Calibration(
        cqa=known[0].cqa,
        scale=known[0].scale,
        bias=n * mean / total,
        spread=math.sqrt(squares / (before.freedom + n)),
        weight=n,
        strength=total,
        freedom=before.freedom + n,
        events=tuple(one.event for one in known),
    )


def untaught(
    cqa: str, *, deviation: float, scale: Scale = "difference", prior: Prior | None = None
) -> Calibration:
    """The calibration before the first transfer: no bias, the twin's own spread. Raises Malformed."""
    before = prior or Prior()
    positive(deviation, "deviation")
    return Calibration(cqa, scale, 0.0, deviation, 0.0, before.strength, before.freedom, ())


def predict(calibration: Calibration, predicted: float, level: float = 0.95) -> Prediction:
    """The twin's value corrected by what was learned, with its prediction interval. Raises Malformed."""
    if not 0 < level < 1:
        raise out_of_range("the level is above 0 and below 1, for example 0.95", "level")
    centre = on_line(calibration.scale, predicted, "predicted") + calibration.bias
    reach = t_quantile((1 - level) / 2, calibration.freedom) * calibration.spread
    reach *= math.sqrt(1 + 1 / calibration.strength)
    value, low, high = (_off_line(calibration.scale, one) for one in (centre, centre - reach, centre + reach))
    return Prediction(value, low, high, level)


@dataclass(frozen=True)
class Gaps:
    """The gaps of one CQA at one plant over its transfers, in their order.

    `own` are against the twin's own predictions, `told` against what was told after correction; `bias` and
    `spread` (None with one transfer) are of the former, not shrunken. `inside`: how many actual values
    lay in the interval told. `shrinks` when the gaps told became smaller: the mean of the later half is
    below that of the earlier half (None with one transfer).
    """

    cqa: str
    unit: str
    scale: Scale
    transfers: tuple[str, ...]
    own: tuple[float, ...]
    told: tuple[float, ...]
    bias: float
    spread: float | None
    inside: int
    shrinks: bool | None


def gaps(outcomes: Iterable[Outcome]) -> Gaps:
    """The table of one CQA at one plant. Raises Malformed as `calibrate` does."""
    known = _of_one(outcomes)
    own = [one.gap for one in known]
    bias = math.fsum(own) / len(own)
    spread = math.sqrt(math.fsum((one - bias) ** 2 for one in own) / (len(own) - 1)) if len(own) > 1 else None
    sizes = [abs(one.gap_told) for one in known]
    half = len(sizes) // 2
    return Gaps(
        cqa=known[0].cqa,
        unit=known[0].unit,
        scale=known[0].scale,
        transfers=tuple(one.transfer for one in known),
        own=tuple(own),
        told=tuple(one.gap_told for one in known),
        bias=bias,
        spread=spread,
        inside=sum(one.inside for one in known),
        shrinks=_mean(sizes[-half:]) < _mean(sizes[:half]) if half else None,
    )


def by_cqa(outcomes: Iterable[Outcome]) -> tuple[Gaps, ...]:
    """The table of every CQA of one product at one plant, by name. Raises Malformed."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.cqa, []).append(one)
    return tuple(gaps(groups[name]) for name in sorted(groups))


def on_line(scale: Scale, value: float, field: str) -> float:
    """The value where gaps are added up: its logarithm for a ratio. Raises Malformed."""
    if not math.isfinite(value) or (scale == "ratio" and value <= 0):
        raise out_of_range(f"{field} is finite{' and above 0' if scale == 'ratio' else ''}", field)
    return math.log(value) if scale == "ratio" else value


def _off_line(scale: Scale, value: float) -> float:
    return math.exp(value) if scale == "ratio" else value


def _of_one(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Each event once, by time. Raises Malformed unless they are of one attribute at one plant."""
    known = sorted({one.event: one for one in outcomes}.values(), key=lambda one: (one.at, one.event))
    if not known:
        raise Malformed(
            "REQUIRED", "no transfer has an outcome yet; there is nothing to learn from", "outcomes"
        )
    for field in ("cqa", "product", "plant", "unit", "scale"):
        found = sorted({getattr(one, field) for one in known})
        if len(found) > 1:
            said = f"outcomes of one {field} are taken together, these are of {', '.join(found[:3])}"
            raise Malformed("MISMATCH", said, field)
    return known


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
