"""CUSUM and EWMA of standardised values: small shifts that last, which no single point shows.

Page, Biometrika 41 (1954) 100; Roberts, Technometrics 1 (1959) 239. Both carry
what they need from sample to sample in a state, so a series cut anywhere gives
the same statistics. A missing value (NaN) changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.production.domain.spc.rules import Bools, Floats


@dataclass(frozen=True)
class Cusum:
    """Two-sided CUSUM: reference value `k` and decision interval `h`, in standard deviations."""

    k: float = 0.5
    h: float = 5.0

    def follow(self, z: Floats, up: Floats, down: Floats) -> tuple[Floats, Floats]:
        """C+ and C- after each sample (samples x tags); `up` and `down` are those before the first.

        C+ = max(0, C+ + z - k), C- = max(0, C- - z - k).
        """
        ups, downs = np.empty_like(z), np.empty_like(z)
        for row, values in enumerate(z):
            known = ~np.isnan(values)
            up = np.where(known, np.maximum(0.0, up + values - self.k), up)
            down = np.where(known, np.maximum(0.0, down - values - self.k), down)
            ups[row], downs[row] = up, down
        return ups, downs

    def alarms(self, ups: Floats, downs: Floats) -> Bools:
        """Where either side is beyond the decision interval."""
        return (ups > self.h) | (downs > self.h)


@dataclass(frozen=True)
class Ewma:
    """Two-sided EWMA with fixed limits: weight of the newest value (lambda), width of the limits (L)."""

    weight: float = 0.2
    width: float = 2.86

    @property
    def limit(self) -> float:
        """Half the distance of the limits, in standard deviations: L sqrt(lambda / (2 - lambda))."""
        return self.width * float(np.sqrt(self.weight / (2.0 - self.weight)))

    def follow(self, z: Floats, before: Floats) -> Floats:
        """w = lambda z + (1 - lambda) w after each sample (samples x tags); `before` is w before them."""
        result = np.empty_like(z)
        for row, values in enumerate(z):
            before = np.where(np.isnan(values), before, self.weight * values + (1.0 - self.weight) * before)
            result[row] = before
        return result

    def alarms(self, w: Floats) -> Bools:
        """Where the average is beyond a limit."""
        return np.asarray(np.abs(w) > self.limit, dtype=np.bool_)
