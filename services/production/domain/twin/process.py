"""A process as the twin knows it: constants with their spread, and what no vessel changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from services.production.domain.twin import pensim
from services.production.domain.twin.ensemble import Member
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.oxygen import parameters_in
from services.production.domain.twin.pensim import CONSTANTS, Recipe, ReducedParameters
from services.production.domain.twin.power import gassed
from services.production.domain.twin.set_points import SetPoints
from services.production.domain.twin.vessels import Vessel

#: Relative standard deviations from run to run of the constants that matter most to the product.
USUAL_SPREAD = {"mu_x": 0.03, "mu_p": 0.04, "hydrolysis": 0.04, "m_o": 0.04, "y_xs": 0.02, "k_op": 0.10}


@dataclass(frozen=True)
class Process:
    """One process, at any scale: g/L in medium and inoculum, the substrate where the feed begins, hours.

    `spread` holds relative standard deviations of constants by the name of ReducedParameters' field; the
    constants vary log-normally around their values.
    """

    parameters: ReducedParameters = CONSTANTS
    spread: Mapping[str, float] = field(default_factory=lambda: USUAL_SPREAD)
    biomass: float = 0.1
    substrate: float = 15.0
    threshold: float = 0.3
    hours: float = 400.0


def recipe(
    process: Process, vessel: Vessel, points: SetPoints, parameters: ReducedParameters | None = None
) -> Recipe:
    """What is set and begun with in a vessel at its set-points."""
    return Recipe(
        feed=points.feed,
        aeration=points.aeration * 60,
        power=gassed(vessel, points.agitation, points.aeration),
        temperature=points.temperature,
        ph=points.ph,
        biomass=process.biomass,
        substrate=process.substrate,
        oxygen=(parameters or process.parameters).saturation,
        volume=vessel.liquid_m3 * 1000,
        threshold=process.threshold,
        hours=process.hours,
    )


def member(
    process: Process, vessel: Vessel, points: SetPoints, parameters: ReducedParameters | None = None
) -> Member:
    """One run of the process in a vessel, ready for the ensemble; with other constants where given."""
    constants = parameters or process.parameters
    return Member(recipe(process, vessel, points, constants), parameters_in(vessel, constants))


def faults(process: Process, vessel: Vessel, points: SetPoints, field: str = "process") -> list[Reason]:
    """What is wrong with the process' numbers, and with its run in a vessel."""
    found = []
    known = {constant.name for constant in fields(ReducedParameters)}
    for name in sorted(known):
        value = getattr(process.parameters, name)
        if not (math.isfinite(value) and value > 0):
            rule = f"{value} is no positive number"
            found.append(Reason("NOT_POSITIVE", f"{field}.parameters.{name}", rule, "give the constant"))
    for name, spread in sorted(process.spread.items()):
        if name not in known:
            rule = f"the model has no constant {name}"
            found.append(Reason("UNKNOWN", f"{field}.spread.{name}", rule, "name a constant of the model"))
        elif not 0 <= spread < 1:
            rule = f"{spread} is no relative deviation of 0 or more, below 1"
            found.append(Reason("OUT_OF_RANGE", f"{field}.spread.{name}", rule, "give a share, such as 0.05"))
    if found:
        return found
    # Power and flows follow from vessel and set-points, which are refused by their own names.
    derived = {f"{field}.power", f"{field}.aeration", f"{field}.volume"}
    reasons = pensim.faults(recipe(process, vessel, points), field)
    return [reason for reason in reasons if reason.field not in derived]
