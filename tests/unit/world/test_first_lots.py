"""The first lots of transfers: what the plant sends of them, and what its live twin makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.ids import lot_key
from services.production.domain import samples
from services.production.twins.following import Basis, Followers
from services.world.actors import plant_manager
from services.world.actors.desk import Desk
from services.world.actors.plant_manager import PlantManager
from services.world.first_lots import FILE, FirstLots
from services.world.platform_api import Refused
from services.world.recipes import plant_vessel
from services.world.treatment import TAGS
from tests.unit.world.support import ANCHOR, Recorder

PLANT, LINE = "plant-9", "fermentation-1"
EQUIPMENT = f"{PLANT}/F-1"
POINTS = {"agitation": 215.0, "aeration": 120.0, "feed": 1.26, "temperature": 298.0, "ph": 5.0}
LOT = lot_key("maker", "item", "P", "T-T001")
STARTED = ANCHOR - timedelta(days=30)


class Platform:
    """Keeps the readings of the lot, and follows it as production does."""

    def __init__(self, recorder: Recorder) -> None:
        self.held = samples.Samples()
        self._followers = Followers()
        transfer = production.Transfer(
            transfer="T", set="PS", version=1, plant=PLANT, state=production.TRANSFER_STATE_EFFECTIVE
        )
        recipe = [events.SetPoint(parameter=name, value=value) for name, value in POINTS.items()]
        lot = production.Lot(lot=LOT)
        lot.started.FromDatetime(STARTED)
        recorder.answers |= {
            "ListTransfers": lambda _: production.ListTransfersResponse(transfers=[transfer]),
            "GetTransfer": lambda _: production.GetTransferResponse(transfer=transfer, recipe=recipe),
            "GetLot": lambda _: production.GetLotResponse(lot=lot),
            "RecordReadings": self._record,
            "GetTwin": self._twin,
        }

    def _record(self, request: production.RecordReadingsRequest) -> production.RecordReadingsResponse:
        for batch in request.batches:
            self.held = samples.joined(self.held, samples.of(batch))
        return production.RecordReadingsResponse()

    def _twin(self, request: production.GetTwinRequest) -> production.GetTwinResponse:
        return self._followers.follow(request.lot, self.held, Basis("pensim-reduced", plant_vessel()))


async def make(desk: Desk, folder: Path) -> list[str]:
    """The plant's manager makes the lot; what is said of it."""
    said: list[str] = []
    desk = replace(desk, say=said.append)
    lines = {(PLANT, LINE): plant_vessel()}
    pattern = lot_key("maker", "item", "P", "T")
    manager = PlantManager(desk, desk, "maker/item/P", EQUIPMENT, lines, pattern, FirstLots(folder))
    await manager.register()
    working = asyncio.create_task(manager.run())
    async with asyncio.timeout(60):
        while not desk.progress.is_done(f"transfer-lot:{LOT}"):
            assert not working.done(), working
            await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return said


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plant_manager, "LOOK_SECONDS", 0.01)


async def test_the_live_twin_of_a_lot_is_asked_while_it_runs_and_comes_near_the_truth(
    recorder: Recorder, desk_for: Callable[[str], Desk], tmp_path: Path
) -> None:
    platform = Platform(recorder)
    said = await make(desk_for("manager"), tmp_path)
    (registered,) = recorder.of("RegisterEquipment")
    assert {tag.name: tag.unit for tag in registered.tags} == TAGS == platform.held.units()
    order = [name for name, _, _ in recorder.sent if name in ("RecordReadings", "GetTwin", "CompleteLot")]
    assert order == ["RecordReadings", "GetTwin"] * 4 + ["CompleteLot"]
    hours = platform.held.seconds() / 3600
    assert hours[0] == 0
    assert hours[-1] == 395

    truth, *told = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (truth["lot"], truth["hours"]) == (LOT, hours.tolist())
    assert [row["hour"] for row in told] == [95, 195, 295, 395]
    by_hour = dict(zip(truth["hours"], truth["biomass"], strict=True))
    off = [abs(row["told"] / by_hour[row["hour"]] - 1) for row in told]
    assert 0.001 < sum(off) / len(off) < 0.05
    (line,) = [line for line in said if "biomass" in line]
    assert f"T-T001 is off by {100 * sum(off) / 4:.1f} % (mean of 4; {100 * off[-1]:.1f} %" in line


async def test_a_lot_that_cannot_be_followed_is_made_all_the_same(
    recorder: Recorder, desk_for: Callable[[str], Desk], tmp_path: Path
) -> None:
    Platform(recorder)

    def refuse(_: Any) -> Any:
        raise Refused("GetTwin", None, "TAGS_MISSING", "lot", "no")  # type: ignore[arg-type]

    recorder.answers["GetTwin"] = refuse
    said = await make(desk_for("manager"), tmp_path)
    assert any("TAGS_MISSING" in line for line in said)
    assert len(recorder.of("CompleteLot")) == 1
    assert len((tmp_path / FILE).read_text().splitlines()) == 1


async def test_a_world_that_is_started_again_sends_the_same_run(
    recorder: Recorder, desk_for: Callable[[str], Desk], tmp_path: Path
) -> None:
    Platform(recorder)
    desk = desk_for("manager")
    await make(desk, tmp_path)
    desk.progress._done.clear()
    await make(desk, tmp_path)
    readings = recorder.of("RecordReadings")
    assert readings[:4] == readings[4:]
    assert readings[0].batches[0].start.at.ToDatetime(UTC) == STARTED
