"""The real dryer runs as the world replays them, with or without a planted fault.

The runs and the way to plant a fault are `plant`'s; this module joins them
with the model that the platform publishes, for a fault is sized in its spread.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

from pharmaloop.production.v1 import events_pb2 as events
from services.world.entities import PlantedFault

#: One value for each sample, by tag.
Profile: TypeAlias = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Tag:
    """A tag of the dryers with its UCUM unit."""

    name: str
    unit: str
    set_point: bool = False


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


@dataclass(frozen=True)
class Model:
    """What GetModel publishes of each tag's spread."""

    spread: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, published: events.GoldenModelTrained) -> Model:
        return cls({tag.tag: tuple(tag.spread) for tag in published.tags})


@cache
def _runs() -> dict[int, dict[str, tuple[float, ...]]]:
    spec = importlib.util.find_spec("process_improve")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data package 'process-improve' is not installed; run 'make setup'")
    path = Path(spec.submodule_search_locations[0], "datasets", "batch", "dryer.csv")
    columns: dict[int, dict[str, list[float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            run = columns.setdefault(int(row["batch_id"]), {tag.name: [] for tag in TAGS})
            for tag in TAGS:
                run[tag.name].append(float(row[tag.name]))
    return {run: {tag: tuple(values) for tag, values in tags.items()} for run, tags in columns.items()}


def sample_counts() -> dict[int, int]:
    """How many samples each real run has."""
    return {run: len(tags[TAGS[0].name]) for run, tags in _runs().items()}


def profile_of(run: int, fault: PlantedFault | None = None, model: Model | None = None) -> Profile:
    """The values of a real run; of a copy with a fault where one is given."""
    values = _runs()[run]
    if fault is None:
        return values
    if model is None or fault.tag not in model.spread:
        raise ValueError(f"the published model does not say the spread of {fault.tag}")
    return {**values, fault.tag: _plant(values[fault.tag], fault, sorted(model.spread[fault.tag]))}


def _plant(values: Sequence[float], fault: PlantedFault, spread: Sequence[float]) -> tuple[float, ...]:
    begin = int(fault.onset * len(values))
    size = fault.magnitude * spread[len(spread) // 2]
    ramp = 1 if fault.kind == "step" else 20
    return tuple(
        value + size * min(1.0, (at - begin + 1) / ramp) if at >= begin else value
        for at, value in enumerate(values)
    )
