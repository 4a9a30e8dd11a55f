"""A study with noise: one round, in which every site adds its share of Gaussian noise to its sums.

Of a patient more or less at one site the sums change by a vector whose Euclidean
length is at most the model's `sensitivity`. Noise of `sigma` times that, in the
sum of all sites but one, costs no more than (epsilon, delta) for that patient.
The sites themselves are known and counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.disclosure import accounting
from services.exchange.domain.stats.inference import quantile
from services.exchange.domain.stats.protocol import Part, Vector, part
from services.exchange.domain.stats.reading import Fields

#: The phase of the one round.
NOISED = "noised"
#: Part of the vector that counts the sites; it has no noise.
SITES = "site"
#: A site's share is no further out than so many times the noise of the sum: the longest draw is 8.6 of its
#: own standard deviations, and that is at most the noise of the sum by the root of two.
_REACH = 9.0
LEAST_EPSILON, MOST_EPSILON = 0.01, 10.0
LEAST_DELTA, MOST_DELTA = 1e-12, 1e-5


@dataclass(frozen=True)
class Noise:
    """What the noise of a study may cost a patient."""

    epsilon: float
    delta: float

    @property
    def cost(self) -> accounting.Cost:
        return accounting.calibrated(self.epsilon, self.delta)

    def scale(self, sensitivity: float) -> float:
        """The least standard deviation of the noise in a sum, with one site telling its share to others."""
        return self.cost.sigma * sensitivity


def noise(fields: Fields) -> Noise | None:
    """Reads `noise`; None where none is asked for."""
    inner = fields.inner("noise")
    if inner is None:
        return None
    epsilon = inner.number("epsilon", LEAST_EPSILON, MOST_EPSILON)
    delta = inner.number("delta", LEAST_DELTA, MOST_DELTA)
    fields.out["noise"] = inner.finish()
    return Noise(epsilon, delta)


def widened(parts: Sequence[Part], scale: float) -> list[Part]:
    """The parts with room for a site's share of the noise, and the count of sites."""
    room = [Part(one.name, one.shape, one.bounds + _REACH * scale) for one in parts]
    return [part(SITES, 1, 1.0), *room]


def scales(parts: Sequence[Part], scale: float) -> Vector:
    """The noise of each number of the vector; 0 for the count of sites."""
    return np.concatenate([np.full(one.size, 0.0 if one.name == SITES else scale) for one in parts])


@dataclass(frozen=True)
class Noised:
    """The noise that is in every sum of a job: `deviation` is its standard deviation, all sites' shares."""

    noise: Noise
    sensitivity: float
    sites: int

    @property
    def deviation(self) -> float:
        return self.noise.scale(self.sensitivity) * math.sqrt(self.sites / (self.sites - 1))

    def told(self) -> dict[str, Any]:
        """As a result carries it."""
        cost = self.noise.cost
        return {
            "epsilon": self.noise.epsilon,
            "delta": cost.delta,
            "accountant": cost.accountant,
            "sigma": cost.sigma,
            "sensitivity": self.sensitivity,
            "standard_deviation": self.deviation,
            "sites": self.sites,
        }

    def count(self, value: float, level: float) -> dict[str, float]:
        """A count as it was seen, below 0 where the noise took it there, and where the exact one lies."""
        width = quantile(level) * self.deviation
        return {
            "count": float(value),
            "standard_error": self.deviation,
            "count_lower": max(0.0, float(value) - width),
            "count_upper": max(0.0, float(value) + width),
        }


def of_total(total: Mapping[str, Vector], noise_: Noise, sensitivity: float) -> Noised:
    """The noise in a total."""
    return Noised(noise_, sensitivity, round(float(total[SITES][0])))


def whole(value: float) -> int:
    """A noised number of patients, as one that can be."""
    return max(0, round(float(value)))
