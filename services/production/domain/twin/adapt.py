"""A released parameter set brought to a line: set-points, gaps and prediction, or every reason against it.

The order: is everything given and sound; are the set-points inside their proven
ranges and the design space; does the scale-up hold (limits of the line, validity of
the correlations, validated ranges of the set); and what will come out at both
scales. Reasons are gathered, not raised one by one, for a sender mends them all
at once. Only what cannot be reckoned with ends the gathering early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.production.domain.twin import design_space, vessels
from services.production.domain.twin import process as processes
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.design_space import DesignSpace
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.gaps import QUANTITIES, Gap, gap_table
from services.production.domain.twin.predict import DRAWS, Interval, Prediction, Scenario, predict
from services.production.domain.twin.process import Process
from services.production.domain.twin.recalibrate import Correction
from services.production.domain.twin.scale_up import Criterion, Gas, scale_up
from services.production.domain.twin.set_points import (
    UNITS,
    Range,
    SetPoints,
    outside,
    range_faults,
    scaled_ranges,
)
from services.production.domain.twin.vessels import Vessel


@dataclass(frozen=True)
class Released:
    """What a set gives: the process, its source vessel and set-points, how to scale, and what is allowed.

    `ranges` are the proven acceptable ranges of set-points at the source scale, by name (see
    `set_points.UNITS`). `validated` are ranges of the target by the name of a quantity of the gap table
    or of a set-point, in the table's units. `acceptance` are the ranges that the attributes must be in.
    """

    process: Process
    source: Vessel
    points: SetPoints
    criterion: Criterion
    gas: Gas = Gas.VELOCITY
    ranges: Mapping[str, Range] = field(default_factory=dict)
    space: DesignSpace | None = None
    validated: Mapping[str, Range] = field(default_factory=dict)
    acceptance: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """Where the set goes: the vessel, and the ranges that the line can hold of set-points, by name."""

    vessel: Vessel
    limits: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class Adapted:
    """The set at the target scale: set-points, with their ranges and design space in proportion.

    `source` and `target` are the predicted attributes at both scales, `warnings` are sentences: an
    interval that leaves its acceptance range.
    """

    points: SetPoints
    ranges: Mapping[str, Range]
    space: DesignSpace | None
    gaps: tuple[Gap, ...]
    source: Mapping[str, Interval]
    target: Mapping[str, Interval]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class NotAdapted:
    """Why the set does not go to the line: every reason.

    `gaps` is the table as far as it could be made; `source` and `target` are the predicted attributes
    where it came to a prediction.
    """

    reasons: tuple[Reason, ...]
    gaps: tuple[Gap, ...] = ()
    source: Mapping[str, Interval] = field(default_factory=dict)
    target: Mapping[str, Interval] = field(default_factory=dict)


def adapt(
    released: Released,
    line: Line,
    *,
    seed: int,
    draws: int = DRAWS,
    corrections: Mapping[str, Correction] | None = None,
) -> Adapted | NotAdapted:
    """Bring a set to a line. The same set, line and seed give the same answer."""
    unsound = _unsound(released, line)
    if unsound:
        return NotAdapted(tuple(unsound))
    reasons = outside(released.points, released.ranges, "OUTSIDE_PAR", "the proven acceptable range")
    if released.space is not None:
        reasons += released.space.outside(released.points)
    scaled = scale_up(released.source, line.vessel, released.points, released.criterion, released.gas)
    reasons += scaled.reasons
    points = scaled.set_points
    reasons += outside(points, line.limits, "OUTSIDE_LINE_LIMIT", "what the line holds", "target")
    gaps = gap_table(released.source, line.vessel, released.points, points, released.validated)
    reasons += _not_validated(gaps, released.validated)
    model = processes.faults(released.process, released.source, released.points)
    reasons += model
    if reasons:
        return NotAdapted(_once(reasons), gaps)
    scenarios = Scenario(released.source, released.points), Scenario(line.vessel, points)
    here, there = predict(released.process, scenarios, seed=seed, draws=draws, corrections=corrections)
    reasons, warnings = _accepted(there, released.acceptance)
    if reasons:
        return NotAdapted(tuple(reasons), gaps, here.cqas, there.cqas)
    before, space = released.points, released.space
    return Adapted(
        points=points,
        ranges=scaled_ranges(released.ranges, before, points),
        space=None if space is None else design_space.scaled(space, before, points),
        gaps=gaps,
        source=here.cqas,
        target=there.cqas,
        warnings=tuple(warnings),
    )


def _unsound(released: Released, line: Line) -> list[Reason]:
    """What keeps anything from being reckoned: vessels, ranges, names and numbers that are wrong."""
    units = QUANTITIES | UNITS
    found = [*vessels.faults(released.source, "source"), *vessels.faults(line.vessel, "target")]
    for field_, ranges, known in (
        ("ranges", released.ranges, UNITS),
        ("validated", released.validated, units),
        ("limits", line.limits, UNITS),
        ("acceptance", released.acceptance, CQAS),
    ):
        for name, allowed in sorted(ranges.items()):
            if name not in known:
                rule = f"{name} is none of {', '.join(known)}"
                found.append(Reason("UNKNOWN", f"{field_}.{name}", rule, "correct the name"))
            else:
                found += range_faults(allowed, known[name], f"{field_}.{name}")
    if released.space is not None:
        found += design_space.faults(released.space)
    for name, value in released.points.named().items():
        if not value > 0 and name != "feed":
            rule = f"{value} {UNITS[name]} is not above 0"
            found.append(Reason("NOT_POSITIVE", f"set_points.{name}", rule, "give the set-point"))
        elif name == "feed" and not value >= 0:
            rule = f"{value} {UNITS[name]} is not 0 or more"
            found.append(Reason("NEGATIVE", f"set_points.{name}", rule, "give the set-point"))
    return found


def _not_validated(gaps: tuple[Gap, ...], validated: Mapping[str, Range]) -> list[Reason]:
    """Rows of the table that leave a range that the set itself validated."""
    return [
        Reason(
            "OUTSIDE_VALIDATED",
            f"target.{gap.quantity}",
            f"{gap.target:.6g} is outside {gap.validated.low:.6g} to {gap.validated.high:.6g} {gap.unit}",
            "choose another criterion or vessel, or validate the wider range",
        )
        for gap in gaps
        if gap.quantity in validated and gap.validated is not None and not gap.inside
    ]


def _accepted(there: Prediction, acceptance: Mapping[str, Range]) -> tuple[list[Reason], list[str]]:
    """Attributes whose predicted mean is not accepted (reasons), or whose interval is not (sentences)."""
    reasons, warnings = [], []
    for name, allowed in sorted(acceptance.items()):
        found, unit = there.cqas[name], CQAS[name]
        span = f"{allowed.low:.4g} to {allowed.high:.4g} {unit}"
        if not allowed.holds(found.mean):
            rule = f"the predicted mean of {found.mean:.4g} {unit} is outside the acceptance range of {span}"
            step = "choose another criterion or vessel, or release other set-points"
            reasons.append(Reason("CQA_NOT_ACCEPTED", f"target.{name}", rule, step))
        elif not (allowed.holds(found.low) and allowed.holds(found.high)):
            interval = f"{found.low:.4g} to {found.high:.4g} {unit}"
            warnings.append(f"{name}: the 95 % interval of {interval} leaves the acceptance range of {span}")
    return reasons, warnings


def _once(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(reasons))
