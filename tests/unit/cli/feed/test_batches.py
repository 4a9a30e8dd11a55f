"""Batches hold exactly the readings of their rows, and the plant takes every one of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.feed.batches import Chunk, batches
from services.cli.feed.readings import Reading, Sample
from services.cli.feed.table import Row
from services.kit.errors import Invalid
from services.production.domain import readings
from services.production.domain.equipment import Equipment, Tag

BEGIN = datetime(2026, 3, 5, 6, tzinfo=UTC)
TAGS = ("a", "b", "c")
PLANT = {name: Equipment(name, "p", tuple(Tag(tag, "1") for tag in TAGS)) for name in ("e1", "e2")}


def sample(
    number: int, milliseconds: int, tags: list[str], equipment: str = "e1", lot: str = "o/s/i/1"
) -> Sample:
    made = tuple(Reading(tag, "1", float(number), number % 2 * 0x8000_0000) for tag in tags)
    row = Row(number, (), number)
    return Sample(row, equipment, "p", lot, BEGIN + timedelta(milliseconds=milliseconds), made)


SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 2**33),
        st.lists(st.sampled_from(TAGS), min_size=1, unique=True),
        st.sampled_from(("e1", "e2")),
        st.sampled_from(("o/s/i/1", "o/s/i/2")),
    ),
    max_size=30,
)


@given(SAMPLES)
def test_nothing_is_lost_and_nothing_refused(told: list[tuple[int, list[str], str, str]]) -> None:
    """Against a plain list of (equipment, lot, tag, time, value, status)."""
    chunk = Chunk()
    for number, (milliseconds, tags, equipment, lot) in enumerate(told):
        with suppress(Invalid):
            chunk.add(sample(number, milliseconds, tags, equipment, lot))
    expected = sorted(
        (one.equipment, one.lot, reading.tag, one.at, reading.value, reading.status, one.row.number)
        for one in chunk.samples
        for reading in one.readings
    )
    found = []
    for batch in batches(chunk.samples):
        message = batch.message
        readings.check(message, PLANT[message.equipment])
        start = message.start.at.ToDatetime(UTC)
        for tag, rows in zip(message.tags, batch.rows, strict=True):
            statuses = tag.statuses or [0] * len(tag.values)
            for offset, value, status, row in zip(
                message.offsets_ms, tag.values, statuses, rows, strict=True
            ):
                at = start + timedelta(milliseconds=offset)
                found.append((message.equipment, message.lot, tag.tag, at, value, status, row))
    assert sorted(found) == expected


def test_a_time_comes_once_and_the_row_is_refused_whole() -> None:
    chunk = Chunk()
    chunk.add(sample(1, 0, ["a"]))
    with pytest.raises(Invalid, match="a row before has a value of a at that time"):
        chunk.add(sample(2, 0, ["b", "a"]))
    chunk.add(sample(3, 0, ["b"]))
    assert [one.row.number for one in chunk.samples] == [1, 3]


def test_tags_of_the_same_times_travel_together() -> None:
    made = batches([sample(n, 1000 * n, ["a", "b"] if n != 2 else ["a", "b", "c"]) for n in range(5)])
    assert [[tag.tag for tag in batch.message.tags] for batch in made] == [["a", "b"], ["c"]]
