"""The twin between contract and domain: the one package that knows what the twin is called with.

What research sends (a ParameterSetContent), what a plant registers (a
LineDetail), what its people hold to be proven (SeverityRule) and what its lots
taught (AttributeCalibration) become the twin's own types here, in the units
that it reckons in (`reading`); what it finds becomes the parts of events
(`telling`). Nothing is read, kept or sealed here. All of it takes a good part
of a second: not for the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production.domain.twin import adapt as adapting
from services.production.domain.twin import advise as advising
from services.production.domain.twin import design_space, quantities, scale_up, set_points, vessels
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.errors import Reason, Refused
from services.production.domain.twin.names import own_name, twin_name
from services.production.domain.twin.permitted import Freedom
from services.production.domain.twin.quantities import Quantity
from services.production.domain.twin.set_points import UNITS, Range, SetPoints
from services.production.twins.reading import Read, line_of, read
from services.production.twins.telling import (
    TOLD,
    Calibrations,
    calibration_of,
    estimate_of,
    gap_of,
    in_full,
    not_accepted,
    points_of,
    predictions_of,
    recipe_of,
    refusal,
)

#: Each number may be, and what follows from them together is none.
_UNRECKONABLE = Reason(
    "NOT_SOLVABLE",
    "target",
    "the set and the vessels of both scales lead to numbers that nothing can be reckoned with",
    "correct what is far from the usual, such as the calibration of kLa",
)


@dataclass(frozen=True)
class Place:
    """Where a set goes: the line with its vessel, the proven ranges that its plant holds by now, and what
    the plant's lots of the product were off."""

    line: str
    detail: events.LineDetail
    rules: tuple[events.SeverityRule, ...] = ()
    calibrations: Calibrations = field(default_factory=dict)


@dataclass(frozen=True)
class Refusals:
    """Why a set does not go to a line: every reason."""

    reasons: tuple[events.TransferRefusal, ...]


@dataclass(frozen=True)
class Adapted:
    """A set at a line. `not_modelled` names the critical parameters that the model does not know: the recipe
    has them as the set has."""

    recipe: events.RecipeDetail
    gaps: tuple[events.TransferGap, ...]
    predictions: tuple[events.AttributePrediction, ...]
    model: str
    not_modelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """Set-points that the twin proposes; `moved` is empty where nothing better was found."""

    basis: events.AdviceBasis
    moved: tuple[str, ...]
    attribute: str
    gain: common.Estimate | None
    predictions: tuple[events.AttributePrediction, ...]
    recipe: events.RecipeDetail


def load() -> None:
    """Import what adapting needs and a waiting service does not hold."""
    from scipy import integrate, special  # noqa: F401, PLC0415 -- imported for whom comes next


def adapt(content: sets.ParameterSetContent, place: Place, seed: int) -> Adapted | Refusals:
    """Bring a set to a line. The same set, place and seed give the same answer."""
    given, reasons = read(content)
    if given is None:
        return Refusals(tuple(map(refusal, reasons)))
    try:
        found = adapting.adapt(given.released, line_of(place.line, place.detail), seed=seed)
    except Refused as error:
        return Refusals(tuple(map(refusal, error.reasons)))
    except ArithmeticError:
        return Refusals((refusal(_UNRECKONABLE),))
    if isinstance(found, adapting.NotAdapted):
        return Refusals(tuple(map(refusal, found.reasons)))
    recipe = recipe_of(found.points, given)
    predictions = predictions_of(given, found.source, found.target, place.calibrations)
    refused = [*beyond_ranges(recipe, place.rules), *not_accepted(predictions)]
    if refused:
        return Refusals(tuple(refused))
    gaps = tuple(gap_of(gap) for gap in found.gaps if gap.quantity in TOLD)
    not_modelled = tuple(one.parameter for one in given.carried)
    return Adapted(recipe, gaps, predictions, given.model, not_modelled)


def advise(
    content: sets.ParameterSetContent,
    place: Place,
    recipe: events.RecipeDetail,
    adapted: Iterable[events.AttributePrediction],
    seed: int,
) -> Advice:
    """Set-points for what was adapted: the recipe, and what was predicted of it at both scales.

    Nothing is moved where nothing surely gains, or where the recipe is outside of what is allowed by now.
    """
    given, _ = read(content)
    points = _whole(recipe)
    known = {one.attribute: one for one in adapted}
    if given is None or points is None:
        raise ValueError("advice is asked on what was never adapted")
    attribute, raised = _objective(given)
    unchanged = Advice(events.ADVICE_BASIS_UNCHANGED, (), attribute, None, tuple(known.values()), recipe)
    freedom = _freedom(given, place, points)
    acceptance = {one.attribute: _acceptance(one, place.calibrations) for one in given.attributes}
    objective = advising.Objective(attribute, raised, acceptance)
    try:
        found = advising.advise(given.released.process, points, freedom, objective, seed=seed)
    except (Refused, ArithmeticError):
        return unchanged
    if isinstance(found, advising.NoAdvice):
        return unchanged
    predictions = predictions_of(given, found.predicted, found.predicted, place.calibrations)
    for one in predictions:
        one.source.CopyFrom(known[one.attribute].source)  # the scale of development is as it was
    unit = next(one.limits.unit for one in given.attributes if one.attribute == attribute)
    in_space = freedom.space is not None
    return Advice(
        basis=events.ADVICE_BASIS_DESIGN_SPACE if in_space else events.ADVICE_BASIS_PROVEN_RANGE,
        moved=tuple(given.named[name][0] if name in given.named else name for name in found.changes),
        attribute=attribute,
        gain=estimate_of(found.gain, CQAS[attribute], unit),
        predictions=predictions,
        recipe=recipe_of(found.points, given),
    )


def _objective(given: Read) -> tuple[str, bool]:
    """What advice is for: the titre where the set names it, else its first attribute; one that has an upper
    limit alone is to be lowered."""
    first = next((one for one in given.attributes if one.attribute == "titre"), given.attributes[0])
    return first.attribute, first.limits.HasField("low") or not first.limits.HasField("high")


def _freedom(given: Read, place: Place, points: SetPoints) -> Freedom:
    """What bounds a move at the plant: the set's ranges and space in proportion, what the line can do, and
    the ranges that the plant holds to be proven."""
    released = given.released
    space = released.space
    return Freedom(
        vessel=line_of(place.line, place.detail).vessel,
        ranges=set_points.scaled_ranges(released.ranges, released.points, points),
        space=None if space is None else design_space.scaled(space, released.points, points),
        line=_of_rules(place.rules),
    )


def _of_rules(rules: Iterable[events.SeverityRule]) -> dict[str, Range]:
    """Proven ranges of critical parameters that are called like the twin's, in its units."""
    ranges = {}
    for rule in rules:
        name = twin_name(rule.tag)
        if name is None or not rule.critical_parameter:
            continue
        low, high = (
            quantities.convert(getattr(rule, side), rule.unit, UNITS[name]) if rule.HasField(side) else end
            for side, end in (("low", -math.inf), ("high", math.inf))
        )
        if low is not None and high is not None:
            ranges[name] = Range(low, high)
    return ranges


def _acceptance(one: sets.QualityAttribute, calibrations: Calibrations) -> Range:
    """What the twin's own value may be, so that the calibrated one is within the specification."""
    calibration = calibration_of(calibrations, one.attribute, one.limits.unit)
    bias = calibration.bias if calibration else 0.0
    ends = []
    for side, end in (("low", -math.inf), ("high", math.inf)):
        own = getattr(one.limits, side) - bias if one.limits.HasField(side) else end
        value = quantities.convert(own, one.limits.unit, CQAS[one.attribute])
        ends.append(end if value is None else value)
    return Range(*ends)


def _whole(recipe: events.RecipeDetail) -> SetPoints | None:
    """The set-points of a recipe, if none is missing."""
    given = {name: Quantity(value, UNITS[name]) for name, value in points_of(recipe).items()}
    return set_points.read(given, "recipe")[0]


def beyond_line(recipe: events.RecipeDetail, detail: events.LineDetail) -> list[events.TransferRefusal]:
    """What a recipe asks of a line beyond what it can do now, or beyond where its oxygen was measured."""
    vessel = line_of("the line", detail).vessel
    reasons = vessels.faults(vessel, "target")
    points, wrong = set_points.read(
        {name: Quantity(value, UNITS[name]) for name, value in points_of(recipe).items()}, "recipe"
    )
    reasons += wrong
    if points is not None and not reasons:
        reasons += scale_up.limits(vessel, points, "target")
        reasons += scale_up.validity(vessel, points, "target")
    return list(map(in_full, reasons))


def beyond_ranges(
    recipe: events.RecipeDetail, rules: Iterable[events.SeverityRule]
) -> list[events.TransferRefusal]:
    """Set-points outside the plant's own proven range of a critical parameter, as it is now."""
    ranges = {own_name(rule.tag): rule for rule in rules if rule.critical_parameter}
    refused = []
    for one in recipe.set_points:
        rule = ranges.get(own_name(one.parameter))
        if rule is None or not (rule.HasField("low") or rule.HasField("high")):
            continue
        value = quantities.convert(one.value, one.unit, rule.unit)
        if value is None:
            said = (
                f"the plant's proven range is in {rule.unit or 'no unit'}, which does not convert to "
                f"{one.unit}; correct its unit with SetSeverityRules"
            )
            refused.append(events.TransferRefusal(rule="INCONVERTIBLE", field=one.parameter, statement=said))
            continue
        low = rule.low if rule.HasField("low") else -math.inf
        high = rule.high if rule.HasField("high") else math.inf
        if not Range(low, high).holds(value):
            said = (
                f"it is outside the plant's proven acceptable range {low:.6g} to {high:.6g} {rule.unit}; "
                "release a set-point within it, or have the plant prove a wider one"
            )
            refused.append(events.TransferRefusal(rule="OUTSIDE_PAR", field=one.parameter, statement=said))
    return refused
