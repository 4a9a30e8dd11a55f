"""The full process model: the reduced one with its heat, carbon dioxide and pH balances, and their control.

Birol, Undey and Cinar (2002). Temperature and pH are states here: the heat of growth
warms the broth and the coil cools it, the acid of growth sours it and the base
sweetens it. Proportional-integral control of the cooling water, of acid and of base
holds both near their set-points. The pH is integrated itself, for the protons are too few (1e-5 mol/L)
to share a tolerance with grams per litre.

heat release  Q = rq1 (dX/dt) V + rq2 X V, cal/h
coil          a Fc^b / (1 + a Fc^(b-1) / (2 rho_c cp_c)) (T - Tc), Fc the cooling flow, L/h
protons       dH/dt = gamma (mu X - F X/V) + ((-B + sqrt(B^2 + 4e-14))/2 - H) / dt
              with B = ((1e-14/H - H) V + Cab (Fb - Fa) dt) / (V + (Fa + Fb) dt)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.production.domain.twin import pensim
from services.production.domain.twin.errors import Reason, positive, refuse, within
from services.production.domain.twin.pensim import (
    COLDEST,
    CONSTANTS,
    HOTTEST,
    PUBLISHED,
    Floats,
    Recipe,
    ReducedParameters,
    evaporation_rate,
    growth_ceiling,
    integrate,
    rates,
    transfer_factor,
)
from services.production.domain.twin.phases import Switch, switch_at

#: Order of the states after the five of the reduced model, and the integrals of the two controls.
TEMPERATURE, CARBON_DIOXIDE, PH, _HEATING, _SOURING = range(5, 10)
_WATER = 1e-14  # ion product, mol2/L2


@dataclass(frozen=True)
class FullParameters:
    """The constants that the reduced model has no need of; the defaults are the published ones."""

    reduced: ReducedParameters = CONSTANTS
    gamma: float = 1e-5  #: mol of protons a g of new biomass makes
    acid_base: float = 3.0  #: mol/L in acid and base
    feed_temperature: float = 298.0  #: K
    heat_of_growth: float = 60.0  #: rq1, cal/g
    heat_of_biomass: float = 1.6783e-4  #: rq2, cal/(g h)
    broth: float = 1500.0  #: density times heat capacity, cal/(L K)
    water: float = 1000.0  #: of the cooling water, cal/(L K)
    coil: float = 1000.0  #: a
    coil_exponent: float = 0.60  #: b
    water_temperature: float = 283.15  #: K
    carbon_of_growth: float = 0.143  #: alpha1, mmol CO2 per g
    carbon_of_biomass: float = 4e-7  #: alpha2, mmol/(g h)
    carbon_of_itself: float = 1e-4  #: alpha3, mmol/(L h)


@dataclass(frozen=True)
class Control:
    """Gains, reset times (h) and largest flows (L/h) of the loops, and the control interval dt (h) of the pH.

    The gain of the cooling is in L/h per K, those of acid and base in L/h per pH. `held` False leaves both
    loops open: all flows are nought.
    """

    cooling_gain: float = 1.0
    cooling_reset: float = 2.0
    most_cooling: float = 1e3
    pumping_gain: float = 1e-2
    pumping_reset: float = 2.0
    most_pumping: float = 0.1
    interval: float = 0.02
    held: bool = True


@dataclass(frozen=True)
class FullTrajectory:
    """A simulated run: `states` (hours x 8) are those of the reduced model, then K, mmol/L of CO2, and pH.

    `flows` (hours x 3) are cooling water, acid and base, L/h.
    """

    times: Floats
    states: Floats
    flows: Floats
    switch: Switch | None

    def last(self) -> Floats:
        """The states at the end."""
        end: Floats = self.states[-1]
        return end


Flows = tuple[float, float, float]


def heat_release(k: FullParameters, growth_g_l_h: float, biomass: float, volume: float) -> float:
    """Q, cal/h, of new (g/(L h)) and of standing biomass (g/L) in a volume (L)."""
    return (k.heat_of_growth * growth_g_l_h + k.heat_of_biomass * biomass) * volume


def heat_removed(k: FullParameters, cooling_l_h: float, temperature: float) -> float:
    """cal/h that the coil takes at a flow of cooling water (L/h)."""
    if cooling_l_h <= 0:
        return 0.0
    taken = k.coil * cooling_l_h**k.coil_exponent
    resisted = 1 + k.coil * cooling_l_h ** (k.coil_exponent - 1) / (2 * k.water)
    return float(taken / resisted * (temperature - k.water_temperature))


def proton_rate(
    k: FullParameters, hydrogen: float, made: float, volume: float, flows: tuple[float, float], dt: float
) -> float:
    """dH/dt in mol/(L h): `made` is mu X - F X/V in g/(L h), `flows` are acid and base in L/h."""
    acid, base = flows
    b = (_WATER / hydrogen - hydrogen) * volume + k.acid_base * (base - acid) * dt
    b /= volume + (acid + base) * dt
    root = math.sqrt(b * b + 4 * _WATER)
    # Of two forms of one root, the one that does not take the difference of two near numbers.
    held = (root - b) / 2 if b < 0 else 2 * _WATER / (b + root)
    return k.gamma * made + (held - hydrogen) / dt


def faults(recipe: Recipe, control: Control) -> list[Reason]:
    """What is wrong with a recipe or the control, rule by rule."""
    return [
        *pensim.faults(recipe),
        *positive("control.interval", control.interval, "h"),
        *positive("control.cooling_reset", control.cooling_reset, "h"),
        *positive("control.pumping_reset", control.pumping_reset, "h"),
        *positive("control.cooling_gain", control.cooling_gain, "L/(h K)"),
        *positive("control.pumping_gain", control.pumping_gain, "L/h"),
    ]


def run_full(
    recipe: Recipe = PUBLISHED,
    parameters: FullParameters = FullParameters(),
    control: Control = Control(),
    *,
    carbon_dioxide: float = 0.5,
    times: Floats | None = None,
) -> FullTrajectory:
    """The course of a run that begins at its set-points; hour by hour where no times are given.

    `carbon_dioxide` is what the broth begins with, mmol/L. Refused names every field that is out of range,
    or that the temperature left the model's range (an open loop that nobody cools).
    """
    refuse(faults(recipe, control))
    at = np.arange(0.0, recipe.hours + 1e-9) if times is None else times
    begin = np.array([*recipe.begin(), recipe.temperature, carbon_dioxide, recipe.ph, 0.0, 0.0])
    slopes, flows = _equations(recipe, parameters, control)
    switch, dense = switch_at(slopes(0.0), begin, recipe.threshold, float(at[-1]), 1e-8, 1e-10)
    states = np.empty((len(at), len(begin)))
    before = at <= (switch.hour if switch else at[-1])
    states[before] = dense(at[before]).T
    if switch is not None and not before.all():
        after = np.concatenate(([switch.hour], at[~before]))
        start = np.array(switch.states)
        states[~before] = integrate(slopes(recipe.feed), start, after, rtol=1e-8, atol=1e-10)[1:]
    refuse(
        reason
        for extreme in (states[:, TEMPERATURE].min(), states[:, TEMPERATURE].max())
        for reason in within(
            "recipe.temperature",
            float(extreme),
            COLDEST,
            HOTTEST,
            "K",
            code="OUTSIDE_MODEL",
            step="close the control loops, or cool with colder water",
        )
    )
    np.maximum(states[:, 1], 0.0, out=states[:, 1])
    pumped = np.array([flows(y) for y in states.tolist()])
    return FullTrajectory(at, states[:, :8], pumped, switch)


def _equations(
    recipe: Recipe, k: FullParameters, control: Control
) -> tuple[Callable[[float], Callable[[float, Floats], list[float]]], Callable[[list[float]], Flows]]:
    """The derivatives for a feed (L/h), and the flows that the control sets in a state."""
    reduced = k.reduced
    transfer = transfer_factor(reduced, recipe.aeration, recipe.power)

    def raw(y: list[float]) -> tuple[float, float]:
        """Cooling, and base less acid, as the controls would have them if valves had no ends."""
        warm, sour = y[TEMPERATURE] - recipe.temperature, recipe.ph - y[PH]
        cooling = control.cooling_gain * (warm + y[_HEATING] / control.cooling_reset)
        return cooling, control.pumping_gain * (sour + y[_SOURING] / control.pumping_reset)

    def flows(y: list[float]) -> Flows:
        if not control.held:
            return 0.0, 0.0, 0.0
        cooling, pumping = raw(y)
        return (
            min(max(cooling, 0.0), control.most_cooling),
            min(max(-pumping, 0.0), control.most_pumping),
            min(max(pumping, 0.0), control.most_pumping),
        )

    def slopes(feed: float) -> Callable[[float, Floats], list[float]]:
        def slope(_: float, array: Floats) -> list[float]:
            y = array.tolist()
            x, s, o, product, v = y[0], max(y[1], 0.0), max(y[2], 0.0), y[3], y[4]
            # A trial step may leave the range of the exponentials; the solver then takes a smaller one.
            temperature = min(max(y[TEMPERATURE], 250.0), 350.0)
            ph = min(max(y[PH], 1.0), 13.0)
            cooling, acid, base = flows(y)
            asked, pumping = raw(y)
            growth = growth_ceiling(reduced, temperature, ph)
            loss = evaporation_rate(reduced, temperature)
            derivatives = rates(reduced, growth, loss, transfer)
            dx, ds, do, dp, dv = derivatives(x, s, o, product, v, feed)
            pumped = (acid + base) / v
            dx, do, dp, dv = dx - x * pumped, do - o * pumped, dp - product * pumped, dv + acid + base
            ds -= s * pumped
            mu_x = dx + x * dv / v
            heat = heat_release(k, dx, x, v) - heat_removed(k, cooling, temperature)
            warming = feed / v * (k.feed_temperature - temperature) + heat / (v * k.broth)
            carbon = k.carbon_of_growth * dx + k.carbon_of_biomass * x + k.carbon_of_itself
            hydrogen = 10.0**-ph
            protons = proton_rate(k, hydrogen, mu_x - feed * x / v, v, (acid, base), control.interval)
            return [
                dx,
                ds,
                do,
                dp,
                dv,
                warming,
                carbon,
                -protons / (hydrogen * math.log(10)),
                # Beyond a valve's end the integral follows the valve, smoothly, so that it does not wind up.
                y[TEMPERATURE] - recipe.temperature + (cooling - asked) / control.cooling_gain,
                recipe.ph - y[PH] + (base - acid - pumping) / control.pumping_gain,
            ]

        return slope

    return slopes, flows
