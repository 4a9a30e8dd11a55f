"""The rule of the simulated quality assurance on what the platform's own detector publishes of this world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.golden import GoldenModel, train
from services.production.domain.maturity import Run
from services.production.domain.monitor import Alarm
from services.production.domain.monitor import judge as detect
from services.production.domain.recipes import DRYER, FERMENTER
from services.world import entities
from services.world.actors.judgement import judge
from services.world.entities import Line, ProcessLot
from services.world.processes import SAMPLE, TAGS, profile
from services.world.records import World
from services.world.signals import Model

RECIPES = {entities.DRYER: DRYER, entities.FERMENTER: FERMENTER}


def recorded(line: Line, lot: ProcessLot, model: Model | None = None) -> Run:
    told, step = profile(line.process, lot, model), SAMPLE[line.process].total_seconds()
    columns = {tag.name: tuple(told[tag.name]) for tag in TAGS[line.process]}
    times = tuple(place * step for place in range(lot.samples))
    return Run(
        lot.lot, tuple(columns), times, tuple(columns.values()), tuple((True,) * lot.samples for _ in columns)
    )


def learnt(line: Line) -> tuple[GoldenModel, Model]:
    golden = train("p", RECIPES[line.process], [recorded(line, lot) for lot in line.lots if not lot.live])
    spread = golden.published_spread()
    return golden, Model({tag: tuple(spread[place]) for place, tag in enumerate(golden.recipe.tags)})


def published(alarm: Alarm) -> events.DeviationDetected:
    evidence = [
        events.EvidencePoint(value=p.value, expected=p.expected, low=p.low, high=p.high)
        for p in alarm.evidence
    ]
    return events.DeviationDetected(
        tag=alarm.tag,
        magnitude=alarm.magnitude,
        limit=alarm.limit,
        samples_out=alarm.samples_out,
        evidence=evidence,
    )


def alarmed(line: Line) -> Iterator[tuple[ProcessLot, bool, bool]]:
    """Each live lot, whether the detector alarms on it, and whether quality assurance confirms that."""
    golden, model = learnt(line)
    for lot in (lot for lot in line.lots if lot.live):
        alarms = detect(golden, {}, recorded(line, lot, model))
        yield lot, bool(alarms), any(judge(published(alarm)).confirmed for alarm in alarms)


@pytest.mark.parametrize("process", sorted(RECIPES))
def test_most_faults_are_confirmed_and_most_false_alarms_rejected(world: World, process: str) -> None:
    line = next(line for line in world.lines if line.process == process)
    seen = list(alarmed(line))
    faulty = [confirmed for lot, _, confirmed in seen if lot.faulty]
    false = [confirmed for lot, alarm, confirmed in seen if alarm and not lot.faulty]
    assert sum(faulty) >= 0.8 * len(faulty)
    assert false
    assert sum(false) <= 0.4 * len(false)
