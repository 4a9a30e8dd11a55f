"""A run's samples: the same whatever the order, the split and the repeats of its batches."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import samples
from services.production.domain.samples import Samples


def batch(offsets: list[int], **tags: list[float]) -> events.ReadingsRecorded:
    made = events.ReadingsRecorded(offsets_ms=offsets)
    made.start.at.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))
    for tag, values in tags.items():
        made.tags.add(tag=tag, unit="1", values=values)
    return made


def part(times: list[int], tag: str) -> Samples:
    return samples.of(batch(times, **{tag: [float(10 * time) for time in times]}))


@given(st.data())
def test_order_split_and_repeats_of_batches_do_not_matter(data: st.DataObject) -> None:
    times = st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True).map(sorted)
    parts = data.draw(st.lists(st.builds(part, times, st.sampled_from(["A", "B"])), min_size=1, max_size=6))
    order = data.draw(st.permutations([*parts, *parts[:2]]))
    one, other = Samples(), Samples()
    for some in parts:
        one = samples.joined(one, some)
    for some in order:
        other = samples.joined(other, some)
    assert one == other
    assert (np.diff(one.axis()) > 0).all()


def test_points_of_bad_or_uncertain_quality_are_not_there() -> None:
    made = batch([0, 1, 2, 3], A=[1.0, 2.0, 3.0, 4.0])
    made.tags[0].statuses[:] = [0, 0x80000000, 0x40000000, 0x00960000]
    values = samples.of(made).table()["A"]
    assert values[0] == 1.0
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert values[3] == 4.0, "a local override is Good"


def test_a_missing_point_is_filled_by_a_later_batch_and_a_held_one_stands() -> None:
    made = batch([0, 1], A=[1.0, 2.0])
    made.tags[0].statuses[:] = [0, 0x80000000]
    grown = samples.joined(samples.of(made), samples.of(batch([0, 1], A=[9.0, 5.0])))
    assert list(grown.table()["A"]) == [1.0, 5.0]
