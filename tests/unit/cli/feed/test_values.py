"""Cells: numbers without separators, words of lists, names that no spreadsheet has shortened."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.cli.feed.values import (
    IDENTITY,
    NUMBER,
    TEXT,
    WHOLE,
    WORD,
    YES_OR_NO,
    Kind,
    Manner,
    is_empty,
    one_of,
)
from services.kit.errors import Invalid

PLAIN = Manner()
SEMICOLONS = Manner(semicolons=True)


def refused(kind: Kind, cell: Any, manner: Manner = PLAIN) -> str:
    with pytest.raises(Invalid) as error:
        kind.read(cell, manner)
    return error.value.reason


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12.5", 12.5),
        (" -3 ", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("5.", 5),
        ("+7", 7),
        (4, 4),
        (Decimal("0.1"), 0.1),
    ],
)
def test_numbers(cell: Any, number: float) -> None:
    assert NUMBER.read(cell, PLAIN) == number
    assert NUMBER.read(cell, SEMICOLONS) == number


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("1,234.5", "SEPARATORS"),
        ("1.234,5", "SEPARATORS"),
        ("1 234", "SEPARATORS"),
        ("1\u202f234", "SEPARATORS"),
        ("1'234", "SEPARATORS"),
        ("12,5", "SEPARATORS"),
        ("nan", "NOT_FINITE"),
        ("-Infinity", "NOT_FINITE"),
        ("1e999", "NOT_FINITE"),
        (float("nan"), "NOT_FINITE"),
        ("12%", "NOT_A_NUMBER"),
        ("<5", "NOT_A_NUMBER"),
        ("1_000", "NOT_A_NUMBER"),
        ("0x10", "NOT_A_NUMBER"),
        ("１２", "NOT_A_NUMBER"),
        (True, "NOT_A_NUMBER"),
        ([1], "NOT_A_NUMBER"),
    ],
)
def test_what_is_no_plain_number_is_refused(cell: Any, rule: str) -> None:
    assert refused(NUMBER, cell) == rule


def test_a_decimal_comma_is_taken_between_semicolons_where_it_is_sure() -> None:
    assert NUMBER.read("12,5", SEMICOLONS) == 12.5
    assert NUMBER.read("0,0625", SEMICOLONS) == 0.0625
    for cell in ("1,234", "1.234", "12,345"):
        assert refused(NUMBER, cell, SEMICOLONS) == "AMBIGUOUS_NUMBER"
    assert refused(NUMBER, "1.234,5", SEMICOLONS) == "SEPARATORS"


def test_the_mapping_settles_the_decimal_mark() -> None:
    comma, point = Manner(decimal=",", semicolons=True), Manner(decimal=".", semicolons=True)
    assert NUMBER.read("1,234", comma) == 1.234
    assert NUMBER.read("7", comma) == 7
    assert refused(NUMBER, "1.234", comma) == "SEPARATORS"
    assert NUMBER.read("1.234", point) == 1.234
    assert refused(NUMBER, "1,234", point) == "SEPARATORS"


def test_whole_numbers() -> None:
    assert WHOLE.read("63.0", PLAIN) == 63
    assert refused(WHOLE, "63.5") == "NOT_WHOLE"


def test_names_are_kept_to_the_letter() -> None:
    assert IDENTITY.read("  G-0041\u3000", PLAIN) == "G-0041"
    assert IDENTITY.read("0041", PLAIN) == "0041"
    assert IDENTITY.read('="0041"', PLAIN) == "0041"
    assert IDENTITY.read(6901234500547, PLAIN) == "6901234500547"
    for shortened in ("6.90123E+12", "6,90123E+12", "2E+05"):
        assert refused(IDENTITY, shortened) == "SHORTENED"
    assert IDENTITY.read("2E05", PLAIN) == "2E05"
    for bad in ("a|b", "a\nb", "x" * 257, "G-\ufffd1", "a\x07"):
        assert refused(TEXT, bad) == "BAD_TEXT"
    for odd in (41.0, True, b"x", [1]):
        assert refused(TEXT, odd) == "NOT_TEXT"
    assert refused(WORD, "Zhang San") == "BAD_TEXT"


def test_yes_no_and_codes() -> None:
    assert [YES_OR_NO.read(cell, PLAIN) for cell in ("Yes", "是", "1", True)] == [True] * 4
    assert [YES_OR_NO.read(cell, PLAIN) for cell in ("no", "否", "0", False)] == [False] * 4
    assert refused(YES_OR_NO, "maybe") == "UNKNOWN_CODE"
    kind = one_of({"F": ("female", "女"), "M": ("male",)})
    assert [kind.read(cell, PLAIN) for cell in ("f", "Female", "女", "M")] == ["F", "F", "F", "M"]
    assert refused(kind, "x") == "UNKNOWN_CODE"


def test_what_stands_for_no_value() -> None:
    manner = Manner(missing=frozenset({"nan", "n/a"}))
    assert all(is_empty(cell, manner) for cell in (None, "", "  ", "\u3000", "NaN", "N/A", float("nan")))
    assert not any(is_empty(cell, PLAIN) for cell in ("0", 0, False, "NaN"))
