"""`feed readings`: what was measured on equipment while a lot was on it.

A wide table has a column for each tag and a row for each time; a tag's column
is known by its unit, in its header or in the mapping. A long table has a row
for each value, with the columns tag and value. An empty cell is no reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.headers import place_of, plain, split_unit
from services.cli.feed.parts import lot_columns, lot_of
from services.cli.feed.table import Row, Table
from services.cli.feed.units import unit_of
from services.cli.feed.values import IDENTITY, MOMENT, NUMBER, TEXT, Kind, Manner, is_empty
from services.cli.session import Failure
from services.kit.errors import Invalid
from services.kit.units import converted

_BAD = 0x8000_0000
#: OPC UA status codes by the names of their severity (OPC UA part 4, section 7.39).
_STATUSES = {"good": 0, "uncertain": 0x4000_0000, "bad": _BAD, "良好": 0, "不确定": 0x4000_0000, "坏": _BAD}
_CODE = re.compile(r"0x[0-9a-fA-F]{1,8}|\d{1,10}", re.ASCII)
_LARGEST_STATUS = 0xFFFF_FFFF


def _status(cell: Any, _: Manner) -> int:
    word = str(cell).strip()
    if (code := _STATUSES.get(word.casefold())) is not None:
        return code
    if _CODE.fullmatch(word) and int(word, 16 if word.startswith("0x") else 10) <= _LARGEST_STATUS:
        return int(word, 16 if word.startswith("0x") else 10)
    raise Invalid(
        "UNKNOWN_CODE", f"{word[:40]!r} is no status: write good, uncertain, bad, or an OPC UA code"
    )


NAME = "readings"
TELLS = "What was measured on equipment, tag by tag."
COLUMNS = (
    Column(
        "equipment",
        IDENTITY,
        "Where it was measured, by the equipment's id",
        "plant-1/dryer-1",
        required=True,
        synonyms=("machine", "device", "设备", "设备编号"),
    ),
    Column(
        "plant",
        IDENTITY,
        "The plant it stands in, for equipment that is new; else what stands before '/' in its id",
        "plant-1",
        synonyms=("工厂", "车间"),
    ),
    *lot_columns(),
    Column(
        "at",
        MOMENT,
        "When it was measured; kept to the millisecond",
        "2026-03-05T14:02:00+08:00",
        required=True,
        synonyms=("time", "timestamp", "date time", "时间", "采样时间", "时间戳"),
    ),
    Column("tag", IDENTITY, "Long form: what was measured", "DryerTemp", synonyms=("位号", "测点", "变量")),
    Column("value", NUMBER, "Long form: the value", "61.5", synonyms=("值", "数值", "测量值")),
    Column(
        "unit",
        TEXT,
        "Long form: its UCUM unit, where the mapping does not say it",
        "Cel",
        synonyms=("uom", "单位"),
    ),
    Column(
        "status",
        Kind("good, uncertain, bad, or an OPC UA code", _status),
        "Long form: how good the value is; good, where it is not given",
        "good",
        synonyms=("quality", "状态", "质量"),
    ),
)


class Reading(NamedTuple):
    """A value of a tag in the unit in which it is sent."""

    tag: str
    unit: str
    value: float
    status: int


class Sample(NamedTuple):
    """What one row says."""

    row: Row
    equipment: str
    plant: str
    lot: str
    at: datetime
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Tag:
    """A measured column of a wide table; `unit` is what its header says, else empty."""

    name: str
    unit: str
    place: int


@dataclass
class Form:
    """How a table has its readings. `units` are those in which the tags are sent; a tag that the mapping
    does not name is sent in the unit of its first value."""

    layout: Layout
    tags: tuple[Tag, ...]
    units: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, table: Table) -> Form:
        """The form of a table; Failure where it has no readings, or a tag whose unit nobody says."""
        long = layout.has("tag"), layout.has("value")
        if any(long) and not all(long):
            raise Failure(f"{table.path}: a long table has both columns, tag and value")
        tags = () if all(long) else tuple(_wide_tags(layout, table))
        if not (tags or all(long)):
            rest = ", ".join(layout.rest.values()) or "none"
            raise Failure(
                f"{table.path} names no measured tag. Say the units in the headers, as in 'DryerTemp [Cel]', "
                "or under units in the mapping; or give the columns tag and value. "
                f"The other headers are: {rest}"
            )
        form = cls(layout, tags)
        for name, unit in layout.mapping.units.items():
            form.units[name] = _mapped_unit(name, unit)
        return form

    @property
    def ignored(self) -> list[str]:
        """Headers that stand for nothing."""
        places = {tag.place for tag in self.tags}
        return [header for place, header in self.layout.rest.items() if place not in places]

    def sample(self, row: Row, values: Values) -> Sample:
        """What a row says; Invalid names the column, or the tag, at fault."""
        at: datetime = values["at"]
        readings = tuple(self._wide(row) if self.tags else self._long(values))
        if not readings:
            raise Invalid("REQUIRED", "the row has no value of any tag", "value")
        return Sample(
            row,
            values["equipment"],
            values.get("plant") or values["equipment"].partition("/")[0],
            lot_of(values),
            at.replace(microsecond=at.microsecond // 1000 * 1000),
            readings,
        )

    def _wide(self, row: Row) -> Iterator[Reading]:
        manner = self.layout.manner
        for tag in self.tags:
            cell = row.cells[tag.place]
            if is_empty(cell, manner):
                continue
            try:
                yield self._reading(tag.name, tag.unit, NUMBER.read(cell, manner), 0)
            except Invalid as error:
                raise Invalid(error.reason, error.description, tag.name) from None

    def _long(self, values: Values) -> Iterator[Reading]:
        tag, value, status = values.get("tag"), values.get("value"), values.get("status") or 0
        if not tag:
            raise Invalid("REQUIRED", "tag must be given", "tag")
        if value is None and not status & _BAD:
            raise Invalid(
                "REQUIRED", "value must be given; a value that was lost has the status bad", "value"
            )
        try:
            yield self._reading(tag, values.get("unit") or "", 0.0 if value is None else value, status)
        except Invalid as error:
            raise Invalid(error.reason, error.description, "unit") from None

    def _reading(self, tag: str, unit: str, value: float, status: int) -> Reading:
        told = unit or self.layout.mapping.file_units.get(tag) or self.units.get(tag)
        if not told:
            raise Invalid("REQUIRED", f"give the unit of {tag}: a column unit, or units in the mapping")
        found = unit_of(told)
        return Reading(tag, to := self.units.setdefault(tag, found), converted(value, found, to), status)


def _mapped_unit(name: str, unit: str) -> str:
    try:
        return unit_of(unit)
    except Invalid as error:
        raise Failure(f"units.{name}: {error.description} ({error.reason})") from None


def _wide_tags(layout: Layout, table: Table) -> Iterator[Tag]:
    """The columns that the mapping names as tags, and those whose unit is known."""
    mapping = layout.mapping
    known = {column.name for column in COLUMNS}
    named = {
        place_of(header, table.headers): tag
        for tag, header in mapping.columns.items()
        if header and tag not in known
    }
    for place in named.keys() - layout.rest.keys():
        raise Failure(
            f"{table.path}: {table.headers[place]!r} would be {named[place]} and a column of its own, too"
        )
    left_out = {plain(tag) for tag, header in mapping.columns.items() if not header}
    for place, header in layout.rest.items():
        base, unit = split_unit(header)
        name = named.get(place) or (header if header in mapping.units else base)
        if plain(name) in left_out:
            continue
        if unit or name in mapping.units or name in mapping.file_units:
            yield Tag(name, unit, place)
        elif place in named:
            raise Failure(f"say the unit of {name} under units in the mapping")
