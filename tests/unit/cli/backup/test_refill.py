"""Every offset that the old partition gave out is taken up again, each record at its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.backup import refill
from services.cli.backup.manifest import Broken
from services.cli.backup.segments import Kept


def kept(*offsets: int) -> list[Kept]:
    return [Kept(offset, 1000 + offset, f"k{offset}".encode(), b"v") for offset in offsets]


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(0, 5))
def test_each_record_gets_its_offset_and_no_offset_is_left_out(offsets: set[int], behind: int) -> None:
    records, first, end = kept(*sorted(offsets)), min(offsets), max(offsets) + 1 + behind
    laid = list(refill.laid_out(records, first, end, "t/0"))
    assert [one.offset for one in laid] == list(range(first, end))
    assert [laid[record.offset - first] for record in records] == records


def test_a_hole_is_filled_with_copies_of_what_follows_and_the_rest_with_copies_of_the_last() -> None:
    laid = list(refill.laid_out(kept(3, 6), 3, 9, "t/0"))
    assert [one.key for one in laid] == [b"k3", b"k6", b"k6", b"k6", b"k6", b"k6"]
    assert laid[1]._replace(offset=6) == laid[3]


def test_the_newest_record_of_a_key_stays_the_newest() -> None:
    """A table that is read from a compacted topic is the same: a copy never comes after a later record."""
    records = [Kept(2, 0, b"a", b"1"), Kept(5, 0, b"b", b"1"), Kept(7, 0, b"a", b"2"), Kept(8, 0, b"b", None)]
    table = {one.key: one.value for one in refill.laid_out(records, 2, 12, "t/0")}
    assert table == {b"a": b"2", b"b": None}


def test_a_partition_that_lost_its_begin_or_everything_is_filled_up_to_there() -> None:
    assert refill.before(first=7, end=9, records=2) == 7
    assert refill.before(first=9, end=9, records=0) == 9
    assert list(refill.laid_out([], 9, 9, "t/0")) == []


@pytest.mark.parametrize("offsets", [(3, 3), (4, 3), (2, 3), (3, 9)])
def test_records_out_of_order_are_refused(offsets: tuple[int, int]) -> None:
    with pytest.raises(Broken, match="t/0: offset"):
        list(refill.laid_out(kept(*offsets), 3, 9, "t/0"))
