"""An approved design space: linear inequalities on set-points, of which a box is the plainest.

It lies within the proven acceptable ranges, which go on bounding every parameter. ICH
Q8(R2): moving inside it is no change, leaving it is one. Without an approved
space only proven acceptable ranges hold, and those were shown for one parameter
at a time, the others at their set-points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.production.domain.twin.errors import Reason
from services.production.domain.twin.set_points import UNITS, Range, SetPoints

#: A bound counts as kept within this share of its size: what rounding does in a sum.
_SLACK = 1e-9


@dataclass(frozen=True)
class Inequality:
    """sum of weight x set-point <= bound; weights by name, in the units of `set_points.UNITS`."""

    weights: Mapping[str, float]
    bound: float


@dataclass(frozen=True)
class DesignSpace:
    """All the inequalities hold. `name` is what an approval calls it."""

    name: str
    inequalities: tuple[Inequality, ...]

    def outside(self, points: SetPoints, field: str = "set_points") -> list[Reason]:
        """The inequalities that set-points break."""
        named = points.named()
        found = []
        for i, rule in enumerate(self.inequalities):
            terms = [weight * named[name] for name, weight in rule.weights.items()]
            slack = _SLACK * max([abs(rule.bound), *(abs(term) for term in terms)])
            if not sum(terms) <= rule.bound + slack:
                told = " + ".join(f"{weight:.6g} {name}" for name, weight in rule.weights.items())
                names = ", ".join(rule.weights)
                sentence = (
                    f"{told} = {sum(terms):.6g} is above {rule.bound:.6g} ({self.name}, inequality {i + 1})"
                )
                step = f"choose {names} within the design space"
                found.append(
                    Reason("OUTSIDE_DESIGN_SPACE", f"{field}.{next(iter(rule.weights))}", sentence, step)
                )
        return found


def box(name: str, ranges: Mapping[str, Range]) -> DesignSpace:
    """The space of ranges that may be moved in together."""
    rules = []
    for parameter, allowed in ranges.items():
        rules.append(Inequality({parameter: 1.0}, allowed.high))
        rules.append(Inequality({parameter: -1.0}, -allowed.low))
    return DesignSpace(name, tuple(rules))


def scaled(space: DesignSpace, before: SetPoints, after: SetPoints) -> DesignSpace:
    """The space at another scale: every set-point counts as what it was, in proportion."""
    source, target = before.named(), after.named()
    rules = tuple(
        Inequality(
            {name: weight * _ratio(source[name], target[name]) for name, weight in rule.weights.items()},
            rule.bound,
        )
        for rule in space.inequalities
    )
    return DesignSpace(space.name, rules)


def _ratio(source: float, target: float) -> float:
    return source / target if target else 1.0


def faults(space: DesignSpace, field: str = "design_space") -> list[Reason]:
    """Inequalities that say nothing: of no or unknown set-points, with no number."""
    found = []
    for i, rule in enumerate(space.inequalities):
        where = f"{field}.inequalities[{i}]"
        unknown = sorted(set(rule.weights) - set(UNITS))
        if unknown:
            sentence = f"{', '.join(unknown)} is none of {', '.join(UNITS)}"
            found.append(Reason("UNKNOWN", where, sentence, "correct the name"))
        if not rule.weights or not all(map(math.isfinite, (*rule.weights.values(), rule.bound))):
            sentence = "weights and bound must be finite numbers, at least one weight"
            found.append(Reason("NOT_A_NUMBER", where, sentence, "give the numbers"))
    return found
