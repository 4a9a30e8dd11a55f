"""Recipes as data: which tags are monitored, and how their runs are aligned.

The dryer's recipe was read from the 71 runs that process-improve ships
(García-Muñoz, PhD thesis, McMaster 2004; its `details.txt` names the
instruments). The column AgitatorTorque is the agitator's speed controller
(SIC71094): it follows a programme of 8, 32, 16, 8, 48 and 0, which tells the
phases. AgitatorSpeed and AgitatorPower are what the agitator then meets.

The fermenter's recipe is that of a fed-batch penicillin fermentation of 400
hours (Birol, Undey and Cinar, Computers & Chemical Engineering 26 (2002)
1553): a batch phase, until the controller sets a feed, then the fed one.
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


_HOUR = 3600.0
_FEEDING = 1e-3  # L/h: the set-point is nought before
FERMENTER = Recipe(
    tags=(
        "FeedRate",
        "AerationRate",
        "AgitatorPower",
        "Temperature",
        "PH",
        "DissolvedOxygen",
        "CarbonDioxide",
        "Biomass",
        "Volume",
        "CoolingFlow",
        "BaseFlow",
        "CoolingWaterTemperature",
        "JacketTemperature",
        "HeadPressure",
    ),
    programme=Programme(
        ("batch", "fed"), (Entry("fed", ("batch",), (Between("FeedRateSP", low=_FEEDING),)),)
    ),
    coarse=Programme(("run",)),
    step=2.5 * _HOUR,
    ages=tuple(
        _HOUR * hour
        for hour in (0, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 75, 90, 110, 130, 160, 190, 230, 270, 310)
    ),
)


def recipe_for(tags: Collection[str], set_points: Collection[str] = ()) -> Recipe:
    """The recipe whose tags are there; else all but the set-points, aligned by the clock."""
    for recipe in (DRYER, FERMENTER):
        if {*recipe.tags, *recipe.signals()} <= set(tags):
            return recipe
    clock = Programme(("run",))
    return Recipe(tuple(sorted(set(tags) - set(set_points))), clock, clock)
