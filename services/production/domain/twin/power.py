"""What a stirrer puts into the broth, without gas and with it.

P = Np rho N^3 d^5 in the turbulent range. Gas takes load off the impeller:
P_g/P = 0.10 (Q/(N V))^-0.25 (N^2 d^4 / (g B V^(2/3)))^-0.20 (Hughmark, Ind. Eng.
Chem. Process Des. Dev. 19 (1980) 638; B is the width of a blade). The correlation
was made where the gas does so; where it would give more than 1, the ratio is 1.
"""

from __future__ import annotations

from services.production.domain.twin.vessels import Vessel

GRAVITY = 9.80665  # m/s2
#: L/min and 1/min below which there is no gas and no stirring.
_NOTHING = 1e-9


def ungassed(vessel: Vessel, speed_rpm: float) -> float:
    """W at a speed, without gas, of all impellers together."""
    turns = speed_rpm / 60
    one = vessel.power_number * vessel.density_kg_m3 * turns**3 * vessel.impeller_diameter_m**5
    return vessel.impellers * one


def hughmark(
    speed_s: float, gas_m3_s: float, liquid_m3: float, impeller_diameter_m: float, blade_width_m: float
) -> float:
    """The correlation itself: gassed over ungassed power, at a speed in 1/s. Gas and speed are above 0."""
    flow = gas_m3_s / (speed_s * liquid_m3)
    froude = speed_s**2 * impeller_diameter_m**4 / (GRAVITY * blade_width_m * liquid_m3 ** (2 / 3))
    return float(0.10 * flow**-0.25 * froude**-0.20)


def gassed_ratio(vessel: Vessel, speed_rpm: float, gas_l_min: float) -> float:
    """Gassed over ungassed power, at most 1; 1 without gas."""
    if gas_l_min < _NOTHING or speed_rpm < _NOTHING:
        return 1.0
    geometry = vessel.liquid_m3, vessel.impeller_diameter_m, vessel.blade_width_m
    return min(1.0, hughmark(speed_rpm / 60, gas_l_min / 60_000, *geometry))


def gassed(vessel: Vessel, speed_rpm: float, gas_l_min: float) -> float:
    """W that reach the broth at a speed and a gas flow."""
    return ungassed(vessel, speed_rpm) * gassed_ratio(vessel, speed_rpm, gas_l_min)


def speed_for_ungassed(vessel: Vessel, power_w: float) -> float:
    """The speed (1/min) that takes a power without gas."""
    return float(60 * (power_w / ungassed(vessel, 60.0)) ** (1 / 3))


def speed_for_gassed(vessel: Vessel, power_w: float, gas_l_min: float) -> float:
    """The speed (1/min) that brings a power into the gassed broth.

    Where the correlation holds, the gassed power grows with N^(3 + 0.25 - 0.40); where the ratio is 1,
    with N^3. The gassed power is the smaller of the two, so the speed is the larger.
    """
    alone = speed_for_ungassed(vessel, power_w)
    if gas_l_min < _NOTHING:
        return alone
    geometry = vessel.liquid_m3, vessel.impeller_diameter_m, vessel.blade_width_m
    one_turn = ungassed(vessel, 60.0) * hughmark(1.0, gas_l_min / 60_000, *geometry)
    return max(alone, float(60 * (power_w / one_turn) ** (1 / 2.85)))
