"""What research sends and a plant registers, in the twin's own terms, or every reason why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production.domain.twin import adapt as adapting
from services.production.domain.twin import quantities, reference, set_points
from services.production.domain.twin.cqas import CQAS
from services.production.domain.twin.design_space import DesignSpace, Inequality
from services.production.domain.twin.errors import Reason
from services.production.domain.twin.quantities import Quantity
from services.production.domain.twin.scale_up import Criterion
from services.production.domain.twin.set_points import UNITS, Range, SetPoints
from services.production.domain.twin.vessels import Vessel

#: Of the twin's models, as it is told with their names.
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
_PER_MINUTE, _LITRES_A_MINUTE = 60.0, 60_000.0  # of one in a second; of one m3 in a second


@dataclass(frozen=True)
class Read:
    """A set in the twin's terms. `named` holds the set's own name and unit of each parameter."""

    released: adapting.Released
    named: Mapping[str, tuple[str, str]]
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
    points, ranges, named, wrong = _parameters(content)
    reasons += wrong
    space, wrong = _space(content.design_space, named)
    reasons += wrong + _attribute_faults(content.attributes)
    if reasons or points is None or process is None or criterion is None:
        return None, reasons
    released = adapting.Released(
        process=process,
        source=vessel_of("development", developed.vessel),
        points=points,
        criterion=criterion,
        ranges=ranges,
        space=space,
    )
    known = tuple(one for one in content.attributes if one.attribute in CQAS)
    return Read(released, named, known, f"{developed.model}/{VERSION}"), []


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
        unit = parameter.normal.unit or parameter.proven.unit or UNITS[name]  # the set-point's
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
    return Range(*ends), []


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
