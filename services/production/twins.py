"""The twin between contract and domain: the one module that knows what the twin is called with.

What research sends (a ParameterSetContent), what a plant registers (a
LineDetail) and what lots taught (AttributeCalibration) become the twin's own
types here, in the units that it reckons in; what it finds becomes the parts of
events. Nothing is read, kept or sealed here. All of it takes part of a second:
not for the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production.domain import calibrating
from services.production.domain.twin import adapt as adapting
from services.production.domain.twin import quantities, reference, scale_up, set_points, vessels
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.design_space import DesignSpace, Inequality
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.gaps import Gap
from services.production.domain.twin.predict import Interval
from services.production.domain.twin.process import Process
from services.production.domain.twin.quantities import Quantity
from services.production.domain.twin.scale_up import Criterion
from services.production.domain.twin.set_points import UNITS, Range, SetPoints
from services.production.domain.twin.vessels import Vessel

#: Models that a set may name, with the version that is told.
PROCESSES: dict[str, Process] = {"pensim-reduced": Process(), "pensim-reference": reference.PROCESS}
VERSION = "1"
#: What the twin calls a parameter, by what a set may call it.
NAMES = {
    "agitation": "agitation",
    "stirrer_speed": "agitation",
    "aeration": "aeration",
    "gas_flow": "aeration",
    "feed": "feed",
    "feed_rate": "feed",
    "temperature": "temperature",
    "ph": "ph",
    "pH": "ph",
}
#: The model holds these; a set that does not name them means the model's own.
_HELD = {"temperature": 298.0, "ph": 5.0}
_CRITERIA = {
    sets.SCALE_UP_CRITERION_KLA: Criterion.KLA,
    sets.SCALE_UP_CRITERION_POWER_PER_VOLUME: Criterion.POWER_PER_VOLUME,
    sets.SCALE_UP_CRITERION_TIP_SPEED: Criterion.TIP_SPEED,
}
#: Rows of the gap table as they are told. Set-points are not: they travel sealed.
_TOLD = {
    "kla": "kla",
    "power_per_volume": "power_per_volume",
    "gassed_power_per_volume": "gassed_power_per_volume",
    "tip_speed": "tip_speed",
    "gas_velocity": "gas_velocity",
    "gas_per_volume": "gas_per_volume",
    "liquid_volume": "volume",
}
_PER_MINUTE, _LITRES_A_MINUTE = 60.0, 60_000.0  # of one in a second; of one m3 in a second
Calibrations = Mapping[str, rnd.AttributeCalibration]


@dataclass(frozen=True)
class Refusals:
    """Why a set does not go to a line: every reason."""

    reasons: tuple[events.TransferRefusal, ...]


@dataclass(frozen=True)
class Adapted:
    """A set at a line."""

    recipe: events.RecipeDetail
    gaps: tuple[events.TransferGap, ...]
    predictions: tuple[events.AttributePrediction, ...]
    model: str


@dataclass(frozen=True)
class Advice:
    """Set-points that the twin proposes; `moved` is empty where nothing better was found."""

    basis: events.AdviceBasis
    moved: tuple[str, ...]
    attribute: str
    gain: common.Estimate | None
    predictions: tuple[events.AttributePrediction, ...]
    recipe: events.RecipeDetail


@dataclass(frozen=True)
class _Read:
    """A set in the twin's terms. `named` holds the set's own name and unit of each parameter."""

    released: adapting.Released
    named: Mapping[str, tuple[str, str]]
    attributes: tuple[sets.QualityAttribute, ...]
    model: str


# -- reading ------------------------------------------------------------------


def _read(content: sets.ParameterSetContent) -> tuple[_Read | None, list[Reason]]:
    """The set as the twin takes it, or every reason why it cannot be taken."""
    developed = content.process
    reasons: list[Reason] = []
    process = PROCESSES.get(developed.model)
    if process is None:
        rule = f"the twin has no model {developed.model!r}"
        reasons.append(Reason("UNKNOWN_MODEL", "process.model", rule, f"name one of {', '.join(PROCESSES)}"))
    criterion = _CRITERIA.get(developed.criterion)
    if criterion is None:
        rule = "it is not said what stays the same between the scales"
        step = "name kLa, power per volume or tip speed"
        reasons.append(Reason("NO_CRITERION", "process.criterion", rule, step))
    points, ranges, named, wrong = _parameters(content)
    reasons += wrong
    space, wrong = _space(content.design_space, named)
    reasons += wrong + _attribute_faults(content.attributes)
    if not 0 < developed.duration_h < math.inf:
        rule = f"a run of {developed.duration_h:g} h is none"
        reasons.append(Reason("OUT_OF_RANGE", "process.duration_h", rule, "give the hours of a run"))
    if reasons or points is None or process is None or criterion is None:
        return None, reasons
    released = adapting.Released(
        process=replace(process, hours=developed.duration_h),
        source=_vessel("development", developed.vessel),
        points=points,
        criterion=criterion,
        ranges=ranges,
        space=space,
    )
    known = tuple(one for one in content.attributes if one.attribute in CQAS)
    return _Read(released, named, known, f"{developed.model}/{VERSION}"), []


def _parameters(
    content: sets.ParameterSetContent,
) -> tuple[SetPoints | None, dict[str, Range], dict[str, tuple[str, str]], list[Reason]]:
    """Set-points and proven ranges in the twin's units, and the set's own names of them."""
    developed = content.process
    given = {
        "agitation": Quantity(developed.stirrer_per_s * _PER_MINUTE, UNITS["agitation"]),
        "aeration": Quantity(developed.gas_m3_per_s * _LITRES_A_MINUTE, UNITS["aeration"]),
        **{name: Quantity(value, UNITS[name]) for name, value in _HELD.items()},
    }
    ranges: dict[str, Range] = {}
    named: dict[str, tuple[str, str]] = {}
    reasons: list[Reason] = []
    for index, parameter in enumerate(content.parameters):
        name = NAMES.get(parameter.parameter)
        if name is None:
            continue  # a parameter that the model does not know changes nothing that it reckons
        field = f"parameters[{index}]"
        unit = parameter.proven.unit or parameter.normal.unit or UNITS[name]
        named[name] = (parameter.parameter, unit)
        value, wrong = quantities.take({name: Quantity(parameter.set_point, unit)}, name, UNITS[name], field)
        reasons += wrong or _contradicts(name, value, given.get(name), field)
        given[name] = Quantity(value, UNITS[name])
        proven, wrong = _range(parameter.proven, UNITS[name], f"{field}.proven")
        reasons += wrong
        if proven is not None:
            ranges[name] = proven
    points, wrong = set_points.read(given, "parameters") if not reasons else (None, [])
    return points, ranges, named, reasons + wrong


def _contradicts(name: str, value: float, before: Quantity | None, field: str) -> list[Reason]:
    """Stirring and gas stand in the process, too: they must be the same there."""
    if before is None or name in _HELD or math.isclose(value, before.value, rel_tol=1e-6):
        return []
    rule = f"{name} is {value:.6g} {UNITS[name]} here, and {before.value:.6g} in the process"
    return [Reason("CONTRADICTION", f"{field}.set_point", rule, "correct the one or the other")]


def _range(given: sets.Range, unit: str, field: str) -> tuple[Range | None, list[Reason]]:
    """A range in the twin's unit; None where neither end is given. An end that is left out is open."""
    ends = []
    for side, open_end in (("low", -math.inf), ("high", math.inf)):
        if not given.HasField(side):
            ends.append(open_end)
            continue
        value, wrong = quantities.take({side: Quantity(getattr(given, side), given.unit)}, side, unit, field)
        if wrong:
            return None, wrong
        ends.append(value)
    if not any(map(math.isfinite, ends)):
        return None, []
    # The twin takes closed ranges alone; these ends are beyond what any vessel does.
    low, high = max(ends[0], -1e9), min(ends[1], 1e9)
    return Range(low, high), []


def _space(
    given: sets.DesignSpace, named: Mapping[str, tuple[str, str]]
) -> tuple[DesignSpace | None, list[Reason]]:
    """The approved space in the twin's units; one that is not approved yet is none."""
    if not given.approval or not given.bounds:
        return None, []
    rules, reasons = [], []
    for index, bound in enumerate(given.bounds):
        weights: dict[str, float] = {}
        most = bound.most
        for parameter, weight in sorted(bound.coefficients.items()):
            name = NAMES.get(parameter)
            if name is None or name not in named:
                rule = f"{parameter!r} is no parameter of the set that the twin knows"
                field = f"design_space.bounds[{index}].coefficients"
                reasons.append(Reason("UNKNOWN", field, rule, "name parameters of the set"))
                continue
            # own = slope * ours + zero: a bound on the set's unit becomes one on the twin's.
            zero = quantities.convert(0.0, UNITS[name], named[name][1])
            one = quantities.convert(1.0, UNITS[name], named[name][1])
            assert zero is not None, "the set-point was converted before"
            assert one is not None, "the set-point was converted before"
            weights[name] = weight * (one - zero)
            most -= weight * zero
        rules.append(Inequality(weights, most))
    return DesignSpace(given.approval, tuple(rules)), reasons


def _attribute_faults(attributes: Iterable[sets.QualityAttribute]) -> list[Reason]:
    """Attributes that the twin knows must be in a unit that converts; at least one must be known."""
    reasons, known = [], 0
    for index, one in enumerate(attributes):
        unit = CQAS.get(one.attribute)
        if unit is None:
            continue
        known += 1
        if quantities.convert(1.0, unit, one.limits.unit) is None:
            rule = f"{one.limits.unit or 'no unit'} does not convert to {unit}"
            reasons.append(
                Reason("INCONVERTIBLE", f"attributes[{index}].limits.unit", rule, "correct the unit")
            )
    if not known:
        rule = "the twin can predict none of the set's quality attributes"
        reasons.append(Reason("NOTHING_PREDICTED", "attributes", rule, f"name one of {', '.join(CQAS)}"))
    return reasons


def _vessel(name: str, given: sets.Vessel | events.LineDetail) -> Vessel:
    return Vessel(
        name=name,
        volume_m3=given.volume_m3,
        liquid_m3=given.liquid_m3,
        diameter_m=given.tank_diameter_m,
        impeller_diameter_m=given.impeller_diameter_m,
        blade_width_m=given.blade_width_m,
        power_number=given.power_number,
        impellers=given.impellers or 1,
        max_speed_rpm=given.stirrer_max_per_s * _PER_MINUTE,
        max_gas_l_min=given.gas_max_m3_per_s * _LITRES_A_MINUTE,
        max_power_w=given.power_max_w or math.inf,
        kla_factor=given.kla_calibration or 1.0,
    )


def _line(name: str, detail: events.LineDetail) -> adapting.Line:
    vessel = _vessel(name, detail)
    slowest = detail.stirrer_min_per_s * _PER_MINUTE
    return adapting.Line(vessel, {"agitation": Range(slowest, max(slowest, vessel.max_speed_rpm))})


# -- telling ------------------------------------------------------------------


def refusal(reason: Reason) -> events.TransferRefusal:
    return events.TransferRefusal(
        rule=reason.code, field=reason.field, statement=f"{reason.rule}; {reason.next_step}"
    )


def _told_gap(gap: Gap) -> events.TransferGap:
    """One row; where no range is known, nothing is outside of it."""
    told = events.TransferGap(
        quantity=_TOLD[gap.quantity],
        unit=gap.unit,
        source=gap.source,
        target=gap.target,
        ratio=gap.ratio if math.isfinite(gap.ratio) else 0.0,
        inside=gap.inside is not False,
    )
    if gap.validated is not None:
        told.low, told.high = gap.validated.low, gap.validated.high
    return told


def _recipe(points: SetPoints, named: Mapping[str, tuple[str, str]]) -> events.RecipeDetail:
    """Set-points under the set's own names and in its units; those it does not name, under the twin's."""
    told = events.RecipeDetail()
    for name, value in points.named().items():
        parameter, unit = named.get(name, (name, UNITS[name]))
        own = quantities.convert(value, UNITS[name], unit)
        told.set_points.add(parameter=parameter, value=value if own is None else own, unit=unit)
    return told


def _points(recipe: events.RecipeDetail) -> dict[str, float]:
    """Set-points of a recipe by the twin's names, in its units; what it does not know is left out."""
    found = {}
    for one in recipe.set_points:
        name = NAMES.get(one.parameter)
        value = quantities.convert(one.value, one.unit, UNITS[name]) if name else None
        if name is not None and value is not None:
            found[name] = value
    return found


def _predictions(
    read: _Read, source: Mapping[str, Interval], target: Mapping[str, Interval], calibrations: Calibrations
) -> tuple[events.AttributePrediction, ...]:
    """What is expected of each of the set's attributes, at both scales, in the set's units; at the plant
    it is calibrated by what its lots were off."""
    told = []
    for attribute in read.attributes:
        name, limits = attribute.attribute, attribute.limits
        here, there = (_estimate(found[name], CQAS[name], limits.unit) for found in (source, target))
        calibration = calibrations.get(name)
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


def _estimate(found: Interval, unit: str, to: str) -> common.Estimate:
    value, lower, upper = (
        quantities.convert(number, unit, to) for number in (found.mean, found.low, found.high)
    )
    return common.Estimate(value=value, lower=lower, upper=upper)


def _not_accepted(predictions: Iterable[events.AttributePrediction]) -> list[events.TransferRefusal]:
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


# -- what the service asks of the twin ----------------------------------------


def adapt(
    content: sets.ParameterSetContent,
    line: str,
    detail: events.LineDetail,
    calibrations: Calibrations,
    seed: int,
) -> Adapted | Refusals:
    """Bring a set to a line. The same set, line, calibrations and seed give the same answer."""
    read, reasons = _read(content)
    if read is None:
        return Refusals(tuple(map(refusal, reasons)))
    found = adapting.adapt(read.released, _line(line, detail), seed=seed)
    if isinstance(found, adapting.NotAdapted):
        return Refusals(tuple(map(refusal, found.reasons)))
    predictions = _predictions(read, found.source, found.target, calibrations)
    refused = _not_accepted(predictions)
    if refused:
        return Refusals(tuple(refused))
    gaps = tuple(_told_gap(gap) for gap in found.gaps if gap.quantity in _TOLD)
    return Adapted(_recipe(found.points, read.named), gaps, predictions, read.model)


def beyond_line(recipe: events.RecipeDetail, detail: events.LineDetail) -> list[events.TransferRefusal]:
    """What a recipe asks of a line beyond what it can do now."""
    line = _line("line", detail)
    reasons = vessels.faults(line.vessel, "target")
    points, wrong = set_points.read(
        {name: Quantity(value, UNITS[name]) for name, value in _points(recipe).items()}, "recipe"
    )
    reasons += wrong
    if points is not None and not reasons:
        reasons += scale_up.limits(line.vessel, points, "target")
        what = "what the line holds"
        reasons += set_points.outside(points, line.limits, "OUTSIDE_LINE_LIMIT", what, "target")
    return list(map(refusal, reasons))


def beyond_ranges(
    recipe: events.RecipeDetail, rules: Iterable[events.SeverityRule]
) -> list[events.TransferRefusal]:
    """Set-points outside the plant's own proven range of a critical parameter, as it is now."""
    ranges = {rule.tag: rule for rule in rules if rule.critical_parameter}
    refused = []
    for one in recipe.set_points:
        rule = ranges.get(one.parameter)
        value = quantities.convert(one.value, one.unit, rule.unit) if rule else None
        if rule is None or value is None:
            continue
        low = rule.low if rule.HasField("low") else -math.inf
        high = rule.high if rule.HasField("high") else math.inf
        if not low <= value <= high:
            said = f"it is outside the proven acceptable range {low:.6g} to {high:.6g} {rule.unit}"
            refused.append(events.TransferRefusal(rule="OUTSIDE_PAR", field=one.parameter, statement=said))
    return refused


def advise(
    content: sets.ParameterSetContent,
    line: str,
    detail: events.LineDetail,
    recipe: events.RecipeDetail,
    calibrations: Calibrations,
    seed: int,
) -> Advice:
    """Set-points for what was adapted."""
    found = adapt(content, line, detail, calibrations, seed)
    predictions = found.predictions if isinstance(found, Adapted) else ()
    return Advice(events.ADVICE_BASIS_UNCHANGED, (), "", None, predictions, recipe)
