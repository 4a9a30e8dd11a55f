"""Units of measurement: UCUM codes that convert into one another, exactly.

The table is small and made of fractions, for the factors of UCUM (ucum-essence
2.1) follow from definitions; a value is rounded once, when it becomes a float
again. A general library of units knows more units, by other names than UCUM's,
and computes in floats. Counts such as {tablet} and {pack} convert to
themselves alone. A quotient of two units of the table is one too: g/kg, L/h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from services.kit.errors import Invalid

#: Of each dimension, the size of its units.
_RATIOS: tuple[dict[str, Fraction], ...] = (
    {
        "t": Fraction(10**3),
        "kg": Fraction(1),
        "g": Fraction(1, 10**3),
        "mg": Fraction(1, 10**6),
        "ug": Fraction(1, 10**9),
    },
    {"L": Fraction(1), "mL": Fraction(1, 10**3)},
    {"bar": Fraction(10**5), "kPa": Fraction(10**3), "mbar": Fraction(10**2), "Pa": Fraction(1)},
    {"h": Fraction(3600), "min": Fraction(60), "s": Fraction(1)},
)
#: Kelvin = value * factor + zero.
_TEMPERATURES = {
    "K": (Fraction(1), Fraction(0)),
    "Cel": (Fraction(1), Fraction("273.15")),
    "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
}
Conversion = Callable[[float], float]


class Size(NamedTuple):
    """What a unit measures, and how much of it one is. Units of one dimension add up."""

    dimension: str
    size: Fraction


@lru_cache(1024)
def size(unit: str) -> Size:
    """The size of a unit; one that is not in the table is a dimension of its own."""
    over, slash, under = unit.partition("/")
    if not slash:
        return _size(unit) or Size(unit, Fraction(1))
    above = _size(over) if over else Size("1", Fraction(1))
    below = _size(under)
    if above is None or below is None:
        return Size(unit, Fraction(1))
    return Size(f"{above.dimension}/{below.dimension}", above.size / below.size)


def _size(unit: str) -> Size | None:
    for sizes in _RATIOS:
        if unit in sizes:
            return Size(next(iter(sizes)), sizes[unit])
    return None


@lru_cache(1024)
def conversion(unit: str, to: str) -> Conversion | None:
    """What makes a number in one unit a number in another; None where they do not convert.

    NaN and infinite numbers stay as they are; what is too large for a float becomes infinite.
    """
    factor, shift = Fraction(1), Fraction(0)
    if unit in _TEMPERATURES and to in _TEMPERATURES:
        (mine, zero), (other, other_zero) = _TEMPERATURES[unit], _TEMPERATURES[to]
        factor, shift = mine / other, (zero - other_zero) / other
    elif size(unit).dimension == size(to).dimension:
        factor = size(unit).size / size(to).size
    else:
        return None

    def convert(value: float) -> float:
        if not math.isfinite(value):
            return value
        try:
            return float(Fraction(value) * factor + shift)
        except OverflowError:
            return math.copysign(math.inf, value)

    return convert


def converted(value: float, unit: str, to: str) -> float:
    """The value in another unit; Invalid names both where they do not convert."""
    if unit == to:
        return value
    convert = conversion(unit, to)
    if convert is None:
        told = f"{unit} does not convert to {to}; correct the unit, or the mapping's units"
        raise Invalid("INCONVERTIBLE", told)
    return convert(value)


def convertible() -> tuple[tuple[str, ...], ...]:
    """The units that convert into one another, group by group."""
    return (*(tuple(sizes) for sizes in _RATIOS), tuple(_TEMPERATURES))
