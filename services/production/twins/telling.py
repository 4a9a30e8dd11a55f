"""What the twin finds, as the parts of events: reasons, gaps, set-points, predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.production.domain import calibrating
from services.production.domain.twin import quantities
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.gaps import QUANTITIES, Gap
from services.production.domain.twin.names import twin_name
from services.production.domain.twin.predict import Interval
from services.production.domain.twin.set_points import UNITS, SetPoints
from services.production.twins.reading import Read

#: Rows of the gap table are told; set-points are not, they travel sealed. Nor is the gas per volume: times
#: the volume, which is told, it is the gas flow that is set.
TOLD = frozenset(QUANTITIES) - {"gas_per_volume"}
#: Reasons whose sentence holds what a set or a line seals (set-points, ranges, sizes), in words that do not.
_WORDS = {
    "OUTSIDE_PAR": "the set-point is outside its proven acceptable range",
    "OUTSIDE_DESIGN_SPACE": "the set-points are outside the approved design space",
    "OUTSIDE_LINE_LIMIT": "what is asked is beyond what the line can do",
    "OUTSIDE_MODEL": "the set-point is outside what the model was made for",
    "CONTRADICTION": "the set-point is not the one that the process was developed with",
    "LOW_ABOVE_HIGH": "the low end of the range is above its high end",
    "DOES_NOT_FIT": "it is larger than what it must fit into",
}
Calibrations = Mapping[str, rnd.AttributeCalibration]


def refusal(reason: Reason) -> events.TransferRefusal:
    """As everybody may read it: without numbers of what travels sealed."""
    words = _WORDS.get(reason.code)
    said = f"{words}; {reason.next_step}" if words else reason.statement
    return events.TransferRefusal(rule=reason.code, field=reason.field, statement=said)


def in_full(reason: Reason) -> events.TransferRefusal:
    """With its numbers, for the plant's own people alone."""
    return events.TransferRefusal(rule=reason.code, field=reason.field, statement=reason.statement)


def gap_of(gap: Gap) -> events.TransferGap:
    """One row; where no range is known, nothing is outside of it."""
    told = events.TransferGap(
        quantity=gap.quantity,
        unit=gap.unit,
        source=gap.source,
        target=gap.target,
        ratio=gap.ratio if math.isfinite(gap.ratio) else 0.0,
        inside=gap.inside is not False,
    )
    if gap.validated is not None:
        told.low, told.high = gap.validated.low, gap.validated.high
    return told


def recipe_of(points: SetPoints, read: Read) -> events.RecipeDetail:
    """Set-points under the set's own names and in its units; those it does not name, under the twin's; and
    those that the twin does not know, as they are."""
    told = events.RecipeDetail()
    for name, value in points.named().items():
        parameter, unit = read.named.get(name, (name, UNITS[name]))
        own = quantities.convert(value, UNITS[name], unit)
        told.set_points.add(parameter=parameter, value=value if own is None else own, unit=unit)
    told.set_points.extend(read.carried)
    return told


def points_of(recipe: events.RecipeDetail) -> dict[str, float]:
    """Set-points of a recipe by the twin's names, in its units; what it does not know is left out."""
    found = {}
    for one in recipe.set_points:
        name = twin_name(one.parameter)
        value = quantities.convert(one.value, one.unit, UNITS[name]) if name else None
        if name is not None and value is not None:
            found[name] = value
    return found


def predictions_of(
    read: Read, source: Mapping[str, Interval], target: Mapping[str, Interval], calibrations: Calibrations
) -> tuple[events.AttributePrediction, ...]:
    """What is expected of each of the set's attributes, at both scales, in the set's units; at the plant
    it is calibrated by what its lots were off."""
    told = []
    for attribute in read.attributes:
        name, limits = attribute.attribute, attribute.limits
        here, there = (estimate_of(found[name], CQAS[name], limits.unit) for found in (source, target))
        calibration = calibration_of(calibrations, name, limits.unit)
        one = events.AttributePrediction(
            attribute=name,
            unit=limits.unit,
            source=here,
            target=calibrating.calibrated(there, calibration) if calibration else there,
            calibrated_by=calibration.bias if calibration else 0.0,
        )
        if limits.HasField("low"):
            one.low = limits.low
        if limits.HasField("high"):
            one.high = limits.high
        told.append(one)
    return tuple(told)


def calibration_of(calibrations: Calibrations, attribute: str, unit: str) -> rnd.AttributeCalibration | None:
    """What an attribute is calibrated by; in another unit it is by nothing."""
    found = calibrations.get(attribute)
    return found if found is not None and found.unit == unit else None


def estimate_of(found: Interval, unit: str, to: str) -> common.Estimate:
    value, lower, upper = (
        quantities.convert(number, unit, to) for number in (found.mean, found.low, found.high)
    )
    assert value is not None, "the unit was converted before"
    assert lower is not None, "the unit was converted before"
    assert upper is not None, "the unit was converted before"
    # The mean of few, skewed draws may lie beyond an end.
    return common.Estimate(value=value, lower=min(lower, value), upper=max(upper, value))


def not_accepted(predictions: Iterable[events.AttributePrediction]) -> list[events.TransferRefusal]:
    """Attributes that are expected outside their specification at the plant."""
    refused = []
    for one in predictions:
        value = one.target.value
        low = one.low if one.HasField("low") else -math.inf
        high = one.high if one.HasField("high") else math.inf
        if not low <= value <= high:
            said = (
                f"{value:.4g} {one.unit} is expected at the plant, outside {low:.4g} to {high:.4g}; "
                "choose another criterion, or release other set-points"
            )
            refused.append(
                events.TransferRefusal(
                    rule="CQA_NOT_ACCEPTED", field=f"attributes.{one.attribute}", statement=said
                )
            )
    return refused
