"""Normal and Student's t distributions, central and not, without a statistics library.

A service that only now and then sizes a trial need not hold scipy.stats in
memory. Everything is to about 1e-10 absolute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np

from services.rnd.domain.trial.warfarin import Floats

_NORMAL = NormalDist()
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def normal_upper(z: float) -> float:
    """The chance that a standard normal value is above z, also far out."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_uppers(z: Floats) -> Floats:
    """`normal_upper` of each."""
    return np.array([normal_upper(one) for one in z.ravel().tolist()]).reshape(z.shape)


def normal_quantile(upper: float) -> float:
    """The value that a standard normal one exceeds with this chance."""
    return -_NORMAL.inv_cdf(upper)


def t_upper(t: float, df: float, noncentrality: float = 0.0) -> float:
    """The chance that a t value is above `t`, with `df` degrees of freedom (any above 0).

    T = (Z + delta) / S, where df S^2 is chi-square: the chance is the mean of
    Phi(delta - t S) over S. The integral is taken over log S, where the
    density of S is smooth for any df and both tails are cut where they hold
    less than 1e-13.
    """
    logs, masses = _log_scale(df)
    return float(masses @ normal_uppers(t * np.exp(logs) - noncentrality))


@cache
def t_quantile(upper: float, df: float) -> float:
    """The value that a central t one exceeds with this chance."""
    if upper > 0.5:
        return -t_quantile(1 - upper, df)
    high = 1.0
    while t_upper(high, df) > upper:
        high *= 2
    return root(lambda t: upper - t_upper(t, df), 0.0, high)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises from `low` to `high` is 0, by bisection with secant steps (Illinois)."""
    at_low, at_high = function(low), function(high)
    side = 0
    for _ in range(200):
        middle = (
            (low * at_high - high * at_low) / (at_high - at_low) if at_high != at_low else (low + high) / 2
        )
        if not low < middle < high:
            middle = (low + high) / 2
        at = function(middle)
        if at == 0 or high - low < 1e-13 * max(1.0, abs(high)):
            return middle
        if at > 0:
            high, at_high = middle, at
            at_low = at_low / 2 if side == 1 else at_low
            side = 1
        else:
            low, at_low = middle, at
            at_high = at_high / 2 if side == -1 else at_high
            side = -1
        if abs(at) < 1e-15:
            return middle
    return (low + high) / 2


@cache
def _log_scale(df: float) -> tuple[Floats, Floats]:
    """Nodes of log S and their chances, where df S^2 is chi-square on df degrees of freedom."""

    # The density of y = log S is proportional to exp(df (y - (e^(2y) - 1) / 2)), with its peak at 0.
    def fall(y: float) -> float:
        return df * (y - math.expm1(2 * y) / 2)

    deepest = -34.0
    low, high = -1.0, 1.0
    while fall(low) > deepest:
        low *= 1.5
    while fall(high) > deepest:
        high *= 1.5
    low = root(lambda y: fall(y) - deepest, low, 0.0)
    high = root(lambda y: deepest - fall(y), 0.0, high)
    # 16 nodes a panel; half a unit of log S is narrow enough for a noncentrality of 10 and more.
    panels = max(6, math.ceil((high - low) / 0.5))
    half = (high - low) / (2 * panels)
    middles = low + half * (2 * np.arange(panels) + 1)
    logs = (middles[:, None] + half * _NODES).ravel()
    masses = np.tile(_WEIGHTS, panels) * np.exp(df * (logs - np.expm1(2 * logs) / 2))
    return logs, masses / masses.sum()
