"""Sample sizes of fixed designs, as totals of both arms, not rounded to whole patients.

`means`     difference of two means, t test (non-central t, solved) or normal test
`rates`     difference of two proportions, pooled variance under no effect (Fleiss 1981, without correction)
`events`    events needed for a hazard ratio, log-rank test (Schoenfeld, Biometrika 1981;68:316)

`ratio` is patients of the first arm for each of the second. Multiply a total by the `inflation` of a
group-sequential design for its largest size. Round up by `whole`.
"""

from __future__ import annotations

import math

from services.rnd.domain.errors import fraction, out_of_range, positive
from services.rnd.domain.trial.distributions import normal_quantile, root, t_quantile, t_upper


def means(
    difference: float,
    deviation: float,
    *,
    alpha: float = 0.025,
    power: float = 0.8,
    sides: int = 1,
    ratio: float = 1.0,
    normal: bool = False,
) -> float:
    """Patients to find a difference of two means with a common deviation; at least 3. Raises Malformed."""
    side = _side(alpha, power, sides)
    positive(deviation, "deviation")
    positive(ratio, "ratio")
    if not (math.isfinite(difference) and difference != 0):
        raise out_of_range("the difference to find is finite and not 0", "difference")
    effect = abs(difference) / deviation * math.sqrt(ratio) / (1 + ratio)
    rough = ((normal_quantile(side) + normal_quantile(1 - power)) / effect) ** 2
    if normal:
        return rough

    def over(total: float) -> float:
        return t_upper(t_quantile(side, total - 2), total - 2, effect * math.sqrt(total)) - power

    least = 3.0
    return least if over(least) >= 0 else root(over, least, 2 * rough + 20)


def rates(
    first: float,
    second: float,
    *,
    alpha: float = 0.025,
    power: float = 0.8,
    sides: int = 1,
    ratio: float = 1.0,
) -> float:
    """Patients to find a difference of two proportions. Raises Malformed."""
    side = _side(alpha, power, sides)
    fraction(first, "first")
    fraction(second, "second")
    positive(ratio, "ratio")
    if first == second:
        raise out_of_range("the two proportions differ", "second")
    pooled = (ratio * first + second) / (1 + ratio)
    null = math.sqrt((1 + ratio) * pooled * (1 - pooled))
    effect = math.sqrt(first * (1 - first) + ratio * second * (1 - second))
    scaled = normal_quantile(side) * null + normal_quantile(1 - power) * effect
    return (scaled / (first - second)) ** 2 * (1 + ratio) / ratio


def events(
    hazard_ratio: float, *, alpha: float = 0.025, power: float = 0.8, sides: int = 1, ratio: float = 1.0
) -> float:
    """Events in both arms to find a hazard ratio. Raises Malformed."""
    side = _side(alpha, power, sides)
    positive(hazard_ratio, "hazard_ratio")
    positive(ratio, "ratio")
    if hazard_ratio == 1:
        raise out_of_range("the hazard ratio to find is not 1", "hazard_ratio")
    scaled = (normal_quantile(side) + normal_quantile(1 - power)) / math.log(hazard_ratio)
    return scaled**2 * (1 + ratio) ** 2 / ratio


def whole(total: float, ratio: float = 1.0) -> tuple[int, int]:
    """Patients of the first and the second arm that hold the total, rounded up."""
    second = total / (1 + ratio)
    # A hair of rounding error does not cost a patient.
    return math.ceil(second * ratio - 1e-9), math.ceil(second - 1e-9)


def _side(alpha: float, power: float, sides: int) -> float:
    """The error of one side."""
    if sides not in (1, 2):
        raise out_of_range("a test has 1 or 2 sides", "sides")
    fraction(alpha, "alpha")
    if not alpha / sides < power < 1:
        raise out_of_range("the power is above the error of one side and below 1", "power")
    return alpha / sides
