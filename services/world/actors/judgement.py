"""The rule by which the simulated quality assurance judges a deviation.

One rule, on the published evidence only: what a person would read off the
deviation's page. It never sees what was planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pharmaloop.production.v1 import events_pb2 as events

#: Real from so many residual standard deviations on. A fixed distance, for the limit in force may have
#: been narrowed by a corrective action.
CLEARLY_OUT = 4.0
#: Or when it went out by so many within the last so many samples and still goes on, sample by sample: what
#: creeps there over a whole run is common variation, what runs there is a fault that has just begun.
RUNS_AWAY, WITHIN = 1.5, 6
_GOES_ON, _STEPS = 0.2, 3


@dataclass(frozen=True)
class Verdict:
    """What quality assurance says to a deviation, and why."""

    confirmed: bool
    reason: str


def judge(detected: events.DeviationDetected) -> Verdict:
    """Confirm what is clearly and steadily outside on one side, or runs there; reject the rest."""
    # What it comes to later is larger: the page shows both, to as many digits.
    seen = f"{detected.tag} reached {detected.magnitude:.3g} SD by its detection (limit {detected.limit:.3g})"
    if not detected.evidence:
        return Verdict(False, f"{seen}, but no evidence is shown")
    if len(detected.evidence) < WITHIN:
        return Verdict(False, f"{seen}, but the run had only just begun: it was settling")
    if not _one_sided(detected):
        return Verdict(False, f"{seen}, but returned or swung to the other side: noise")
    if detected.magnitude >= CLEARLY_OUT:
        return Verdict(True, f"{seen} on one side for {detected.samples_out} samples in a row")
    away = _away(detected)
    if away[-1] - away[0] >= RUNS_AWAY and all(
        after - before >= _GOES_ON for before, after in pairwise(away[-_STEPS - 1 :])
    ):
        gone = away[-1] - away[0]
        return Verdict(True, f"{seen} and goes on: {gone:.1f} SD further within {WITHIN} samples")
    return Verdict(False, f"{seen}: below {CLEARLY_OUT:.1f} SD it may be common variation")


def _one_sided(detected: events.DeviationDetected) -> bool:
    """The last points that made the rule hold lie beyond the same limit."""
    last = detected.evidence[-max(1, detected.samples_out) :]
    return all(point.value > point.high for point in last) or all(point.value < point.low for point in last)


def _away(detected: events.DeviationDetected) -> list[float]:
    """Of the last few samples: how far out, in SD, towards the side where the last one is."""
    away = [_distance(point, detected.limit) for point in detected.evidence[-WITHIN:]]
    return away if away[-1] > 0 else [-distance for distance in away]


def _distance(point: events.EvidencePoint, limit: float) -> float:
    """In SD, from the limits that the point shows."""
    reach = (point.high - point.low) / 2
    return limit * (point.value - point.expected) / reach if reach > 0 else 0.0
