"""What noise costs, as epsilon at a stated delta, with the accountant that says so.

    gaussian_rho      one Gaussian sum            rho = (sensitivity / scale)^2 / 2, zCDP
    laplace_epsilon   one Laplace sum             epsilon = sensitivity / scale
    rho_epsilon       zCDP -> (epsilon, delta)    Canonne, Kamath, Steinke 2020, proposition 12
    renyi_epsilon     steps of a sampled Gaussian Mironov, Talwar, Zhang 2019
    pld_epsilon       the same, tighter           privacy loss distribution, by FFT
    calibrated        the sigma that costs no more than (epsilon, delta) in one step, by bisection

A step takes each patient with probability q and adds Gaussian noise of `sigma`
times the sensitivity; datasets are neighbours when one has a patient more.

The privacy loss is put on a grid by the rule of Doroshenko et al. (PoPETs 2022,
"connect the dots"): the mass of a cell goes to its two ends such that the
masses under both neighbours are kept. This never understates delta, and is
exact at the grid points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.refusals import Malformed

Floats = NDArray[np.float64]

#: Orders at which Renyi divergences are taken: 1.1 to 10.9 by tenths, 11 to 63, and powers of two.
ORDERS = (*(1 + tenth / 10 for tenth in range(1, 100)), *range(11, 64), 128, 256, 512, 1024)
#: Distance of grid points of the privacy loss, unless the grid would grow too long.
_STEP = 1e-4
_LONGEST_GRID = 1 << 19
#: What is cut off of a distribution's tails is added to delta.
_TAIL = 1e-14


@dataclass(frozen=True, slots=True)
class Cost:
    """Epsilon as it is shown: with its accountant and everything it depends on."""

    epsilon: float
    delta: float
    accountant: str
    sampling: float
    sigma: float
    steps: int


def gaussian_rho(scale: float, sensitivity: float) -> float:
    """zCDP of one Gaussian mechanism."""
    _positive(scale=scale, sensitivity=sensitivity)
    return (sensitivity / scale) ** 2 / 2


def laplace_epsilon(scale: float, sensitivity: float) -> float:
    """Pure differential privacy of one Laplace mechanism."""
    _positive(scale=scale, sensitivity=sensitivity)
    return sensitivity / scale


def rho_epsilon(rho: float, delta: float) -> float:
    """The smallest epsilon at `delta` that follows from rho-zCDP, over all orders."""
    _positive(rho=rho)
    _check_delta(delta)
    orders = 1 + np.logspace(-4, 6, 4001)
    return max(0.0, float(_from_orders(rho * orders, orders, delta).min()))


def renyi_epsilon(sampling: float, sigma: float, steps: int, delta: float) -> Cost:
    """Epsilon of sampled Gaussian steps by Renyi divergences at `ORDERS`."""
    _check_steps(sampling, sigma, steps, delta)
    orders = np.array(ORDERS, dtype=float)
    spent = steps * np.array([_divergence(sampling, sigma, order) for order in orders])
    epsilon = max(0.0, float(_from_orders(spent, orders, delta).min()))
    return Cost(epsilon, delta, "RDP", sampling, sigma, steps)


def _from_orders(spent: Floats, orders: Floats, delta: float) -> Floats:
    return spent + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)


def _divergence(sampling: float, sigma: float, order: float) -> float:
    """Renyi divergence of a step: log E[(1 - q + q exp((2z - 1) / 2 sigma^2))^order] / (order - 1)."""
    if sampling == 1:
        return order / (2 * sigma**2)
    # The integrand lies between two Gaussians, around 0 and around `order`; on a smooth function that
    # vanishes at both ends the plain sum over equal steps is accurate to the last digits.
    z = np.arange(-40 * sigma, order + 40 * sigma, min(sigma, 1.0) / 16)
    ratio = np.logaddexp(math.log1p(-sampling), math.log(sampling) + (2 * z - 1) / (2 * sigma**2))
    logs = order * ratio - z**2 / (2 * sigma**2)
    top = logs.max()
    width = (z[1] - z[0]) / (sigma * math.sqrt(2 * math.pi))
    return float((top + math.log(np.exp(logs - top).sum() * width)) / (order - 1))


def pld_epsilon(sampling: float, sigma: float, steps: int, delta: float) -> Cost:
    """Epsilon of sampled Gaussian steps by their privacy loss distribution.

    The larger of the two directions, one patient more and one less.
    """
    _check_steps(sampling, sigma, steps, delta)
    epsilon = max(_one_way(sampling, sigma, steps, delta, less) for less in (True, False))
    return Cost(epsilon, delta, "PLD", sampling, sigma, steps)


@lru_cache(maxsize=64)
def calibrated(epsilon: float, delta: float) -> Cost:
    """One Gaussian sum of every patient: the least sigma, to 1e-5 of itself, whose cost is within epsilon.

    The cost is the accountant's (`pld_epsilon`), which never understates it; the
    closed form of Balle and Wang (ICML 2018) only says where the search begins.
    """
    _positive(epsilon=epsilon)
    _check_delta(delta)
    low = _closed_form(epsilon, delta)
    high = low * 1.001
    while (cost := pld_epsilon(1.0, high, 1, delta)).epsilon > epsilon:
        low, high = high, high * 1.1
    while high > low * (1 + 1e-5):
        middle = math.sqrt(low * high)
        tried = pld_epsilon(1.0, middle, 1, delta)
        if tried.epsilon <= epsilon:
            high, cost = middle, tried
        else:
            low = middle
    return cost


def _closed_form(epsilon: float, delta: float) -> float:
    """A sigma just too small: that of one Gaussian sum at which the closed form gives delta or more."""

    def delta_at(sigma: float) -> float:
        half, shift = 1 / (2 * sigma), epsilon * sigma
        above = math.erfc((shift - half) / math.sqrt(2)) / 2
        return above - math.exp(epsilon) * math.erfc((shift + half) / math.sqrt(2)) / 2

    low, high = 1e-2, 1e6
    while high > low * (1 + 1e-7):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return low


def _coarser(points: float) -> float:
    """By how much the grid is made coarser, so that these points fit: a power of two."""
    return 2.0 ** max(0, math.ceil(math.log2(max(points, 1) / _LONGEST_GRID)))


@dataclass(frozen=True, slots=True)
class _Losses:
    """Masses of losses at `(first + i) * step`, and the mass at infinity."""

    masses: Floats
    first: int
    step: float
    infinite: float


def _one_way(sampling: float, sigma: float, steps: int, delta: float, less: bool) -> float:
    step = _STEP * _coarser(np.diff(_ends(sampling, sigma, steps))[0] / _STEP)
    one = _single(sampling, sigma, steps, step, less)
    if steps == 1:
        return _smallest_epsilon(one, delta)
    low, high = _range(one, steps)
    coarser = _coarser(high - low)
    if coarser > 1:
        one = _single(sampling, sigma, steps, step * coarser, less)
        low, high = _range(one, steps)
    length = max(high - low + 1, len(one.masses))
    total = _composed(one, steps, low, length)
    return _smallest_epsilon(total, delta)


def _single(sampling: float, sigma: float, steps: int, step: float, less: bool) -> _Losses:
    """The loss of one step on the grid.

    With the patient the output is M = (1 - q) N(0, s^2) + q N(1, s^2), without
    it N = N(0, s^2); the loss at x is l(x) = log M(x) / N(x), rising in x. One
    patient less: x from M, loss l. One more: x from N, loss -l.
    """
    ends = _ends(sampling, sigma, steps)
    lowest, highest = math.floor(ends[0] / step), math.ceil(ends[1] / step)
    grid = np.arange(lowest, highest + 1) * step
    x = _inverse(grid, sampling, sigma)
    without = _between(x / sigma)
    mixed = (1 - sampling) * without + sampling * _between((x - 1) / sigma)
    own, other, first = (mixed, without, lowest) if less else (without[::-1], mixed[::-1], -highest)
    # Of a cell's mass m under the own distribution and n under the other: a + b = m, a / e^lower +
    # b / e^upper = n, with a at the lower end and b at the upper one.
    lower = (first + np.arange(len(own))) * step
    # Above e^300 the other mass may vanish in a double: then all goes to the upper end.
    upper_mass = np.clip((own - other * np.exp(np.minimum(lower, 300))) / -math.expm1(-step), 0, own)
    upper_mass = np.where(lower > 300, own, upper_mass)
    masses = np.zeros(len(own) + 1)
    masses[:-1] += own - upper_mass
    masses[1:] += upper_mass
    cut_low, cut_high = _outside(x, sampling, sigma) if less else _outside(x, 0.0, sigma)[::-1]
    masses[0] += cut_low  # a loss raised to the lowest point overstates delta
    return _Losses(masses, first, step, cut_high)


def _ends(sampling: float, sigma: float, steps: int) -> Floats:
    """The least and the largest loss of a step that count: beyond them lies `_TAIL` over all steps."""
    tail = sigma * math.sqrt(2 * math.log(0.5 * steps / _TAIL))  # Chernoff: exp(-z^2 / 2) / 2 beyond z
    return _loss(np.array([-tail, 1 + tail]), sampling, sigma)


def _loss(x: Floats, sampling: float, sigma: float) -> Floats:
    with np.errstate(divide="ignore"):
        kept = np.log1p(-sampling) if sampling < 1 else -np.inf
    return np.logaddexp(kept, math.log(sampling) + (2 * x - 1) / (2 * sigma**2))


def _inverse(loss: Floats, sampling: float, sigma: float) -> Floats:
    """Where the loss is reached; minus infinity below the least there is."""
    # log(e^loss - (1 - q)), where e^loss would overflow and where it nearly is 1 - q.
    large = np.maximum(loss, 1.0)
    with np.errstate(divide="ignore"):
        over = np.where(
            loss > 1,
            large + np.log1p(-(1 - sampling) * np.exp(-large)),
            np.log(np.maximum(np.expm1(np.minimum(loss, 1.0)) + sampling, 0.0)),
        ) - math.log(sampling)
    return np.asarray(sigma**2 * over + 0.5)


_erfc = np.frompyfunc(math.erfc, 1, 1)


def _upper(z: Floats) -> Floats:
    """Mass of a standard normal distribution above z."""
    return np.asarray(_erfc(z / math.sqrt(2)), dtype=float) / 2


def _between(z: Floats) -> Floats:
    """Masses of a standard normal distribution between neighbours of rising z, exact in both tails."""
    above, below = _upper(z), _upper(-z)
    return np.where(z[:-1] > 0, above[:-1] - above[1:], below[1:] - below[:-1])


def _outside(x: Floats, sampling: float, sigma: float) -> list[float]:
    """Masses of the mixture below the first and above the last x."""
    ends = np.array([-x[0], x[-1]]) / sigma
    shifted = np.array([-(x[0] - 1), x[-1] - 1]) / sigma
    return [float(mass) for mass in (1 - sampling) * _upper(ends) + sampling * _upper(shifted)]


def _range(one: _Losses, steps: int) -> tuple[int, int]:
    """Grid points outside which the sum of `steps` losses has mass below `_TAIL`, by Chernoff's bound."""
    losses = (one.first + np.arange(len(one.masses))) * one.step
    present = one.masses > 0
    losses, logs = losses[present], np.log(one.masses[present])
    need = -math.log(_TAIL)
    low, high = steps * losses[0], steps * losses[-1]
    for rate in np.logspace(-3, 4, 141):
        for sign in (1, -1):
            tilted = logs + sign * rate * losses
            top = tilted.max()
            moment = steps * (top + math.log(np.exp(tilted - top).sum()))
            bound = (moment + need) / rate
            if sign > 0:
                high = min(high, bound)
            else:
                low = max(low, -bound)
    return math.floor(low / one.step), math.ceil(high / one.step)


def _composed(one: _Losses, steps: int, low: int, length: int) -> _Losses:
    """The sum of `steps` independent losses, from grid point `low`; what wraps around has mass `_TAIL`."""
    size = 1 << (length - 1).bit_length()
    masses = np.fft.irfft(np.fft.rfft(one.masses, size) ** steps, size)
    rolled = np.roll(masses, one.first * steps - low)
    kept = np.maximum(rolled[:length], 0.0)
    infinite = -math.expm1(steps * math.log1p(-min(one.infinite, 0.5)))
    return _Losses(kept, low, one.step, infinite + 2 * _TAIL)


def _smallest_epsilon(total: _Losses, delta: float) -> float:
    """The least epsilon at which delta(epsilon) = sum of masses above it, less e^(epsilon - loss) each."""
    if total.infinite > delta:
        return math.inf
    losses = (total.first + np.arange(len(total.masses))) * total.step

    def delta_at(place: int) -> float:
        over = losses[place] - losses[place + 1 :]
        return total.infinite - float((total.masses[place + 1 :] * np.expm1(over)).sum())

    # Delta falls as epsilon rises, and is zero but for infinity at the last point.
    low, high = 0, len(losses) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if delta_at(middle) <= delta else (middle + 1, high)
    # Below that point, down to its neighbour, delta is linear in e^epsilon.
    above = total.infinite + float(total.masses[low:].sum()) - delta
    if above <= 0:
        return 0.0
    weight = float((total.masses[low:] * np.exp(losses[low] - losses[low:])).sum())
    return max(0.0, math.log(above) - math.log(weight) + float(losses[low]))


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise Malformed("NOT_POSITIVE", f"{name} is a positive number, not {value}", name)


def _check_delta(delta: float) -> None:
    if not _TAIL * 100 <= delta < 1:
        raise Malformed("BAD_DELTA", f"delta lies between 1e-12 and 1, this is {delta}", "delta")


def _check_steps(sampling: float, sigma: float, steps: int, delta: float) -> None:
    _positive(sampling=sampling, sigma=sigma, steps=steps)
    _check_delta(delta)
    if sampling > 1:
        raise Malformed(
            "BAD_SAMPLING", f"a patient is taken with probability up to 1, not {sampling}", "sampling"
        )
