"""What a parameter set may not say. Every reason is found, so that a draft is mended in one go.

Ranges follow ICH Q8(R2): a set-point lies in the normal operating range, that
in the proven acceptable range, and all set-points together in the design space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from pharmaloop.rnd.v1 import parameter_set_pb2 as content

#: From two units to what turns a number in the first into one in the second; None where they do not convert.
Convert: TypeAlias = Callable[[str, str], Callable[[float], float] | None]

#: Sizes without which a vessel cannot be scaled; each is above 0.
_GEOMETRY = (
    "volume_m3",
    "liquid_m3",
    "tank_diameter_m",
    "impeller_diameter_m",
    "blade_width_m",
    "impellers",
    "power_number",
)
#: What its drives can do; each is above 0.
_DRIVES = ("stirrer_max_per_s", "power_max_w", "gas_max_m3_per_s", "kla_calibration")
#: Set-points that lie on a bound are inside it, whatever the last bit of their sum says.
_ROUNDING = 1e-9


class Violation(NamedTuple):
    """A broken rule: its name, the path of the field, the rule and the next step in a sentence."""

    rule: str
    field: str
    statement: str


def violations(
    said: content.ParameterSetContent, convert: Convert, before: content.ParameterSetContent | None = None
) -> list[Violation]:
    """Everything that is wrong with a content; `before` is what the version before it says."""
    found = [*_texts(said), *_targets(said), *_attributes(said), *_parameters(said, convert)]
    found += [
        *_design_space(said),
        *_process(said),
        *(_changed_units(before, said, convert) if before else ()),
    ]
    return found


def _texts(said: content.ParameterSetContent) -> Iterator[Violation]:
    if not said.product:
        yield _required("product", "name the product by its canonical key")
    if not said.statement.strip():
        yield _required("statement", "say what this version is for")


def _targets(said: content.ParameterSetContent) -> Iterator[Violation]:
    if not said.targets:
        yield _required("targets", "give the quality target product profile, a line for each attribute")
    yield from _names([one.attribute for one in said.targets], "targets", "attribute")
    for number, one in enumerate(said.targets):
        if not one.target.strip():
            yield _required(f"targets[{number}].target", "say what is aimed at")


def _attributes(said: content.ParameterSetContent) -> Iterator[Violation]:
    if not said.attributes:
        yield _required("attributes", "give the critical quality attributes with their limits")
    yield from _names([one.attribute for one in said.attributes], "attributes", "attribute")
    for number, one in enumerate(said.attributes):
        path = f"attributes[{number}].limits"
        if not one.HasField("limits"):
            yield _required(path, "give the specification")
        else:
            yield from _range(one.limits, path)


def _parameters(said: content.ParameterSetContent, convert: Convert) -> Iterator[Violation]:
    if not said.parameters:
        yield _required("parameters", "give the critical process parameters with their ranges")
    yield from _names([one.parameter for one in said.parameters], "parameters", "parameter")
    for number, one in enumerate(said.parameters):
        path = f"parameters[{number}]"
        wrong = [*_finite(one.set_point, f"{path}.set_point")]
        for name, words in (("normal", "normal operating range"), ("proven", "proven acceptable range")):
            if one.HasField(name):
                wrong += _range(getattr(one, name), f"{path}.{name}")
            else:
                wrong.append(_required(f"{path}.{name}", f"give the {words}"))
        yield from wrong or _within(one, path, convert)


def _within(one: content.ProcessParameter, path: str, convert: Convert) -> Iterator[Violation]:
    """Set-point in the normal range, that in the proven one; the set-point has the normal range's unit."""
    to_normal = convert(one.proven.unit, one.normal.unit)
    if to_normal is None:
        told = f"{one.proven.unit} does not convert to {one.normal.unit}; give both ranges in one unit"
        yield Violation("INCONVERTIBLE", f"{path}.proven.unit", told)
        return
    normal, proven, unit = _ends(one.normal), _ends(one.proven), one.normal.unit
    low, high = to_normal(proven[0]), to_normal(proven[1])
    if not low <= one.set_point <= high:
        told = (
            f"{one.set_point:g} {unit} is outside the proven acceptable range, {_told(low, high)} {unit}; "
            f"move the set-point into it, or widen the range by data"
        )
        yield Violation("OUTSIDE_PAR", f"{path}.set_point", told)
    elif not normal[0] <= one.set_point <= normal[1]:
        told = (
            f"{one.set_point:g} {unit} is outside the normal operating range, {_told(*normal)} {unit}; "
            f"move one of them"
        )
        yield Violation("OUTSIDE_NOR", f"{path}.set_point", told)
    if normal[0] < low or normal[1] > high:
        told = (
            f"the normal operating range, {_told(*normal)} {unit}, leaves the proven acceptable range, "
            f"{_told(low, high)} {unit}; narrow it"
        )
        yield Violation("NOR_OUTSIDE_PAR", f"{path}.normal", told)


def _design_space(said: content.ParameterSetContent) -> Iterator[Violation]:
    points = {one.parameter: one.set_point for one in said.parameters}
    for number, bound in enumerate(said.design_space.bounds):
        path = f"design_space.bounds[{number}]"
        wrong = [*_finite(bound.most, f"{path}.most")]
        if not bound.coefficients:
            wrong.append(_required(f"{path}.coefficients", "give a coefficient for each parameter it bounds"))
        for name in sorted(bound.coefficients):
            field = f"{path}.coefficients[{name}]"
            wrong += _finite(bound.coefficients[name], field)
            if name not in points:
                told = (
                    f"the set has no parameter {name!r}; name one of {', '.join(points) or 'its parameters'}"
                )
                wrong.append(Violation("UNKNOWN_PARAMETER", field, told))
        yield from wrong or _inside(bound, points, path)


def _inside(bound: content.LinearBound, points: dict[str, float], path: str) -> Iterator[Violation]:
    terms = [weight * points[name] for name, weight in bound.coefficients.items()]
    total = math.fsum(terms)
    rounding = _ROUNDING * max(math.fsum(map(abs, terms)), abs(bound.most))
    if total > bound.most + rounding:
        told = (
            f"the set-points of {', '.join(sorted(bound.coefficients))} add up to {total:g}, and the design "
            f"space allows {bound.most:g} at most; move a set-point"
        )
        yield Violation("OUTSIDE_DESIGN_SPACE", path, told)


def _process(said: content.ParameterSetContent) -> Iterator[Violation]:
    if not said.HasField("process"):
        yield _required("process", "give the process as it was developed")
        return
    process = said.process
    if not process.model.strip():
        yield _required("process.model", "name the model of the process that the twin runs")
    if process.criterion not in content.ScaleUpCriterion.values() or not process.criterion:
        yield _required("process.criterion", "say what is kept when the scale changes: kLa, P/V or tip speed")
    yield from _positive(process.duration_h, "process.duration_h", "OUT_OF_RANGE")
    yield from _positive(process.stirrer_per_s, "process.stirrer_per_s", "OUT_OF_RANGE")
    yield from _positive(process.gas_m3_per_s, "process.gas_m3_per_s", "OUT_OF_RANGE")
    if process.HasField("vessel"):
        yield from _vessel(process.vessel) or _driven(process)
    else:
        told = "give the geometry of the vessel that it was developed in"
        yield Violation("MISSING_GEOMETRY", "process.vessel", told)


def _vessel(vessel: content.Vessel) -> list[Violation]:
    path = "process.vessel"
    wrong = [
        one
        for names, rule in ((_GEOMETRY, "MISSING_GEOMETRY"), (_DRIVES, "REQUIRED"))
        for name in names
        for one in _positive(getattr(vessel, name), f"{path}.{name}", rule)
    ]
    wrong += _finite(vessel.stirrer_min_per_s, f"{path}.stirrer_min_per_s")
    if vessel.stirrer_min_per_s < 0:
        wrong.append(Violation("OUT_OF_RANGE", f"{path}.stirrer_min_per_s", "a speed is not below 0"))
    if wrong:
        return wrong
    if vessel.stirrer_min_per_s > vessel.stirrer_max_per_s:
        told = "the slowest stirring is above the fastest; exchange them, or correct one"
        wrong.append(Violation("LOW_ABOVE_HIGH", f"{path}.stirrer_min_per_s", told))
    for small, large in (
        ("liquid_m3", "volume_m3"),
        ("impeller_diameter_m", "tank_diameter_m"),
        ("blade_width_m", "impeller_diameter_m"),
    ):
        if getattr(vessel, small) > getattr(vessel, large):
            told = f"it does not fit: {small} is above {large}; correct one"
            wrong.append(Violation("OUT_OF_RANGE", f"{path}.{small}", told))
    return wrong


def _driven(process: content.DevelopedProcess) -> Iterator[Violation]:
    """The vessel can stir and aerate as the process was developed."""
    vessel = process.vessel
    slowest, fastest = vessel.stirrer_min_per_s, vessel.stirrer_max_per_s
    if process.stirrer_per_s > 0 and not slowest <= process.stirrer_per_s <= fastest:
        told = f"the vessel stirs at {_told(slowest, fastest)} revolutions a second; correct one of them"
        yield Violation("OUT_OF_RANGE", "process.stirrer_per_s", told)
    if process.gas_m3_per_s > vessel.gas_max_m3_per_s:
        told = f"the vessel takes {vessel.gas_max_m3_per_s:g} m3/s of gas at most; correct one of them"
        yield Violation("OUT_OF_RANGE", "process.gas_m3_per_s", told)


def _changed_units(
    before: content.ParameterSetContent, said: content.ParameterSetContent, convert: Convert
) -> Iterator[Violation]:
    """A quantity that the version before has is still the same quantity."""
    units = {one.attribute: one.limits.unit for one in before.attributes}
    for number, one in enumerate(said.attributes):
        yield from _same(units.get(one.attribute), one.limits.unit, f"attributes[{number}].limits", convert)
    units = {one.parameter: one.normal.unit for one in before.parameters}
    for number, parameter in enumerate(said.parameters):
        path = f"parameters[{number}].normal"
        yield from _same(units.get(parameter.parameter), parameter.normal.unit, path, convert)


def _same(before: str | None, unit: str, path: str, convert: Convert) -> Iterator[Violation]:
    if before and unit and unit != before and convert(unit, before) is None:
        told = f"{unit} does not convert to {before}, the unit of the version before; correct the unit"
        yield Violation("INCONVERTIBLE", f"{path}.unit", told)


# -- rules of one field -----------------------------------------------------------


def _range(limits: content.Range, path: str) -> list[Violation]:
    found = []
    if not limits.unit.strip():
        found.append(_required(f"{path}.unit", "give the UCUM unit"))
    ends = [name for name in ("low", "high") if limits.HasField(name)]
    if not ends:
        found.append(_required(path, "give a lower end, an upper end, or both"))
    for name in ends:
        found += _finite(getattr(limits, name), f"{path}.{name}")
    if len(ends) == 2 and limits.low > limits.high:
        told = f"the lower end, {limits.low:g}, is above the upper, {limits.high:g}; exchange them"
        found.append(Violation("LOW_ABOVE_HIGH", f"{path}.low", told))
    return found


def _ends(limits: content.Range) -> tuple[float, float]:
    low = limits.low if limits.HasField("low") else -math.inf
    return low, limits.high if limits.HasField("high") else math.inf


def _told(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"


def _names(names: Iterable[str], path: str, field: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for number, name in enumerate(names):
        here = f"{path}[{number}].{field}"
        if not name.strip():
            yield _required(here, f"name the {field}")
        elif name in seen:
            yield Violation("DUPLICATE", here, f"{name!r} is there twice; keep one of them")
        seen.add(name)


def _finite(value: float, field: str) -> list[Violation]:
    if math.isfinite(value):
        return []
    return [Violation("NOT_FINITE", field, f"{value} is no finite number; give one")]


def _positive(value: float, field: str, rule: str) -> list[Violation]:
    """`rule` is broken by 0, which is also what a field that was left out says."""
    if not math.isfinite(value):
        return _finite(value, field)
    if value <= 0:
        return [Violation(rule, field, f"it is {value:g}; give a number above 0")]
    return []


def _required(field: str, step: str) -> Violation:
    return Violation("REQUIRED", field, step)
