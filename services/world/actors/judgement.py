"""The rule by which the simulated quality assurance judges a deviation.

One rule, on the published evidence only: what a person would read off the
deviation's page. It never sees what was planted.
"""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as events

#: Real from so many residual standard deviations on. A fixed distance, for the limit in force may have
#: been narrowed by a corrective action.
CLEARLY_OUT = 4.0


@dataclass(frozen=True)
class Verdict:
    """What quality assurance says to a deviation, and why."""

    confirmed: bool
    reason: str


def judge(detected: events.DeviationDetected) -> Verdict:
    """Confirm what is clearly and steadily outside on one side; reject the rest."""
    seen = f"{detected.tag} reached {detected.magnitude:.1f} SD (limit {detected.limit:.1f})"
    if not detected.evidence:
        return Verdict(False, f"{seen}, but no evidence is shown")
    if not _one_sided(detected):
        return Verdict(False, f"{seen}, but returned or swung to the other side: noise")
    if detected.magnitude < CLEARLY_OUT:
        return Verdict(False, f"{seen}: below {CLEARLY_OUT:.1f} SD it may be common variation")
    return Verdict(True, f"{seen} on one side for {detected.samples_out} samples in a row")


def _one_sided(detected: events.DeviationDetected) -> bool:
    """The last points that made the rule hold lie beyond the same limit."""
    last = detected.evidence[-max(1, detected.samples_out) :]
    return all(point.value > point.high for point in last) or all(point.value < point.low for point in last)
