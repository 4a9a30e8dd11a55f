"""Places on an axis of time: round times of day where the reader is, a few of them."""

from __future__ import annotations

from datetime import datetime, timedelta

_MINUTE, _HOUR = 60, 3600
#: Seconds between two ticks, of which the smallest is taken that gives no more than wanted.
_STEPS = (
    *(1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, 24 * _HOUR, 48 * _HOUR, 7 * 24 * _HOUR),
)


def round_times(begin: datetime, end: datetime, most: int = 6) -> tuple[list[datetime], int]:
    """Moments from `begin` to `end` that are round where the reader is, and the seconds between them.

    Both moments are in the reader's zone. They are told in UTC's steps, so that an hour that is told twice
    when clocks go back is two.
    """
    span = (end - begin).total_seconds()
    step = next((one for one in _STEPS if span / one <= most), 0)
    if not step:  # months and years: whole weeks of them
        step = _STEPS[-1] * -(-int(span) // (_STEPS[-1] * most))
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    passed = (begin - midnight).total_seconds()
    first = midnight + timedelta(seconds=-(-passed // step) * step)
    count = int(max(0.0, (end - first).total_seconds()) // step) + 1 if first <= end else 0
    return [first + timedelta(seconds=step * number) for number in range(count)], step
