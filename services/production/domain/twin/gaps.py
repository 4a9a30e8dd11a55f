"""The gap table of a transfer: what is different at the target, and whether that was validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.production.domain.twin import oxygen
from services.production.domain.twin.power import gassed, ungassed
from services.production.domain.twin.set_points import UNITS, Range, SetPoints
from services.production.domain.twin.tip_speed import tip_speed
from services.production.domain.twin.vessels import Vessel, gas_velocity

#: The quantities of the table, with their units, in its order; the set-points follow.
QUANTITIES = {
    "kla": "/h",
    "power_per_volume": "W/m3",
    "gassed_power_per_volume": "W/m3",
    "tip_speed": "m/s",
    "gas_velocity": "m/s",
    "gas_per_volume": "/min",
    "volume": "m3",
}
#: Where a set gives no range of its own: what the correlation was measured in.
_DEFAULTS = {
    "gassed_power_per_volume": Range(*oxygen.POWER_RANGE),
    "volume": Range(*oxygen.VOLUME_RANGE),
}


@dataclass(frozen=True)
class Gap:
    """One row: a quantity at both scales, their ratio (target over source; NaN where the source is 0).

    `inside` says whether the target is in the validated range; None where no range was given.
    """

    quantity: str
    unit: str
    source: float
    target: float
    ratio: float
    validated: Range | None
    inside: bool | None


def state_of(vessel: Vessel, points: SetPoints) -> dict[str, float]:
    """The quantities of the table, for a vessel at its set-points; the volume is that of the liquid."""
    return {
        "kla": 3600 * oxygen.kla(vessel, points.agitation, points.aeration),
        "power_per_volume": ungassed(vessel, points.agitation) / vessel.liquid_m3,
        "gassed_power_per_volume": gassed(vessel, points.agitation, points.aeration) / vessel.liquid_m3,
        "tip_speed": tip_speed(vessel, points.agitation),
        "gas_velocity": gas_velocity(vessel, points.aeration),
        "gas_per_volume": points.aeration / (1000 * vessel.liquid_m3),
        "volume": vessel.liquid_m3,
    }


def gap_table(
    source: Vessel,
    target: Vessel,
    before: SetPoints,
    after: SetPoints,
    validated: Mapping[str, Range] | None = None,
) -> tuple[Gap, ...]:
    """All rows. `validated` holds ranges by the name of a quantity or set-point, in the table's units."""
    ranges = _DEFAULTS | dict(validated or {})
    here = state_of(source, before) | before.named()
    there = state_of(target, after) | after.named()
    rows = []
    for quantity, unit in (QUANTITIES | UNITS).items():
        one, other, allowed = here[quantity], there[quantity], ranges.get(quantity)
        ratio = other / one if one else float("nan")
        inside = None if allowed is None else allowed.holds(other)
        rows.append(Gap(quantity, unit, one, other, ratio, allowed, inside))
    return tuple(rows)
