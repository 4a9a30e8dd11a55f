"""The form of a batch of readings. A fact is never refused for what it says.

Only what no later reader could make sense of is refused: a value without
meaning, a unit that is not the tag's, times that do not go forward.
"""

from __future__ import annotations

import numpy as np

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.equipment import Equipment
from services.refusals import Malformed

MAX_SAMPLES = 10_000
_FIRST_SECOND = -62_135_596_800  # 0001-01-01, as protobuf's Timestamp
_LAST_SECOND = 253_402_300_799  # 9999-12-31
_LARGEST_OFFSET_MINUTES = 18 * 60


def check(batch: events.ReadingsRecorded, equipment: Equipment | None) -> None:
    """Malformed names the first rule that the batch breaks."""
    if equipment is None:
        said = f"no equipment {batch.equipment!r} is registered; register it first"
        raise Malformed("UNKNOWN_EQUIPMENT", said, "equipment")
    check_moment(batch.start, "start", "say when the window starts")
    _check_offsets(batch)
    if not batch.tags:
        raise Malformed("REQUIRED", "a batch has at least one tag", "tags")
    seen: set[str] = set()
    for index, readings in enumerate(batch.tags):
        path = f"tags[{index}]"
        if readings.tag in seen:
            raise Malformed("DUPLICATE_TAG", f"{readings.tag!r} is in the batch twice", f"{path}.tag")
        seen.add(readings.tag)
        _check_tag(readings, equipment, len(batch.offsets_ms), path)


def check_moment(moment: common.Moment, field: str, ask: str) -> None:
    """Malformed when the moment is left out, or no calendar has it."""
    if not moment.HasField("at"):
        raise Malformed("REQUIRED", ask, f"{field}.at")
    at = moment.at
    if not (_FIRST_SECOND <= at.seconds <= _LAST_SECOND and 0 <= at.nanos < 1_000_000_000):
        raise Malformed("OUT_OF_RANGE", "the moment lies outside the years 1 to 9999", f"{field}.at")
    if abs(moment.offset_minutes) > _LARGEST_OFFSET_MINUTES:
        raise Malformed("OUT_OF_RANGE", "an offset from UTC is at most 18 hours", f"{field}.offset_minutes")


def _check_offsets(batch: events.ReadingsRecorded) -> None:
    offsets = np.asarray(batch.offsets_ms, dtype=np.int64)
    if not offsets.size:
        raise Malformed("REQUIRED", "a batch has at least one sample", "offsets_ms")
    if offsets.size > MAX_SAMPLES:
        said = f"a batch has at most {MAX_SAMPLES} samples of a tag, this one has {offsets.size}; send parts"
        raise Malformed("TOO_MANY", said, "offsets_ms")
    back = np.flatnonzero(np.diff(offsets) <= 0)
    if back.size:
        index = int(back[0]) + 1
        said = (
            f"times must go forward within a tag: offset {offsets[index]} ms "
            f"follows {offsets[index - 1]} ms; sort the samples and send each time once"
        )
        raise Malformed("NOT_INCREASING", said, f"offsets_ms[{index}]")


def _check_tag(readings: events.TagReadings, equipment: Equipment, samples: int, path: str) -> None:
    tag = equipment.tag(readings.tag)
    if tag is None:
        said = f"{equipment.equipment!r} has no tag {readings.tag!r}; register it with the equipment"
        raise Malformed("UNKNOWN_TAG", said, f"{path}.tag")
    if readings.unit != tag.unit:
        said = f"{tag.name!r} is measured in {tag.unit!r}; {readings.unit!r} does not convert: correct it"
        raise Malformed("WRONG_UNIT", said, f"{path}.unit")
    if len(readings.values) != samples:
        said = f"there are {samples} offsets and {len(readings.values)} values; send one value for each"
        raise Malformed("LENGTH_MISMATCH", said, f"{path}.values")
    if len(readings.statuses) not in (0, samples):
        said = f"there are {samples} values and {len(readings.statuses)} statuses; send one for each, or none"
        raise Malformed("LENGTH_MISMATCH", said, f"{path}.statuses")
    odd = np.flatnonzero(~np.isfinite(np.asarray(readings.values, dtype=np.float64)))
    if odd.size:
        said = "a value must be a finite number; for a lost one send 0 with the status Bad (0x80000000)"
        raise Malformed("NOT_FINITE", said, f"{path}.values[{int(odd[0])}]")
