"""Many runs of the reduced model at once: what intervals and searches are made of.

The runs are stiff, and each has sharp turns at moments of its own: the switch, the
oxygen that runs out. So every run takes its own steps (`rosenbrock`), and the step
that reaches the threshold ends there, which is where the feed begins. Tolerances
are those of an interval, not of a reference value: 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import numpy as np

from services.production.domain.twin.errors import Reason, refuse
from services.production.domain.twin.jacobian import jacobian
from services.production.domain.twin.pensim import (
    OXYGEN,
    SUBSTRATE,
    Floats,
    Recipe,
    ReducedParameters,
    evaporation_rate,
    growth_ceiling,
    rates,
    transfer_factor,
)
from services.production.domain.twin.rosenbrock import Falls, Ints, Unsolved, solve

_RELATIVE, _ABSOLUTE = 1e-4, np.array([1e-4, 1e-6, 1e-5, 1e-5, 1e-3])
#: g/L of substrate from the threshold that count as on it: less than a second.
_ON_THRESHOLD = 1e-5
_NAMES = tuple(constant.name for constant in fields(ReducedParameters))


@dataclass(frozen=True)
class Member:
    """A run of the ensemble: what is set, and the constants it is run with."""

    recipe: Recipe
    parameters: ReducedParameters


@dataclass(frozen=True)
class Ensemble:
    """The runs at points in time of their own, which may repeat.

    `times` is members x points, in h; `states` is members x points x 5.
    """

    times: Floats
    states: Floats


@dataclass(frozen=True)
class Equations:
    """The equations of runs side by side: constants by name, and what does not change during a run."""

    constants: dict[str, Floats]
    growth: Floats
    loss: Floats
    transfer: Floats
    feed: Floats

    def of(self, some: Ints) -> tuple[SimpleNamespace, Floats, Floats, Floats]:
        """What `rates` and `jacobian` take, of some of the runs."""
        constants = SimpleNamespace(**{name: values[some] for name, values in self.constants.items()})
        return constants, self.growth[some], self.loss[some], self.transfer[some]

    def slopes(self, some: Ints, states: Floats) -> Floats:
        """Derivatives (runs x 5) of some of the runs."""
        x, s, o, product, v = _held(states).T
        return np.stack(rates(*self.of(some))(x, s, o, product, v, self.feed[some]), axis=1)

    def jacobian(self, some: Ints, states: Floats) -> Floats:
        """Their Jacobian (runs x 5 x 5)."""
        return jacobian(*self.of(some), _held(states), self.feed[some])

    def solve(self, begin: Floats, since: Floats, until: Floats, falls: Falls | None = None) -> Ensemble:
        """All runs from their beginnings (runs x 5), each over its own hours, or to where it falls."""
        try:
            times, states = solve(
                self.slopes,
                self.jacobian,
                begin,
                since,
                until,
                relative=_RELATIVE,
                absolute=_ABSOLUTE,
                falls=falls,
            )
        except (Unsolved, np.linalg.LinAlgError) as error:
            rule = f"the model cannot be solved for these inputs ({error})"
            refuse([Reason("NOT_SOLVABLE", "recipe", rule, "give inputs nearer to the process")])
        return Ensemble(times, states)


def run_many(members: Sequence[Member]) -> Ensemble:
    """Every member's course. The recipes must have been checked (`pensim.faults`).

    A member whose substrate does not reach the threshold in time is never fed.
    """
    equations = _equations(members)
    begin = np.array([member.recipe.begin() for member in members])
    ends = np.array([member.recipe.hours for member in members])
    thresholds = np.array([member.recipe.threshold for member in members])
    start = np.zeros(len(members))
    unfed = replace(equations, feed=start)
    batch = unfed.solve(begin, start, ends, Falls(SUBSTRATE, thresholds, _ON_THRESHOLD))
    fed = equations.solve(batch.states[:, -1], batch.times[:, -1], ends)
    return Ensemble(
        np.concatenate((batch.times, fed.times[:, 1:]), axis=1),
        np.concatenate((batch.states, fed.states[:, 1:]), axis=1),
    )


def _held(states: Floats) -> Floats:
    """The states with substrate and oxygen not below nought, which a trial step may reach."""
    held = states.copy()
    held[:, SUBSTRATE] = np.maximum(held[:, SUBSTRATE], 0.0)
    held[:, OXYGEN] = np.maximum(held[:, OXYGEN], 0.0)
    return held


def _equations(members: Sequence[Member]) -> Equations:
    return Equations(
        {name: np.array([getattr(member.parameters, name) for member in members]) for name in _NAMES},
        np.array([growth_ceiling(m.parameters, m.recipe.temperature, m.recipe.ph) for m in members]),
        np.array([evaporation_rate(m.parameters, m.recipe.temperature) for m in members]),
        np.array([transfer_factor(m.parameters, m.recipe.aeration, m.recipe.power) for m in members]),
        np.array([member.recipe.feed for member in members]),
    )
