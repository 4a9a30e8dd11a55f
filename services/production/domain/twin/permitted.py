"""What a set-point may become: inside an approved design space, or one parameter within its proven range.

Asked when advice is made, and again when it is approved: a range may have been
narrowed in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.production.domain.twin.design_space import DesignSpace
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.scale_up import limits, validity
from services.production.domain.twin.set_points import UNITS, Range, SetPoints, outside
from services.production.domain.twin.vessels import Vessel


@dataclass(frozen=True)
class Freedom:
    """What bounds a change, at the scale of the vessel.

    `ranges` are proven acceptable ranges, `space` is the design space where one is approved, and
    `line` are the ranges that the line can hold; all by name, in the units of `set_points.UNITS`.
    """

    vessel: Vessel
    ranges: Mapping[str, Range] = field(default_factory=dict)
    space: DesignSpace | None = None
    line: Mapping[str, Range] = field(default_factory=dict)

    @property
    def free(self) -> tuple[str, ...]:
        """The set-points that may be moved: those with a proven range, and those the space speaks of."""
        rules = () if self.space is None else self.space.inequalities
        spoken = {name for rule in rules for name in rule.weights}
        return tuple(name for name in UNITS if name in spoken or name in self.ranges)

    @property
    def named(self) -> str:
        """What bounds a change, in words."""
        return "proven acceptable ranges" if self.space is None else f"design space {self.space.name}"


def changed(before: SetPoints, after: SetPoints) -> tuple[str, ...]:
    """The names of the set-points that differ."""
    old, new = before.named(), after.named()
    return tuple(name for name in UNITS if old[name] != new[name])


def refusals(freedom: Freedom, before: SetPoints, after: SetPoints) -> list[Reason]:
    """Every reason why set-points may not be changed so; empty where they may."""
    moved = changed(before, after)
    found = [
        *limits(freedom.vessel, after, "vessel"),
        *validity(freedom.vessel, after, "vessel"),
        *outside(after, freedom.line, "OUTSIDE_LINE_LIMIT", "what the line holds"),
    ]
    found += outside(after, freedom.ranges, "OUTSIDE_PAR", "the proven acceptable range")
    free = freedom.free
    found += [_unproven(name) for name in moved if name not in free]
    if freedom.space is not None:
        return found + freedom.space.outside(after)
    if len(moved) > 1:
        rule = f"{', '.join(moved)} change together, and the ranges were proven one at a time"
        step = "change one of them, or have a design space approved"
        found.append(Reason("MORE_THAN_ONE", f"set_points.{moved[1]}", rule, step))
    return found


def _unproven(name: str) -> Reason:
    rule = f"{name} changes although nothing was proven of it"
    return Reason("NO_RANGE", f"set_points.{name}", rule, f"leave {name} as it is")
