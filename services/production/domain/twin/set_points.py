"""The set-points of a fermentation at one scale, and the ranges that a release puts around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from services.production.domain.twin.errors import Reason, inside, number, within
from services.production.domain.twin.quantities import Quantity, take

#: Parameters by name, with the unit that the twin reckons in.
UNITS = {
    "agitation": "/min",
    "aeration": "L/min",
    "feed": "L/h",
    "temperature": "K",
    "ph": "[pH]",
}


@dataclass(frozen=True)
class SetPoints:
    """Speed of the stirrer (1/min), gas flow (L/min), feed after the switch (L/h), temperature (K), pH."""

    agitation: float
    aeration: float
    feed: float
    temperature: float
    ph: float

    def named(self) -> dict[str, float]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_(self, changes: Mapping[str, float]) -> SetPoints:
        """With some of them changed."""
        return replace(self, **dict(changes))


def read(given: Mapping[str, Quantity], field: str = "set_points") -> tuple[SetPoints | None, list[Reason]]:
    """Set-points from quantities by name, in any unit that converts; or every reason why not."""
    reasons: list[Reason] = []
    values: dict[str, float] = {}
    for name, unit in UNITS.items():
        values[name], wrong = take(given, name, unit, f"{field}.{name}")
        reasons += wrong
    return (None, reasons) if reasons else (SetPoints(**values), [])


@dataclass(frozen=True)
class Range:
    """A closed range of a parameter or quantity, in the unit that the twin reckons in.

    An end that is not given is infinite.
    """

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Inside; NaN never is."""
        return inside(value, self.low, self.high)


def read_range(
    name: str, unit: str, low: Quantity | None, high: Quantity | None, field: str = "ranges"
) -> tuple[Range | None, list[Reason]]:
    """A range from one quantity or two; or why it is none: no end, unit, number, low above high."""
    given = {key: end for key, end in (("low", low), ("high", high)) if end is not None}
    if not given:
        step = f"give its low or its high end in {unit}, or both"
        return None, [Reason("MISSING", f"{field}.{name}", f"the range of {name} has no end", step)]
    bottom, top, reasons = -math.inf, math.inf, []
    if "low" in given:
        bottom, wrong = take(given, "low", unit, f"{field}.{name}.low")
        reasons += wrong
    if "high" in given:
        top, wrong = take(given, "high", unit, f"{field}.{name}.high")
        reasons += wrong
    if not reasons:
        reasons = range_faults(Range(bottom, top), unit, f"{field}.{name}")
    return (None, reasons) if reasons else (Range(bottom, top), [])


def range_faults(given: Range, unit: str, field: str) -> list[Reason]:
    """What is wrong with a range: its low end is above its high end, or an end is no number."""
    # An open end is infinite; NaN is not an end.
    wrong = [
        reason
        for end, value in (("low", given.low), ("high", given.high))
        if math.isnan(value)
        for reason in number(f"{field}.{end}", value)
    ]
    if wrong or given.low <= given.high:
        return wrong
    rule = f"{given.low:.6g} {unit} is above the high end of {given.high:.6g} {unit}"
    return [Reason("LOW_ABOVE_HIGH", f"{field}.low", rule, "swap or correct the two ends")]


def outside(
    points: SetPoints, ranges: Mapping[str, Range], code: str, what: str, field: str = "set_points"
) -> list[Reason]:
    """The set-points that are outside the range of their name; what has no range is free."""
    named = points.named()
    return [
        reason
        for name, allowed in sorted(ranges.items())
        if name in named
        for reason in within(
            f"{field}.{name}",
            named[name],
            allowed.low,
            allowed.high,
            UNITS[name],
            code=code,
            step=f"choose a value within {what}",
        )
    ]


def scaled_ranges(ranges: Mapping[str, Range], before: SetPoints, after: SetPoints) -> dict[str, Range]:
    """Ranges of set-points at another scale: each goes along with its set-point, in proportion.

    A range is shown at one scale. That it holds in proportion at another is an assumption, which the
    transfer's own runs must bear out; temperature and pH do not change with scale, so theirs stay.
    """
    source, target = before.named(), after.named()
    factors = {name: target[name] / source[name] if source[name] else 1.0 for name in source}
    return {
        name: Range(allowed.low * factors[name], allowed.high * factors[name])
        for name, allowed in ranges.items()
    }
