"""What several columns say together: the key of a lot, and a quantity with its unit."""

from __future__ import annotations

from functools import lru_cache

from pharmaloop.common.v1 import types_pb2 as common
from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.units import unit_of
from services.cli.feed.values import IDENTITY, NUMBER, TEXT
from services.kit.errors import Invalid
from services.kit.ids import lot_key, parse_lot
from services.kit.units import converted

_KEY_PARTS = 4
#: Rows of one file name few lots: so many keys are remembered.
_LOTS = 4096
_GTIN_DIGITS = (8, 12, 13, 14)


def lot_columns() -> tuple[Column, ...]:
    """The columns of the lot that a row is about."""
    return (
        Column(
            "lot",
            IDENTITY,
            "The lot as it is printed, with owner, scheme and item; or its whole key, without them",
            "G-0041",
            required=True,
            synonyms=(
                "lot number",
                "lot no",
                "batch",
                "batch number",
                "EXLOT",
                "批号",
                "产品批号",
                "生产批号",
            ),
        ),
        Column("owner", IDENTITY, "Who made the lot", "maker-1", synonyms=("企业编码", "生产企业编码")),
        Column(
            "scheme",
            IDENTITY,
            "What the item number is: gtin, item for a number of the owner, or kit for a blinded study",
            "item",
        ),
        Column(
            "item",
            IDENTITY,
            "Item number of the product; a GTIN is filled up to 14 digits",
            "granulate",
            synonyms=("gtin", "item number", "产品编码", "物料编码", "商品条码"),
        ),
    )


def lot_of(values: Values, prefix: str = "") -> str:
    """The canonical key of a row's lot; empty where the row names none. Invalid names the column."""
    lot = values.get(f"{prefix}lot") or ""
    names = [f"{prefix}{part}" for part in ("owner", "scheme", "item")]
    parts = [values.get(name) or "" for name in names]
    if not lot or not any(parts):
        return _whole(lot, prefix) if lot else ""
    for name, part in zip(names, parts, strict=True):
        if not part:
            given = ", ".join(other for other, value in zip(names, parts, strict=True) if value)
            told = f"{given} without {name}; give all of owner, scheme and item, or the lot's whole key alone"
            raise Invalid("REQUIRED", told, name)
    return _joined(*parts, lot, prefix)


@lru_cache(_LOTS)
def _joined(owner: str, scheme: str, item: str, lot: str, prefix: str) -> str:
    if lot.count("/") == _KEY_PARTS - 1 and lot.startswith(f"{owner}/"):
        told = f"{lot!r} is a whole key already; leave owner, scheme and item out"
        raise Invalid("WHOLE_KEY", told, f"{prefix}lot")
    return lot_key(owner, scheme, gtin(item, f"{prefix}item") if scheme == "gtin" else item, lot)


@lru_cache(_LOTS)
def _whole(lot: str, prefix: str) -> str:
    try:
        parse_lot(lot, f"{prefix}lot")
    except Invalid as error:
        told = f"{lot!r} is no whole key (owner/scheme/item/lot); give owner, scheme and item beside it"
        raise Invalid(error.reason, told, error.field) from None
    return lot


def gtin(number: str, field: str) -> str:
    """The GTIN in 14 digits (GS1 General Specifications, section 7.9: the check digit)."""
    if len(number) not in _GTIN_DIGITS or not (number.isascii() and number.isdigit()):
        raise Invalid("BAD_GTIN", f"{number!r} is no GTIN: it has 8, 12, 13 or 14 digits", field)
    digits = number.zfill(14)
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits[:-1]))
    if int(digits[-1]) != -total % 10:
        raise Invalid("BAD_GTIN", f"the check digit of the GTIN {number!r} is wrong", field)
    return digits


def quantity_columns(prefix: str = "", of: str = "was made") -> tuple[Column, ...]:
    """The columns of a quantity."""
    return (
        Column(
            f"{prefix}quantity",
            NUMBER,
            f"How much {of}",
            "50",
            synonyms=() if prefix else ("amount", "qty", "数量"),
        ),
        Column(
            f"{prefix}unit",
            TEXT,
            "UCUM unit of the quantity; its header may say it instead: quantity (kg)",
            "kg",
            synonyms=() if prefix else ("uom", "单位"),
        ),
    )


def quantity_of(values: Values, layout: Layout, prefix: str = "") -> common.Quantity | None:
    """A row's quantity, converted where the mapping asks for it; None where the row names none."""
    name, unit_name = f"{prefix}quantity", f"{prefix}unit"
    value = values.get(name)
    if value is None:
        return None
    if value < 0:
        raise Invalid("OUT_OF_RANGE", "a quantity is not negative", name)
    told, to = units_of(values, layout, name, unit_name)
    return common.Quantity(value=converted_at(value, told, to, unit_name), unit=to)


def units_of(values: Values, layout: Layout, name: str, unit_name: str) -> tuple[str, str]:
    """The unit that a row's number has, and the one that it is sent in. Invalid names the unit's column."""
    mapping = layout.mapping
    told = values.get(unit_name) or layout.units.get(name) or mapping.file_units.get(name)
    wanted = mapping.units.get(name) or told
    if not wanted:
        raise Invalid(
            "REQUIRED", f"give the unit of {name}: a column {unit_name}, or units in the mapping", unit_name
        )
    try:
        return unit_of(told or wanted), unit_of(wanted)
    except Invalid as error:
        raise Invalid(error.reason, error.description, unit_name) from None


def converted_at(value: float, unit: str, to: str, field: str) -> float:
    """The value in another unit; Invalid names the column `field`."""
    try:
        return converted(value, unit, to)
    except Invalid as error:
        raise Invalid(error.reason, error.description, field) from None
