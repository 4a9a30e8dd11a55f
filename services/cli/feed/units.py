"""Units of measurement: UCUM codes, and the few conversions that the feed knows.

The factors are those of UCUM (ucum-essence 2.1): exact, for they follow from
definitions. Counts such as {tablet} and {pack} convert to themselves alone.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from services.kit.errors import Invalid

#: Of each dimension, the size of its units.
_RATIOS: tuple[dict[str, Fraction], ...] = (
    {"kg": Fraction(1), "g": Fraction(1, 10**3), "mg": Fraction(1, 10**6), "ug": Fraction(1, 10**9)},
    {"L": Fraction(1), "mL": Fraction(1, 10**3)},
    {"bar": Fraction(10**5), "kPa": Fraction(10**3), "mbar": Fraction(10**2), "Pa": Fraction(1)},
    {"/min": Fraction(60), "/h": Fraction(1)},
)
#: Kelvin = value * factor + zero.
_TEMPERATURES = {
    "K": (Fraction(1), Fraction(0)),
    "Cel": (Fraction(1), Fraction("273.15")),
    "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
}
#: How people write units that UCUM spells otherwise.
ALIASES = {
    "°C": "Cel",
    "℃": "Cel",
    "°F": "[degF]",
    "℉": "[degF]",
    "µg": "ug",
    "μg": "ug",
    "ml": "mL",
    "l": "L",
    "片": "{tablet}",
    "盒": "{pack}",
}
#: The form that the services check: printable ASCII without spaces.
_FORM = re.compile(r"[A-Za-z0-9*^%\[\]{}()./'\"_+-]{1,40}")


@lru_cache(1024)
def unit_of(text: str) -> str:
    """The UCUM code of a unit as it was written; Invalid where it has not the form of one."""
    found = ALIASES.get(text.strip(), text.strip())
    if not _FORM.fullmatch(found):
        told = f"{text!r} is no UCUM code; write for example mg, mL, Cel, {{tablet}}"
        raise Invalid("BAD_UNIT", told)
    return found


def is_unit(text: str) -> bool:
    """Has the text the form of a unit, or is it a usual way to write one?"""
    return text.strip() in ALIASES or _FORM.fullmatch(text.strip()) is not None


def converted(value: float, unit: str, to: str) -> float:
    """The value in another unit; Invalid names both where they do not convert."""
    if unit == to:
        return value
    for sizes in _RATIOS:
        if unit in sizes and to in sizes:
            ratio = sizes[unit] / sizes[to]
            return value * ratio.numerator / ratio.denominator
    if unit in _TEMPERATURES and to in _TEMPERATURES:
        (factor, zero), (to_factor, to_zero) = _TEMPERATURES[unit], _TEMPERATURES[to]
        return float((Fraction(value) * factor + zero - to_zero) / to_factor)
    raise Invalid(
        "INCONVERTIBLE", f"{unit} does not convert to {to}; correct the unit, or the mapping's units"
    )


def convertible() -> tuple[tuple[str, ...], ...]:
    """The units that convert into one another, group by group."""
    return (*(tuple(sizes) for sizes in _RATIOS), tuple(_TEMPERATURES))
