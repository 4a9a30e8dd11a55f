"""From an estimate and its standard error to an interval and a p-value (Wald), and chi-square tails."""

from __future__ import annotations

import math

from scipy import special

from services.exchange.domain.stats.protocol import Estimate


def quantile(level: float, degrees: float | None = None) -> float:
    """The two-sided critical value at `level`, of the normal or of Student's t."""
    tail = (1 + level) / 2
    return float(special.ndtri(tail) if degrees is None else special.stdtrit(degrees, tail))


def two_sided(statistic: float, degrees: float | None = None) -> float:
    """The p-value of z, or of t with `degrees` of freedom."""
    below = -abs(statistic)
    return float(2 * (special.ndtr(below) if degrees is None else special.stdtr(degrees, below)))


def chi_square(statistic: float, degrees: float) -> float:
    """The upper tail of the chi-square distribution."""
    return float(special.chdtrc(degrees, statistic))


def wald(name: str, value: float, error: float, level: float, degrees: float | None = None) -> Estimate:
    """An estimate with its interval and the test of 0; without an error above 0, the value alone."""
    if not (error > 0 and math.isfinite(error)):
        return Estimate(name, value)
    width = quantile(level, degrees) * error
    statistic = value / error
    return Estimate(
        name, value, error, value - width, value + width, statistic, two_sided(statistic, degrees)
    )


def ratio(name: str, log_value: float, error: float, level: float) -> Estimate:
    """A ratio from its logarithm: the interval is symmetric there, `standard_error` is the logarithm's."""
    found = wald(name, log_value, error, level)
    if found.lower is None or found.upper is None:
        return Estimate(name, math.exp(log_value))
    return Estimate(
        name,
        math.exp(log_value),
        error,
        math.exp(found.lower),
        math.exp(found.upper),
        found.statistic,
        found.p_value,
    )
