"""A measured course beside what the golden run expects, as a drawing for evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 620, 240, 70, 12, 28


@dataclass(frozen=True)
class Point:
    """One sample: seconds since the first, the value, and the limits that held there, in the tag's unit."""

    seconds: float
    value: float
    expected: float
    low: float
    high: float

    @property
    def out(self) -> bool:
        """The value lies outside the limits."""
        return not self.low <= self.value <= self.high


def course(points: Sequence[Point], *, label: str, number: Callable[[float], str]) -> Markup:
    """Values as a line over the band between the limits; those outside are filled triangles."""
    shown = [
        one
        for one in points
        if all(math.isfinite(n) for n in (one.seconds, one.value, one.expected, one.low, one.high))
    ]
    if not shown:
        return Markup("")
    ends = [n for one in shown for n in (one.value, one.low, one.high)]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    begin = shown[0].seconds
    last = max(shown[-1].seconds - begin, 1e-9)

    def x(one: Point) -> float:
        return round(_LEFT + (one.seconds - begin) / last * (_WIDTH - _LEFT - 12), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _FOOT), 1)

    band = [f"{x(one)},{y(one.high)}" for one in shown] + [f"{x(one)},{y(one.low)}" for one in shown[::-1]]
    expected = " ".join(f"{x(one)},{y(one.expected)}" for one in shown)
    measured = " ".join(f"{x(one)},{y(one.value)}" for one in shown)
    ticks = sorted({shown[-1].low, shown[-1].high, shown[-1].expected, shown[-1].value})
    parts = [
        f'<polygon class="band" points="{" ".join(band)}"/>',
        f'<polyline class="expected" points="{expected}"/>',
        f'<polyline class="measured" points="{measured}"/>',
        *(
            f'<path class="out" d="M{x(one)} {y(one.value) - 6}l6 10h-12z"/>'
            if one.out
            else f'<circle class="in" cx="{x(one)}" cy="{y(one.value)}" r="2.5"/>'
            for one in shown
        ),
        *(
            f'<text text-anchor="end" x="{_LEFT - 6}" y="{y(tick) + 4}">{escape(number(tick))}</text>'
            for tick in ticks
        ),
    ]
    return Markup(
        f'<svg class="course" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
