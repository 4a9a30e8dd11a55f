"""Units convert where they can, exactly, and are refused with both names where they cannot."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from services.kit.errors import Invalid
from services.kit.units import conversion, converted, size


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
        (3.5, "g/kg", "mg/g", 3.5),
        (5, "g/kg", "kg/kg", 0.005),
        (6, "L/h", "mL/min", 100),
        (0.25, "t", "kg", 250),
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


def test_a_converted_number_is_the_float_next_to_the_true_one() -> None:
    """No error of its own: 0.1 bar as it is stored, times 1000, rounded once."""
    for number in (0.1, 1 / 3, 2.2e-16, 987654.321):
        assert converted(number, "bar", "mbar") == float(Fraction(number) * 1000)
        assert converted(number, "Cel", "K") == float(Fraction(number) + Fraction(27315, 100))


def test_what_no_float_holds_does_not_become_another_number() -> None:
    convert = conversion("bar", "Pa")
    assert convert is not None
    assert convert(-1e305) == -math.inf
    assert math.isnan(convert(math.nan))
    assert convert(math.inf) == math.inf


def test_units_that_convert_have_one_dimension_and_others_have_their_own() -> None:
    assert size("g/kg").dimension == size("mg/mg").dimension
    assert size("g").size / size("kg").size == Fraction(1, 1000)
    assert len({size(unit).dimension for unit in ("{tablet}", "{pack}", "kg", "mL", "Cel", "mol/L")}) == 6
