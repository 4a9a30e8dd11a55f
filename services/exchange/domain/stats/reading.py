"""Reading a specification: each field is checked, and written out in its canonical form.

Both sides read the same specification with the same code. What is read is what
the hash binds: defaults are written out, numbers have the type of their field,
and a field that no rule knows is refused instead of passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from services.refusals import Malformed

_MISSING = object()


class Fields:
    """The fields of one mapping; `out` is its canonical form. All readers raise Malformed."""

    def __init__(self, said: Any, path: str = "spec") -> None:
        if not isinstance(said, Mapping):
            raise Malformed("NOT_A_MAPPING", f"{path} is a mapping of field names to values", path)
        self.said = said
        self.path = path
        self.out: dict[str, Any] = {}

    def _at(self, name: str, default: Any) -> Any:
        value = self.said.get(name, default)
        if value is _MISSING:
            raise Malformed("MISSING_FIELD", f"{self.path} needs the field {name}", self.field(name))
        return value

    def field(self, name: str) -> str:
        return f"{self.path}.{name}"

    def text(self, name: str, default: Any = _MISSING) -> str:
        value = self._at(name, default)
        if not isinstance(value, str) or not value:
            raise Malformed("NOT_TEXT", f"{name} is a text that is not empty", self.field(name))
        self.out[name] = value
        return value

    def number(self, name: str, low: float, high: float, default: Any = _MISSING) -> float:
        """A finite number from `low` to `high`, both included."""
        value = self._at(name, default)
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or not low <= value <= high:
            said = f"{name} is a number from {low:g} to {high:g}, not {value!r}"
            raise Malformed("OUT_OF_RANGE", said, self.field(name))
        self.out[name] = float(value)
        return float(value)

    def whole(self, name: str, low: int, high: int, default: Any = _MISSING) -> int:
        value = self.number(name, low, high, default)
        if value != int(value):
            raise Malformed("NOT_WHOLE", f"{name} is a whole number", self.field(name))
        self.out[name] = int(value)
        return int(value)

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        value = self._at(name, default)
        if not isinstance(value, bool):
            raise Malformed("NOT_A_FLAG", f"{name} is true or false", self.field(name))
        self.out[name] = value
        return value

    def choice(self, name: str, choices: Sequence[str], default: Any = _MISSING) -> str:
        value = self._at(name, default)
        if value not in choices:
            said = f"{name} is one of {', '.join(choices)}, not {value!r}"
            raise Malformed("NOT_A_CHOICE", said, self.field(name))
        self.out[name] = value
        return str(value)

    def texts(self, name: str, at_least: int = 1, default: Any = _MISSING) -> tuple[str, ...]:
        """Different texts, in their order."""
        value = self._at(name, default)
        fits = isinstance(value, (list, tuple)) and all(isinstance(one, str) and one for one in value)
        if not fits or len(set(value)) != len(value) or len(value) < at_least:
            said = f"{name} is a list of at least {at_least} different texts"
            raise Malformed("NOT_A_LIST", said, self.field(name))
        self.out[name] = list(value)
        return tuple(value)

    def rising(self, name: str, at_least: int = 1) -> tuple[float, ...]:
        """Finite numbers, each greater than the one before."""
        value = self._at(name, _MISSING)
        fits = isinstance(value, (list, tuple)) and all(
            isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one)
            for one in value
        )
        if not fits or len(value) < at_least or any(b <= a for a, b in pairwise(value)):
            said = f"{name} is a list of at least {at_least} rising numbers"
            raise Malformed("NOT_RISING", said, self.field(name))
        self.out[name] = [float(one) for one in value]
        return tuple(self.out[name])

    def inner(self, name: str) -> Fields | None:
        """The mapping in this field; None where the field is not there."""
        if self.said.get(name) is None:
            return None
        return Fields(self.said[name], self.field(name))

    def needed(self, name: str) -> Fields:
        """The mapping in this field."""
        return Fields(self._at(name, _MISSING), self.field(name))

    def list_of(self, name: str) -> list[Fields]:
        """The mappings in this field, at least one."""
        value = self._at(name, _MISSING)
        if not isinstance(value, (list, tuple)) or not value:
            raise Malformed("NOT_A_LIST", f"{name} is a list of at least one mapping", self.field(name))
        return [Fields(one, f"{self.field(name)}[{at}]") for at, one in enumerate(value)]

    def finish(self) -> dict[str, Any]:
        """The canonical form. Raises Malformed for a field that nothing has read."""
        for name in self.said:
            if name not in self.out and self.said[name] is not None:
                known = ", ".join(sorted(self.out))
                said = f"{self.path} has no field {name} here; it has {known}"
                raise Malformed("UNKNOWN_FIELD", said, self.field(str(name)))
        return self.out


SmallCells = Literal["refuse", "coarsen"]


@dataclass(frozen=True)
class Protection:
    """What a job must keep to, so that a result tells of many people and of several sites.

    rows_at_most            rows of one site; with it every sum has a bound
    contributing_at_least   sites that have rows at all
    sites_at_least          sites at which a coefficient's column, or a cell, is not all zero
    one_site                what happens to a column at fewer: it is dropped, or the job refused
    cells_at_least          people in a cell that is told, and cases behind an estimate
    small_cells             what happens where there are fewer: cells are joined, or the job refused
    parameters_per_row      parameters of a model, as a part of the rows

    The defaults are those of DataSHIELD's dsBase (nfilter.tab 3, nfilter.glm
    0.33) and three contributing sites. `PUBLIC` switches all of it off, for
    data that everybody has.
    """

    rows_at_most: int
    contributing_at_least: int
    sites_at_least: int
    one_site: str
    cells_at_least: int
    small_cells: str
    parameters_per_row: float


#: Fields to add to a specification for data that are public anyway.
PUBLIC: Mapping[str, Any] = {
    "contributing_at_least": 1,
    "sites_at_least": 1,
    "cells_at_least": 0,
    "parameters_per_row": 1.0,
}


def protection(fields: Fields) -> Protection:
    return Protection(
        fields.whole("rows_at_most", 1, 100_000_000, 1_000_000),
        fields.whole("contributing_at_least", 1, 1000, 3),
        fields.whole("sites_at_least", 1, 1000, 2),
        fields.choice("one_site", ("refuse", "drop"), "refuse"),
        fields.whole("cells_at_least", 0, 1000, 3),
        fields.choice("small_cells", ("refuse", "coarsen"), "refuse"),
        fields.number("parameters_per_row", 0.0, 1.0, 0.33),
    )


@dataclass(frozen=True)
class Levels:
    """A column of names, all of which are agreed beforehand."""

    column: str
    levels: tuple[str, ...]


def levels(fields: Fields, at_least: int = 2) -> Levels:
    read = Levels(fields.text("column"), fields.texts("levels", at_least))
    fields.finish()
    return read


@dataclass(frozen=True)
class Measured:
    """A column of numbers in a range that is agreed beforehand; without it no sum has a bound."""

    column: str
    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


#: Beyond this, a range is a mistake, and products of two values lose their digits.
_RANGE = 1e12


def measured(fields: Fields, low: float | None = None) -> Measured:
    """Reads `column`, `low` (unless given here) and `high`. Raises Malformed for a range without width."""
    column = fields.text("column")
    if low is None:
        low = fields.number("low", -_RANGE, _RANGE)
    high = fields.number("high", -_RANGE, _RANGE)
    if high <= low:
        raise Malformed("EMPTY_RANGE", f"high is greater than {low:g}", fields.field("high"))
    fields.finish()
    return Measured(column, low, high)
