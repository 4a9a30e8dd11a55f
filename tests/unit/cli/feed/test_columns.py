"""Columns are found by name, synonym, or mapping; what is missing or may be two things is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.cli.feed.columns import Column, Layout, lay_out
from services.cli.feed.files import open_table
from services.cli.feed.mapping import Mapping, checked, read_mapping
from services.cli.feed.values import MOMENT, NUMBER, TEXT
from services.cli.session import Failure

COLUMNS = (
    Column("lot", TEXT, "The lot", "G-1", required=True, synonyms=("batch number", "批号")),
    Column("at", MOMENT, "When", "2026-03-05", required=True),
    Column("quantity", NUMBER, "How much", "5", synonyms=("数量",)),
    Column("note", TEXT, "A note", "x"),
)


def layout(tmp_path: Path, text: str, **mapping: Any) -> Layout:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return lay_out(COLUMNS, open_table(path), Mapping(zone="UTC", **mapping))


def places(found: Layout) -> dict[str, int]:
    return {column.name: place for column, place in found.places}


@pytest.mark.parametrize(
    "header", ["lot", "LOT", " Lot ", "Batch_Number", "batch-number", "BATCHNUMBER", "批号", "ｌｏｔ"]
)
def test_a_column_is_found_by_its_names(tmp_path: Path, header: str) -> None:
    assert places(layout(tmp_path, f"x,at,{header}\n1,2026-03-05,G-1\n"))["lot"] == 2


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("quantity (mg)", "mg"),
        ("Quantity[kg]", "kg"),
        ("数量（片）", "{tablet}"),
        ("数量 [℃]", "Cel"),
        ("quantity", ""),
    ],
)
def test_a_number_may_have_its_unit_in_the_header(tmp_path: Path, header: str, unit: str) -> None:
    found = layout(tmp_path, f"lot,at,{header}\nG-1,2026-03-05,5\n")
    assert places(found)["quantity"] == 2
    assert found.units.get("quantity", "") == unit


def test_the_mapping_goes_before_the_names(tmp_path: Path) -> None:
    text = "lot,note,made,x\nA,B,2026-03-05,1\n"
    found = layout(
        tmp_path, text, columns={"lot": "NOTE", "note": "", "at": "made"}, constants={"quantity": "7"}
    )
    assert places(found) == {"lot": 1, "at": 2}
    assert found.fixed == {"quantity": 7}
    assert found.rest == {0: "lot", 3: "x"}
    row = next(open_table(tmp_path / "a.csv").rows())
    values, fault = found.values(row)
    assert (values["lot"], values["quantity"], fault) == ("B", 7, None)


def test_what_is_missing_is_named_with_the_headers_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        Failure, match=r"no column was found for lot, at; the headers are: Charge, \(empty\), Datum"
    ):
        layout(tmp_path, "Charge,,Datum\nG-1,,2026-03-05\n")


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"columns": {"lot": "Charge"}}, "names the header 'Charge'; the headers are: lot, at, batch number"),
        ({"columns": {"charge": "lot"}}, "columns name 'charge'; the columns are: lot, at, quantity, note"),
        ({"constants": {"charge": "1"}}, "constants name 'charge'"),
        ({"units": {"temp": "Cel"}}, "units name 'temp'"),
        ({"constants": {"quantity": "five"}}, "constants.quantity: 'five' is no number"),
        ({}, "'lot' and 'batch number' may both be lot"),
        ({"columns": {"lot": "lot", "note": "lot"}}, "'lot' would be both lot and note"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, mapping: dict[str, Any], told: str) -> None:
    with pytest.raises(Failure, match=told):
        layout(tmp_path, "lot,at,batch number\nG-1,2026-03-05,G-2\n", **mapping)


def test_a_row_tells_its_first_fault_and_names_the_others(tmp_path: Path) -> None:
    found = layout(tmp_path, "lot,at,quantity\n,5.3.2026,x\n")
    _, fault = found.values(next(open_table(tmp_path / "a.csv").rows()))
    assert fault is not None
    assert (fault.field, fault.rule) == ("lot", "REQUIRED")
    assert "at: AMBIGUOUS_DATE; quantity: NOT_A_NUMBER" in fault.message


# -- the mapping file -------------------------------------------------------


def read(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return read_mapping(path)


def test_every_value_is_text_as_it_is_written(tmp_path: Path) -> None:
    """YAML would make 33 of 0041 and false of no."""
    found = read(
        tmp_path,
        "constants: {lot: 0041, item: no, at: 2026-03-05}\nmissing: [null, 0.0]\ncolumns:\n  note:\n",
    )
    assert found.constants == {"lot": "0041", "item": "no", "at": "2026-03-05"}
    assert found.missing == ("null", "0.0")
    assert found.columns == {"note": ""}


def test_json_is_read_too(tmp_path: Path) -> None:
    assert read(tmp_path, '{"columns": {"lot": "批号"}, "decimal": ","}') == Mapping(
        columns={"lot": "批号"}, decimal=","
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colums: {lot: x}", "unknown field `colums`.*a mapping has: columns, constants"),
        ("columns: [lot]", r"Expected `object`, got `array` - at `\$.columns`"),
        ("- lot", "Expected `object`, got `array`"),
        ("columns: {lot: [a]}", "Expected `str`, got `array`"),
        ("columns: {lot", "is no YAML"),
        ("decimal: x", "decimal is '.' or ','"),
        ("delimiter: ab", "a delimiter is one character"),
        ("columns: {lot: x}\nconstants: {lot: y}", "lot stands under columns and under constants"),
    ],
)
def test_a_mapping_that_is_none_says_why(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Failure, match=told):
        read(tmp_path, text)


def test_the_same_mapping_written_otherwise_is_the_same() -> None:
    one = Mapping(constants={"a": "1", "b": "2"}, zone="UTC")
    other = Mapping(zone="UTC", constants={"b": "2", "a": "1"})
    assert one.canonical() == other.canonical()
    assert one.with_options(zone="+08:00", delimiter="") == Mapping(
        constants={"a": "1", "b": "2"}, zone="+08:00"
    )
    assert checked(one, "x") is one
