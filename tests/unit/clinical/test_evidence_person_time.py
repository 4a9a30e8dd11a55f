"""Person-time by lot, against a clock that goes hour by hour and against the definition of CMA7."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clinical.domain.evidence.person_time import (
    Observation,
    Pack,
    Span,
    days_of,
    span_at,
    spans,
    until,
)
from services.refusals import Malformed

ORIGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NO_WINDOW = timedelta()


def day(number: float) -> datetime:
    return ORIGIN + number * DAY


def pack(lot: str, start: float, days: float) -> Pack:
    return Pack("tablets", lot, day(start), days)


def observed(start: float, end: float) -> Observation:
    return Observation(day(start), day(end))


def lot_at(parts: tuple[Span, ...], number: float) -> str | None:
    span = span_at(parts, day(number))
    assert span is not None
    return span.lot


_hours = st.integers(0, 200)
_packs = st.lists(
    st.builds(
        lambda lot, start, length: pack(lot, start / 24, length / 24),
        st.sampled_from("ABC"),
        _hours,
        st.integers(1, 60),
    ),
    max_size=7,
)


def by_the_clock(packs: list[Pack], hours: int, window_hours: int) -> list[str | None]:
    """Whose time each hour is, by going through them one after the other."""
    left = {number: round(pack.days * 24) for number, pack in enumerate(packs)}
    result: list[str | None] = []
    last: tuple[str, int] | None = None
    for hour in range(hours):
        at = ORIGIN + hour * HOUR
        open_ = [number for number in left if packs[number].start <= at and left[number] > 0]
        if open_:
            latest = max(open_, key=lambda number: (packs[number].start, packs[number].lot))
            left[latest] -= 1
            last = packs[latest].lot, hour
            result.append(packs[latest].lot)
        else:
            in_window = last is not None and hour - last[1] <= window_hours
            result.append(last[0] if in_window and last else None)
    return result


@settings(deadline=None, max_examples=300)
@given(_packs, _hours, _hours, st.integers(0, 30))
def test_every_hour_belongs_to_the_lot_that_the_clock_says(
    packs: list[Pack], begin: int, length: int, window_hours: int
) -> None:
    observation = observed(begin / 24, (begin + length) / 24)
    parts = spans(packs, observation, window_hours * HOUR)
    wanted = by_the_clock(packs, begin + length, window_hours)[begin:]
    middles = [ORIGIN + (begin + hour) * HOUR + HOUR / 2 for hour in range(length)]
    found = [span_at(parts, middle) for middle in middles]
    assert [span.lot for span in found if span] == wanted


@settings(deadline=None)
@given(
    st.lists(
        st.builds(pack, st.sampled_from("ABC"), st.floats(-20, 60), st.floats(0, 90, exclude_min=True)),
        max_size=8,
    ),
    st.floats(-10, 100),
    st.floats(-5, 100),
    st.timedeltas(timedelta(), 40 * DAY),
)
def test_lots_and_unexposed_time_add_up_to_the_observed_time(
    packs: list[Pack], begin: float, length: float, window: timedelta
) -> None:
    observation = observed(begin, begin + length)
    parts = spans(packs, observation, window)
    total = sum((part.end - part.start for part in parts), timedelta())
    assert total == max(observation.end - observation.start, timedelta())
    assert all(before.end == after.start for before, after in pairwise(parts))
    assert sum(days_of(parts).values()) == pytest.approx(total / DAY)


@settings(deadline=None)
@given(_packs, st.randoms())
def test_the_order_in_which_packs_are_known_does_not_matter(packs: list[Pack], chance: random.Random) -> None:
    shuffled = list(packs)
    chance.shuffle(shuffled)
    observation = observed(0, 12)
    assert spans(packs, observation, HOUR) == spans(shuffled, observation, HOUR)


@settings(deadline=None)
@given(_packs)
def test_left_over_supply_is_carried_forward_as_in_cma7(packs: list[Pack]) -> None:
    """CMA7: each supply begins when it is dispensed or, if later, when the earlier supply is used up."""
    covered, used_up = timedelta(), day(0)
    end = day(9)
    for one in sorted(packs, key=lambda pack: pack.start):
        begin = max(one.start, used_up)
        used_up = begin + one.days * DAY
        covered += max(min(used_up, end) - begin, timedelta())
    taken = sum(length for lot, length in days_of(spans(packs, observed(0, 9), NO_WINDOW)).items() if lot)
    assert taken == pytest.approx(covered / DAY)


def test_a_pack_begun_early_interrupts_the_one_before_it() -> None:
    parts = spans([pack("A", 0, 30), pack("B", 20, 10)], observed(0, 60), 7 * DAY)
    assert days_of(parts) == {"A": 37, "B": 10, None: 13}
    assert [lot_at(parts, at) for at in (19, 20, 29, 30, 46, 47)] == ["A", "B", "B", "A", "A", None]


def test_the_risk_window_ends_where_another_pack_is_begun() -> None:
    parts = spans([pack("A", 0, 10), pack("B", 12, 10)], observed(0, 30), 5 * DAY)
    assert days_of(parts) == {"A": 12, "B": 15, None: 3}


def test_supply_taken_before_the_observation_is_gone() -> None:
    parts = spans([pack("A", -10, 15)], observed(0, 10), NO_WINDOW)
    assert days_of(parts) == {"A": 5, None: 5}


@pytest.mark.parametrize("ends", ["withdrawn", "died", "moved"])
def test_observation_ends_with_what_comes_first(ends: str) -> None:
    observation = Observation(day(0), day(30), **{ends: day(12)})
    parts = spans([pack("A", 0, 30)], observation, NO_WINDOW)
    assert days_of(parts) == {"A": 12}
    assert lot_at(parts, 12) == "A", "a death at the end of the observation is still observed"
    assert span_at(parts, day(12.001)) is None
    assert span_at(parts, day(-0.001)) is None


def test_nobody_is_observed_who_withdrew_before() -> None:
    observation = Observation(day(0), day(30), withdrawn=day(-1))
    assert spans([pack("A", 0, 30)], observation, NO_WINDOW) == ()


def test_time_up_to_a_moment() -> None:
    parts = spans([pack("A", 0, 10), pack("B", 10, 10)], observed(0, 30), NO_WINDOW)
    assert days_of(until(parts, day(15))) == {"A": 10, "B": 5}
    assert until(parts, day(0)) == ()


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 4000])
def test_a_supply_out_of_range_is_refused(days: float) -> None:
    with pytest.raises(Malformed, match="at most 3650 days") as refused:
        spans([pack("A", 0, 10), pack("B", 0, days)], observed(0, 10), NO_WINDOW)
    assert refused.value.field == "packs[1].days"


def test_a_negative_risk_window_is_refused() -> None:
    with pytest.raises(Malformed, match="not negative") as refused:
        spans([], observed(0, 10), -DAY)
    assert refused.value.field == "window"
