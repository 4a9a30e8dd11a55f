"""The Jacobian of the reduced model, for the solver of many runs: `pensim.rates`, differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.production.domain.twin.pensim import (
    BIOMASS,
    LAST_OXYGEN,
    LAST_SUBSTRATE,
    OXYGEN,
    PRODUCT,
    SUBSTRATE,
    VOLUME,
    Floats,
)


def jacobian(k: Any, growth: Floats, loss: Floats, transfer: Floats, states: Floats, feed: Floats) -> Floats:
    """members x 5 x 5: row i is the derivative of the slope of state i. Arguments as of `pensim.rates`."""
    x, s, o, product, v = states.T
    by_s, by_o = k.k_x * x + s, k.k_ox * x + o
    limit_s, limit_o = s / by_s, o / by_o
    mu = growth * limit_s * limit_o
    mu_x = -mu * (k.k_x / by_s + k.k_ox / by_o)
    mu_s = growth * limit_o * k.k_x * x / by_s**2
    mu_o = growth * limit_s * k.k_ox * x / by_o**2

    under = k.k_p + s + s * s / k.k_i
    eats, eats_s = s / under, (k.k_p - s * s / k.k_i) / under**2
    power = o**k.p
    beneath = k.k_op * x + power
    breathes, breathes_x = power / beneath, -power * k.k_op / beneath**2
    breathes_o = k.p * o ** (k.p - 1) * k.k_op * x / beneath**2
    making = k.mu_p * eats * breathes
    making_x, making_s = k.mu_p * eats * breathes_x, k.mu_p * eats_s * breathes
    making_o = k.mu_p * eats * breathes_o

    kept_s, kept_o = s * s + LAST_SUBSTRATE, o * o + LAST_OXYGEN
    eaten, eaten_s = k.m_x * s * s / kept_s, 2 * k.m_x * s * LAST_SUBSTRATE / kept_s**2
    breathed, breathed_o = k.m_o * o * o / kept_o, 2 * k.m_o * o * LAST_OXYGEN / kept_o**2
    dilution, dilution_v = feed / v - loss, -feed / v**2
    kla = transfer * v**-k.beta

    found = np.zeros((len(x), 5, 5))
    found[:, BIOMASS, BIOMASS] = mu - dilution + x * mu_x
    found[:, BIOMASS, SUBSTRATE] = x * mu_s
    found[:, BIOMASS, OXYGEN] = x * mu_o
    found[:, BIOMASS, VOLUME] = -x * dilution_v

    uptake = mu / k.y_xs + making / k.y_ps + eaten
    found[:, SUBSTRATE, BIOMASS] = -uptake - x * (mu_x / k.y_xs + making_x / k.y_ps)
    found[:, SUBSTRATE, SUBSTRATE] = -x * (mu_s / k.y_xs + making_s / k.y_ps + eaten_s) - dilution
    found[:, SUBSTRATE, OXYGEN] = -x * (mu_o / k.y_xs + making_o / k.y_ps)
    found[:, SUBSTRATE, VOLUME] = (k.feed_substrate - s) * dilution_v

    demand = mu / k.y_xo + making / k.y_po + breathed
    found[:, OXYGEN, BIOMASS] = -demand - x * (mu_x / k.y_xo + making_x / k.y_po)
    found[:, OXYGEN, SUBSTRATE] = -x * (mu_s / k.y_xo + making_s / k.y_po)
    found[:, OXYGEN, OXYGEN] = -x * (mu_o / k.y_xo + making_o / k.y_po + breathed_o) - kla - dilution
    found[:, OXYGEN, VOLUME] = -k.beta * kla / v * (k.saturation - o) - o * dilution_v

    found[:, PRODUCT, BIOMASS] = making + x * making_x
    found[:, PRODUCT, SUBSTRATE] = x * making_s
    found[:, PRODUCT, OXYGEN] = x * making_o
    found[:, PRODUCT, PRODUCT] = -k.hydrolysis - dilution
    found[:, PRODUCT, VOLUME] = -product * dilution_v
    found[:, VOLUME, VOLUME] = -loss
    return found
