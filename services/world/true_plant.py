"""What a lot of the developer's medicine truly is, from the set-points it was made by.

The plant's strain breathes a little more and its product decays a little faster
than anybody at the developer's knows, and its vessel transfers less oxygen than
was measured. So the twin is off by about as much lot after lot, and learns it. The
live twin takes the same two for biomass: it sees some percent more than there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from services.production.domain.twin import reference
from services.production.domain.twin.cqas import CQAS, attributes
from services.production.domain.twin.ensemble import run_many
from services.production.domain.twin.oxygen import parameters_in
from services.production.domain.twin.pensim import BIOMASS, OXYGEN, VOLUME, Floats, run
from services.production.domain.twin.pensim_full import FullParameters
from services.production.domain.twin.process import member, recipe
from services.production.domain.twin.set_points import SetPoints
from services.world.recipes import IMPURITY, TITRE

_PROCESS = replace(
    reference.PROCESS,
    parameters=replace(
        reference.PARAMETERS,
        hydrolysis=reference.PARAMETERS.hydrolysis * 1.10,
        m_o=reference.PARAMETERS.m_o * 1.02,
    ),
)
_VESSEL = replace(reference.PLANT, kla_factor=reference.PLANT.kla_factor * 0.98)
#: Standard deviations from lot to lot that no set-point explains.
_SCATTER = {TITRE: 0.05, IMPURITY: 0.02}
_PLACES = 3
#: h from one reading to the next.
STEP = 5.0
#: Noise of a reading: standard deviations as shares of the value, and in the tag's own unit.
_SHARES = {"FeedRate": 0.01, "AerationRate": 0.005, "AgitatorPower": 0.01, "CarbonDioxide": 0.02}
_SPREADS = {"Temperature": 0.05, "PH": 0.01, "DissolvedOxygen": 0.3, "Volume": 0.05}
_GAS = FullParameters()


@dataclass(frozen=True)
class Fermentation:
    """A lot's run, hour by hour as it is read: what nobody measures (biomass, g/L), and what the sensors say
    by tag, in the units of `treatment.TAGS`."""

    hours: tuple[float, ...]
    biomass: tuple[float, ...]
    readings: Mapping[str, tuple[float, ...]]


def fermented(set_points: Mapping[str, float], draw: Random) -> Fermentation:
    """The run of a lot that is made by these set-points, in /min, L/min, L/h, K and pH."""
    constants = parameters_in(_VESSEL, _PROCESS.parameters)
    made = recipe(_PROCESS, _VESSEL, SetPoints(**set_points), constants)
    hours = np.arange(0.0, made.hours, STEP)
    truth = run(made, constants, times=hours)
    fed = np.zeros(len(hours)) if truth.switch is None else np.where(hours > truth.switch.hour, made.feed, 0)
    biomass = truth.states[:, BIOMASS]
    true = {
        "FeedRate": fed,
        "AerationRate": np.full(len(hours), made.aeration),
        "AgitatorPower": np.full(len(hours), made.power),
        "Temperature": np.full(len(hours), made.temperature),
        "PH": np.full(len(hours), made.ph),
        "DissolvedOxygen": 100 * truth.states[:, OXYGEN] / constants.saturation,
        "CarbonDioxide": _carbon_dioxide(hours, biomass),
        "Volume": truth.states[:, VOLUME],
    }
    readings = {
        tag: tuple(
            round(value + draw.gauss(0, _SPREADS.get(tag) or _SHARES[tag] * abs(value)), 6)
            for value in values.tolist()
        )
        for tag, values in sorted(true.items())
    }
    return Fermentation(tuple(hours.tolist()), tuple(biomass.tolist()), readings)


def _carbon_dioxide(hours: Floats, biomass: Floats) -> Floats:
    """mmol/L at each hour: of growth, and of what the biomass and the broth have given off since."""
    steady = _GAS.carbon_of_biomass * biomass + _GAS.carbon_of_itself
    given = np.concatenate(([0.0], np.cumsum((steady[1:] + steady[:-1]) / 2 * np.diff(hours))))
    return np.asarray(_GAS.carbon_of_growth * (biomass - biomass[0]) + given)


def results(set_points: Mapping[str, float], draw: Random) -> dict[str, float]:
    """What the laboratory finds: titre in g/L, impurity in %. Set-points in /min, L/min, L/h, K and pH."""
    run = member(_PROCESS, _VESSEL, SetPoints(**set_points))
    found = attributes(run_many([run]), [run.parameters.saturation])[0]
    made = dict(zip(CQAS, map(float, found), strict=True))
    return {
        name: round(max(0.0, made[name] + draw.gauss(0, scatter)), _PLACES)
        for name, scatter in sorted(_SCATTER.items())
    }
