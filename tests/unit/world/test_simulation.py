"""The industry as a whole, against a platform that takes everything and finds nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from services.world.dryer_runs import sample_counts
from services.world.platform_api import Platform
from services.world.progress import Progress
from services.world.records import World
from services.world.simulation import Options, Simulation
from services.world.sizes import SAFETY
from services.world.worldgen import generate
from services.world.worldgen.cdisc import Pilot
from tests.unit.world.support import ANCHOR, CLOCK, Recorder

TAGS = ("DryerTemp", "JacketTemperature", "DryerPressure", "AgitatorPower")


@pytest.fixture(scope="module")
def world(pilot: Pilot) -> World:
    """The small world without the developer, who waits for what such a platform never does."""
    return generate(7, ANCHOR, pilot, sample_counts(), SAFETY)


@pytest.fixture
def simulation(
    world: World, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Simulation:
    for module in ("patients", "quality", "charts", "pharmacy", "pharmacist", "observer", "laboratory"):
        monkeypatch.setattr(f"services.world.actors.{module}.LOOK_SECONDS", 0.01)
    model = events.GoldenModelTrained(tags=[events.TagModel(tag=tag, spread=[1.0]) for tag in TAGS])
    recorder.answers = {
        "GetModel": lambda request: production.GetModelResponse(model=model),
        "GetLot": lambda request: production.GetLotResponse(
            lot=production.Lot(lot=request.lot, state=production.LOT_STATE_COMPLETED)
        ),
    }
    progress = Progress(tmp_path, 7, SAFETY.name, ANCHOR)
    options = Options(speed=1000.0)
    return Simulation(world, cast(Platform, recorder), CLOCK, progress, lambda text: None, options)


async def test_it_ends_when_everything_was_sent_and_every_lot_released(
    simulation: Simulation, world: World, recorder: Recorder
) -> None:
    assert await asyncio.wait_for(simulation.run(), 60) == []
    lots = {lot.lot for line in world.lines for lot in line.lots}
    for name in ("StartLot", "CompleteLot", "ReleaseLot"):
        assert {request.lot for request in recorder.of(name)} == lots
    assert {request.product for request in recorder.of("TrainModel")} == {
        line.product for line in world.lines
    }
    results = [result.lot for request in recorder.of("RecordTestResults") for result in request.results]
    tests = [test for test in world.lot_tests if test.lot in lots]
    again = [test.lot for test in tests if test.suspect]
    assert again
    assert sorted(results) == sorted([*(test.lot for test in tests), *again])
    corrections = sum(len(request.corrections) for request in recorder.of("RecordCorrections"))
    assert corrections == sum(len(pharmacy.feed.corrections) for pharmacy in world.pharmacies)


async def test_a_live_run_begins_when_its_own_model_is_trained(
    simulation: Simulation, world: World, recorder: Recorder
) -> None:
    """Whatever the other line and the records of the past are at."""
    await asyncio.wait_for(simulation.run(), 60)
    calls: list[tuple[str, Any]] = [(name, request) for name, _, request in recorder.sent]
    for line in world.lines:
        history = {lot.lot for lot in line.lots if not lot.live}
        live = {lot.lot for lot in line.lots if lot.live}
        order = [
            "history" if request.lot in history else "live"
            for name, request in calls
            if name == "StartLot" and request.lot in history | live
        ]
        trained = next(
            place
            for place, (name, request) in enumerate(calls)
            if name == "TrainModel" and request.product == line.product
        )
        begun = next(
            place for place, (name, request) in enumerate(calls) if name == "StartLot" and request.lot in live
        )
        assert trained < begun
        assert order == sorted(order)


async def test_a_lot_is_tested_before_it_is_released(
    simulation: Simulation, world: World, recorder: Recorder
) -> None:
    """And the release waits until what was found is judged."""
    await asyncio.wait_for(simulation.run(), 60)
    tested: set[str] = set()
    judged: set[str] = set()
    for name, _, request in recorder.sent:
        request = cast(Any, request)
        if name == "RecordTestResults":
            tested |= {result.lot for result in request.results}
        if name == "ListResults" and request.HasField("min_position"):
            judged |= tested
        if name == "ReleaseLot":
            assert request.lot in judged


async def test_the_time_limit_says_what_is_missing(world: World, recorder: Recorder, tmp_path: Path) -> None:
    progress = Progress(tmp_path, 7, SAFETY.name, ANCHOR)
    options = Options(limit_minutes=0.02)
    simulation = Simulation(world, cast(Platform, recorder), CLOCK, progress, lambda text: None, options)

    async def never() -> None:
        await asyncio.Event().wait()

    recorder.wait_until_serving = never  # type: ignore[method-assign]
    assert await simulation.run() == ["the first look"]
