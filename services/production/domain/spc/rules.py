"""Rules on a Shewhart chart: patterns that a process in control shows rarely.

Western Electric, Statistical Quality Control Handbook (1956); Nelson, Journal
of Quality Technology 16 (1984) 237. A missing value (NaN) is no point of the
chart: patterns go on over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
#: Values (runs x samples, without gaps) to where the pattern is complete.
_Pattern: TypeAlias = Callable[[Floats], Bools]


class UnknownRule(ValueError):
    """No rule has this name, or the chart does not allow it."""


@dataclass(frozen=True)
class Rule:
    """A pattern; `reach` is how many samples it looks at, `zones` whether it needs the zones of a
    symmetric distribution, which charts of ranges and standard deviations do not have."""

    name: str
    text: str
    reach: int
    zones: bool
    pattern: _Pattern


def _counted(points: Bools, need: int, of: int) -> Bools:
    """Are at least `need` of the last `of` points marked, the latest among them?"""
    total = np.zeros((len(points), points.shape[1] + 1), dtype=np.int32)
    np.cumsum(points, axis=1, out=total[:, 1:])
    begin = np.maximum(np.arange(points.shape[1]) - of + 1, 0)
    return np.asarray(points & (total[:, 1:] - total[:, begin] >= need), dtype=np.bool_)


def _on_one_side(limit: float, need: int, of: int) -> _Pattern:
    return lambda z: _counted(z > limit, need, of) | _counted(z < -limit, need, of)


def _beyond(limit: float, need: int) -> _Pattern:
    return lambda z: _counted(np.abs(z) > limit, need, need)


def _within(limit: float, need: int) -> _Pattern:
    return lambda z: _counted(np.abs(z) < limit, need, need)


def _steps(z: Floats) -> Floats:
    """The change from the point before; none at the first."""
    return np.diff(z, axis=1, prepend=z[:, :1])


def _trend(points: int) -> _Pattern:
    def pattern(z: Floats) -> Bools:
        step = _steps(z)
        return _counted(step > 0, points - 1, points - 1) | _counted(step < 0, points - 1, points - 1)

    return pattern


def _alternating(points: int) -> _Pattern:
    def pattern(z: Floats) -> Bools:
        step = _steps(z)
        turned = np.zeros(z.shape, dtype=np.bool_)
        turned[:, 1:] = step[:, 1:] * step[:, :-1] < 0
        return _counted(turned, points - 2, points - 2)

    return pattern


_RULES = (
    Rule("WE1", "one point beyond 3 sigma", 1, False, _on_one_side(3.0, 1, 1)),
    Rule("WE2", "two of three points beyond 2 sigma on one side", 3, True, _on_one_side(2.0, 2, 3)),
    Rule("WE3", "four of five points beyond 1 sigma on one side", 5, True, _on_one_side(1.0, 4, 5)),
    Rule("WE4", "eight points in a row on one side", 8, True, _on_one_side(0.0, 8, 8)),
    Rule("N1", "one point beyond 3 sigma", 1, False, _on_one_side(3.0, 1, 1)),
    Rule("N2", "nine points in a row on one side", 9, True, _on_one_side(0.0, 9, 9)),
    Rule("N3", "six points in a row rising, or falling", 6, True, _trend(6)),
    Rule("N4", "fourteen points in a row alternating", 14, True, _alternating(14)),
    Rule("N5", "two of three points beyond 2 sigma on one side", 3, True, _on_one_side(2.0, 2, 3)),
    Rule("N6", "four of five points beyond 1 sigma on one side", 5, True, _on_one_side(1.0, 4, 5)),
    Rule("N7", "fifteen points in a row within 1 sigma", 15, True, _within(1.0, 15)),
    Rule("N8", "eight points in a row beyond 1 sigma", 8, True, _beyond(1.0, 8)),
)
RULES = {rule.name: rule for rule in _RULES}
WESTERN_ELECTRIC = ("WE1", "WE2", "WE3", "WE4")
NELSON = ("N1", "N2", "N3", "N4", "N5", "N6", "N7", "N8")


def chosen(names: Iterable[str], *, zones: bool = True) -> tuple[Rule, ...]:
    """The rules of these names. UnknownRule for another name, and for a rule that needs zones where
    the chart has none (`zones` false: a chart of ranges or of standard deviations)."""
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in RULES:
            raise UnknownRule(f"no rule is called {name!r}; there are {', '.join(RULES)}")
        if RULES[name].zones and not zones:
            raise UnknownRule(f"{name} needs zones, which a chart of ranges or standard deviations has not")
    return tuple(RULES[name] for name in wanted)


def signals(z: Floats, rules: Iterable[Rule]) -> dict[str, Bools]:
    """By rule, at which samples its pattern is complete.

    `z` holds the standardised values in order of time, NaN where one is missing.
    """
    known = np.flatnonzero(~np.isnan(z))
    found = {}
    for rule in rules:
        found[rule.name] = np.zeros(len(z), dtype=np.bool_)
        found[rule.name][known] = rule.pattern(z[known][None, :])[0]
    return found
