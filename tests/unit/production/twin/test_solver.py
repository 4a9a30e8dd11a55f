"""The solver of many runs: against closed forms, against differences, and when it cannot go on."""

from __future__ import annotations

import numpy as np
import pytest

from services.production.domain.twin import reference
from services.production.domain.twin.ensemble import Equations, Member, run_many
from services.production.domain.twin.pensim import PRODUCT, Recipe, ReducedParameters, run
from services.production.domain.twin.process import member, recipe
from services.production.domain.twin.rosenbrock import Floats, Ints, Unsolved, solve

RATES = np.array([1.0, 50.0, 1e4])


def decays(some: Ints, states: Floats) -> Floats:
    slopes: Floats = -RATES[some][:, None] * states
    return slopes


def decay_jacobian(some: Ints, states: Floats) -> Floats:
    found: Floats = -RATES[some][:, None, None] * np.ones((len(some), 1, 1))
    return found


def test_every_member_comes_to_its_own_end_at_its_own_pace() -> None:
    until = np.array([2.0, 0.1, 0.0])
    times, states = solve(
        decays,
        decay_jacobian,
        np.ones((3, 1)),
        np.zeros(3),
        until,
        relative=1e-6,
        absolute=np.array([1e-9]),
    )
    assert times[:, -1] == pytest.approx(until)
    assert states[:, -1, 0] == pytest.approx(np.exp(-RATES * until), rel=1e-4)
    assert (np.diff(times, axis=1) >= 0).all()
    assert (states[2] == 1.0).all()


def test_what_cannot_go_on_is_not_called_solved() -> None:
    with pytest.raises(Unsolved):
        solve(
            lambda some, y: np.where(y > 0.5, -1.0, np.nan),
            lambda some, y: np.zeros((1, 1, 1)),
            np.ones((1, 1)),
            np.zeros(1),
            np.array([2.0]),
            relative=1e-4,
            absolute=np.array([1e-6]),
        )


def test_the_jacobian_is_that_of_the_slopes() -> None:
    """Also where substrate and oxygen are nearly gone, and with the constants of two processes."""
    states = np.array(
        [
            [6.0, 9.0, 1.0, 0.1, 98.0],
            [14.0, 3e-3, 1.1, 1.6, 92.0],
            [36.0, 6e-4, 0.3, 3.0, 110.0],
            [36.0, 2e-6, 2e-4, 3.0, 110.0],
        ]
    )
    k = reference.PARAMETERS
    count = len(states)
    equations = Equations(
        {name: np.full(count, value) for name, value in vars(k).items()},
        np.full(count, 0.09),
        np.full(count, 6e-4),
        np.full(count, 300.0),
        np.full(count, 0.1),
    )
    every = np.arange(count)
    found = equations.jacobian(every, states)
    for column in range(5):
        shift = np.zeros_like(states)
        shift[:, column] = 1e-5 * states[:, column]
        up, down = equations.slopes(every, states + shift), equations.slopes(every, states - shift)
        difference = (up - down) / (2 * shift[:, column])[:, None]
        scale = np.abs(difference).max(axis=1, keepdims=True)
        assert found[:, :, column] / scale == pytest.approx(difference / scale, abs=1e-5)


@pytest.mark.parametrize("speed", [240.0, 290.0, 320.0])
def test_runs_that_lack_oxygen_are_as_near_as_the_others(speed: float) -> None:
    """There substrate piles up and is used up late: the sharp turn that a coarse solver would miss."""
    points = reference.SET_POINTS.with_({"agitation": speed})
    each = member(reference.PROCESS, reference.PILOT, points)
    alone = run(recipe(reference.PROCESS, reference.PILOT, points), each.parameters).last()
    assert run_many([each]).states[0, -1, PRODUCT] == pytest.approx(alone[PRODUCT], rel=2e-3)


def test_a_run_does_not_depend_on_its_company() -> None:
    one, other = Member(Recipe(), ReducedParameters()), Member(Recipe(feed=0.06), ReducedParameters())
    together = run_many([one, other, one]).states[:, -1]
    assert together[0] == pytest.approx(together[2], rel=1e-12)
    assert together[0] == pytest.approx(run_many([one]).states[0, -1], rel=1e-4)
