"""Runs as the wall and the charts show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.ids import product_of
from services.kit.rpc.status import timestamp
from services.production import answers
from services.production.domain import standing, tag_chart, wall
from services.production.domain.equipment import Equipment
from services.production.domain.golden import LIMIT, GoldenModel
from services.production.domain.record import Deviation, Lot
from services.production.domain.samples import Samples
from services.production.domain.standing import Course, Standing
from services.production.domain.watch import Watch
from services.production.handlers.models import told_charts, told_prices

#: Points of the line in a row of the wall.
_LINE = 60
_STATES = {
    "unknown": api.WALL_STATE_UNSPECIFIED,
    "normal": api.WALL_STATE_NORMAL,
    "watch": api.WALL_STATE_WATCH,
    "abnormal": api.WALL_STATE_ABNORMAL,
    "silent": api.WALL_STATE_SILENT,
}


class Now(NamedTuple):
    """When it is looked at: wall time, and how many seconds of the platform's pass in one of it."""

    wall: datetime
    speed: float = 1.0


class Seen(NamedTuple):
    """A lot's run: what the detector keeps of it, the model that judges it, and what is seen by that; each
    None where there is none."""

    lot: Lot
    watch: Watch | None
    model: GoldenModel | None
    course: Course | None

    @property
    def samples(self) -> Samples:
        return self.watch.samples if self.watch else Samples()

    @property
    def limits(self) -> Mapping[str, float]:
        """Limits that a signature changed."""
        return self.watch.basis.limits if self.watch and self.watch.basis else {}

    @property
    def running(self) -> bool:
        return bool(self.lot.started) and not self.lot.completed and self.lot.state != "rejected"

    def quiet(self, now: Now) -> float:
        """Seconds of platform time since the run was last heard of; 0 where that was not kept."""
        if self.watch is None or not self.watch.heard:
            return 0.0
        return (now.wall - datetime.fromisoformat(self.watch.heard)).total_seconds() * now.speed

    @property
    def judging(self) -> api.RunJudging:
        if not len(self.samples):
            return api.RUN_JUDGING_UNSPECIFIED
        if self.model is None:
            return api.RUN_JUDGING_NO_MODEL
        return api.RUN_JUDGING_JUDGED if self.course else api.RUN_JUDGING_TRAINED_ON

    def moment(self, seconds: float) -> Timestamp:
        """A moment of the run, from seconds since its first sample."""
        stamp = Timestamp()
        stamp.FromMicroseconds(int(self.samples.axis()[0]) + round(seconds * 1_000_000))
        return stamp

    def standings(self) -> list[Standing]:
        if self.course is None or self.model is None or not len(self.samples):
            return []
        return standing.standings(self.course, self.model, self.limits)


def idle(equipment: Equipment, lines: list[str]) -> api.WallRow:
    """Equipment that ran no lot."""
    return api.WallRow(equipment=equipment.equipment, plant=equipment.plant, lines=lines)


def row(equipment: Equipment, lines: list[str], run: Seen, duration: float, now: Now) -> api.WallRow:
    """A row of the wall; `duration` is how long golden runs take, in seconds, 0 where that is not known."""
    lot, standings = run.lot, run.standings()
    worst = standings[0] if standings else None
    shown = idle(equipment, lines)
    shown.lot, shown.product = lot.lot, lot.product or product_of(lot.lot)
    shown.lot_state, shown.running = answers.LOT_STATES[lot.state], run.running
    if lot.started:
        shown.started.CopyFrom(timestamp(datetime.fromisoformat(lot.started)))
    if lot.completed:
        shown.completed.CopyFrom(timestamp(datetime.fromisoformat(lot.completed)))
    shown.judging = run.judging
    if run.running:
        shown.silent_after = wall.silent_after(run.samples, now.speed)
        shown.silent = run.quiet(now) > shown.silent_after
    shown.state = _STATES[wall.state(lot, worst.ratio if worst else None, shown.silent)]
    shown.deviations.extend(_standing(found) for found in wall.standing_deviations(lot))
    if len(run.samples):
        latest = float(run.samples.seconds()[-1])
        shown.latest_reading.CopyFrom(run.moment(latest))
        if duration:
            shown.progress = latest / duration
    if run.model is not None:
        shown.model_version = run.model.version
        shown.false_alarms.CopyFrom(_price(run.model, run.limits))
    if worst is not None and run.course is not None and run.model is not None:
        shown.worst.CopyFrom(_stands(run, worst))
        seconds, ratios = standing.line(run.course, run.model, run.limits, _LINE)
        shown.line.CopyFrom(api.RatioLine(start=run.moment(0.0), seconds=seconds, ratios=ratios))
    return shown


def _standing(held: Deviation) -> api.StandingDeviation:
    detected = events.DeviationDetected.FromString(held.detected)
    newest = events.DeviationUpdated.FromString(held.updated) if held.updated else detected
    return api.StandingDeviation(
        deviation=held.deviation,
        tag=detected.tag,
        state=answers.DEVIATION_STATES[held.state],
        severity=events.Severity.Name(held.severity or newest.proposed_severity),
        classified=bool(held.severity),
        detected=detected.detected,
    )


def _stands(run: Seen, one: Standing) -> api.TagStanding:
    return api.TagStanding(
        tag=one.tag,
        unit=run.samples.units().get(one.tag, ""),
        rule=one.rule,
        value=one.value,
        limit=one.limit,
        ratio=one.ratio,
        at=run.moment(one.at),
        worst_ratio=one.worst_ratio,
        worst_at=run.moment(one.worst_at),
    )


def _price(model: GoldenModel, limits: Mapping[str, float]) -> api.FalseAlarms:
    cost = standing.price(model, limits)
    return api.FalseAlarms(
        alarmed=cost.alarmed, runs=cost.runs, rate_low=cost.low, rate_high=cost.high, at_most=cost.at_most
    )


# -- charts ---------------------------------------------------------------


def chart(run: Seen, equipment: Equipment | None, asked: str, most: int) -> api.GetChartResponse:
    """The chart of a tag, which is known; of the worst one where none is asked for."""
    lot, model, samples = run.lot, run.model, run.samples
    units = samples.units()
    standings = sorted(run.standings(), key=lambda one: (-one.worst_ratio, one.tag))
    tag = asked or next(iter([*(one.tag for one in standings), *_first(model, units)]), "")
    registered = equipment.tag(tag) if equipment else None
    shown = api.GetChartResponse(
        lot=lot.lot,
        product=lot.product or product_of(lot.lot),
        equipment=lot.equipment,
        lot_state=answers.LOT_STATES[lot.state],
        running=run.running,
        tag=tag,
        unit=units.get(tag) or (registered.unit if registered else ""),
        set_point_tag=tag_chart.set_point_of(tag, equipment, units),
        judging=run.judging,
        samples=len(samples),
        tags=sorted(units),
        standings=[_stands(run, one) for one in standings],
    )
    deviations = [held for held in lot.deviations if _tag(held) == tag]
    shown.deviations.extend(map(answers.deviation, deviations))
    if model is not None:
        _tell_model(shown, model, run.limits)
    if len(samples):
        shown.start.CopyFrom(run.moment(0.0))
        judged = run.course is not None
        limit = run.limits.get(tag, LIMIT)
        drawn = tag_chart.drawn(samples, tag, shown.set_point_tag, model, limit, judged)
        keep = [moment for held in deviations for moment in _moments(samples, held)]
        shown.points.extend(_points(tag_chart.thinned(drawn, most, keep)))
    return shown


def _first(model: GoldenModel | None, units: Mapping[str, str]) -> list[str]:
    """What is shown of a run that nothing stands out in: a tag that is monitored, else any."""
    monitored = [tag for tag in model.recipe.tags if tag in units] if model else []
    return [*monitored, *sorted(units)]


def _tell_model(shown: api.GetChartResponse, model: GoldenModel, limits: Mapping[str, float]) -> None:
    shown.model_version = model.version
    shown.false_alarms.CopyFrom(_price(model, limits))
    shown.monitored = shown.tag in model.recipe.tags
    if shown.monitored:
        shown.limit, shown.limit_changed = limits.get(shown.tag, LIMIT), shown.tag in limits
    if model.charting is not None:
        shown.charts.CopyFrom(told_charts(model.charting.charts))
        shown.chart_prices.extend(told_prices(model.charting))


def _tag(held: Deviation) -> str:
    return events.DeviationDetected.FromString(held.detected).tag


def _moments(samples: Samples, held: Deviation) -> tuple[float, float]:
    """When a deviation began and when it was detected, in seconds since the run's first sample."""
    detected, first = events.DeviationDetected.FromString(held.detected), int(samples.axis()[0])
    began, found = detected.first_out.ToMicroseconds(), detected.detected.ToMicroseconds()
    return (began - first) / 1_000_000, (found - first) / 1_000_000


def _points(drawn: tag_chart.TagChart) -> list[api.ChartPoint]:
    names = tag_chart.COLUMNS
    table = np.column_stack([drawn.columns[name] for name in names]).tolist()
    return [
        api.ChartPoint(
            seconds=seconds,
            **{name: value for name, value in zip(names, values, strict=True) if not math.isnan(value)},
        )
        for seconds, values in zip(drawn.seconds.tolist(), table, strict=True)
    ]
