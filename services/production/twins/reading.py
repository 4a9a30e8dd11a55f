"""What research sends and a plant registers, in the twin's own terms, or every reason why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production.domain.twin import adapt as adapting
from services.production.domain.twin import quantities, reference, set_points
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.design_space import DesignSpace, Inequality
from services.production.domain.twin.errors import Reason, number, within
from services.production.domain.twin.names import twin_name
from services.production.domain.twin.quantities import Quantity
from services.production.domain.twin.scale_up import Criterion
from services.production.domain.twin.set_points import UNITS, Range, SetPoints
from services.production.domain.twin.vessels import Vessel

#: Of the twin's models, as it is told with their names.
VERSION = "1"
#: The model holds these; a set that does not name them means the model's own.
_HELD = {"temperature": 298.0, "ph": 5.0}
_CRITERIA = {
    sets.SCALE_UP_CRITERION_KLA: Criterion.KLA,
    sets.SCALE_UP_CRITERION_POWER_PER_VOLUME: Criterion.POWER_PER_VOLUME,
    sets.SCALE_UP_CRITERION_TIP_SPEED: Criterion.TIP_SPEED,
}
#: A bound counts as kept within this share of its size: what rounding does in a sum.
_SLACK = 1e-9
_PER_MINUTE, _LITRES_A_MINUTE = 60.0, 60_000.0  # of one in a second; of one m3 in a second


@dataclass(frozen=True)
class Read:
    """A set in the twin's terms. `named` holds the set's own name and unit of each parameter, `carried` the
    set-points that the model does not know: they stay as they are at every scale."""

    released: adapting.Released
    named: Mapping[str, tuple[str, str]]
    carried: tuple[events.SetPoint, ...]
    attributes: tuple[sets.QualityAttribute, ...]
    model: str


def read(content: sets.ParameterSetContent) -> tuple[Read | None, list[Reason]]:
    """The set as the twin takes it, or every reason why it cannot be taken."""
    developed = content.process
    process, reasons = reference.process_named(developed.model, developed.duration_h)
    criterion = _CRITERIA.get(developed.criterion)
    if criterion is None:
        rule = "it is not said what stays the same between the scales"
        step = "name kLa, power per volume or tip speed"
        reasons.append(Reason("NO_CRITERION", "process.criterion", rule, step))
    found, wrong = _parameters(content)
    reasons += wrong
    space, wrong = _space(content.design_space, found)
    reasons += wrong + _attribute_faults(content.attributes)
    if reasons or found.points is None or process is None or criterion is None:
        return None, reasons
    released = adapting.Released(
        process=process,
        source=vessel_of("development", developed.vessel),
        points=found.points,
        criterion=criterion,
        ranges=found.ranges,
        space=space,
    )
    known = tuple(one for one in content.attributes if one.attribute in CQAS)
    return Read(released, found.named, tuple(found.carried), known, f"{developed.model}/{VERSION}"), []


@dataclass
class _Parameters:
    """Set-points and proven ranges in the twin's units, the set's own names and units of them, and what is
    carried over; `points` is None where they are not whole."""

    points: SetPoints | None = None
    ranges: dict[str, Range] = field(default_factory=dict)
    named: dict[str, tuple[str, str]] = field(default_factory=dict)
    carried: list[events.SetPoint] = field(default_factory=list)


def _parameters(content: sets.ParameterSetContent) -> tuple[_Parameters, list[Reason]]:
    developed = content.process
    given = {
        "agitation": Quantity(developed.stirrer_per_s * _PER_MINUTE, UNITS["agitation"]),
        "aeration": Quantity(developed.gas_m3_per_s * _LITRES_A_MINUTE, UNITS["aeration"]),
        **{name: Quantity(value, UNITS[name]) for name, value in _HELD.items()},
    }
    found = _Parameters()
    reasons: list[Reason] = []
    for index, parameter in enumerate(content.parameters):
        path = f"parameters[{index}]"
        name = twin_name(parameter.parameter)
        if name is None:
            point, wrong = _carried(parameter, path)
            reasons += wrong
            found.carried.append(point)
            continue
        if name in found.named:
            rule = f"{parameter.parameter!r} and {found.named[name][0]!r} are one parameter, the {name}"
            reasons.append(Reason("DUPLICATE", f"{path}.parameter", rule, "keep one of them"))
            continue
        unit = parameter.normal.unit or parameter.proven.unit or UNITS[name]  # the set-point's
        found.named[name] = (parameter.parameter, unit)
        value, wrong = quantities.take({name: Quantity(parameter.set_point, unit)}, name, UNITS[name], path)
        reasons += wrong or _contradicts(name, value, given.get(name), path)
        given[name] = Quantity(value, UNITS[name])
        proven, wrong = _range(parameter.proven, UNITS[name], f"{path}.proven")
        reasons += wrong
        if proven is not None:
            found.ranges[name] = proven
    found.points, wrong = set_points.read(given, "parameters") if not reasons else (None, [])
    return found, reasons + wrong


def _carried(parameter: sets.ProcessParameter, path: str) -> tuple[events.SetPoint, list[Reason]]:
    """A critical parameter that the model does not know. It stays as it is where what it measures does not
    change with the scale, and is refused where it may."""
    unit = parameter.normal.unit or parameter.proven.unit
    point = events.SetPoint(parameter=parameter.parameter, value=parameter.set_point, unit=unit)
    if unit not in quantities.SCALE_FREE:
        rule = (
            f"the twin has no name for {parameter.parameter!r}, and what is in {unit or 'no unit'} "
            f"may change with the scale"
        )
        step = f"call it by one that the twin knows ({', '.join(UNITS)}), or take it out of the set"
        return point, [Reason("NOT_MODELLED", f"{path}.parameter", rule, step)]
    wrong = number(f"{path}.set_point", parameter.set_point)
    proven, faults = _range(parameter.proven, unit, f"{path}.proven")
    wrong += faults
    if proven is not None and not wrong:
        step = "choose a value within the proven acceptable range"
        wrong = set_points.range_faults(proven, unit, f"{path}.proven") or within(
            f"{path}.set_point", point.value, proven.low, proven.high, unit, code="OUTSIDE_PAR", step=step
        )
    return point, wrong


def _contradicts(name: str, value: float, before: Quantity | None, path: str) -> list[Reason]:
    """Stirring and gas stand in the process, too: they must be the same there."""
    if before is None or name in _HELD or math.isclose(value, before.value, rel_tol=1e-6):
        return []
    rule = f"{name} is {value:.6g} {UNITS[name]} here, and {before.value:.6g} in the process"
    return [Reason("CONTRADICTION", f"{path}.set_point", rule, "correct the one or the other")]


def _range(given: sets.Range, unit: str, path: str) -> tuple[Range | None, list[Reason]]:
    """A range in the twin's unit; None where neither end is given. An end that is left out is open."""
    ends = []
    for side, open_end in (("low", -math.inf), ("high", math.inf)):
        if not given.HasField(side):
            ends.append(open_end)
            continue
        value, wrong = quantities.take({side: Quantity(getattr(given, side), given.unit)}, side, unit, path)
        if wrong:
            return None, wrong
        ends.append(value)
    if not any(map(math.isfinite, ends)):
        return None, []
    return Range(*ends), []


def _space(given: sets.DesignSpace, found: _Parameters) -> tuple[DesignSpace | None, list[Reason]]:
    """The approved space in the twin's units; one that is not approved yet is none. What is carried over
    takes its share of a bound, and a bound on nothing else is looked at here: no scale changes it."""
    if not given.approval or not given.bounds:
        return None, []
    fixed = {one.parameter: one.value for one in found.carried}
    rules, reasons = [], []
    for index, bound in enumerate(given.bounds):
        path = f"design_space.bounds[{index}].coefficients"
        weights: dict[str, float] = {}
        most = bound.most
        for parameter, weight in sorted(bound.coefficients.items()):
            if parameter in fixed:
                most -= weight * fixed[parameter]
                continue
            name = twin_name(parameter)
            if name is None or name not in found.named:
                rule = f"{parameter!r} is no parameter of the set that the twin knows"
                reasons.append(Reason("UNKNOWN", path, rule, "name parameters of the set"))
                continue
            # own = slope * ours + zero: a bound on the set's unit becomes one on the twin's.
            zero = quantities.convert(0.0, UNITS[name], found.named[name][1])
            one = quantities.convert(1.0, UNITS[name], found.named[name][1])
            assert zero is not None, "the set-point was converted before"
            assert one is not None, "the set-point was converted before"
            weights[name] = weight * (one - zero)
            most -= weight * zero
        if weights:
            rules.append(Inequality(weights, most))
        elif bound.coefficients and not most + _SLACK * abs(bound.most) >= 0:
            rule = f"{', '.join(sorted(bound.coefficients))} are outside the design space"
            step = "choose set-points within the design space"
            reasons.append(Reason("OUTSIDE_DESIGN_SPACE", path, rule, step))
    return DesignSpace(given.approval, tuple(rules)) if rules else None, reasons


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


def vessel_of(name: str, given: sets.Vessel | events.LineDetail) -> Vessel:
    return Vessel(
        name=name,
        volume_m3=given.volume_m3,
        liquid_m3=given.liquid_m3,
        diameter_m=given.tank_diameter_m,
        impeller_diameter_m=given.impeller_diameter_m,
        blade_width_m=given.blade_width_m,
        power_number=given.power_number,
        impellers=given.impellers or 1,
        min_speed_rpm=given.stirrer_min_per_s * _PER_MINUTE,
        max_speed_rpm=given.stirrer_max_per_s * _PER_MINUTE,
        max_gas_l_min=given.gas_max_m3_per_s * _LITRES_A_MINUTE,
        max_power_w=given.power_max_w or math.inf,
        kla_factor=given.kla_calibration or 1.0,
    )


def line_of(name: str, detail: events.LineDetail) -> adapting.Line:
    """The line: its vessel says all that it can do."""
    return adapting.Line(vessel_of(name, detail))
