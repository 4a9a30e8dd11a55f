"""What the developer's scientists write down of their process, and what they sometimes get wrong.

The process is that of the reference: a pilot vessel of 100 L, to be brought to
the plant's 1,000 L.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets

#: Name, unit, set-point, normal and proven range at the pilot scale.
_PARAMETERS = (
    ("agitation", "/min", 320.0, (310.0, 330.0), (290.0, 380.0)),
    ("aeration", "L/min", 16.0, (15.0, 17.0), (13.0, 22.0)),
    ("feed", "L/h", 0.126, (0.120, 0.132), (0.110, 0.145)),
    ("temperature", "K", 298.0, (297.5, 298.5), (296.5, 299.5)),
    ("ph", "[pH]", 5.0, (4.9, 5.1), (4.8, 5.2)),
)
#: Feeds (L/h) of one version after the other, inside the normal range.
POINTS = (0.126, 0.124, 0.128, 0.125, 0.127)
TITRE, IMPURITY = "titre", "impurity"
_LIMITS = {TITRE: (2.2, 6.0, "g/L"), IMPURITY: (None, 1.2, "%")}
Change = Callable[[sets.ParameterSetContent], None]


def content(product: str, trial: str, statement: str) -> sets.ParameterSetContent:
    """The process as it was developed."""
    found = sets.ParameterSetContent(product=product, trial=trial, statement=statement)
    found.targets.add(attribute="strength", target="2.5 mg a tablet")
    found.targets.add(attribute="purity", target="no more by-products than the specification allows")
    for attribute, (low, high, unit) in _LIMITS.items():
        found.attributes.add(attribute=attribute, limits=sets.Range(low=low, high=high, unit=unit))
    for name, unit, point, normal, proven in _PARAMETERS:
        found.parameters.add(
            parameter=name,
            set_point=point,
            normal=sets.Range(low=normal[0], high=normal[1], unit=unit),
            proven=sets.Range(low=proven[0], high=proven[1], unit=unit),
        )
    found.process.CopyFrom(
        sets.DevelopedProcess(
            model="pensim-reduced",
            vessel=_PILOT,
            stirrer_per_s=320 / 60,
            gas_m3_per_s=16 / 60_000,
            criterion=sets.SCALE_UP_CRITERION_KLA,
            duration_h=400,
        )
    )
    return found


_PILOT = sets.Vessel(
    volume_m3=0.15,
    liquid_m3=0.10,
    tank_diameter_m=0.48,
    impeller_diameter_m=0.16,
    blade_width_m=0.032,
    impellers=2,
    power_number=5.0,
    stirrer_min_per_s=1.0,
    stirrer_max_per_s=10.0,
    power_max_w=2000.0,
    gas_max_m3_per_s=0.001,
    kla_calibration=1.05,
)


def plant_vessel() -> production.LineDetail:
    """The plant's own vessel, as its engineers registered it."""
    return production.LineDetail(
        volume_m3=1.5,
        liquid_m3=1.0,
        tank_diameter_m=1.034,
        impeller_diameter_m=0.3447,
        blade_width_m=0.06894,
        impellers=2,
        power_number=5.0,
        stirrer_min_per_s=0.5,
        stirrer_max_per_s=5.8,
        power_max_w=20_000.0,
        gas_max_m3_per_s=0.010,
        kla_calibration=0.90,
    )


def weak_vessel() -> production.LineDetail:
    """A vessel whose drive and compressor are too small for the process."""
    vessel = plant_vessel()
    vessel.stirrer_max_per_s, vessel.gas_max_m3_per_s = 2.0, 0.0008
    return vessel


def _point_outside(said: sets.ParameterSetContent) -> None:
    said.parameters[2].set_point = 0.200


def _low_above_high(said: sets.ParameterSetContent) -> None:
    said.parameters[0].proven.low, said.parameters[0].proven.high = 380.0, 290.0


def _no_geometry(said: sets.ParameterSetContent) -> None:
    said.process.vessel.ClearField("impeller_diameter_m")


def _other_unit(said: sets.ParameterSetContent) -> None:
    said.parameters[2].normal.unit = "kg"


def _not_a_number(said: sets.ParameterSetContent) -> None:
    said.parameters[3].set_point = float("nan")


@dataclass(frozen=True)
class Mistake:
    """What a scientist gets wrong, and the rule by which research must refuse the draft."""

    name: str
    spoil: Change
    rule: str

    def spoiled(self, product: str, trial: str) -> sets.ParameterSetContent:
        said = content(product, trial, "A draft with a mistake.")
        self.spoil(said)
        return said


MISTAKES = (
    Mistake("point-outside", _point_outside, "OUTSIDE_PAR"),
    Mistake("low-above-high", _low_above_high, "LOW_ABOVE_HIGH"),
    Mistake("no-geometry", _no_geometry, "MISSING_GEOMETRY"),
    Mistake("other-unit", _other_unit, "INCONVERTIBLE"),
    Mistake("not-a-number", _not_a_number, "NOT_FINITE"),
)
#: By these rules the weaker plant's twin must refuse.
MISFIT_RULES = ("OUTSIDE_LINE_LIMIT",)
