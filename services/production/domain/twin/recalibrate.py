"""What outcomes teach the twin: how far it was off, and how much too narrow its intervals were.

Of each attribute the differences of actual less predicted are gathered. Their
mean corrects later predictions, drawn towards nought while outcomes are few
(as if three outcomes had been as predicted). Their scatter beyond the predicted
standard deviation widens later intervals. What was covered by the 95 % intervals
is told, for it says whether to believe the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.production.domain.twin.errors import Reason, number, refuse

#: A bias from fewer outcomes than this is drawn to nought by half or more.
_PRIOR = 3
#: A scatter of fewer says nothing.
_FEWEST = 3


@dataclass(frozen=True)
class Outcome:
    """One attribute of one run, in its unit: predicted mean, sd and 95 % interval, and what came."""

    cqa: str
    mean: float
    sd: float
    low: float
    high: float
    actual: float


@dataclass(frozen=True)
class Correction:
    """Of one attribute: what to add to the mean, what scatter to add (sd), from how many outcomes.

    `mean_error` and `error_sd` are those of the outcomes as they are (`error_sd` NaN with one outcome),
    `covered` is the share that fell into its 95 % interval.
    """

    cqa: str
    bias: float
    extra_sd: float
    outcomes: int
    mean_error: float
    error_sd: float
    covered: float


def recalibrate(outcomes: Iterable[Outcome]) -> dict[str, Correction]:
    """A correction per attribute. Predictions must be uncorrected ones, or the bias is learnt twice."""
    given = list(outcomes)
    refuse(
        reason
        for i, outcome in enumerate(given)
        for name in ("mean", "sd", "low", "high", "actual")
        for reason in _faults(outcome, name, f"outcomes[{i}].{name}")
    )
    groups: dict[str, list[Outcome]] = {}
    for outcome in given:
        groups.setdefault(outcome.cqa, []).append(outcome)
    return {cqa: _correction(cqa, group) for cqa, group in sorted(groups.items())}


def _faults(outcome: Outcome, name: str, field: str) -> list[Reason]:
    value = getattr(outcome, name)
    if name == "sd" and value < 0:
        return [Reason("NEGATIVE", field, f"{value} is below 0", "give the predicted standard deviation")]
    return number(field, value)


def _correction(cqa: str, group: Sequence[Outcome]) -> Correction:
    errors = [outcome.actual - outcome.mean for outcome in group]
    count = len(errors)
    mean = sum(errors) / count
    variance = sum((error - mean) ** 2 for error in errors) / (count - 1) if count > 1 else math.nan
    told = sum(outcome.sd**2 for outcome in group) / count
    extra = math.sqrt(max(0.0, variance - told)) if count >= _FEWEST else 0.0
    covered = sum(outcome.low <= outcome.actual <= outcome.high for outcome in group) / count
    return Correction(cqa, mean * count / (count + _PRIOR), extra, count, mean, math.sqrt(variance), covered)
