"""The live twin of a lot: its recorded samples, in the twin's terms, followed to the latest.

Inputs between two readings are the means of what was read of them; what was
measured is the last good value. The readings are thinned to one in a quarter of
an hour or more: the filter gains nothing from a denser series of a process that
takes weeks. What was followed before is not followed again while the samples
are the same from the first one on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.production.domain import samples as sampled
from services.production.domain.samples import Samples, Values
from services.production.domain.twin import quantities, reference
from services.production.domain.twin.errors import Refused
from services.production.domain.twin.follow import Following, Inputs, Reading, Start, begin, follow
from services.production.domain.twin.oxygen import parameters_in
from services.production.domain.twin.pensim import ReducedParameters
from services.production.domain.twin.process import Process
from services.production.twins.reading import VERSION, vessel_of
from services.refusals import Refusal

#: Tags that the twin needs, with the unit that it reckons in; and those of which it needs one at least.
INPUTS = {"FeedRate": "L/h", "AerationRate": "L/h", "AgitatorPower": "W", "Temperature": "K", "PH": "[pH]"}
MEASURED = {"DissolvedOxygen": "%", "CarbonDioxide": "mmol/L", "Volume": "L"}
_TELLING = ("DissolvedOxygen", "CarbonDioxide")
#: What a lot is followed by that is of no transfer: the process as it was published.
_PUBLISHED = "pensim-published"
_SPACING = 0.25  # h
_MICROSECONDS_AN_HOUR = 3.6e9
_KEPT = 32
#: Flows and power have noise around nought; the model knows none below.
_LEAST = {"FeedRate": 0.0, "AerationRate": 1e-6, "AgitatorPower": 1e-6}


@dataclass(frozen=True)
class Basis:
    """What a lot is made by: the model of its set and the vessel of its line; without, as published."""

    model: str = _PUBLISHED
    detail: events.LineDetail | None = None

    @property
    def process(self) -> Process:
        return reference.MODELS.get(self.model, Process())

    def parameters(self) -> ReducedParameters:
        known = self.process.parameters
        return known if self.detail is None else parameters_in(vessel_of("line", self.detail), known)


@dataclass(frozen=True)
class Followed:
    """How far a lot was followed: of its samples those before `next`, what the twin is then, how many
    readings it took, and which tags the last one had."""

    samples: Samples
    basis: Basis
    twin: Following
    next: int = 0
    readings: int = 0
    read: frozenset[str] = frozenset()


class Followers:
    """Follows lots, one at a time, and remembers the latest of them. Any thread may ask."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Followed] = OrderedDict()
        self._lock = threading.Lock()

    def follow(self, lot: str, samples: Samples, basis: Basis) -> api.GetTwinResponse:
        """The twin of a lot at its latest reading. Refusal where the lot has not what it needs."""
        table = _table(samples)
        with self._lock:
            held = self._held.pop(lot, None)
            if held is None or not _goes_on(held, samples, basis):
                held = Followed(Samples(), basis, begin(_start(table, basis)))
            followed = self._held[lot] = _followed(held, samples, table)
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)
        if not followed.readings:
            said = "no reading of the lot has all that the twin needs yet; look again when there is one"
            raise Refusal("NO_READINGS", said, "lot")
        return _told(lot, followed)


_FOLLOWERS = Followers()


def follow_lot(lot: str, samples: Samples, basis: Basis) -> api.GetTwinResponse:
    """Follow by the process' own followers: what a child process is asked."""
    return _FOLLOWERS.follow(lot, samples, basis)


def _goes_on(held: Followed, samples: Samples, basis: Basis) -> bool:
    return held.basis == basis and sampled.shared(held.samples, samples) == len(held.samples)


def _table(samples: Samples) -> dict[str, Values]:
    """The twin's tags in its units. Refusal names what is missing."""
    units, values = samples.units(), samples.table()
    found: dict[str, Values] = {}
    for tag, unit in (INPUTS | MEASURED).items():
        if tag in units and quantities.convert(0.0, units[tag], unit) is not None:
            zero, one = (quantities.convert(at, units[tag], unit) or 0.0 for at in (0.0, 1.0))
            found[tag] = values[tag] * (one - zero) + zero
    missing = [f"{tag} in {unit}" for tag, unit in INPUTS.items() if tag not in found]
    if not any(tag in found for tag in _TELLING):
        missing.append(" or ".join(f"{tag} in {MEASURED[tag]}" for tag in _TELLING))
    if missing:
        said = f"the twin needs readings that the lot's equipment does not give: {', '.join(missing)}"
        raise Refusal("TAGS_MISSING", f"{said}; record them, or look at another lot", "lot")
    return found


def _followed(held: Followed, samples: Samples, table: dict[str, Values]) -> Followed:
    """Followed on, through the samples that are new."""
    hours = ((samples.axis() - samples.axis()[0]) / _MICROSECONDS_AN_HOUR).tolist()
    parameters = held.basis.parameters()
    now = replace(held, samples=samples)
    for place in range(held.next, len(samples)):
        if now.readings and hours[place] - now.twin.hour < _SPACING:
            continue
        inputs = _inputs(table, now.next, place)
        if inputs is None:
            continue
        seen = {tag: _last(table[tag], now.next, place) for tag in MEASURED if tag in table}
        try:
            twin, _ = follow(now.twin, _reading(hours[place], inputs, seen), parameters)
        except Refused as error:
            said = f"the twin cannot follow the lot: {error.description}"
            raise Refusal(error.reason, said, "lot") from error
        read = frozenset(tag for tag, value in seen.items() if value is not None)
        now = replace(now, twin=twin, next=place + 1, readings=now.readings + 1, read=read)
    return now


def _start(table: dict[str, Values], basis: Basis) -> Start:
    process, volume = basis.process, 100.0
    if basis.detail is not None:
        volume = 1000 * basis.detail.liquid_m3
    elif "Volume" in table and (first := _last(table["Volume"], 0, 0)):
        volume = first
    return replace(
        Start(),
        biomass=process.biomass,
        substrate=process.substrate,
        oxygen=process.parameters.saturation,
        volume=volume,
    )


def _inputs(table: dict[str, Values], first: int, last: int) -> Inputs | None:
    """Means of what was set from one sample to another; None where one of them was never read there."""
    means = []
    for tag in INPUTS:
        good = table[tag][first : last + 1]
        good = good[~np.isnan(good)]
        if not len(good):
            return None
        means.append(max(_LEAST.get(tag, -np.inf), float(good.mean())))
    return Inputs(*means)


def _last(values: Values, first: int, last: int) -> float | None:
    good = values[first : last + 1]
    good = good[~np.isnan(good)]
    return float(good[-1]) if len(good) else None


def _reading(hour: float, inputs: Inputs, seen: dict[str, float | None]) -> Reading:
    return Reading(
        hour,
        inputs,
        dissolved_oxygen=seen.get("DissolvedOxygen"),
        carbon_dioxide=seen.get("CarbonDioxide"),
        volume=seen.get("Volume"),
    )


def _told(lot: str, followed: Followed) -> api.GetTwinResponse:
    """Means and standard deviations of the filter's states. Those of a logarithm are told as the median,
    and the deviation that belongs to it near there."""
    mean = np.array(followed.twin.mean)
    spread = np.sqrt(np.maximum(np.diag(np.array(followed.twin.covariance).reshape(len(mean), -1)), 0.0))
    percent = 100 / followed.basis.process.parameters.saturation
    biomass, substrate = np.exp(mean[:2])
    told = api.GetTwinResponse(lot=lot, model=f"{followed.basis.model}/{VERSION}", readings=followed.readings)
    told.at.FromMicroseconds(int(followed.samples.axis()[followed.next - 1]))
    for name, unit, value, deviation, tag in (
        ("biomass", "g/L", biomass, biomass * spread[0], ""),
        ("substrate", "g/L", substrate, substrate * spread[1], ""),
        ("product", "g/L", max(0.0, mean[3]), spread[3], ""),
        ("dissolved_oxygen", "%", mean[2] * percent, spread[2] * percent, "DissolvedOxygen"),
        ("carbon_dioxide", "mmol/L", mean[5], spread[5], "CarbonDioxide"),
        ("volume", "L", mean[4], spread[4], "Volume"),
        ("growth_factor", "1", np.exp(mean[6]), np.exp(mean[6]) * spread[6], ""),
    ):
        measured = tag in followed.read
        told.states.add(
            name=name, unit=unit, value=float(value), deviation=float(deviation), measured=measured
        )
    return told
