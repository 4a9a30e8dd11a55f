"""Numbers with units, as a set or a plant names them, made numbers in the unit that the twin reckons in.

Units are UCUM codes. The factors are exact by definition; of what an engineer
writes on a vessel's sheet all is here. What measures something else does not
convert, and is refused by name: a power in kW is not taken for one in W.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from services.production.domain.twin.errors import Reason, number


class Quantity(NamedTuple):
    """A value and its UCUM unit."""

    value: float
    unit: str


#: Of each kind of quantity, how many of the first unit one of each is.
_KINDS: tuple[dict[str, float], ...] = (
    {"W": 1.0, "kW": 1e3, "MW": 1e6, "mW": 1e-3},
    {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 1e-3},
    {"m2": 1.0, "cm2": 1e-4},
    {"m3": 1.0, "dm3": 1e-3, "L": 1e-3, "mL": 1e-6, "l": 1e-3},
    {"h": 1.0, "min": 1 / 60, "s": 1 / 3600, "d": 24.0},
    {"/min": 1.0, "1/min": 1.0, "{rev}/min": 1.0, "/s": 60.0, "1/s": 60.0, "Hz": 60.0},
    {"/h": 1.0, "1/h": 1.0},
    {"L/h": 1.0, "L/min": 60.0, "mL/min": 0.06, "mL/h": 1e-3, "m3/h": 1e3, "m3/s": 3.6e6, "L/s": 3600.0},
    {"g/L": 1.0, "mg/L": 1e-3, "kg/m3": 1.0, "g/mL": 1e3, "mg/mL": 1.0},
    {"W/m3": 1.0, "kW/m3": 1e3, "W/L": 1e3},
    {"m/s": 1.0, "cm/s": 0.01, "m/min": 1 / 60, "m/h": 1 / 3600},
    {"1": 1.0, "%": 0.01},
    {"[pH]": 1.0},
    {"K": 1.0},
)
#: Temperatures have zeros of their own: kelvin = value * factor + zero.
_TEMPERATURES = {"K": (1.0, 0.0), "Cel": (1.0, 273.15), "[degF]": (5 / 9, 459.67 * 5 / 9)}
#: Units of what is the same at every scale: temperature, acidity, share, concentration, conductivity,
#: pressure, time. A flow, a power, a speed, a size or a count is not; nor is what stands in no list.
SCALE_FREE = frozenset(
    (
        *("K", "Cel", "[degF]", "[pH]", "1", "%", "[ppm]"),
        *("g/L", "mg/L", "ug/L", "kg/m3", "g/mL", "mg/mL", "g/kg", "mg/kg", "mol/L", "mmol/L", "umol/L"),
        *("S/m", "mS/cm", "uS/cm", "osm/kg", "mosm/kg"),
        *("Pa", "kPa", "mbar", "bar"),
        *("s", "min", "h", "d"),
    )
)
#: Rates that are written per minute and per second as well as per hour; "/min" above is a speed of rotation.
_RATES = {"/h": 1.0, "1/h": 1.0, "/min": 60.0, "1/min": 60.0, "/s": 3600.0, "1/s": 3600.0}


def convert(value: float, unit: str, to: str) -> float | None:
    """The value in another unit; None where the two measure different things."""
    if unit == to:
        return value
    if unit in _TEMPERATURES and to in _TEMPERATURES:
        factor, zero = _TEMPERATURES[unit]
        other, other_zero = _TEMPERATURES[to]
        return (value * factor + zero - other_zero) / other
    for kind in (*_KINDS, _RATES):
        if unit in kind and to in kind:
            return value * kind[unit] / kind[to]
    return None


def take(given: Mapping[str, Quantity], key: str, unit: str, field: str) -> tuple[float, list[Reason]]:
    """The named quantity in a unit, or NaN and why not: missing, of another unit, no number."""
    quantity = given.get(key)
    if quantity is None:
        rule = f"{key} is missing"
        return float("nan"), [Reason("MISSING", field, rule, f"give it in {unit}, or a unit that converts")]
    value = convert(quantity.value, quantity.unit, unit)
    if value is None:
        rule = f"{quantity.unit or 'no unit'} does not convert to {unit}"
        return float("nan"), [Reason("INCONVERTIBLE", field, rule, "correct the unit")]
    return value, number(field, value)
