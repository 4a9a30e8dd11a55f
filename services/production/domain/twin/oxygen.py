"""Oxygen from gas to broth: kLa from power and gas, where the correlation was measured, and in a vessel.

van 't Riet, Ind. Eng. Chem. Process Des. Dev. 18 (1979) 357, kLa in 1/s:
coalescing 0.026 (P/V)^0.4 vs^0.5, non-coalescing 0.002 (P/V)^0.7 vs^0.2, with P/V
of 500 to 10,000 W/m3 and 0.002 to 2.6 m3 of liquid. Outside these ranges nothing
was measured, and the twin refuses to reckon with it.
"""

from __future__ import annotations

from dataclasses import replace

from services.production.domain.twin.errors import Reason, positive, refuse, within
from services.production.domain.twin.pensim import ReducedParameters
from services.production.domain.twin.power import gassed
from services.production.domain.twin.vessels import Broth, Vessel, gas_velocity

#: W/m3, and m3 of liquid.
POWER_RANGE = (500.0, 10_000.0)
VOLUME_RANGE = (0.002, 2.6)
#: Factor, exponent of P/V, exponent of the gas velocity.
_LAWS = {Broth.COALESCING: (0.026, 0.4, 0.5), Broth.NON_COALESCING: (0.002, 0.7, 0.2)}


def correlation(power_w_m3: float, velocity_m_s: float, broth: Broth) -> float:
    """kLa (1/s) of the correlation, whether it was measured there or not: see `faults`."""
    factor, power, gas = _LAWS[broth]
    return float(factor * power_w_m3**power * velocity_m_s**gas)


def van_t_riet(power_w_m3: float, velocity_m_s: float, broth: Broth, liquid_m3: float) -> float:
    """kLa (1/s); Refused outside the ranges in which the correlation was measured."""
    refuse([*faults(power_w_m3, liquid_m3), *positive("gas_velocity", velocity_m_s, "m/s")])
    return correlation(power_w_m3, velocity_m_s, broth)


def faults(power_w_m3: float, liquid_m3: float, field: str = "vessel") -> list[Reason]:
    """Where the correlation was not measured."""
    return [
        *within(
            f"{field}.power_per_volume",
            power_w_m3,
            *POWER_RANGE,
            "W/m3",
            code="OUTSIDE_VALIDITY",
            step="choose a speed or a gas flow that brings it into van 't Riet's range, or another vessel",
        ),
        *within(
            f"{field}.liquid_volume",
            liquid_m3,
            *VOLUME_RANGE,
            "m3",
            code="OUTSIDE_VALIDITY",
            step="choose a vessel in van 't Riet's range of volumes",
        ),
    ]


def kla(vessel: Vessel, speed_rpm: float, gas_l_min: float) -> float:
    """kLa (1/s) of a vessel: the correlation times what was calibrated. 0 without gas."""
    if gas_l_min <= 0:
        return 0.0
    intensity = gassed(vessel, speed_rpm, gas_l_min) / vessel.liquid_m3
    return vessel.kla_factor * correlation(intensity, gas_velocity(vessel, gas_l_min), vessel.broth)


def power_for_kla(vessel: Vessel, kla_s: float, gas_l_min: float) -> float:
    """The gassed power (W) that gives a kLa (1/s) at a gas flow."""
    factor, power, gas = _LAWS[vessel.broth]
    bare = vessel.kla_factor * factor * gas_velocity(vessel, gas_l_min) ** gas
    return float(vessel.liquid_m3 * (kla_s / bare) ** (1 / power))


def calibrated(vessel: Vessel, speed_rpm: float, gas_l_min: float, measured_s: float) -> Vessel:
    """The vessel with its kLa factor from a measured kLa (1/s), such as a gassing-out test gives."""
    refuse(positive("measured_kla", measured_s, "1/s"))
    plain = replace(vessel, kla_factor=1.0)
    return replace(vessel, kla_factor=measured_s / kla(plain, speed_rpm, gas_l_min))


def parameters_in(vessel: Vessel, parameters: ReducedParameters) -> ReducedParameters:
    """The model's constants with the oxygen transfer of a vessel in the place of the published one.

    The model has kLa (1/h) = alpha fg^e (Pw/V)^beta with fg in L/h and V in L, the correlation has the
    same form in m/s and m3.
    """
    factor, power, gas = _LAWS[vessel.broth]
    velocity = 1 / (3.6e6 * vessel.area_m2)  # m/s of one L/h
    alpha = 3600 * vessel.kla_factor * factor * 1000**power * velocity**gas
    return replace(parameters, alpha=float(alpha), beta=power, gas_exponent=gas)
