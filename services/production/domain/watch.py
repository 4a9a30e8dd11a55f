"""What the detector keeps of a run, and which model and limits judge it.

Readings, lots, models and limits come on four topics in any order, and a
missed deviation harms patients. So nothing is judged by what happened to
arrive first: a run is judged by what was in force when its lot was started,
over all its samples, whenever one of these becomes known or grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import limits, maturity, samples
from services.production.domain.course import Extent, judge_extents
from services.production.domain.golden import GoldenModel
from services.production.domain.growing import Growing
from services.production.domain.limits import Limits
from services.production.domain.monitor import Alarm, Point
from services.production.domain.samples import Samples
from services.sayings import saying

#: So many of a product's started lots are judged again when a model or a limit comes late.
_RECENT = 64


@dataclass(frozen=True)
class Basis:
    """What judges a run: a model, and the limits that were changed by signature."""

    version: str
    limits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A model's version and since when it is in force (platform time, ISO)."""

    version: str
    at: str


@dataclass(frozen=True)
class Started:
    """A run to judge: its watch, and when its lot was started (platform time, ISO)."""

    watch: str
    at: str


@dataclass(frozen=True)
class Product:
    """The detector's copy of a product's models and limits, and the runs that they judge."""

    product: str
    limits: Limits
    versions: tuple[Version, ...] = ()
    runs: tuple[Started, ...] = ()

    def basis(self, start: str) -> Basis | None:
        """What was in force at a moment; the first model for what was before it."""
        if not self.versions:
            return None
        before = [version for version in self.versions if version.at <= start]
        return Basis((before or self.versions[:1])[-1].version, self.limits.at(start))

    def concerned(self, since: str) -> list[str]:
        """The runs that something in force since then judges."""
        first = bool(self.versions) and self.versions[0].at == since
        return [run.watch for run in self.runs if first or run.at >= since]


@dataclass(frozen=True)
class Parameters:
    """A model as it came, in the service's own coding."""

    model: bytes


@dataclass(frozen=True)
class Watch:
    """A run under watch. `told` is what was last said of each deviation, by tag: its DeviationUpdated
    without what others give it. `start` and `product` are empty while its lot is not known here;
    `found` are the tags that have a deviation, sorted: the row must not tell in which order
    the topics were read.

    `basis` is what judged the run last. It is stored although it could be looked up: a model
    that comes at the same moment as readings must write the same row as they do, or the
    database lets both pass, each without the other. `heard` is the wall time at which the run was last
    heard of: its start, or readings that are new (ISO); empty for a run of before this was kept."""

    lot: str
    equipment: str
    product: str = ""
    start: str = ""
    samples: Samples = field(default_factory=Samples)
    found: tuple[str, ...] = ()
    basis: Basis | None = None
    told: dict[str, bytes] = field(default_factory=dict)
    heard: str = ""


def registered(held: Product, watch: str, at: str) -> Product:
    """The product with a run more; without a model all are kept, for they wait for it."""
    runs = sorted({*held.runs, Started(watch, at)}, key=lambda run: (run.at, run.watch))
    return replace(held, runs=tuple(runs[-_RECENT:] if held.versions else runs))


def trained(held: Product, version: str, at: str) -> Product:
    """The product with a model more; what waited for the first one is still among its runs."""
    versions = sorted({*held.versions, Version(version, at)}, key=lambda known: known.at)
    return replace(held, versions=tuple(versions))


def settled(held: Product) -> Product:
    """The product once its runs are judged: only those remain that something late may concern."""
    return replace(held, runs=held.runs[-_RECENT:])


def limited(held: Product, event: events.ProcessLimitChanged, at: str) -> Product:
    """The product with a changed limit more."""
    return replace(held, limits=limits.change(held.limits, event, at))


def begun(held: Watch, product: str, start: str, heard: str) -> Watch:
    """The run, now that its lot is known."""
    return replace(held, product=product, start=start, heard=max(held.heard, heard))


def taken(held: Watch, more: Samples, heard: str) -> Watch:
    """The run with samples more; what is held already has no effect."""
    grown = samples.joined(held.samples, more)
    return held if grown == held.samples else replace(held, samples=grown, heard=max(held.heard, heard))


@dataclass(frozen=True)
class Verdict:
    """What a judgement has to say that was not said before."""

    found: tuple[events.DeviationDetected, ...] = ()
    updated: tuple[events.DeviationUpdated, ...] = ()


def judged(held: Watch, basis: Basis, model: GoldenModel, growing: Growing) -> tuple[Watch, Verdict]:
    """Judge the run as far as its samples go: what is new, with the run that knows it.

    A model does not judge the runs it was made from. A tag that comes back inside and leaves again
    goes on with its deviation: a lot has one for a tag.
    """
    held = replace(held, basis=basis)
    if held.lot in model.calibration_lots:
        return held, Verdict()
    alarms = _alarms(held, basis, model, growing)
    fresh = [alarm for alarm, _ in alarms if alarm.tag not in held.found]
    found = tuple(sorted((*held.found, *(alarm.tag for alarm in fresh))))
    updated = [
        said
        for alarm, extent in alarms
        if extent is not None
        and (said := _updated(held, alarm.tag, extent)).SerializeToString() != held.told.get(alarm.tag)
        and extent.last_out > alarm.detected
    ]
    told = held.told | {said.tag: said.SerializeToString() for said in updated}
    detected = tuple(_detected(held, basis, alarm) for alarm in fresh)
    return replace(held, found=found, told=dict(sorted(told.items()))), Verdict(detected, tuple(updated))


def _alarms(
    held: Watch, basis: Basis, model: GoldenModel, growing: Growing
) -> tuple[tuple[Alarm, Extent | None], ...]:
    """The alarms of the run so far. Control charts need all of it; what else judges goes on from before."""
    if model.charting is not None:
        return judge_extents(model, basis.limits, recorded(held.lot, held.samples))
    return growing.course(f"{held.lot}|{held.equipment}", held.samples, model, basis.limits).found


def recorded(lot: str, held: Samples) -> maturity.Run:
    """The samples as the golden run sees them: seconds since the first one."""
    table = held.table()
    return maturity.Run(
        lot=lot,
        tags=tuple(table),
        times=tuple(held.seconds().tolist()),
        values=tuple(tuple(np.nan_to_num(values).tolist()) for values in table.values()),
        good=tuple(tuple((~np.isnan(values)).tolist()) for values in table.values()),
    )


def _updated(held: Watch, tag: str, extent: Extent) -> events.DeviationUpdated:
    """The event of an extent; the deviation's id and the proposed severity are the service's to give."""
    moment = _clock(held)
    return events.DeviationUpdated(
        lot=held.lot,
        tag=tag,
        last_out=moment(extent.last_out),
        samples_out=extent.samples_out,
        magnitude=extent.magnitude,
        lowest=extent.lowest,
        highest=extent.highest,
        lasting=extent.lasting,
        evidence=[_point(moment, point) for point in extent.evidence],
    )


def _clock(held: Watch) -> Callable[[float], Timestamp]:
    """Moments of the run, from seconds since its first sample."""
    first = int(held.samples.axis()[0])

    def moment(seconds: float) -> Timestamp:
        stamp = Timestamp()
        stamp.FromMicroseconds(first + round(seconds * 1_000_000))
        return stamp

    return moment


def _point(moment: Callable[[float], Timestamp], point: Point) -> events.EvidencePoint:
    return events.EvidencePoint(
        at=moment(point.seconds), value=point.value, expected=point.expected, low=point.low, high=point.high
    )


def _detected(held: Watch, basis: Basis, alarm: Alarm) -> events.DeviationDetected:
    """The event of an alarm; its id is the service's to give."""
    moment = _clock(held)
    return events.DeviationDetected(
        lot=held.lot,
        product=held.product,
        equipment=held.equipment,
        tag=alarm.tag,
        phase=alarm.phase,
        first_out=moment(alarm.first_out),
        detected=moment(alarm.detected),
        magnitude=alarm.magnitude,
        rule=alarm.rule,
        model_version=basis.version,
        limit=alarm.limit,
        evidence=[_point(moment, point) for point in alarm.evidence],
        unit=held.samples.units()[alarm.tag],
        samples_out=alarm.samples_out,
        rule_saying=saying(alarm.code, **dict(alarm.values)) if alarm.code else None,
    )
