"""The key of a lot and a quantity: what several columns say together."""

from __future__ import annotations

import pytest

from services.cli.feed.columns import Layout, Values
from services.cli.feed.mapping import Mapping
from services.cli.feed.parts import gtin, lot_of, quantity_of
from services.cli.feed.values import Manner
from services.kit.errors import Invalid
from services.kit.ids import LotParts, parse_lot


def lot(lot: str, *parts: str, prefix: str = "") -> str:
    values: Values = {f"{prefix}lot": lot}
    values.update(zip((f"{prefix}{name}" for name in ("owner", "scheme", "item")), parts, strict=False))
    return lot_of(values, prefix)


def test_a_lot_has_its_whole_key_or_its_parts() -> None:
    assert lot("maker-1/item/granulate/G-0041") == "maker-1/item/granulate/G-0041"
    assert lot("G-0041", "maker-1", "item", "granulate") == "maker-1/item/granulate/G-0041"
    assert lot("", "maker-1", "item", "granulate") == ""
    assert lot("R-1", "s", "item", "lactose", prefix="input_") == "s/item/lactose/R-1"


def test_what_a_lot_string_holds_is_kept() -> None:
    key = lot("2026/03 甲#1", "maker 1", "item", "granulate")
    assert parse_lot(key) == LotParts("maker 1", "item", "granulate", "2026/03 甲#1")


@pytest.mark.parametrize(
    ("cell", "parts", "rule", "field"),
    [
        ("G-0041", (), "NOT_CANONICAL", "lot"),
        ("maker-1/item/granulate", (), "NOT_CANONICAL", "lot"),
        ("G-0041", ("maker-1",), "REQUIRED", "scheme"),
        ("G-0041", ("maker-1", "item", ""), "REQUIRED", "item"),
        ("maker-1/item/granulate/G-0041", ("maker-1", "item", "granulate"), "WHOLE_KEY", "lot"),
        ("A-1", ("maker-1", "gtin", "6901234500548"), "BAD_GTIN", "item"),
        ("A-1", ("maker-1", "gtin", "tablets"), "BAD_GTIN", "item"),
    ],
)
def test_a_lot_is_never_guessed(cell: str, parts: tuple[str, ...], rule: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        lot(cell, *parts)
    assert (refused.value.reason, refused.value.field) == (rule, field)


@pytest.mark.parametrize(
    ("number", "filled"),
    [
        # Examples of the GS1 General Specifications (GTIN-14, GTIN-13, GTIN-12, GTIN-8).
        ("10614141000415", "10614141000415"),
        ("9521234543213", "09521234543213"),
        ("614141000036", "00614141000036"),
        ("95050003", "00000095050003"),
    ],
)
def test_a_gtin_is_filled_up_to_14_digits(number: str, filled: str) -> None:
    assert gtin(number, "item") == filled
    assert lot("A-1", "maker-1", "gtin", number) == f"maker-1/gtin/{filled}/A-1"


def layout(header: str = "", wanted: str = "", in_file: str = "") -> Layout:
    """A layout whose header, or mapping, says the unit of the quantity."""

    def of(unit: str) -> dict[str, str]:
        return {"quantity": unit} if unit else {}

    return Layout(Mapping(units=of(wanted), file_units=of(in_file)), Manner(), (), {}, of(header), {})


def test_a_quantity_has_a_unit_from_row_header_or_mapping() -> None:
    def told(values: Values, where: Layout) -> tuple[float, str] | None:
        found = quantity_of(values, where)
        return (found.value, found.unit) if found else None

    assert told({"quantity": None}, layout()) is None
    assert told({"quantity": 54.0, "unit": "mg"}, layout()) == (54, "mg")
    assert told({"quantity": 54.0}, layout(header="mg")) == (54, "mg")
    assert told({"quantity": 54.0}, layout(wanted="mg")) == (54, "mg")
    assert told({"quantity": 54.0, "unit": "mg"}, layout(wanted="g")) == (0.054, "g")
    assert told({"quantity": 54.0}, layout(wanted="g", in_file="mg")) == (0.054, "g")


@pytest.mark.parametrize(
    ("values", "wanted", "rule", "field"),
    [
        ({"quantity": 1.0}, "", "REQUIRED", "unit"),
        ({"quantity": -1.0, "unit": "mg"}, "", "OUT_OF_RANGE", "quantity"),
        ({"quantity": 1.0, "unit": "spoons full"}, "", "BAD_UNIT", "unit"),
        ({"quantity": 1.0, "unit": "mL"}, "mg", "INCONVERTIBLE", "unit"),
        ({"quantity": 1.0, "unit": "{pack}"}, "{tablet}", "INCONVERTIBLE", "unit"),
    ],
)
def test_a_quantity_without_a_unit_that_fits_is_refused(
    values: Values, wanted: str, rule: str, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        quantity_of(values, layout(wanted=wanted))
    assert (refused.value.reason, refused.value.field) == (rule, field)
