"""Many runs of the reduced model at once: what intervals and searches are made of.

The batch phase is integrated over the substrate, which falls from its beginning to
the threshold: so the runs stay in step although their switches are apart, and the
switch is the end of the phase by construction. The fed phase is stiff, and oxygen
that runs out makes it sharp at a moment of each run's own: there every run takes
its own steps (`rosenbrock`). Tolerances are those of an interval, not of a
reference value: 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
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
    integrate,
    rates,
    transfer_factor,
)
from services.production.domain.twin.rosenbrock import Ints, Unsolved, solve

#: LSODA over the substrate: the runs do not touch one another, so their Jacobian is a band of five states.
_BATCH = {"rtol": 1e-5, "atol": 1e-7, "ml": 4, "mu": 4}
_RELATIVE, _ABSOLUTE = 1e-4, np.array([1e-4, 1e-6, 1e-5, 1e-5, 1e-3])
_BATCH_POINTS = 81
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

    def solve(self, begin: Floats, since: Floats, until: Floats) -> Ensemble:
        """All runs from their beginnings (runs x 5), each from its own hour to its own."""
        try:
            times, states = solve(
                self.slopes, self.jacobian, begin, since, until, relative=_RELATIVE, absolute=_ABSOLUTE
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
    batch = _batch_phase(members, equations, begin)
    fed = batch.times[:, -1] < ends
    times, states = batch.times * fed[:, None], np.where(fed[:, None, None], batch.states, begin[:, None, :])
    equations = Equations(
        equations.constants, equations.growth, equations.loss, equations.transfer, equations.feed * fed
    )
    rest = equations.solve(states[:, -1], times[:, -1], ends)
    return Ensemble(
        np.concatenate((times, rest.times[:, 1:]), axis=1),
        np.concatenate((states, rest.states[:, 1:]), axis=1),
    )


def _batch_phase(members: Sequence[Member], equations: Equations, begin: Floats) -> Ensemble:
    """Over the substrate, without feed: its place among the states is taken by the hours."""
    count = len(members)
    derivatives = rates(*equations.of(np.arange(count)))
    full = begin[:, SUBSTRATE].copy()
    depth = full - np.array([member.recipe.threshold for member in members])
    start = begin.copy()
    start[:, SUBSTRATE] = 0.0

    def over_substrate(used: float, y: Floats) -> Floats:
        x, _, o, product, v = y.reshape(count, 5).T
        dx, ds, do, dp, dv = derivatives(x, full - used * depth, np.maximum(o, 0.0), product, v, 0.0)
        hours = -depth / np.minimum(ds, -1e-12)
        return np.stack((dx * hours, hours, do * hours, dp * hours, dv * hours), axis=1).ravel()

    # The points lie closer where the substrate is still nearly whole: there the hours pass.
    used = np.linspace(0.0, 1.0, _BATCH_POINTS) ** 2
    solved = integrate(over_substrate, start.ravel(), used, **_BATCH).reshape(len(used), count, 5)
    states = solved.transpose(1, 0, 2).copy()
    times = states[:, :, SUBSTRATE].copy()
    states[:, :, SUBSTRATE] = full[:, None] - used * depth[:, None]
    return Ensemble(times, states)


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
