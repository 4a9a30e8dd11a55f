"""Percentage of time with INR in range, from what the model gives or from visits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.refusals import Malformed
from services.rnd.domain.errors import out_of_range
from services.rnd.domain.trial.warfarin import Floats

#: The therapeutic range of INR in most indications of warfarin.
LOW, HIGH = 2.0, 3.0


def share_in_range(inr: Floats, low: float = LOW, high: float = HIGH) -> Floats:
    """Percentage of evenly spaced readings (along the first axis) in the range, both ends included."""
    _check(low, high)
    share: Floats = 100 * ((inr >= low) & (inr <= high)).mean(axis=0)
    return share


def rosendaal(days: Sequence[float], inr: Floats, low: float = LOW, high: float = HIGH) -> Floats:
    """Percentage of time in range from readings at visits, INR taken as linear between two visits
    (Rosendaal et al., Thromb Haemost 1993;69:236).

    `days` of the visits, rising; `inr` of shape (visits, patients). Raises Malformed.
    """
    _check(low, high)
    at = np.asarray(days, dtype=np.float64)
    if len(at) < 2 or np.any(np.diff(at) <= 0):
        raise out_of_range("time in range needs two visits or more, on rising days", "visits")
    if len(inr) != len(at):
        raise Malformed("MISMATCH", "every visit has its reading", "inr")
    begin, end = inr[:-1], inr[1:]
    bottom, top = np.minimum(begin, end), np.maximum(begin, end)
    within = np.clip(np.minimum(top, high) - np.maximum(bottom, low), 0, None)
    flat = top == bottom
    parts = np.where(flat, (bottom >= low) & (bottom <= high), within / np.where(flat, 1.0, top - bottom))
    share: Floats = 100 * (np.diff(at) @ parts) / (at[-1] - at[0])
    return share


def _check(low: float, high: float) -> None:
    if not 0 < low < high:
        raise out_of_range("the range of INR begins above 0 and ends above its beginning", "range")
