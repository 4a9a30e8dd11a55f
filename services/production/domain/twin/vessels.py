"""A stirred vessel: its geometry, what its drive and its air supply can do, and its calibrated kLa."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from services.production.domain.twin.errors import Reason, not_negative, positive
from services.production.domain.twin.quantities import Quantity, take


class Broth(Enum):
    """Whether bubbles unite: clean water does, a broth with salts does not."""

    COALESCING = "coalescing"
    NON_COALESCING = "non-coalescing"


@dataclass(frozen=True)
class Vessel:
    """One vessel of a line.

    `power_number` is that of one turbulent, ungassed impeller, `density` that of the broth.
    `kla_factor` is the kLa measured in this vessel over that of the correlation (1 where nobody has
    measured), `kla_spread` the relative standard deviation that is left of it.
    """

    name: str
    volume_m3: float
    liquid_m3: float
    diameter_m: float
    impeller_diameter_m: float
    blade_width_m: float
    power_number: float
    max_speed_rpm: float
    max_gas_l_min: float
    impellers: int = 1
    max_feed_l_h: float = math.inf
    max_power_w: float = math.inf
    min_speed_rpm: float = 0.0
    density_kg_m3: float = 1000.0
    broth: Broth = Broth.COALESCING
    kla_factor: float = 1.0
    kla_spread: float = 0.10

    @property
    def area_m2(self) -> float:
        """Cross-section of the tank."""
        return math.pi * self.diameter_m**2 / 4


#: What a vessel's sheet must give: key, unit the twin reckons in, field of Vessel.
REQUIRED = (
    ("volume", "m3", "volume_m3"),
    ("liquid_volume", "m3", "liquid_m3"),
    ("tank_diameter", "m", "diameter_m"),
    ("impeller_diameter", "m", "impeller_diameter_m"),
    ("blade_width", "m", "blade_width_m"),
    ("power_number", "1", "power_number"),
    ("max_speed", "/min", "max_speed_rpm"),
    ("max_gas_flow", "L/min", "max_gas_l_min"),
)
#: What it may give beside.
OPTIONAL = (
    ("impellers", "1", "impellers"),
    ("max_feed", "L/h", "max_feed_l_h"),
    ("max_power", "W", "max_power_w"),
    ("min_speed", "/min", "min_speed_rpm"),
    ("density", "kg/m3", "density_kg_m3"),
    ("kla_factor", "1", "kla_factor"),
    ("kla_spread", "1", "kla_spread"),
)


def read(
    name: str, given: Mapping[str, Quantity], *, broth: Broth = Broth.COALESCING, field: str = "vessel"
) -> tuple[Vessel | None, list[Reason]]:
    """A vessel from its sheet: quantities by key (see REQUIRED and OPTIONAL), in any unit that converts.

    Either the vessel, or every reason why it is none: what is missing, of another unit, no number,
    or does not fit together.
    """
    reasons: list[Reason] = []
    values: dict[str, float] = {}
    for key, unit, attribute in (*REQUIRED, *(row for row in OPTIONAL if row[0] in given)):
        values[attribute], wrong = take(given, key, unit, f"{field}.{key}")
        reasons += wrong
    if reasons:
        return None, reasons
    impellers = values.pop("impellers", 1.0)
    if impellers != int(impellers):
        rule = f"{impellers:.6g} impellers are no whole number"
        return None, [Reason("NOT_WHOLE", f"{field}.impellers", rule, "give the number of impellers")]
    vessel = Vessel(name=name, broth=broth, impellers=int(impellers), **values)
    reasons = faults(vessel, field)
    return (None, reasons) if reasons else (vessel, [])


def faults(vessel: Vessel, field: str = "vessel") -> list[Reason]:
    """What is wrong with a vessel's numbers, one by one and together."""
    found = [
        reason
        for key, unit, attribute in (*REQUIRED, ("impellers", "1", "impellers"))
        for reason in positive(f"{field}.{key}", float(getattr(vessel, attribute)), unit)
    ]
    found += positive(f"{field}.kla_factor", vessel.kla_factor, "1")
    found += positive(f"{field}.density", vessel.density_kg_m3, "kg/m3")
    for key, unit, limit in (
        ("max_feed", "L/h", vessel.max_feed_l_h),
        ("max_power", "W", vessel.max_power_w),
    ):
        if not limit > 0:  # infinite where the sheet gives none
            rule = f"{limit:.6g} {unit} is not above 0"
            found.append(Reason("NOT_POSITIVE", f"{field}.{key}", rule, "give a positive value"))
    found += not_negative(f"{field}.min_speed", vessel.min_speed_rpm, "/min")
    if not 0 <= vessel.kla_spread < 1:
        rule = f"{vessel.kla_spread:.6g} is no relative deviation of 0 or more, below 1"
        found.append(Reason("OUT_OF_RANGE", f"{field}.kla_spread", rule, "give it as a share, such as 0.1"))
    for small, large in (
        (("min_speed", vessel.min_speed_rpm, "/min"), ("max_speed", vessel.max_speed_rpm, "/min")),
        (("liquid_volume", vessel.liquid_m3, "m3"), ("volume", vessel.volume_m3, "m3")),
        (("impeller_diameter", vessel.impeller_diameter_m, "m"), ("tank_diameter", vessel.diameter_m, "m")),
        (("blade_width", vessel.blade_width_m, "m"), ("impeller_diameter", vessel.impeller_diameter_m, "m")),
    ):
        if small[1] > large[1]:
            rule = f"{small[1]:.6g} {small[2]} is more than the {large[0]} of {large[1]:.6g} {large[2]}"
            found.append(Reason("DOES_NOT_FIT", f"{field}.{small[0]}", rule, "correct the one or the other"))
    return found


def gas_velocity(vessel: Vessel, gas_l_min: float) -> float:
    """Superficial gas velocity (m/s): the gas flow over the cross-section of the tank."""
    return gas_l_min / 60_000 / vessel.area_m2


def gas_flow(vessel: Vessel, velocity_m_s: float) -> float:
    """The gas flow (L/min) that has a superficial velocity."""
    return velocity_m_s * vessel.area_m2 * 60_000
