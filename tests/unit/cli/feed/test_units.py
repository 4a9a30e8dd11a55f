"""Units convert where they can, and are refused with both names where they cannot."""

from __future__ import annotations

import pytest

from services.cli.feed.units import converted, unit_of
from services.kit.errors import Invalid
from services.production.domain.equipment import is_ucum


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        # NIST SP 811 (2008), appendix B: definitions of the units.
        (54, "mg", "g", 0.054),
        (0.054, "g", "mg", 54),
        (2.5, "kg", "ug", 2.5e9),
        (250, "mL", "L", 0.25),
        (1, "bar", "kPa", 100),
        (1013.25, "mbar", "Pa", 101325),
        (101325, "Pa", "bar", 1.01325),
        (2, "/min", "/h", 120),
        (0, "Cel", "K", 273.15),
        (212, "[degF]", "Cel", 100),
        (-40, "[degF]", "Cel", -40),
        (37, "Cel", "[degF]", 98.6),
        (0, "K", "[degF]", -459.67),
        (3, "{tablet}", "{tablet}", 3),
        (7, "mol/L", "mol/L", 7),
    ],
)
def test_what_converts(value: float, unit: str, to: str, expected: float) -> None:
    assert converted(value, unit, to) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("unit", "to"),
    [
        ("mg", "mL"),
        ("{tablet}", "{pack}"),
        ("{tablet}", "mg"),
        ("Cel", "bar"),
        ("/h", "h"),
        ("mol/L", "mmol/L"),
    ],
)
def test_what_does_not_convert_is_refused_with_both_units(unit: str, to: str) -> None:
    with pytest.raises(Invalid) as refused:
        converted(1, unit, to)
    assert refused.value.reason == "INCONVERTIBLE"
    assert unit in refused.value.description
    assert to in refused.value.description


def test_usual_spellings_become_codes_that_the_plant_takes() -> None:
    for text in ("℃", "°C", "°F", "μg", "µg", "ml", "片", "盒", "{patch}", "m[H2O]", "%"):
        assert is_ucum(unit_of(text))
    for text in ("milli grams", "毫克", "", "x" * 41):
        with pytest.raises(Invalid, match="no UCUM code"):
            unit_of(text)
