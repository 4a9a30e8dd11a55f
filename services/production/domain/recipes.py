"""Recipes as data: which tags are monitored, and how their runs are aligned.

The dryer's recipe was read from the 71 runs that process-improve ships
(García-Muñoz, PhD thesis, McMaster 2004; its `details.txt` names the
instruments). The column AgitatorTorque is the agitator's speed controller
(SIC71094): it follows a programme of 8, 32, 16, 8, 48 and 0, which tells the
phases. AgitatorSpeed and AgitatorPower are what the agitator then meets.
"""

from __future__ import annotations

from collections.abc import Collection

from services.production.domain.maturity import Between, Entry, Programme, Recipe

_HEATING_OFF = 42.0  # the heating valve never closes that far while the dryer is hot
_HEATING_ON = 45.0
_HOT = 80.0  # the dryer's own set-point while it heats, degrees Celsius
_WARM_UP = 600.0  # seconds in which the set-points are still on their way up


def _off(phase: str, after: str, dwell: float = 0.0) -> tuple[Entry, Entry]:
    """Heating went off: by the valve, or by the dryer's set-point."""
    return (
        Entry(phase, (after,), (Between("JacketTemperatureSP", high=_HEATING_OFF),), dwell),
        Entry(phase, (after,), (Between("DryerTemperatureSP", high=_HOT),), dwell),
    )


def _on(phase: str, after: str) -> Entry:
    when = (Between("JacketTemperatureSP", low=_HEATING_ON), Between("DryerTemperatureSP", low=_HOT))
    return Entry(phase, (after,), when)


DRYER = Recipe(
    tags=(
        "CollectorTankLevel",
        "DifferentialPressure",
        "DryerPressure",
        "AgitatorPower",
        "AgitatorTorque",
        "AgitatorSpeed",
        "JacketTemperature",
        "DryerTemp",
    ),
    programme=Programme(
        ("dry", "stir", "quench", "cool", "discharge", "end", "pause", "held"),
        (
            Entry("pause", ("dry", "stir", "quench", "cool"), (Between("AgitatorTorque", high=4.0),)),
            Entry("end", ("discharge",), (Between("AgitatorTorque", high=4.0),)),
            Entry("stir", ("dry", "pause"), (Between("AgitatorTorque", 24.0, 40.0),)),
            *_off("held", "dry", _WARM_UP),
            _on("dry", "held"),
            *_off("quench", "stir"),
            Entry("cool", ("quench",), (Between("AgitatorTorque", 4.0, 12.0),)),
            Entry("discharge", ("cool", "pause", "end"), (Between("AgitatorTorque", low=40.0),)),
        ),
    ),
    coarse=Programme(("heat", "cool"), (*_off("cool", "heat", _WARM_UP), _on("heat", "cool"))),
    upsets=("pause", "held"),
)


def recipe_for(tags: Collection[str], set_points: Collection[str] = ()) -> Recipe:
    """The dryer's recipe where its tags are there; else all but the set-points, aligned by the clock."""
    if {*DRYER.tags, *DRYER.signals()} <= set(tags):
        return DRYER
    clock = Programme(("run",))
    return Recipe(tuple(sorted(set(tags) - set(set_points))), clock, clock)
