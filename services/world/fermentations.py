"""The fermentations of plant 2: the penicillin model, what the plant measures of it, and planted faults.

Every batch differs from the next a little (inoculum, medium, the settings of
its loops), every reading has noise, and some tags say nothing of the product:
the cooling water follows the weather, and the head pressure the air. A fault
acts on the process itself, and the readings show what comes of it; only a
sensor's drift is in the reading alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from services.world.entities import Conditions
from services.world.pensim import Floats, Inputs, Kinetics, State, ferment
from services.world.pensim_balances import base, carbon_dioxide, cooling, heat
from services.world.signals import Profile, Tag

SAMPLE = timedelta(hours=2.5)
SAMPLES = 161  # 400 h
_HOURS = SAMPLE.total_seconds() / 3600
_KELVIN = 273.15
_SATURATION = Kinetics().saturation
#: A fault that grows is of its full size after so many samples.
GROWING = 12

#: Tags with their UCUM units, and the noise of a reading in that unit (of the flows: as a share).
_MEASURED: tuple[tuple[Tag, float], ...] = (
    (Tag("FeedRate", "L/h"), 0.01),
    (Tag("AerationRate", "L/h"), 0.005),
    (Tag("AgitatorPower", "W"), 0.01),
    (Tag("Temperature", "Cel"), 0.05),
    (Tag("PH", "[pH]"), 0.01),
    (Tag("DissolvedOxygen", "%"), 0.3),
    (Tag("CarbonDioxide", "mmol/L"), 0.02),
    (Tag("Biomass", "g/L"), 0.015),
    (Tag("Volume", "L"), 0.05),
    (Tag("CoolingFlow", "L/h"), 0.02),
    (Tag("BaseFlow", "mL/h"), 0.02),
    (Tag("CoolingWaterTemperature", "Cel"), 0.05),
    (Tag("JacketTemperature", "Cel"), 0.05),
    (Tag("HeadPressure", "mbar"), 0.5),
)
_AS_SHARE = {
    "FeedRate",
    "AerationRate",
    "AgitatorPower",
    "CarbonDioxide",
    "Biomass",
    "CoolingFlow",
    "BaseFlow",
}
FEED_SET_POINT = Tag("FeedRateSP", "L/h", set_point=True)
TAGS = (*(tag for tag, _ in _MEASURED), FEED_SET_POINT)


@dataclass(frozen=True)
class FaultKind:
    """What a planted fault does: the tags that show it, and how large it is (`unit` in words)."""

    tags: tuple[str, ...]
    size: float
    unit: str


#: The faults of a fermentation. The first tag is the one that the fault is named by.
FAULTS = {
    "feed-loss": FaultKind(("FeedRate", "Biomass", "CarbonDioxide", "Volume"), 0.35, "share of the feed"),
    "temperature-drift": FaultKind(
        ("Temperature", "JacketTemperature", "CoolingFlow", "Volume"), 2.5, "K above the set point"
    ),
    "agitation-loss": FaultKind(("AgitatorPower", "DissolvedOxygen"), 0.40, "share of the power"),
    "sensor-drift": FaultKind(("DissolvedOxygen",), -12.0, "% of saturation, of the reading alone"),
    "contamination": FaultKind(
        ("DissolvedOxygen", "CarbonDioxide", "PH", "Biomass", "FeedRate"), 3.0, "g/L of a foreign organism"
    ),
    "flutter": FaultKind(("PH",), 0.5, "[pH] to either side, of the reading alone"),
}
#: A fault is measured by the reading alone, and never touches the product.
HARMLESS = ("sensor-drift", "flutter")
_FLUTTERS = 6
_INOCULUM, _DOUBLINGS = 0.002, 0.25  # of the contaminant: g/L, 1/h
_ACIDS = 0.05  # [pH] that a g/L of the contaminant takes from what the base holds


@dataclass(frozen=True)
class Trouble:
    """A fault in a run: its kind, size (see FAULTS) and the sample with which it begins."""

    kind: str
    size: float
    onset: int

    def ramp(self, hour: float) -> float:
        """How much of a growing fault is there."""
        return min(1.0, max(0.0, (hour - self.onset * _HOURS) / (GROWING * _HOURS)))

    def there(self, hour: float) -> bool:
        return hour >= self.onset * _HOURS


def profile(batch: Conditions, trouble: Trouble | None = None) -> Profile:
    """What the plant's historian holds of a batch, sample by sample."""
    times = np.arange(SAMPLES, dtype=np.float64) * _HOURS
    course = _course(batch, trouble)
    begin = State(biomass=batch.biomass, substrate=batch.substrate)
    kinetics = replace(Kinetics(), mu_x=Kinetics().mu_x * batch.growth)
    made = ferment(course, times, begin=begin, kinetics=kinetics)
    inputs = [course(hour) for hour in times.tolist()]
    feeding = times > made.switched
    feed = np.where(feeding, [x.feed for x in inputs], 0.0)
    foreign = np.array([x.contaminant for x in inputs])
    temperature = np.array([x.temperature for x in inputs])
    water = batch.water + _weather(times)
    cooled = cooling(heat(made), feed, temperature, float(batch.water) + _KELVIN)
    truth = {
        "FeedRate": feed,
        "AerationRate": np.array([x.aeration for x in inputs]),
        "AgitatorPower": np.array([x.power for x in inputs]),
        "Temperature": temperature - _KELVIN,
        "PH": batch.ph - _ACIDS * foreign,
        "DissolvedOxygen": 100 * made.states[:, 2] / _SATURATION,
        "CarbonDioxide": carbon_dioxide(made, inputs),
        "Biomass": made.states[:, 0] + foreign,
        "Volume": made.states[:, 4],
        "CoolingFlow": cooled,
        "BaseFlow": 1000 * base(made),
        "CoolingWaterTemperature": water,
        "JacketTemperature": 0.4 * water + 0.6 * (temperature - _KELVIN),
        "HeadPressure": 80 + 2.5 * (batch.aeration - 8),
    }
    readings = _read(truth, batch.noise, trouble)
    return {**readings, FEED_SET_POINT.name: np.where(feeding, 0.042 * batch.feed, 0.0).tolist()}


def _course(batch: Conditions, trouble: Trouble | None) -> Callable[[float], Inputs]:
    usual = Inputs(
        feed=0.042 * batch.feed,
        aeration=batch.aeration,
        power=batch.power,
        temperature=batch.temperature,
        ph=batch.ph,
    )
    if trouble is None or trouble.kind in HARMLESS:
        return lambda hour: usual
    kind, size = trouble.kind, trouble.size

    def course(hour: float) -> Inputs:
        if not trouble.there(hour):
            return usual
        if kind == "feed-loss":
            return replace(usual, feed=usual.feed * (1 - size))
        if kind == "agitation-loss":
            return replace(usual, power=usual.power * (1 - size))
        if kind == "temperature-drift":
            return replace(usual, temperature=usual.temperature + size * trouble.ramp(hour))
        return replace(usual, contaminant=_grown(hour - trouble.onset * _HOURS, size))

    return course


def _grown(hours: float, most: float) -> float:
    """Logistic growth from the inoculum."""
    return most / (1 + (most / _INOCULUM - 1) * math.exp(-_DOUBLINGS * hours))


def _weather(times: Floats) -> Floats:
    """Day and night in the cooling water, K."""
    return np.asarray(0.4 * np.sin(2 * np.pi * times / 24))


def _read(truth: dict[str, Floats], noise: int, trouble: Trouble | None) -> dict[str, list[float]]:
    """The truth as the sensors tell it."""
    draw = np.random.default_rng(noise)
    told: dict[str, list[float]] = {}
    for tag, spread in _MEASURED:
        true = np.broadcast_to(truth[tag.name], SAMPLES)
        size = spread * np.abs(true) if tag.name in _AS_SHARE else spread
        shown = true + size * draw.standard_normal(SAMPLES)
        if trouble and trouble.kind in HARMLESS and tag.name == FAULTS[trouble.kind].tags[0]:
            shown = shown + _misread(trouble)
        told[tag.name] = np.round(shown, 6).tolist()
    return told


def _misread(trouble: Trouble) -> Floats:
    """What a bad sensor adds: a drift that stays, or a loose contact that swings for some samples."""
    places = np.arange(SAMPLES)
    if trouble.kind == "sensor-drift":
        return np.array([trouble.size * trouble.ramp(place * _HOURS) for place in places])
    swings = (places >= trouble.onset) & (places < trouble.onset + _FLUTTERS)
    return np.where(swings, trouble.size * (-1.0) ** (places - trouble.onset), 0.0)
