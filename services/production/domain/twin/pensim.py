"""The reduced process model: a fed-batch fermentation at held temperature and pH (PenSim).

Birol, Undey and Cinar, Computers & Chemical Engineering 26 (2002) 1553, which
extends Bajpai and Reuss (1980). Five states: biomass, substrate, dissolved
oxygen, product (all g/L) and volume (L); time in hours.

The published transcriptions disagree (the oxygen saturation, the evaporation
constant, the temperatures of evaporation): the constants here are the ones that
the test values belong to. After the switch the substrate is a few mg/L and the
system is stiff, hence LSODA with a relative tolerance of 1e-9; substrate and
oxygen below nought, which a trial step may reach, count as nought.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.production.domain.twin.errors import Reason, not_negative, positive, refuse, within
from services.production.domain.twin.phases import Switch, switch_at

Floats = npt.NDArray[np.float64]
#: Gas constant, cal/(mol K): the unit of the activation energies.
GAS_CONSTANT = 1.987
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: K. Beyond, the pair of Arrhenius terms was never meant to be read.
COLDEST, HOTTEST = 283.15, 313.15
#: Maintenance cannot take what is not there: below some 3e-6 g/L of substrate and 1e-4 g/L of oxygen it
#: fades (these are the squares). An edge instead of a slope would hold the solver up.
LAST_SUBSTRATE, LAST_OXYGEN = 1e-11, 1e-8
#: Order of the states in every array.
BIOMASS, SUBSTRATE, OXYGEN, PRODUCT, VOLUME = range(5)


@dataclass(frozen=True)
class ReducedParameters:
    """The constants of the model; the defaults are the published ones."""

    mu_x: float = 0.092  #: 1/h, largest specific growth rate
    k_x: float = 0.15  #: g/g, Contois saturation of the substrate
    k_ox: float = 2e-2  #: g/g, Contois saturation of the oxygen
    k_g: float = 7e3  #: Arrhenius factor of growth
    e_g: float = 5100.0  #: cal/mol
    k_d: float = 1e33  #: Arrhenius factor of death
    e_d: float = 50_000.0  #: cal/mol
    k_1: float = 1e-10  #: mol/L
    k_2: float = 7e-5  #: mol/L
    y_xs: float = 0.45  #: g biomass per g substrate
    y_xo: float = 0.04  #: g biomass per g oxygen
    y_ps: float = 0.90  #: g product per g substrate
    y_po: float = 0.20  #: g product per g oxygen
    mu_p: float = 0.005  #: 1/h, specific production
    k_p: float = 2e-4  #: g/L
    k_i: float = 0.10  #: g/L, inhibition of the production by substrate
    k_op: float = 5e-4  #: oxygen limitation of the production
    p: float = 3.0
    hydrolysis: float = 0.04  #: 1/h, loss of product
    m_x: float = 0.014  #: 1/h, maintenance on substrate
    m_o: float = 0.467  #: 1/h, maintenance on oxygen
    saturation: float = 1.16  #: g/L of oxygen
    alpha: float = 70.0  #: kLa (1/h) = alpha aeration^gas_exponent (power/volume)^beta, in L/h, W and L
    beta: float = 0.4
    gas_exponent: float = 0.5
    evaporation: float = 2.5e-4  #: 1/h
    t_0: float = 273.15  #: K
    t_v: float = 373.15  #: K
    feed_substrate: float = 600.0  #: g/L


@dataclass(frozen=True)
class Recipe:
    """What is set, and what the run begins with.

    The feed (L/h) begins where the substrate has fallen to `threshold` (g/L). `aeration` is in L/h,
    `power` the (gassed) power that reaches the broth in W, `temperature` in K, `hours` the length of the run.
    """

    feed: float = 0.042
    aeration: float = 8.0
    power: float = 29.9
    temperature: float = 298.0
    ph: float = 5.0
    biomass: float = 0.1
    substrate: float = 15.0
    oxygen: float = 1.16
    product: float = 0.0
    volume: float = 100.0
    threshold: float = 0.3
    hours: float = 400.0

    def begin(self) -> tuple[float, float, float, float, float]:
        """The states at hour 0."""
        return self.biomass, self.substrate, self.oxygen, self.product, self.volume


#: The published run and constants.
PUBLISHED = Recipe()
CONSTANTS = ReducedParameters()


@dataclass(frozen=True)
class Trajectory:
    """A simulated run: a row of `states` (in the order of the module's constants) for each of `times` (h).

    `switch` is where the feed began; None where the run ended in its batch phase.
    """

    times: Floats
    states: Floats
    switch: Switch | None

    def last(self) -> Floats:
        """The states at the end."""
        end: Floats = self.states[-1]
        return end


def temperature_factor(k: ReducedParameters, temperature: float) -> float:
    """Growth less death by temperature (K): the bracket of the two Arrhenius terms."""
    grow = k.k_g * math.exp(-k.e_g / (GAS_CONSTANT * temperature))
    return grow - k.k_d * math.exp(-k.e_d / (GAS_CONSTANT * temperature))


def growth_ceiling(k: ReducedParameters, temperature: float, ph: float) -> float:
    """The specific growth rate (1/h) that temperature (K) and pH leave of the largest one."""
    hydrogen = 10.0**-ph
    return float(k.mu_x / (1 + k.k_1 / hydrogen + hydrogen / k.k_2) * temperature_factor(k, temperature))


def evaporation_rate(k: ReducedParameters, temperature: float) -> float:
    """Share of the volume that evaporates in an hour, at a temperature in K."""
    return k.evaporation * (math.exp(5 * (temperature - k.t_0) / (k.t_v - k.t_0)) - 1)


def transfer_factor(k: ReducedParameters, aeration: float, power: float) -> float:
    """kLa (1/h) times volume^beta: what does not change as the volume does."""
    return float(k.alpha * aeration**k.gas_exponent * power**k.beta)


def faults(recipe: Recipe, field: str = "recipe") -> list[Reason]:
    """What is wrong with a recipe, rule by rule."""
    found = [
        *not_negative(f"{field}.feed", recipe.feed, "L/h"),
        *positive(f"{field}.aeration", recipe.aeration, "L/h"),
        *positive(f"{field}.power", recipe.power, "W"),
        *within(
            f"{field}.temperature",
            recipe.temperature,
            COLDEST,
            HOTTEST,
            "K",
            code="OUTSIDE_MODEL",
            step="give the temperature in kelvin, within the model's range",
        ),
        *within(f"{field}.ph", recipe.ph, 3.0, 9.0, "[pH]", code="OUTSIDE_MODEL", step="correct the pH"),
        *positive(f"{field}.biomass", recipe.biomass, "g/L"),
        *positive(f"{field}.substrate", recipe.substrate, "g/L"),
        *not_negative(f"{field}.oxygen", recipe.oxygen, "g/L"),
        *not_negative(f"{field}.product", recipe.product, "g/L"),
        *positive(f"{field}.volume", recipe.volume, "L"),
        *positive(f"{field}.threshold", recipe.threshold, "g/L"),
        *positive(f"{field}.hours", recipe.hours, "h"),
    ]
    if not found and recipe.substrate <= recipe.threshold:
        rule = (
            f"the run begins at {recipe.substrate:.6g} g/L, not above the threshold of {recipe.threshold:.6g}"
        )
        found.append(Reason("NO_BATCH_PHASE", f"{field}.substrate", rule, "raise it, or lower the threshold"))
    return found


Rates = Callable[..., tuple[Any, Any, Any, Any, Any]]


def rates(k: Any, growth: Any, loss: Any, transfer: Any) -> Rates:
    """The time derivatives (per hour) as a function of the five states and the feed (L/h).

    Works on numbers and, member by member, on arrays of one length alike: `k` may hold arrays.
    Substrate and oxygen must not be negative. `growth`, `loss` and `transfer` are `growth_ceiling`,
    `evaporation_rate` and `transfer_factor`, which do not change during a run.
    """
    k_x, k_ox, p, k_p, k_op = k.k_x, k.k_ox, k.p, k.k_p, k.k_op
    over_ki, per_xs, per_xo, per_ps, per_po = 1 / k.k_i, 1 / k.y_xs, 1 / k.y_xo, 1 / k.y_ps, 1 / k.y_po
    mu_p, m_x, m_o, hydrolysis = k.mu_p, k.m_x, k.m_o, k.hydrolysis
    saturation, beta, strength = k.saturation, -k.beta, k.feed_substrate

    def derivatives(
        x: Any, s: Any, o: Any, product: Any, v: Any, feed: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        mu = growth * s / (k_x * x + s) * o / (k_ox * x + o)
        oxygen = o**p
        making = mu_p * s / (k_p + s + s * s * over_ki) * oxygen / (k_op * x + oxygen)
        eaten = m_x * s * s / (s * s + LAST_SUBSTRATE)
        breathed = m_o * o * o / (o * o + LAST_OXYGEN)
        kla = transfer * v**beta
        swell = feed - v * loss
        dilution = swell / v
        return (
            (mu - dilution) * x,
            -(mu * per_xs + making * per_ps + eaten) * x + feed * strength / v - s * dilution,
            -(mu * per_xo + making * per_po + breathed) * x + kla * (saturation - o) - o * dilution,
            making * x - (hydrolysis + dilution) * product,
            swell,
        )

    return derivatives


def derivatives_of(recipe: Recipe, parameters: ReducedParameters) -> Rates:
    """The derivatives of one run."""
    return rates(
        parameters,
        growth_ceiling(parameters, recipe.temperature, recipe.ph),
        evaporation_rate(parameters, recipe.temperature),
        transfer_factor(parameters, recipe.aeration, recipe.power),
    )


def run(
    recipe: Recipe = PUBLISHED,
    parameters: ReducedParameters = CONSTANTS,
    *,
    times: Floats | None = None,
) -> Trajectory:
    """The course of a run at the given times (h, rising, from 0); hour by hour where none are given.

    Refused names every field of the recipe that is out of its range.
    """
    refuse(faults(recipe))
    at = np.arange(0.0, recipe.hours + 1e-9) if times is None else times
    derivatives = derivatives_of(recipe, parameters)

    def at_rate(feed: float) -> Callable[[float, Floats], tuple[Any, ...]]:
        def slope(_: float, y: Floats) -> tuple[Any, ...]:
            x, s, o, product, v = y.tolist()
            return derivatives(x, s if s > 0 else 0.0, o if o > 0 else 0.0, product, v, feed)

        return slope

    batch, fed = at_rate(0.0), at_rate(recipe.feed)
    switch, dense = switch_at(batch, np.array(recipe.begin()), recipe.threshold, float(at[-1]))
    states = np.empty((len(at), 5))
    before = at <= (switch.hour if switch else at[-1])
    states[before] = dense(at[before]).T
    if switch is not None and not before.all():
        states[~before] = integrate(
            fed, np.array(switch.states), np.concatenate(([switch.hour], at[~before]))
        )[1:]
    np.maximum(states[:, SUBSTRATE], 0.0, out=states[:, SUBSTRATE])
    return Trajectory(at, states, switch)


def integrate(
    derivatives: Callable[[float, Floats], Any], begin: Floats, times: Floats, **solver: Any
) -> Floats:
    """The states at each of the times (the first one is where `begin` holds), by LSODA."""
    from scipy.integrate import ODEintWarning, odeint  # noqa: PLC0415 -- a waiting service need not hold SciPy

    options = {"rtol": RELATIVE, "atol": ABSOLUTE, "mxstep": 10_000} | solver
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ODEintWarning)  # what it warns of is refused below
        states, told = odeint(derivatives, begin, times, tfirst=True, full_output=True, **options)
    if not np.isfinite(states).all() or told["message"] != "Integration successful.":
        rule = f"the model cannot be solved for these inputs ({told['message']})"
        refuse([Reason("NOT_SOLVABLE", "recipe", rule, "give inputs nearer to the process")])
    return np.asarray(states)
