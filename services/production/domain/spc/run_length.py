"""The average run length (ARL) of a chart: how many samples until it alarms, with or without a shift.

The price of a chart is its ARL when nothing is wrong. Shewhart rules have it
by simulation, for patterns of rising and alternating points have no closed
form; CUSUM and EWMA by their integral equations, solved at the nodes of
Gauss-Legendre quadrature. All assume independent normal values of known mean
and standard deviation: autocorrelated tags alarm more often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.production.domain.spc.rules import Bools, Floats, Rule, chosen

_NODES = 100
_CHUNK = 64
_LONGEST = 1_000_000


@dataclass(frozen=True)
class RunLength:
    """An average run length, and its standard error (0 where it was not simulated)."""

    mean: float
    error: float = 0.0


@lru_cache(maxsize=128)
def of_rules(names: tuple[str, ...], shift: float = 0.0, runs: int = 40_000, seed: int = 1) -> RunLength:
    """The ARL of a set of rules; `shift` is in standard deviations. UnknownRule for other names."""
    rules = chosen(names)
    if not rules:
        return RunLength(math.inf)
    draw = np.random.default_rng(seed)
    lengths = np.zeros(runs)
    reach = max(rule.reach for rule in rules)
    alive, past, length = np.arange(runs), np.empty((runs, 0)), 0
    while len(alive) and length < _LONGEST:
        z = np.hstack([past, draw.normal(shift, 1.0, (len(alive), _CHUNK))])
        hit = _any(z, rules)[:, past.shape[1] :]
        ended = hit.any(axis=1)
        lengths[alive[ended]] = length + hit[ended].argmax(axis=1) + 1
        alive, past, length = alive[~ended], z[~ended, -reach:], length + _CHUNK
    lengths[alive] = length
    return RunLength(float(lengths.mean()), float(lengths.std() / math.sqrt(runs)))


def _any(z: Floats, rules: Sequence[Rule]) -> Bools:
    found = np.zeros(z.shape, dtype=np.bool_)
    for rule in rules:
        found |= rule.pattern(z)
    return found


@lru_cache(maxsize=512)
def of_cusum(k: float, h: float, shift: float = 0.0) -> float:
    """ARL of a two-sided CUSUM from a zero start; k, h and shift in standard deviations.

    1/ARL is the sum of the sides' (Van Dobben de Bruyn, Cumulative Sum Tests, 1968).
    """
    up, down = _one_sided(k, h, shift), _one_sided(k, h, -shift)
    return 1.0 / (1.0 / up + 1.0 / down)


def _one_sided(k: float, h: float, shift: float) -> float:
    """Page's scheme from zero: L(s) = 1 + L(0) P(s + z - k <= 0) + the integral of L over (0, h)."""
    nodes, weights = _quadrature(0.0, h)
    starts = np.concatenate(([0.0], nodes))
    matrix = np.zeros((len(starts), len(starts)))
    matrix[:, 0] = _cdf(k - starts - shift)
    matrix[:, 1:] = weights * _density(nodes[None, :] - starts[:, None] + k - shift)
    return float(np.linalg.solve(np.eye(len(starts)) - matrix, np.ones(len(starts)))[0])


@lru_cache(maxsize=512)
def of_ewma(weight: float, width: float, shift: float = 0.0) -> float:
    """ARL of a two-sided EWMA from zero with fixed limits (Crowder, Technometrics 29 (1987) 401).

    `weight` is lambda, `width` L: it alarms where |w| > L sqrt(lambda / (2 - lambda)).
    """
    limit = width * math.sqrt(weight / (2.0 - weight))
    nodes, weights = _quadrature(-limit, limit)
    starts = np.concatenate(([0.0], nodes))
    matrix = np.zeros((len(starts), len(starts)))
    step = (nodes[None, :] - (1.0 - weight) * starts[:, None]) / weight
    matrix[:, 1:] = weights * _density(step - shift) / weight
    return float(np.linalg.solve(np.eye(len(starts)) - matrix, np.ones(len(starts)))[0])


def _quadrature(low: float, high: float) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = (high - low) / 2.0
    return low + half * (nodes + 1.0), half * weights


def _density(z: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def _cdf(z: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z])
