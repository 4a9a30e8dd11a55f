"""From one vessel to another: the speed and gas flow at the target that keep what the set says to keep.

Three criteria: equal kLa, equal power per volume, equal tip speed. Power per
volume is that of the ungassed stirrer, as plants compare vessels, so that with
geometric similarity N2 = N1 (d1/d2)^(2/3); the kLa is that of the gassed broth.
The gas goes along by a rule of its own: equal superficial velocity (the default)
or equal volumes of gas per volume of liquid. The feed goes with the liquid.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from services.production.domain.twin import oxygen
from services.production.domain.twin.errors import Reason, number, positive
from services.production.domain.twin.power import gassed, speed_for_gassed, speed_for_ungassed, ungassed
from services.production.domain.twin.set_points import SetPoints
from services.production.domain.twin.tip_speed import speed_for_tip, tip_speed
from services.production.domain.twin.vessels import Vessel, gas_flow, gas_velocity


class Criterion(Enum):
    """What stays equal from source to target."""

    KLA = "kla"
    POWER_PER_VOLUME = "power-per-volume"
    TIP_SPEED = "tip-speed"


class Gas(Enum):
    """What stays equal of the gas: its superficial velocity (m/s), or its flow over the volume of liquid."""

    VELOCITY = "superficial-velocity"
    PER_VOLUME = "per-volume"


@dataclass(frozen=True)
class Scaled:
    """Set-points at the target, and everything that speaks against them."""

    set_points: SetPoints
    reasons: tuple[Reason, ...]


def similar_speed(speed_rpm: float, diameter_m: float, target_diameter_m: float) -> float:
    """N1 (d1/d2)^(2/3): the speed (1/min) of equal power per volume, with geometric similarity."""
    return float(speed_rpm * (diameter_m / target_diameter_m) ** (2 / 3))


def target_gas(source: Vessel, target: Vessel, gas_l_min: float, rule: Gas) -> float:
    """Gas flow (L/min) at the target."""
    if rule is Gas.PER_VOLUME:
        return gas_l_min * target.liquid_m3 / source.liquid_m3
    return gas_flow(target, gas_velocity(source, gas_l_min))


def target_speed(
    source: Vessel, target: Vessel, points: SetPoints, criterion: Criterion, target_gas_l_min: float
) -> float:
    """Speed (1/min) at the target that keeps the criterion, whether the target can do it or not."""
    match criterion:
        case Criterion.TIP_SPEED:
            return speed_for_tip(target, tip_speed(source, points.agitation))
        case Criterion.POWER_PER_VOLUME:
            intensity = ungassed(source, points.agitation) / source.liquid_m3
            return speed_for_ungassed(target, intensity * target.liquid_m3)
        case Criterion.KLA:
            wanted = oxygen.kla(source, points.agitation, points.aeration)
            power = oxygen.power_for_kla(target, wanted, target_gas_l_min)
            return speed_for_gassed(target, power, target_gas_l_min)


def scale_up(
    source: Vessel, target: Vessel, points: SetPoints, criterion: Criterion, gas: Gas = Gas.VELOCITY
) -> Scaled:
    """The target's set-points by a criterion, with every limit and every range of validity they break.

    Both vessels must have been checked (`vessels.faults`). Speed, gas and feed of the source must be
    positive; where they are not, the source's own set-points come back with the reasons.
    """
    reasons = [
        *positive("set_points.agitation", points.agitation, "/min"),
        *positive("set_points.aeration", points.aeration, "L/min"),
        *number("set_points.feed", points.feed),
    ]
    if reasons:
        return Scaled(points, tuple(reasons))
    flow = target_gas(source, target, points.aeration, gas)
    speed = target_speed(source, target, points, criterion, flow)
    scaled = points.with_(
        {"agitation": speed, "aeration": flow, "feed": points.feed * target.liquid_m3 / source.liquid_m3}
    )
    return Scaled(
        scaled,
        (
            *validity(source, points, "source"),
            *validity(target, scaled, "target"),
            *limits(target, scaled, "target"),
        ),
    )


def validity(vessel: Vessel, points: SetPoints, field: str) -> list[Reason]:
    """Where the correlation of kLa does not hold for a vessel at its set-points."""
    intensity = gassed(vessel, points.agitation, points.aeration) / vessel.liquid_m3
    return oxygen.faults(intensity, vessel.liquid_m3, field)


def limits(vessel: Vessel, points: SetPoints, field: str) -> list[Reason]:
    """What the set-points ask of a vessel beyond what it can do."""
    # The drive must also turn the stirrer when the gas fails.
    asked = (
        ("max_speed", points.agitation, vessel.max_speed_rpm, "/min"),
        ("max_gas_flow", points.aeration, vessel.max_gas_l_min, "L/min"),
        ("max_feed", points.feed, vessel.max_feed_l_h, "L/h"),
        ("max_power", ungassed(vessel, points.agitation), vessel.max_power_w, "W"),
    )
    found = [
        Reason(
            "OUTSIDE_LINE_LIMIT",
            f"{field}.{key}",
            f"{value:.6g} {unit} is asked, {vessel.name} does {limit:.6g} {unit} at most",
            "choose another criterion, a smaller filling or another vessel",
        )
        for key, value, limit, unit in asked
        if value > limit * (1 + 1e-9)
    ]
    if points.agitation < vessel.min_speed_rpm * (1 - 1e-9):
        least = f"{vessel.name} does {vessel.min_speed_rpm:.6g} /min at least"
        rule = f"{points.agitation:.6g} /min is asked, {least}"
        step = "choose another criterion, a larger filling or another vessel"
        found.append(Reason("OUTSIDE_LINE_LIMIT", f"{field}.min_speed", rule, step))
    return found
