"""The samples of a process run, column by column, packed.

A lot's run grows batch by batch; batches come twice, late, or in parts. The
samples of a run do not depend on that: each time and tag is held once, the
first value heard stands, and times go forward.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pharmaloop.production.v1 import events_pb2 as events

Times: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float64]

#: So many numbers of a run are kept at most: 4 MB, a quarter of a document.
MAX_POINTS = 500_000
_BAD_OR_UNCERTAIN = np.uint32(0xC0000000)  # the severity bits of an OPC UA status


@dataclass(frozen=True)
class Column:
    """One tag: a float64 for each time, NaN where there is no good reading."""

    tag: str
    unit: str
    values: bytes


@dataclass(frozen=True)
class Samples:
    """Times (int64, microseconds since 1970, increasing) and the columns over them."""

    times: bytes = b""
    columns: tuple[Column, ...] = ()

    def __len__(self) -> int:
        return len(self.times) // 8

    @property
    def points(self) -> int:
        return len(self) * len(self.columns)

    def axis(self) -> Times:
        return np.frombuffer(self.times, dtype=np.int64)

    def table(self) -> dict[str, Values]:
        """Values by tag."""
        return {column.tag: np.frombuffer(column.values, dtype=np.float64) for column in self.columns}

    def seconds(self) -> Values:
        """Times since the first one."""
        axis = self.axis()
        return np.asarray((axis - axis[:1]) / 1_000_000, dtype=np.float64)

    @property
    def size(self) -> int:
        """Bytes, of times and values."""
        return len(self.times) + sum(len(column.values) for column in self.columns)

    def units(self) -> dict[str, str]:
        return {column.tag: column.unit for column in self.columns}


def of(batch: events.ReadingsRecorded) -> Samples:
    """The samples of one batch; what is not of good quality is left out as NaN."""
    at = batch.start.at
    start = at.seconds * 1_000_000 + at.nanos // 1_000
    times = start + np.asarray(batch.offsets_ms, dtype=np.int64) * 1_000
    columns = sorted((_column(readings) for readings in batch.tags), key=lambda column: column.tag)
    return Samples(times.tobytes(), tuple(columns))


def _column(readings: events.TagReadings) -> Column:
    values = np.asarray(readings.values, dtype=np.float64)
    if readings.statuses:
        statuses = np.asarray(readings.statuses, dtype=np.uint32)
        values = np.where(statuses & _BAD_OR_UNCERTAIN, np.nan, values)
    return Column(readings.tag, readings.unit, values.tobytes())


def joined(held: Samples, more: Samples) -> Samples:
    """Both together; whoever keeps the result watches its `points`."""
    if not len(held):
        return more
    if _follow(held, more):
        both = zip(held.columns, more.columns, strict=True)
        longer = tuple(Column(one.tag, one.unit, one.values + later.values) for one, later in both)
        return Samples(held.times + more.times, longer)
    times = np.union1d(held.axis(), more.axis())
    units = more.units() | held.units()
    at_held, at_more = np.searchsorted(times, held.axis()), np.searchsorted(times, more.axis())
    mine, others = held.table(), more.table()
    columns = []
    for tag in sorted(units):
        values = np.full(len(times), np.nan)
        if tag in others:
            values[at_more] = others[tag]
        if tag in mine:
            good = ~np.isnan(mine[tag])
            values[at_held[good]] = mine[tag][good]
        columns.append(Column(tag, units[tag], values.tobytes()))
    return Samples(times.tobytes(), tuple(columns))


def shared(one: Samples, other: Samples) -> int:
    """So many samples from the first one on are the same in both, bit for bit; none where the tags differ."""
    if [column.tag for column in one.columns] != [column.tag for column in other.columns]:
        return 0
    rows = min(len(one), len(other))
    values = ((a.values, b.values) for a, b in zip(one.columns, other.columns, strict=True))
    for mine, others in ((one.times, other.times), *values):
        same = np.frombuffer(mine, np.int64)[:rows] == np.frombuffer(others, np.int64)[:rows]
        if not same.all():
            rows = int(same.argmin())
    return rows


def _follow(held: Samples, more: Samples) -> bool:
    """Are these later samples of the same tags? Nothing of what is held needs to be looked at then."""
    times = more.axis()
    forward = len(times) > 0 and times[0] > held.axis()[-1] and bool((np.diff(times) > 0).all())
    return forward and [column.tag for column in held.columns] == [column.tag for column in more.columns]


@dataclass(frozen=True)
class Run:
    """The process run of a lot on one piece of equipment, as it was recorded."""

    lot: str
    equipment: str
    samples: Samples = field(default_factory=Samples)
