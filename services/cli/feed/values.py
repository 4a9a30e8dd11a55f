"""What may stand in a cell: kinds of values, and how each is read.

A reader gets a cell (text; in Parquet also numbers, booleans, moments) and the
file's manner, and answers the value. Invalid says which rule the cell breaks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

from services.cli.feed.moments import moment_of
from services.kit.errors import Invalid

_LONGEST_TEXT = 256
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", re.ASCII)
#: 1.234 or 1,234: one thousand and more, or one and a bit.
_THREE_DIGITS = re.compile(r"[+-]?\d{1,3}[.,]\d{3}", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
#: What a spreadsheet makes of a long number: its last digits are lost.
_SHORTENED = re.compile(r"\d(?:[.,]\d+)?E\+\d{2,}", re.ASCII)
#: How programs make a spreadsheet keep the zeros in front: ="0041".
_AS_TEXT = re.compile(r'="([^"]*)"')
_YES = ("yes", "y", "true", "1", "是", "同意", "已同意")
_NO = ("no", "n", "false", "0", "否", "不同意", "未同意")


@dataclass(frozen=True)
class Manner:
    """How a file writes numbers and moments.

    `decimal` is '.', ',' or, where nobody said it, empty; `semicolons`: its
    cells are parted by them. `missing` are texts, in small letters, that stand
    for no value.
    """

    zone: tzinfo | None = None
    date_format: str = ""
    decimal: str = ""
    semicolons: bool = False
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Kind:
    """A kind of value: what it is called in the documentation, and its reader."""

    label: str
    read: Callable[[Any, Manner], Any]


def is_empty(cell: Any, manner: Manner) -> bool:
    """Does the cell hold no value?"""
    if cell is None:
        return True
    text = cell.strip() if isinstance(cell, str) else str(cell)
    return not text or (bool(manner.missing) and text.casefold() in manner.missing)


# -- the readers ----------------------------------------------------------


def _text(cell: Any, _: Manner) -> str:
    if isinstance(cell, float | bytes | datetime | list | dict | bool):
        raise Invalid("NOT_TEXT", f"a {type(cell).__name__} is no text; save the column as text")
    text = str(cell).strip()
    if found := _AS_TEXT.fullmatch(text):
        text = found[1].strip()
    if len(text) > _LONGEST_TEXT or not text.isprintable() or "|" in text or "\ufffd" in text:
        raise Invalid(
            "BAD_TEXT",
            f"{text[:40]!r}: a text has at most {_LONGEST_TEXT} printable, readable characters without '|'",
        )
    return text


def _identity(cell: Any, manner: Manner) -> str:
    text = _text(cell, manner)
    if _SHORTENED.fullmatch(text):
        told = f"{text!r} was shortened by a spreadsheet; export the column as text"
        raise Invalid("SHORTENED", told)
    return text


def _word(cell: Any, manner: Manner) -> str:
    text = _identity(cell, manner)
    if " " in text:
        raise Invalid("BAD_TEXT", f"{text[:40]!r} has a blank; a pseudonym has none")
    return text


def _number(cell: Any, manner: Manner) -> float:
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        number = float(cell)
    elif isinstance(cell, str):
        number = float(_plain(cell.strip(), manner))
    else:
        raise Invalid("NOT_A_NUMBER", f"a {type(cell).__name__} is no number")
    if not math.isfinite(number):
        raise Invalid(
            "NOT_FINITE", f"{cell} is no finite number; leave the cell empty where there is no value"
        )
    return number


def _plain(text: str, manner: Manner) -> str:
    """The number as Python writes it, or Invalid."""
    undecided = manner.semicolons and not manner.decimal
    if undecided and _THREE_DIGITS.fullmatch(text):
        told = f"{text!r} may be read in two ways; say decimal: '.' or decimal: ',' in the mapping"
        raise Invalid("AMBIGUOUS_NUMBER", told)
    if _NUMBER.fullmatch(text) and not (manner.decimal == "," and "." in text):
        return text
    if (undecided or manner.decimal == ",") and _COMMA.fullmatch(text):
        return text.replace(",", ".")
    if _NOT_FINITE.fullmatch(text):
        return text
    if text.startswith(("<", ">", "≤", "≥")):
        raise Invalid("NOT_A_NUMBER", f"{text[:40]!r} is a bound and no number")
    if any(mark in text for mark in ",.'’ \u00a0\u202f") and re.search(r"\d", text):
        told = f"{text[:40]!r}: a number has no thousands separators; a decimal comma is told by decimal: ','"
        raise Invalid("SEPARATORS", told)
    raise Invalid("NOT_A_NUMBER", f"{text[:40]!r} is no number; write for example 12.5")


def _whole(cell: Any, manner: Manner) -> int:
    number = _number(cell, manner)
    if not number.is_integer():
        raise Invalid("NOT_WHOLE", f"{cell} is no whole number")
    return int(number)


def _yes_or_no(cell: Any, _: Manner) -> bool:
    if isinstance(cell, bool):
        return cell
    word = str(cell).strip().casefold()
    if word in _YES or word in _NO:
        return word in _YES
    raise Invalid("UNKNOWN_CODE", f"{word[:40]!r}: write yes or no")


def _moment(cell: Any, manner: Manner) -> datetime:
    return moment_of(cell, manner.zone, manner.date_format)


TEXT = Kind("text", _text)
#: A text that names something: digits that a spreadsheet took away would name something else.
IDENTITY = Kind("name", _identity)
WORD = Kind("name without blanks", _word)
NUMBER = Kind("number", _number)
WHOLE = Kind("whole number", _whole)
YES_OR_NO = Kind("yes or no", _yes_or_no)
MOMENT = Kind("moment", _moment)


def one_of(codes: Mapping[str, tuple[str, ...]]) -> Kind:
    """A code of a list; each may be written in other ways, too."""
    ways = {way.casefold(): code for code, others in codes.items() for way in (code, *others)}

    def read(cell: Any, _: Manner) -> str:
        word = str(cell).strip()
        if (code := ways.get(word.casefold())) is None:
            raise Invalid("UNKNOWN_CODE", f"{word[:40]!r} is none of {', '.join(codes)}")
        return code

    return Kind(f"one of {', '.join(codes)}", read)
