"""What a penicillin fermentation implies beside its states: carbon dioxide, heat, acid.

The optional balances of the full PenSim (Birol, Undey and Cinar 2002), with
temperature and pH held: not integrated, but solved for what the plant then
measures, the cooling water and the base that hold them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.world.pensim import Fermentation, Floats, Inputs

_MADE_BY_GROWTH, _MADE_BY_BIOMASS, _MADE_BY_ITSELF = 0.143, 4e-7, 1e-4  # CO2: mmol/g, mmol/(g h), mmol/(L h)
_MADE_BY_CONTAMINANT = 0.03  # mmol/(g h)
_HEAT_OF_GROWTH, _HEAT_OF_BIOMASS = 60.0, 1.6783e-4  # cal/g, cal/(g h)
_BROTH, _WATER = 1500.0, 1000.0  # density times heat capacity, cal/(L K)
_COIL, _COIL_POWER = 1000.0, 0.60
_FEED_TEMPERATURE = 298.0
_ACID = 1e-5  # mol of acid a g of biomass makes
_BASE = 3.0  # mol/L
_MOST_COOLING = 1e4


def carbon_dioxide(batch: Fermentation, inputs: Sequence[Inputs]) -> Floats:
    """mmol/L at each time: the growth so far, and what the biomass has breathed out."""
    biomass = batch.states[:, 0]
    foreign = np.array([x.contaminant for x in inputs])
    steady = _MADE_BY_BIOMASS * biomass + _MADE_BY_ITSELF + _MADE_BY_CONTAMINANT * foreign
    made: Floats = _MADE_BY_GROWTH * (biomass - biomass[0]) + _integral(steady, batch.times)
    return made


def heat(batch: Fermentation) -> Floats:
    """cal/h that the biomass gives off."""
    biomass, volume = batch.states[:, 0], batch.states[:, 4]
    growth = np.gradient(biomass, batch.times)
    released: Floats = (_HEAT_OF_GROWTH * growth + _HEAT_OF_BIOMASS * biomass) * volume
    return released


def cooling(released: Floats, feed: Floats, temperature: Floats, water: float) -> Floats:
    """L/h of water (K) that take away the heat and what the feed brings; nought where nothing is to be taken.

    The coil takes a F^b / (1 + a F^(b-1) / (2 rho cp)) (T - Tc), which grows with F: halved to the root.
    """
    wanted = released + feed * _BROTH * (_FEED_TEMPERATURE - temperature)
    low, high = np.zeros_like(wanted), np.full_like(wanted, _MOST_COOLING)
    for _ in range(60):
        middle = (low + high) / 2
        taken = _COIL * middle**_COIL_POWER * (temperature - water)
        taken /= 1 + _COIL * middle ** (_COIL_POWER - 1) / (2 * _WATER)
        enough = taken >= wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(wanted > 0, (low + high) / 2, 0.0)


def base(batch: Fermentation) -> Floats:
    """L/h of base that hold the pH against the acid of growth (the ions of water are too few to count)."""
    biomass, volume = batch.states[:, 0], batch.states[:, 4]
    acid = _ACID * np.maximum(np.gradient(biomass, batch.times), 0.0)
    needed: Floats = acid * volume / _BASE
    return needed


def _integral(values: Floats, times: Floats) -> Floats:
    """From the first time to each, by trapezes."""
    parts = (values[1:] + values[:-1]) / 2 * np.diff(times)
    return np.concatenate(([0.0], np.cumsum(parts)))
