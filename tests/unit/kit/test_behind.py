"""How old what waits is: right within a look, also of a runner that hangs, and 0 when nothing waits."""

from __future__ import annotations

import pytest

from services.kit.bus.protocol import Partition, Record
from services.kit.runners.behind import Behind

PLACE, OTHER = Partition("lots", 0), Partition("lots", 1)


def record(offset: int, at: float, place: Partition = PLACE) -> Record:
    return Record(place.topic, place.number, offset, b"k", b"v", (), round(at * 1000))


def test_nothing_waits_of_a_log_that_is_taken_to_its_end() -> None:
    behind = Behind()
    behind.saw({PLACE: 5}, 100.0)
    assert behind.look({PLACE: 5}, 160.0) == ({"lots": 0.0}, 0.0)


def test_what_waits_is_as_old_as_the_first_sight_of_it() -> None:
    behind = Behind()
    behind.saw({PLACE: 5}, 100.0)
    behind.look({PLACE: 5}, 100.0)
    behind.saw({PLACE: 6}, 102.0)
    assert behind.look({PLACE: 5}, 102.0) == ({"lots": 0.0}, 0.0)
    behind.saw({PLACE: 9}, 104.0)
    lags, stuck = behind.look({PLACE: 5}, 110.0)
    assert (lags["lots"], stuck) == (8.0, 8.0), "the record at 5 came at 102, and nobody got on"
    lags, stuck = behind.look({PLACE: 6}, 112.0)
    assert (lags["lots"], stuck) == (8.0, 0.0), "the one at 6 came at 104; it got on"
    assert behind.look({PLACE: 9}, 114.0) == ({"lots": 0.0}, 0.0)


def test_a_start_far_behind_is_told_by_the_records_that_are_done() -> None:
    behind = Behind()
    behind.saw({PLACE: 1000}, 10_000.0)
    assert behind.look({PLACE: 10}, 10_000.0)[0] == {"lots": 0.0}, "not known yet"
    behind.done([record(10, 6_400.0), record(11, 6_401.0)], 10_001.0)
    lags, _ = behind.look({PLACE: 12}, 10_002.0)
    assert lags == {"lots": 3601.0}


def test_an_hour_without_a_record_is_no_lag_of_the_next() -> None:
    behind = Behind()
    behind.done([record(4, 1_000.0)], 1_000.5)
    behind.saw({PLACE: 6}, 5_000.0)
    assert behind.look({PLACE: 5}, 5_001.0)[0] == {"lots": 1.0}


def test_what_a_hanging_runner_has_in_hand_is_seen_though_nobody_asks_the_log() -> None:
    behind = Behind()
    behind.saw({PLACE: 5, OTHER: 3}, 100.0)
    behind.look({PLACE: 5, OTHER: 3}, 100.0)
    behind.took([record(5, 101.0), record(6, 103.0)])
    behind.look({PLACE: 5, OTHER: 3}, 102.0)
    lags, stuck = behind.look({PLACE: 5, OTHER: 3}, 161.0)
    assert (lags, stuck) == ({"lots": 60.0}, 59.0)
    behind.took(())
    assert behind.look({PLACE: 7, OTHER: 3}, 162.0) == ({"lots": 0.0}, 0.0)


def test_a_partition_that_was_lost_is_forgotten() -> None:
    behind = Behind()
    behind.saw({PLACE: 5, OTHER: 3}, 100.0)
    assert behind.look({PLACE: 0, OTHER: 0}, 130.0)[0] == {"lots": 30.0}
    assert behind.look({OTHER: 3}, 131.0) == ({"lots": 0.0}, 0.0)
    assert behind.look({PLACE: 5, OTHER: 3}, 200.0) == ({"lots": 0.0}, 0.0), "taken over, and at its end"


@pytest.mark.parametrize(("at", "came"), [(0, 0.0), (500, 1_000.0), (1_999, 3_998.0)])
def test_a_day_behind_costs_no_more_memory_and_tells_within_a_few_looks(at: int, came: float) -> None:
    behind = Behind()
    for n in range(2_000):
        behind.saw({PLACE: n + 1}, 2.0 * n)
        behind.look({PLACE: 0}, 2.0 * n)
    assert len(behind._places[PLACE].ends) <= 257
    lags, _ = behind.look({PLACE: at}, 4_000.0)
    # Where ends were forgotten it is told too young by the time between those that are left.
    assert lags["lots"] == pytest.approx(4_000.0 - came, abs=65.0)
