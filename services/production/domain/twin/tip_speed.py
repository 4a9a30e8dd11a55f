"""How fast the tip of an impeller moves: what shears the cells."""

from __future__ import annotations

import math

from services.production.domain.twin.vessels import Vessel


def tip_speed(vessel: Vessel, speed_rpm: float) -> float:
    """pi N d, in m/s."""
    return math.pi * speed_rpm / 60 * vessel.impeller_diameter_m


def speed_for_tip(vessel: Vessel, tip_m_s: float) -> float:
    """The speed (1/min) at which the tip moves so fast."""
    return 60 * tip_m_s / (math.pi * vessel.impeller_diameter_m)
