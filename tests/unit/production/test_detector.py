"""The detector: whatever the order, the split and the repeats of what it hears, it finds the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.envelope import Event
from services.kit.runners.reactor import Reactor
from services.production.domain import golden, samples
from services.production.domain.equipment import Equipment, Tag
from services.production.domain.golden import GoldenModel
from services.production.domain.samples import Run
from services.production.handlers import DETECTOR, HISTORY
from services.production.handlers.models import published, train
from services.production.views import LOTS, PRODUCTS, RUNS, WATCHES
from services.refusals import Refusal
from tests.unit.production.memory import Memory, minutes, said

PRODUCT, OVEN = "maker/item/API", "plant-1/oven-1"
EQUIPMENT = {
    OVEN: Equipment(OVEN, "plant-1", (Tag("Temp", "Cel"), Tag("Load", "kg"), Tag("TempSP", "Cel", True)))
}
DETECT = Reactor("detector", DETECTOR)
ROWS = 24
#: Faults that only a signed limit of 1 shows, and that every limit shows.
SMALL, LARGE = 4.0, 100.0
Said = tuple[Event, str]


def ramp() -> list[float]:
    return [50 + 0.5 * row for row in range(ROWS)]


def values(fault: float = 0.0) -> dict[str, list[float]]:
    """A made-up process without noise: a ramp and a steady tag. A fault is a step of Temp in the middle
    and a large one of Load two thirds through."""
    step = [fault if row >= ROWS // 2 else 0.0 for row in range(ROWS)]
    temp = [value + by for value, by in zip(ramp(), step, strict=True)]
    load = [20.0 + (LARGE if fault and row >= ROWS * 2 // 3 else 0.0) for row in range(ROWS)]
    return {"Temp": temp, "Load": load, "TempSP": [80.0] * ROWS}


def batches(lot: str, table: dict[str, list[float]], rows: int = ROWS) -> list[events.ReadingsRecorded]:
    units = {tag.name: tag.unit for tag in EQUIPMENT[OVEN].tags}
    made = []
    for first in range(0, ROWS, rows):
        batch = events.ReadingsRecorded(equipment=OVEN, lot=lot)
        batch.start.at.FromDatetime(minutes(first))
        batch.offsets_ms[:] = [60_000 * row for row in range(min(rows, ROWS - first))]
        for tag, column in table.items():
            batch.tags.add(tag=tag, unit=units[tag], values=column[first : first + rows])
        made.append(batch)
    return made


def runs(count: int) -> list[Run]:
    """Good runs, each a little different."""
    made = []
    for n in range(count):
        lot, table = f"{PRODUCT}/good-{n}", values()
        noise = np.random.default_rng(n).normal(scale=0.2, size=(2, ROWS))
        noisy = {"Temp": table["Temp"] + noise[0], "Load": table["Load"] + noise[1]}
        table |= {tag: column.tolist() for tag, column in noisy.items()}
        made.append(Run(lot, OVEN, samples.of(batches(lot, table)[0])))
    return made


@pytest.fixture(scope="module")
def learnt() -> GoldenModel:
    return golden.decode(train(PRODUCT, runs(golden.MIN_TRAINING_RUNS), EQUIPMENT).parameters)


def certain(model: GoldenModel, version: str) -> events.GoldenModelTrained:
    """The model with numbers that a test can count on: the ramp and the steady tag, each within 1."""
    tags, points = model.recipe.tags, model.points
    ages = np.asarray(model.recipe.ages)
    cell = np.searchsorted(ages, 60.0 * np.arange(ROWS), side="right") - 1
    mean, spread = np.full((len(tags), points), 20.0), np.ones((len(tags), points))
    place = tags.index("Temp")
    for point in set(cell):
        within = np.asarray(ramp())[cell == point]
        mean[place, point], spread[place, point] = within.mean(), 1 + np.ptp(within)
    return published(
        replace(
            model,
            version=version,
            mean=mean.tobytes(),
            level=spread.tobytes(),
            shift=spread.tobytes(),
            learnt=np.zeros_like(mean).tobytes(),
        )
    )


@pytest.fixture(scope="module")
def model(learnt: GoldenModel) -> events.GoldenModelTrained:
    return certain(learnt, "v1")


def test_a_model_is_published_fit_to_be_read(learnt: GoldenModel) -> None:
    model = published(learnt)
    assert {tag.tag for tag in model.tags} == {"Temp", "Load"}, "a set-point is not monitored"
    assert 0 <= model.rate_low <= model.false_alarms / model.judged_runs <= model.rate_high <= 1
    assert all(spread > 0 for tag in model.tags for spread in tag.spread)


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(Refusal) as refused:
        train(PRODUCT, runs(3), EQUIPMENT)
    assert (refused.value.reason, refused.value.field) == ("TOO_FEW_RUNS", "lots")


def test_runs_without_a_common_tag_are_refused() -> None:
    other = samples.of(
        events.ReadingsRecorded(offsets_ms=[0], tags=[events.TagReadings(tag="X", values=[1])])
    )
    with pytest.raises(Refusal, match="NO_COMMON_TAGS"):
        train(PRODUCT, [*runs(3), Run(f"{PRODUCT}/x", OVEN, other)], EQUIPMENT)


def started(lot: str, at: float) -> Said:
    return said(events.LotStarted(lot=lot, product=PRODUCT, equipment=OVEN), minutes(at), seq=1, subject=lot)


def readings(lot: str, fault: float, rows: int = 8) -> list[Said]:
    return [said(batch, minutes(200)) for batch in batches(lot, values(fault), rows)]


def trained(model: events.GoldenModelTrained, at: float, seq: int = 1) -> Said:
    return said(model, minutes(at), seq=seq, subject=PRODUCT)


def limit(after: float, at: float) -> Said:
    changed = events.ProcessLimitChanged(product=PRODUCT, tag="Temp", limit_after=after, capa="c1", run="r1")
    return said(changed, minutes(at), seq=3, subject="c1")


def found(memory: Memory) -> dict[tuple[str, str], bytes]:
    """What was detected, by lot and tag."""
    result = {}
    for event in memory.out(events.DeviationDetected):
        detected: Any = event.message
        result[(detected.lot, detected.tag)] = detected.SerializeToString(deterministic=True)
    assert len(result) == len(memory.out(events.DeviationDetected)), "once for a lot and tag"
    return result


def updates(memory: Memory, tag: str) -> list[events.DeviationUpdated]:
    told: list[Any] = [event.message for event in memory.out(events.DeviationUpdated)]
    return [updated for updated in told if updated.tag == tag]


def story(model: events.GoldenModelTrained) -> list[list[Said]]:
    """What happened, as the sequences whose order the log keeps."""
    early, late, good = f"{PRODUCT}/early", f"{PRODUCT}/later", f"{PRODUCT}/steady"
    return [
        [trained(model, 0)],
        [limit(1.0, 100)],
        *([started(lot, at)] for lot, at in ((early, 10), (late, 150), (good, 20))),
        readings(early, LARGE),
        readings(late, SMALL),
        readings(good, 0.0),
    ]


def tell(sequences: list[list[Said]], order: Iterable[int], chunk: int) -> Memory:
    """The sequences interleaved as `order` says, in batches of `chunk` records."""
    memory, rest = Memory(), [iter(sequence) for sequence in sequences]
    told = [event for place in order for event in _next(rest[place])]
    told += [event for sequence in rest for event in sequence]
    for first in range(0, len(told), chunk):
        memory.give(DETECT, told[first : first + chunk])
    return memory


def _next(sequence: Iterator[Said]) -> list[Said]:
    event = next(sequence, None)
    return [] if event is None else [event]


def test_a_story_in_its_order_finds_the_large_fault_and_the_small_one_after_the_limit_changed(
    model: events.GoldenModelTrained,
) -> None:
    result = found(tell(story(model), [], 1))
    early, late = f"{PRODUCT}/early", f"{PRODUCT}/later"
    assert set(result) == {(lot, tag) for lot in (early, late) for tag in ("Temp", "Load")}
    small = events.DeviationDetected.FromString(result[(late, "Temp")])
    assert (small.limit, small.model_version) == (1.0, model.version)
    assert math.isfinite(small.magnitude)


def test_a_deviation_says_what_the_products_rules_propose(
    memory: Memory, model: events.GoldenModelTrained
) -> None:
    """Temp leaves its proven acceptable range in the evidence, Load stays inside its own."""
    table = api.SetSeverityRulesRequest(product=PRODUCT)
    for tag, unit in (("Temp", "Cel"), ("Load", "kg")):
        table.rules.add(tag=tag, severity=events.SEVERITY_MINOR, critical_parameter=True, unit=unit, high=150)
    memory.ask("SetSeverityRules", table)
    lot = f"{PRODUCT}/early"
    memory.give(DETECT, [trained(model, 0), started(lot, 10), *readings(lot, LARGE)])
    proposed = {tag: events.DeviationDetected.FromString(raw) for (_, tag), raw in found(memory).items()}
    assert {tag: detected.proposed_severity for tag, detected in proposed.items()} == {
        "Temp": events.SEVERITY_MAJOR,
        "Load": events.SEVERITY_MINOR,
    }


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_interleaving_finds_and_keeps_the_same(
    model: events.GoldenModelTrained, data: st.DataObject
) -> None:
    sequences = story(model)
    places = [place for place, sequence in enumerate(sequences) for _ in sequence]
    order = data.draw(st.permutations(places))
    chunk = data.draw(st.sampled_from([1, 3, len(places)]))
    once, other = tell(sequences, [], 1), tell(sequences, order, chunk)
    assert found(other) == found(once)
    assert other.states(WATCHES) == once.states(WATCHES)
    assert extents(other) == extents(once)


def extents(memory: Memory) -> dict[str, bytes]:
    """What the lots know of how long their deviations lasted."""
    return {d.deviation: d.updated for lot in memory.states(LOTS).values() for d in lot.deviations}


@pytest.mark.parametrize("rows", [1, 5, ROWS])
def test_a_deviation_is_one_and_grows_while_it_lasts(
    memory: Memory, model: events.GoldenModelTrained, rows: int
) -> None:
    """Load is out from two thirds of the run to its end: counted by hand, not by the detector."""
    lot = f"{PRODUCT}/early"
    memory.give(DETECT, [trained(model, 0), started(lot, 10)])
    for batch in readings(lot, LARGE, rows):
        memory.give(DETECT, [batch])
    assert set(found(memory)) == {(lot, "Temp"), (lot, "Load")}
    told = updates(memory, "Load")
    outside = ROWS - ROWS * 2 // 3
    latest = told[-1]
    assert latest.samples_out == outside
    assert latest.last_out.ToDatetime(UTC) == minutes(ROWS - 1)
    assert (latest.lowest, latest.highest, latest.lasting) == (20 + LARGE, 20 + LARGE, True)
    assert latest.magnitude == pytest.approx(LARGE)
    if rows == 1:
        counts = [updated.samples_out for updated in told]
        assert counts == sorted(counts)
        assert len(counts) > 1
    (held,) = [d for d in memory.states(LOTS)[lot].deviations if d.deviation == latest.deviation]
    assert events.DeviationUpdated.FromString(held.updated) == latest


def test_a_tag_that_comes_back_and_leaves_again_goes_on_with_its_deviation(
    memory: Memory, model: events.GoldenModelTrained
) -> None:
    lot, table = f"{PRODUCT}/early", values()
    table["Load"] = [20.0 + (30.0 if row in (4, 5, 6, 7, 14, 15, 16) else 0.0) for row in range(ROWS)]
    memory.give(DETECT, [trained(model, 0), started(lot, 10)])
    for batch in batches(lot, table, 1):
        memory.give(DETECT, [said(batch, minutes(200))])
    assert set(found(memory)) == {(lot, "Load")}
    told = updates(memory, "Load")
    ended = [updated for updated in told if not updated.lasting]
    assert [updated.samples_out for updated in ended] == [4, 7], "it ended twice, and is one"
    assert told[-1].last_out.ToDatetime(UTC) < minutes(ROWS - 1)


def test_what_two_workers_fold_at_the_same_moment_is_not_missed_by_both(
    model: events.GoldenModelTrained,
) -> None:
    """Neither sees what the other writes: one of the two must be done again."""
    lot = f"{PRODUCT}/later"
    told = [trained(model, 0), limit(1.0, 100), started(lot, 150), *readings(lot, SMALL, ROWS)]
    once = Memory()
    once.give(DETECT, told)
    for order in permutations(told):
        for place in range(len(told) - 1):
            memory = Memory()
            memory.give(DETECT, order[:place])
            memory.give_together(DETECT, order[place], order[place + 1])
            memory.give(DETECT, order[place + 2 :])
            assert found(memory) == found(once)
            assert memory.states(WATCHES) == once.states(WATCHES)


def test_repeats_change_nothing(memory: Memory, model: events.GoldenModelTrained) -> None:
    told = [event for sequence in story(model) for event in sequence]
    memory.give(DETECT, told)
    once, docs = found(memory), memory.states(WATCHES)
    memory.give(DETECT, told)
    assert (found(memory), memory.states(WATCHES)) == (once, docs)


def test_nothing_is_judged_before_the_lot_is_known(memory: Memory, model: events.GoldenModelTrained) -> None:
    lot = f"{PRODUCT}/early"
    memory.give(DETECT, [trained(model, 0), *readings(lot, LARGE)])
    assert not found(memory)
    memory.give(DETECT, [started(lot, 10)])
    assert set(found(memory)) == {(lot, "Temp"), (lot, "Load")}
    assert [held.deviation for held in memory.states(LOTS)[lot].deviations]


def test_a_model_does_not_judge_the_runs_it_was_made_from(
    memory: Memory, model: events.GoldenModelTrained
) -> None:
    lot = model.calibration_lots[0]
    memory.give(DETECT, [started(lot, 10), *readings(lot, LARGE), trained(model, 20)])
    assert not found(memory)


def test_a_run_is_judged_by_the_model_that_was_in_force_when_it_started(
    memory: Memory, learnt: GoldenModel, model: events.GoldenModelTrained
) -> None:
    lot, newer = f"{PRODUCT}/early", certain(learnt, "v2")
    memory.give(
        DETECT, [trained(model, 0), trained(newer, 50, seq=2), started(lot, 10), *readings(lot, LARGE)]
    )
    detected: list[Any] = [event.message for event in memory.out(events.DeviationDetected)]
    assert {one.model_version for one in detected} == {model.version}
    assert model.version != newer.version


def test_of_a_products_runs_the_same_ones_stay_wherever_the_first_model_comes(
    model: events.GoldenModelTrained,
) -> None:
    lots = [started(f"{PRODUCT}/{n:03}", n) for n in range(70)]
    early, late = Memory(), Memory()
    early.give(DETECT, [trained(model, 0), *lots])
    late.give(DETECT, [*lots, *readings(f"{PRODUCT}/000", LARGE), trained(model, 0)])
    assert {lot for lot, _ in found(late)} == {f"{PRODUCT}/000"}, "the oldest waited for the model"
    assert late.states(PRODUCTS) == early.states(PRODUCTS)


def test_the_history_holds_each_run_once(memory: Memory) -> None:
    lot = f"{PRODUCT}/1"
    keep = Reactor("history", HISTORY, emits=False)
    told = readings(lot, 0.0)
    memory.give(keep, [*told, *told])
    (run,) = memory.states(RUNS).values()
    assert (run.lot, run.equipment, len(run.samples)) == (lot, OVEN, ROWS)
    assert run.samples.table()["Temp"].tolist() == values()["Temp"]
