"""Samples as columnar batches: tags that were read at the same times travel together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from pharmaloop.production.v1 import events_pb2 as events
from services.cli.feed.moments import message_of
from services.cli.feed.readings import Reading, Sample
from services.kit.errors import Invalid

#: A chunk is sent when it has so many rows, or so many values: about a megabyte.
_ROWS = 2_000
_VALUES = 50_000
#: Offsets in a batch are 32-bit milliseconds.
_SPAN = 2**32 - 1


class Batch(NamedTuple):
    """A batch, and by its tags the rows that it was made of."""

    message: events.ReadingsRecorded
    rows: tuple[tuple[int, ...], ...]


@dataclass
class Chunk:
    """Rows that follow one another, to be sent together."""

    samples: list[Sample] = field(default_factory=list)
    _values: int = 0
    _seen: set[tuple[str, str, str, datetime]] = field(default_factory=set)

    def add(self, sample: Sample) -> None:
        """Take a sample; Invalid where a tag was read at that very time before."""
        for reading in sample.readings:
            place = (sample.equipment, sample.lot, reading.tag, sample.at)
            if place in self._seen:
                told = f"a row before has a value of {reading.tag} at that time; a tag has one at a time"
                raise Invalid("DUPLICATE_TIME", told, "at")
        self._seen.update((sample.equipment, sample.lot, one.tag, sample.at) for one in sample.readings)
        self.samples.append(sample)
        self._values += len(sample.readings)

    @property
    def full(self) -> bool:
        return len(self.samples) >= _ROWS or self._values >= _VALUES


class _Point(NamedTuple):
    milliseconds: int
    sample: Sample
    reading: Reading


def batches(samples: Iterable[Sample]) -> list[Batch]:
    """The batches of the samples, the earliest first."""
    columns: dict[tuple[str, str, str], list[_Point]] = defaultdict(list)
    for sample in samples:
        milliseconds = round(sample.at.timestamp() * 1000)
        for reading in sample.readings:
            columns[(sample.equipment, sample.lot, reading.tag)].append(_Point(milliseconds, sample, reading))
    together: dict[tuple[str, str, tuple[int, ...]], list[list[_Point]]] = defaultdict(list)
    for (equipment, lot, _), points in columns.items():
        for part in _parts(sorted(points, key=lambda point: point.milliseconds)):
            together[(equipment, lot, tuple(point.milliseconds for point in part))].append(part)
    made = [_batch(equipment, lot, times, tags) for (equipment, lot, times), tags in together.items()]
    return sorted(made, key=lambda batch: batch.message.start.at.ToNanoseconds())


def _parts(points: Sequence[_Point]) -> Iterator[list[_Point]]:
    """The points, in parts that span no more than offsets can."""
    part = [points[0]]
    for _, after in pairwise(points):
        if after.milliseconds - part[0].milliseconds > _SPAN:
            yield part
            part = []
        part.append(after)
    yield part


def _batch(equipment: str, lot: str, times: Sequence[int], tags: Sequence[Sequence[_Point]]) -> Batch:
    message = events.ReadingsRecorded(
        equipment=equipment,
        lot=lot,
        start=message_of(tags[0][0].sample.at),
        offsets_ms=[time - times[0] for time in times],
        tags=[_readings(points) for points in tags],
    )
    return Batch(message, tuple(tuple(point.sample.row.number for point in points) for points in tags))


def _readings(points: Sequence[_Point]) -> events.TagReadings:
    statuses = [point.reading.status for point in points]
    return events.TagReadings(
        tag=points[0].reading.tag,
        unit=points[0].reading.unit,
        values=[point.reading.value for point in points],
        statuses=statuses if any(statuses) else (),
    )
