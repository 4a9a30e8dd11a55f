"""A fed-batch penicillin fermentation (PenSim), reduced: temperature and pH are held.

Birol, Undey and Cinar, Computers & Chemical Engineering 26 (2002) 1553, which
extends Bajpai and Reuss (1980). States: biomass, substrate (glucose),
dissolved oxygen, penicillin (all g/L) and volume (L); time in hours. The batch
phase ends, and the feed begins, where the substrate falls to a threshold; the
solver locates that moment, for stepping over it would shift everything after.
A contaminant may eat and breathe along; the paper has none. What the states
imply for carbon dioxide, heat and acid is in `pensim_balances`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp

Floats = npt.NDArray[np.float64]
#: Gas constant in the unit of the activation energies, cal/(mol K).
_R = 1.987
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12


@dataclass(frozen=True)
class Kinetics:
    """The model's constants, as printed in table 2 of the paper (units in the names' comments)."""

    mu_x: float = 0.092  # 1/h, largest specific growth rate
    k_x: float = 0.15  # g/g, Contois saturation of the substrate
    k_ox: float = 2e-2  # g/g, of the oxygen
    k_g: float = 7e3  # Arrhenius factor of growth
    e_g: float = 5100.0  # cal/mol
    k_d: float = 1e33  # of death
    e_d: float = 50_000.0  # cal/mol
    k_1: float = 1e-10  # mol/L
    k_2: float = 7e-5  # mol/L
    y_xs: float = 0.45
    y_xo: float = 0.04
    y_ps: float = 0.90
    y_po: float = 0.20
    mu_p: float = 0.005  # 1/h, specific production
    k_p: float = 2e-4  # g/L
    k_i: float = 0.10  # g/L, inhibition by the substrate
    k_op: float = 5e-4
    p: float = 3.0
    hydrolysis: float = 0.04  # 1/h
    m_x: float = 0.014  # 1/h, maintenance on substrate
    m_o: float = 0.467  # 1/h, on oxygen
    saturation: float = 1.16  # g/L, oxygen
    alpha: float = 70.0
    beta: float = 0.4
    evaporation: float = 2.5e-4  # 1/h
    t_0: float = 273.15  # K
    t_v: float = 373.15  # K
    feed_substrate: float = 600.0  # g/L


#: What a gram of the contaminant takes up in an hour at most, g, and the concentrations (g/L) of half of it.
CONTAMINANT_EATS, CONTAMINANT_BREATHES = 0.05, 4.0
_HALF_EATEN, _HALF_BREATHED = 0.01, 0.02


@dataclass(frozen=True)
class Inputs:
    """What is manipulated: glucose feed L/h (after the batch phase), aeration L/h, agitation W,
    temperature K, pH; and g/L of a contaminant that nobody wants."""

    feed: float = 0.042
    aeration: float = 8.0
    power: float = 29.9
    temperature: float = 298.0
    ph: float = 5.0
    contaminant: float = 0.0


@dataclass(frozen=True)
class State:
    biomass: float = 0.1
    substrate: float = 15.0
    oxygen: float = 1.16
    penicillin: float = 0.0
    volume: float = 100.0


#: Inputs at a moment (hours since the start); the feed it names counts once the batch phase is over.
Course = Callable[[float], Inputs]


@dataclass(frozen=True)
class Fermentation:
    """A simulated batch: `states` has a row for each of `times` (h) and the columns of `State`."""

    times: Floats
    states: Floats
    switched: float


def temperature_factor(k: Kinetics, temperature: float) -> float:
    """Growth less death by temperature: the bracket of two Arrhenius terms."""
    return k.k_g * math.exp(-k.e_g / (_R * temperature)) - k.k_d * math.exp(-k.e_d / (_R * temperature))


def rates(k: Kinetics, x: Inputs, state: Sequence[float], feed: float) -> list[float]:
    """Time derivatives of the states, per hour."""
    biomass, oxygen, penicillin, volume = state[0], state[2], state[3], state[4]
    substrate = max(state[1], 0.0)
    hydrogen = 10.0**-x.ph
    growth = (
        k.mu_x
        / (1 + k.k_1 / hydrogen + hydrogen / k.k_2)
        * substrate
        / (k.k_x * biomass + substrate)
        * oxygen
        / (k.k_ox * biomass + oxygen)
        * temperature_factor(k, x.temperature)
    )
    making = (
        k.mu_p
        * substrate
        / (k.k_p + substrate + substrate**2 / k.k_i)
        * oxygen**k.p
        / (k.k_op * biomass + oxygen**k.p)
    )
    transfer = k.alpha * math.sqrt(x.aeration) * (x.power / volume) ** k.beta
    lost = volume * k.evaporation * (math.exp(5 * (x.temperature - k.t_0) / (k.t_v - k.t_0)) - 1)
    swell = feed - lost
    dilution = swell / volume
    eaten = CONTAMINANT_EATS * x.contaminant * substrate / (_HALF_EATEN + substrate)
    breathed = CONTAMINANT_BREATHES * x.contaminant * oxygen / (_HALF_BREATHED + oxygen)
    return [
        growth * biomass - biomass * dilution,
        -(growth / k.y_xs) * biomass
        - (making / k.y_ps) * biomass
        - k.m_x * biomass
        - eaten
        + feed * k.feed_substrate / volume
        - substrate * dilution,
        -(growth / k.y_xo) * biomass
        - (making / k.y_po) * biomass
        - k.m_o * biomass
        - breathed
        + transfer * (k.saturation - oxygen)
        - oxygen * dilution,
        making * biomass - k.hydrolysis * penicillin - penicillin * dilution,
        swell,
    ]


def ferment(
    course: Course,
    times: Floats,
    *,
    begin: State = State(),
    threshold: float = 0.3,
    kinetics: Kinetics = Kinetics(),
) -> Fermentation:
    """The course of a batch at the given times (h, increasing, from 0).

    `threshold` is the substrate (g/L) at which the batch phase ends.
    """

    def batch(t: float, y: Floats) -> list[float]:
        return rates(kinetics, course(t), y.tolist(), 0.0)

    def fed(t: float, y: Floats) -> list[float]:
        x = course(t)
        return rates(kinetics, x, y.tolist(), x.feed)

    def used_up(t: float, y: Floats) -> float:
        return float(y[1] - threshold)

    used_up.terminal, used_up.direction = True, -1  # type: ignore[attr-defined]
    start = np.array([begin.biomass, begin.substrate, begin.oxygen, begin.penicillin, begin.volume])
    end = float(times[-1])
    solver = {"method": "LSODA", "rtol": _RELATIVE, "atol": _ABSOLUTE, "dense_output": True}
    first = solve_ivp(batch, (0.0, end), start, events=used_up, **solver)
    switched = float(first.t_events[0][0]) if len(first.t_events[0]) else end
    before = times <= switched
    states = np.empty((len(times), len(start)))
    states[before] = first.sol(times[before]).T
    if not before.all():
        second = solve_ivp(fed, (switched, end), first.y_events[0][0], **solver)
        states[~before] = second.sol(times[~before]).T
    return Fermentation(times, states, switched)
