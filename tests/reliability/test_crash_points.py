"""A process that dies at any point between an effect and its commit loses nothing and does nothing twice.

A real process dies there by SIGKILL, is started again, and the case goes on;
each round arms five processes of the platform, each at a point of its own.
"""

from __future__ import annotations

import signal

import pytest

from services.kit.points import POINTS, VARIABLE
from tests.reliability.stand import Stand

#: By process, the points in the order of the rounds.
ROUNDS: dict[str, tuple[str, ...]] = {
    "production-api": ("decider.written", "decider.committed", "facts.published"),
    "production-worker": ("batch.written", "batch.committed", "batch.told"),
    "production-relay": ("relay.read", "relay.published", "relay.marked"),
    "traceability": ("step.claimed", "step.ran", "step.finished"),
    "loops": ("loop.stored", "loop.sent", "batch.taken"),
}


def test_the_rounds_pass_every_point() -> None:
    assert {point for points in ROUNDS.values() for point in points} == set(POINTS)


@pytest.mark.timeout(900)
@pytest.mark.faults
@pytest.mark.parametrize("round", range(len(next(iter(ROUNDS.values())))))
def test_whoever_dies_at_a_point_has_one_effect(stand: Stand, round: int) -> None:
    world = stand.rough
    armed = {name: points[round] for name, points in ROUNDS.items()}
    with stand.judged():
        for name, point in armed.items():
            world.again(name, once={VARIABLE: point})
        world.wait_serving()
        stand.case().play(stand.caller)
        died = {death.name: death.armed for death in world.deaths if death.code == -signal.SIGKILL}
        assert died == armed, "not everybody died where it was to die"
        world.deaths.clear()
