"""The rule of the simulated quality assurance: on the published evidence, nothing else."""

from __future__ import annotations

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.world.actors.judgement import judge


def detected(values: list[float], magnitude: float, samples_out: int = 3) -> events.DeviationDetected:
    """A deviation of a tag whose limits are -5 and 5."""
    return events.DeviationDetected(
        tag="DryerTemp",
        magnitude=magnitude,
        limit=5.0,
        samples_out=samples_out,
        evidence=[events.EvidencePoint(value=value, expected=0, low=-5, high=5) for value in values],
    )


@pytest.mark.parametrize(
    ("values", "magnitude", "confirmed", "because"),
    [
        ([0.0, 0.0, 0.1, 9.0, 9.2, 9.1], 9.2, True, "on one side"),
        ([0.0, 0.0, -0.1, -8.0, -8.5, -9.0], 9.0, True, "on one side"),
        ([0.0, 0.0, 0.0, 9.0, -9.0, 9.0], 9.0, False, "noise"),
        ([4.9, 5.0, 5.0, 5.1, 5.2, 5.1], 3.9, False, "common variation"),
        ([4.9, 5.0, 5.0, 5.1, 5.2, 5.1], 4.0, True, "on one side"),
        ([0.0, 0.0, 0.0, 9.0, 9.0, 1.0], 9.0, False, "noise"),
        ([2.1, 3.0, 4.0, 5.1, 5.5, 6.0], 3.9, True, "3.9 SD further within 6 samples"),
        ([-2.1, -3.0, -4.0, -5.1, -5.5, -6.0], 3.9, True, "3.9 SD further within 6 samples"),
        ([2.0, 2.0, 5.1, 5.2, 5.1, 5.2], 3.9, False, "common variation"),
        ([9.0, 9.0, 9.0], 9.0, False, "only just begun"),
        ([], 9.0, False, "no evidence"),
    ],
)
def test_the_rule(values: list[float], magnitude: float, confirmed: bool, because: str) -> None:
    verdict = judge(detected(values, magnitude))
    assert verdict.confirmed is confirmed
    assert because in verdict.reason
    assert verdict.reason.startswith(f"DryerTemp reached {magnitude:.3g} SD by its detection") or not values
