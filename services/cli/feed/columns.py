"""The columns that a noun declares, and where a file has them.

A column is found by the mapping, else by its name or a synonym: case, blanks,
and marks such as '_' make no difference. A number's unit may stand in its
header: "quantity (mg)", "数量[片]".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from services.cli.feed.headers import place_of, plain, shown, split_unit
from services.cli.feed.mapping import Mapping
from services.cli.feed.moments import zone_of
from services.cli.feed.table import Fault, Row, Table
from services.cli.feed.values import NUMBER, Kind, Manner, is_empty
from services.cli.session import Failure
from services.kit.errors import Invalid

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: what it is called, what stands in it, what it says, and how a file may call it.

    One that is `required` has to be found, and so has one that is `expected`, unless the
    mapping leaves it out; but the cells of the latter may be empty.
    """

    name: str
    kind: Kind
    tells: str
    example: str
    required: bool = False
    expected: bool = False
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where a table has its columns, and how its cells are written.

    `fixed` are the constants; `units`, by column, what its header says;
    `rest`, by place, the headers that are no column's.
    """

    mapping: Mapping
    manner: Manner
    places: tuple[tuple[Column, int], ...]
    fixed: Values
    units: dict[str, str]
    rest: dict[int, str]

    def has(self, name: str) -> bool:
        return name in self.fixed or any(column.name == name for column, _ in self.places)

    def values(self, row: Row) -> tuple[Values, Fault | None]:
        """The values of a row by column, None where there is none; and what is wrong, if anything is."""
        if row.fault:
            return {}, row.fault
        values, faults = dict(self.fixed), []
        for column, place in self.places:
            try:
                values[column.name] = self._value(column, row.cells[place])
            except Invalid as error:
                faults.append(Fault(column.name, error.reason, error.description))
        return values, _together(faults)

    def _value(self, column: Column, cell: Any) -> Any:
        if not is_empty(cell, self.manner):
            return column.kind.read(cell, self.manner)
        if column.required:
            raise Invalid("REQUIRED", f"{column.name} must be given")
        return None


def _together(faults: Sequence[Fault]) -> Fault | None:
    """The first fault, with a word of the others."""
    if len(faults) < 2:
        return faults[0] if faults else None
    first, *others = faults
    told = "; ".join(f"{fault.field}: {fault.rule}" for fault in others)
    return first._replace(message=f"{first.message} (and {told})")


# -- finding ----------------------------------------------------------------


def lay_out(columns: Sequence[Column], table: Table, mapping: Mapping, *, tags: bool = False) -> Layout:
    """Where the table has the columns; Failure names those that are missing, and the headers there are.

    With `tags`, a name in the mapping that is no column is a measured tag's.
    """
    _check_names(columns, mapping, tags)
    manner = manner_of(mapping, table.delimiter)
    fixed = _constants(columns, mapping, manner)
    places: dict[int, Column] = {}
    units: dict[str, str] = {}
    for column in columns:
        place = None if column.name in fixed else _place(column, table.headers, mapping)
        if place is None:
            continue
        header = table.headers[place]
        if place in places:
            told = f"{header!r} would be both {places[place].name} and {column.name}"
            raise Failure(f"{table.path}: {told}; say in the mapping which it is")
        places[place] = column
        if column.kind is NUMBER and (unit := split_unit(header)[1]):
            units[column.name] = unit
    left_out = {
        column.name for column in columns if column.expected and not mapping.columns.get(column.name, "-")
    }
    _check_complete(columns, {*fixed, *left_out, *(column.name for column in places.values())}, table)
    rest = {place: header for place, header in enumerate(table.headers) if header and place not in places}
    found = tuple((column, place) for place, column in places.items())
    return Layout(mapping, manner, found, fixed, units, rest)


def manner_of(mapping: Mapping, delimiter: str) -> Manner:
    """How the cells of a file are written."""
    missing = frozenset(text.strip().casefold() for text in mapping.missing)
    zone = zone_of(mapping.zone)
    return Manner(zone, mapping.date_format, mapping.decimal, delimiter == ";", missing)


def _check_names(columns: Sequence[Column], mapping: Mapping, tags: bool) -> None:
    known = [column.name for column in columns]
    named = {"constants": mapping.constants}
    if not tags:
        named |= {"columns": mapping.columns, "units": mapping.units, "file_units": mapping.file_units}
    for part, names in named.items():
        for name in names:
            if name not in known:
                raise Failure(f"the mapping's {part} name {name!r}; the columns are: {', '.join(known)}")


def _check_complete(columns: Sequence[Column], there: set[str], table: Table) -> None:
    needed = [column.name for column in columns if column.required or column.expected]
    missing = [name for name in needed if name not in there]
    if missing:
        raise Failure(
            f"{table.path}: no column was found for {', '.join(missing)}; the headers are: "
            f"{shown(table.headers)}. Name them in a mapping file (--mapping; --template shows one), "
            "or rename the headers"
        )


def _place(column: Column, headers: Sequence[str], mapping: Mapping) -> int | None:
    """The place of a column; None where the table has none, or the mapping leaves it out."""
    if column.name in mapping.columns:
        told = mapping.columns[column.name]
        return place_of(told, headers) if told else None
    wanted = {plain(name) for name in (column.name, *column.synonyms)}
    found = []
    for place, header in enumerate(headers):
        base = split_unit(header)[0] if column.kind is NUMBER else header
        if header and (plain(header) in wanted or plain(base) in wanted):
            found.append(place)
    if len(found) > 1:
        told = " and ".join(repr(headers[place]) for place in found)
        raise Failure(f"{told} may both be {column.name}; say in the mapping which it is")
    return found[0] if found else None


def _constants(columns: Sequence[Column], mapping: Mapping, manner: Manner) -> Values:
    fixed = {}
    for column in columns:
        if column.name in mapping.constants:
            try:
                fixed[column.name] = column.kind.read(mapping.constants[column.name], manner)
            except Invalid as error:
                raise Failure(f"constants.{column.name}: {error.description} ({error.reason})") from None
    return fixed
