"""Many runs of the reduced model as one system of equations: what intervals and searches are made of.

The runs do not touch one another, so the Jacobian of all of them together is a band
of five states, and LSODA solves hundreds of runs in about the time of ten. Two
changes of variable keep the runs in step although their switches are apart: the
batch phase is integrated over the substrate, which falls from its beginning to
the threshold, so that the switch is its end by construction; the fed phase over
the share of the time that is left. Tolerances are those of an interval, not of a
reference value: 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

from services.production.domain.twin.pensim import (
    Floats,
    Recipe,
    ReducedParameters,
    evaporation_rate,
    growth_ceiling,
    integrate,
    rates,
    transfer_factor,
)

_SOLVER = {"rtol": 1e-5, "atol": 1e-7, "ml": 4, "mu": 4}
_BATCH_POINTS, _FED_POINTS = 81, 161


@dataclass(frozen=True)
class Member:
    """A run of the ensemble: what is set, and the constants it is run with."""

    recipe: Recipe
    parameters: ReducedParameters


@dataclass(frozen=True)
class Ensemble:
    """The runs at points in time of their own.

    `times` is members x points, in h; `states` is members x points x 5.
    """

    times: Floats
    states: Floats


def run_many(members: Sequence[Member]) -> Ensemble:
    """Every member's course. The recipes must have been checked (`pensim.faults`).

    A member whose substrate does not reach the threshold in time is never fed.
    """
    together = _batch_phase(members)
    ends = np.array([member.recipe.hours for member in members])
    late = ~(together.times[:, -1] < ends)
    times = np.empty((len(members), _BATCH_POINTS + _FED_POINTS - 1))
    states = np.empty((*times.shape, 5))
    times[:, :_BATCH_POINTS], states[:, :_BATCH_POINTS] = together.times, together.states
    prompt = np.flatnonzero(~late).tolist()
    if prompt:
        fed = _fed_phase(
            [members[i] for i in prompt], together.times[prompt, -1], together.states[prompt, -1]
        )
        times[prompt, _BATCH_POINTS:], states[prompt, _BATCH_POINTS:] = fed.times[:, 1:], fed.states[:, 1:]
    lasting = np.flatnonzero(late).tolist()
    if lasting:
        unfed = _unfed([members[i] for i in lasting], times.shape[1])
        times[lasting], states[lasting] = unfed.times, unfed.states
    return Ensemble(times, states)


def _batch_phase(members: Sequence[Member]) -> Ensemble:
    """Over the substrate: states are biomass, hours, oxygen, product, volume."""
    derivatives, begin = _stacked(members)
    count = len(members)
    full, threshold = begin[:, 1].copy(), np.array([member.recipe.threshold for member in members])
    depth = full - threshold
    start = begin.copy()
    start[:, 1] = 0.0

    def over_substrate(used: float, y: Floats) -> Floats:
        x, _, o, product, v = y.reshape(count, 5).T
        dx, ds, do, dp, dv = derivatives(x, full - used * depth, np.maximum(o, 0.0), product, v, 0.0)
        hours = -depth / np.minimum(ds, -1e-12)
        return np.stack((dx * hours, hours, do * hours, dp * hours, dv * hours), axis=1).ravel()

    # The points lie closer where the substrate is still nearly whole: there the hours pass.
    used = np.linspace(0.0, 1.0, _BATCH_POINTS) ** 2
    solved = integrate(over_substrate, start.ravel(), used, **_SOLVER).reshape(len(used), count, 5)
    states = solved.transpose(1, 0, 2).copy()
    times = states[:, :, 1].copy()
    states[:, :, 1] = full[:, None] - used * depth[:, None]
    return Ensemble(times, states)


def _unfed(members: Sequence[Member], points: int) -> Ensemble:
    """Whole runs of members whose substrate outlasts them."""
    _, begin = _stacked(members)
    return _over_time(members, np.zeros(len(members)), begin, np.zeros(len(members)), points)


def _fed_phase(members: Sequence[Member], switched: Floats, begin: Floats) -> Ensemble:
    """From each member's switch (h) and its states there to its end."""
    feed = np.array([member.recipe.feed for member in members])
    return _over_time(members, switched, begin, feed, _FED_POINTS)


def _over_time(
    members: Sequence[Member], since: Floats, begin: Floats, feed: Floats, points: int
) -> Ensemble:
    """With a constant feed, over the share of the time that each member has left."""
    derivatives, _ = _stacked(members)
    count = len(members)
    left = np.array([member.recipe.hours for member in members]) - since

    def slopes(_: float, y: Floats) -> Floats:
        x, s, o, product, v = y.reshape(count, 5).T
        found = derivatives(x, np.maximum(s, 0.0), np.maximum(o, 0.0), product, v, feed)
        return (np.stack(found, axis=1) * left[:, None]).ravel()

    share = np.linspace(0.0, 1.0, points)
    solved = integrate(slopes, begin.ravel(), share, **_SOLVER).reshape(points, count, 5)
    return Ensemble(since[:, None] + share * left[:, None], solved.transpose(1, 0, 2))


def _stacked(members: Sequence[Member]) -> tuple[Any, Floats]:
    """The derivatives of all members at once, and what they begin with (members x 5)."""
    constants = SimpleNamespace(
        **{
            name.name: np.array([getattr(member.parameters, name.name) for member in members])
            for name in fields(ReducedParameters)
        }
    )
    growth = np.array([growth_ceiling(m.parameters, m.recipe.temperature, m.recipe.ph) for m in members])
    loss = np.array([evaporation_rate(m.parameters, m.recipe.temperature) for m in members])
    transfer = np.array([transfer_factor(m.parameters, m.recipe.aeration, m.recipe.power) for m in members])
    return rates(constants, growth, loss, transfer), np.array([member.recipe.begin() for member in members])
