"""A site's columns, checked against what was agreed. What does not fit is refused and named.

Refusals tell the column and the rule, never a value: they travel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats.protocol import Columns, Vector
from services.exchange.domain.stats.reading import Levels, Measured
from services.refusals import Malformed

Index = NDArray[np.intp]


def rows(table: Columns, at_most: int) -> int:
    """How many rows there are; 0 of no column at all.

    Raises Malformed for columns of different lengths, Unfit for more rows than agreed.
    """
    lengths = set()
    for name, values in table.items():
        if np.ndim(values) != 1:
            raise Malformed("NOT_A_COLUMN", f"{name} is one value for each row", name)
        lengths.add(len(values))
    if len(lengths) > 1:
        raise Malformed("UNEQUAL_COLUMNS", "all columns have one value for each row", "table")
    found = lengths.pop() if lengths else 0
    if found > at_most:
        said = f"the table has more than the {at_most} rows agreed; agree on more in rows_at_most"
        raise Unfit("TOO_MANY_ROWS", said, "rows_at_most")
    return found


def numbers(table: Columns, column: str) -> Vector:
    """The numbers of a column. Raises Unfit for one that is missing or not a number."""
    found = values(table, column)
    if not np.all(np.isfinite(found)):
        said = f"{column} has missing or infinite values; leave such rows out or fill them by an agreed rule"
        raise Unfit("MISSING_VALUE", said, column)
    return found


def values(table: Columns, column: str) -> Vector:
    """The numbers of a column, NaN and infinities among them. Raises Unfit for what is not a number."""
    held = _column(table, column)
    try:
        return np.asarray(held, dtype=float)
    except (TypeError, ValueError) as error:
        raise Unfit("NOT_NUMBERS", f"{column} holds what is not a number", column) from error


def within(table: Columns, measured: Measured) -> Vector:
    """The numbers of a column, all within the agreed range. Raises Unfit otherwise."""
    found = numbers(table, measured.column)
    if np.any(found < measured.low) or np.any(found > measured.high):
        span = f"from {measured.low:g} to {measured.high:g}"
        said = f"{measured.column} is {span} as agreed; agree on a wider range"
        raise Unfit("OUT_OF_RANGE", said, measured.column)
    return found


def clipped(table: Columns, measured: Measured) -> Vector:
    """The numbers of a column, each moved to the nearer end of the agreed range where it is beyond."""
    return np.clip(numbers(table, measured.column), measured.low, measured.high)


def zero_one(table: Columns, column: str) -> Vector:
    """A column of 0 and 1. Raises Unfit for anything else."""
    found = numbers(table, column)
    if not np.all((found == 0) | (found == 1)):
        raise Unfit("NOT_ZERO_OR_ONE", f"{column} is 0 or 1 in each row", column)
    return found


def counts(table: Columns, measured: Measured) -> Vector:
    """A column of whole numbers from 0 on. Raises Unfit otherwise."""
    found = numbers(table, measured.column)
    if np.any(found < 0) or np.any(found != np.floor(found)):
        raise Unfit("NOT_A_COUNT", f"{measured.column} is a whole number, 0 or more", measured.column)
    return within(table, measured)


def times(table: Columns, column: str) -> Vector:
    """A column of lengths of time. Raises Unfit for a negative one."""
    found = numbers(table, column)
    if np.any(found < 0):
        raise Unfit(
            "NEGATIVE_TIME", f"{column} is 0 or more: the time from entry to event or censoring", column
        )
    return found


def names(table: Columns, column: str) -> NDArray[np.str_]:
    """A column of names; whole numbers count as their digits. Raises Unfit for a missing one."""
    values = _column(table, column)
    if values.dtype.kind == "f":
        found = numbers(table, column)
        if np.any(found != np.floor(found)):
            raise Unfit("NOT_A_NAME", f"{column} holds names or whole numbers", column)
        return found.astype(np.int64).astype(str)
    if values.dtype.kind == "O" and any(_missing(value) for value in values):
        raise Unfit("MISSING_VALUE", f"{column} has missing values; leave such rows out or name them", column)
    return values.astype(str)


def places(table: Columns, agreed: Levels) -> Index:
    """The place of each row's name among the agreed levels. Raises Unfit for a name that is not agreed."""
    found = names(table, agreed.column)
    where = positions(found, agreed.levels)
    if np.any(where < 0):
        said = f"{agreed.column} holds a level that is not agreed; agree on it or join it to one that is"
        raise Unfit("UNKNOWN_LEVEL", said, agreed.column)
    return where


def positions(found: NDArray[np.str_], levels: tuple[str, ...]) -> Index:
    """The place of each name among the levels; -1 of one that is not there."""
    order = np.argsort(np.array(levels, dtype=str))
    ranked = np.array(levels, dtype=str)[order]
    at = np.minimum(np.searchsorted(ranked, found), len(levels) - 1)
    return np.where(ranked[at] == found, order[at], -1).astype(np.intp)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _column(table: Columns, column: str) -> NDArray[Any]:
    if column not in table:
        said = f"the table has no column {column}; map one to this name"
        raise Unfit("NO_SUCH_COLUMN", said, column)
    return np.asarray(table[column])
