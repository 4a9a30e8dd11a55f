"""A measured course beside what the golden run expects, as a drawing for evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _FOOT = 620, 256, 70, 34, 12, 44


@dataclass(frozen=True)
class Point:
    """One sample: seconds since the first of the evidence (below 0 before it), the value, and the limits that
    held there, in the tag's unit; limits that are not known are not finite."""

    seconds: float
    value: float
    expected: float
    low: float
    high: float

    @property
    def out(self) -> bool:
        """The value lies outside the limits; False where these are not known."""
        return self.value < self.low or self.value > self.high

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Tick:
    """A place on the axis of time, in seconds as those of points, with its time of day, and where it is said,
    its day."""

    seconds: float
    time: str
    day: str = ""


def course(
    points: Sequence[Point], *, label: str, number: Callable[[float], str], ticks: Sequence[Tick] = ()
) -> Markup:
    """Values as a line over the band between the limits; those outside are filled triangles. Below is the
    time, as far as ticks say it."""
    shown = [one for one in points if all(math.isfinite(n) for n in (one.seconds, one.value, one.expected))]
    if not shown:
        return Markup("")
    bounded = [one for one in shown if one.bounded]
    ends = [one.value for one in shown] + [n for one in bounded for n in (one.low, one.high)]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    begin, end = shown[0].seconds, shown[-1].seconds
    last, bottom = max(end - begin, 1e-9), _HEIGHT - _FOOT

    def across(seconds: float) -> float:
        return round(_LEFT + (seconds - begin) / last * (_WIDTH - _LEFT - _RIGHT), 1)

    def x(one: Point) -> float:
        return across(one.seconds)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (bottom - _TOP), 1)

    band = [f"{x(one)},{y(one.high)}" for one in bounded]
    band += [f"{x(one)},{y(one.low)}" for one in bounded[::-1]]
    expected = " ".join(f"{x(one)},{y(one.expected)}" for one in shown)
    measured = " ".join(f"{x(one)},{y(one.value)}" for one in shown)
    levels = sorted({n for n in (shown[-1].low, shown[-1].high) if math.isfinite(n)})
    levels = sorted({*levels, shown[-1].expected, shown[-1].value})
    parts = [
        f'<polygon class="band" points="{" ".join(band)}"/>' if band else "",
        *(_tick(across(one.seconds), bottom, one) for one in ticks if begin <= one.seconds <= end),
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>',
        f'<polyline class="expected" points="{expected}"/>',
        f'<polyline class="measured" points="{measured}"/>',
        *(_mark(x(one), y(one.value), one) for one in shown),
        *(
            f'<text text-anchor="end" x="{_LEFT - 6}" y="{y(level) + 4}">{escape(number(level))}</text>'
            for level in levels
        ),
    ]
    return Markup(
        f'<svg class="course" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _mark(x: float, y: float, one: Point) -> str:
    if one.out:
        return f'<path class="out" d="M{x} {y - 6}l6 10h-12z"/>'
    return f'<circle class="in" cx="{x}" cy="{y}" r="{1.5 if one.seconds < 0 else 2.5}"/>'


def _tick(x: float, bottom: float, one: Tick) -> str:
    day = f'<text text-anchor="middle" x="{x}" y="{bottom + 32}">{escape(one.day)}</text>' if one.day else ""
    return (
        f'<line class="axis" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 5}"/>'
        f'<text text-anchor="middle" x="{x}" y="{bottom + 18}">{escape(one.time)}</text>{day}'
    )
