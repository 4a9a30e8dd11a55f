"""The real dryer runs as the world replays them, with or without a planted fault.

The runs and the way to plant a fault are `plant`'s; this module joins them
with the model that the platform publishes, for a fault is sized in its spread.
"""

from __future__ import annotations

from services.world.entities import PlantedFault
from services.world.plant import plant_fault, read_runs, spread_along
from services.world.signals import Model, Profile, Tag

TAGS = (
    Tag("CollectorTankLevel", "%"),
    Tag("DifferentialPressure", "mbar"),
    Tag("DryerPressure", "mbar"),
    Tag("AgitatorPower", "A"),
    Tag("AgitatorTorque", "/min"),
    Tag("AgitatorSpeed", "%"),
    Tag("JacketTemperatureSP", "Cel", set_point=True),
    Tag("JacketTemperature", "Cel"),
    Tag("DryerTemperatureSP", "Cel", set_point=True),
    Tag("DryerTemp", "Cel"),
)


def sample_counts() -> dict[int, int]:
    """How many samples each real run has."""
    return {number: len(run.times) for number, run in read_runs().items()}


def profile_of(run: int, fault: PlantedFault | None = None, model: Model | None = None) -> Profile:
    """The values of a real run; of a copy with a fault where one is given."""
    real = read_runs()[run]
    if fault is None:
        return real.columns
    if model is None or fault.tag not in model.spread:
        raise ValueError(f"the published model does not say the spread of {fault.tag}")
    spread = spread_along(real, fault.tag, model.spread[fault.tag])
    onset = int(fault.onset * len(real.times))
    return plant_fault(real, fault.tag, fault.kind, onset, fault.magnitude, spread).columns
