"""The quality wall and the charts: what people see of a run is what the detector sees of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.errors import Invalid, Unknown
from services.kit.runners.reactor import Reactor, projector
from services.kit.store.memory import AsyncMemoryStore
from services.production.api import ProductionApi
from services.production.domain import golden, standing, tag_chart
from services.production.domain.golden import LIMIT, GoldenModel
from services.production.domain.lists import DecisionRow, decided
from services.production.domain.samples import Column, Samples
from services.production.domain.wall import SILENT_SECONDS, silent_after
from services.production.handlers import DETECTOR, HISTORY, LISTS
from services.production.handlers.models import train
from services.production.looking import Looking
from services.production.views import LOTS
from tests.unit.production.memory import Memory, minutes, said
from tests.unit.production.test_detector import (
    EQUIPMENT,
    LARGE,
    OVEN,
    PRODUCT,
    ROWS,
    batches,
    certain,
    limit,
    runs,
    trained,
    values,
)

DETECT = Reactor("detector", DETECTOR)
LISTED, RECORDED = projector("lists", LISTS), projector("history", HISTORY)
IDLE = "plant-1/oven-2"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def learnt() -> GoldenModel:
    return golden.decode(train(PRODUCT, runs(golden.MIN_TRAINING_RUNS), EQUIPMENT).parameters)


@pytest.fixture(scope="module")
def model(learnt: GoldenModel) -> events.GoldenModelTrained:
    return certain(learnt, "v1")


class Plant:
    """A plant of two ovens that people look at."""

    def __init__(self) -> None:
        self.memory = Memory()
        store: Any = AsyncMemoryStore(self.memory.database)
        # Records in memory are made at the epoch.
        self.passed = 0.0
        self.clock = SimpleNamespace(speed=1.0, wall=lambda: EPOCH + timedelta(seconds=self.passed))
        app: Any = SimpleNamespace(store=store, decider=None, clock=self.clock)
        payloads: Any = None
        self.api = ProductionApi(app, payloads)
        self._told: set[str] = set()
        for oven in (OVEN, IDLE):
            tags = [
                events.Tag(name=tag.name, unit=tag.unit, set_point=tag.set_point)
                for tag in EQUIPMENT[OVEN].tags
            ]
            asked = api.RegisterEquipmentRequest(equipment=oven, plant="plant-1", tags=tags)
            self.memory.ask("RegisterEquipment", asked)

    def tell(self) -> None:
        """Deliver what was said since, to the detector and the lists."""
        fresh = [one for one in self.memory.told() if one[0].id not in self._told]
        self._told |= {event.id for event, _ in fresh}
        self.memory.give(DETECT, [one for one in fresh if type(one[0].message) in DETECTOR])
        self.memory.give(LISTED, [one for one in fresh if type(one[0].message) in LISTS])

    def start(self, number: str, at: float = 10) -> str:
        lot = f"{PRODUCT}/{number}"
        asked = api.StartLotRequest(lot=lot, equipment=OVEN)
        asked.at.FromDatetime(minutes(at))
        self.memory.ask("StartLot", asked, at=minutes(at))
        self.tell()
        return lot

    def record(self, lot: str, table: dict[str, list[float]], rows: int = ROWS) -> None:
        cut = {tag: column[:rows] for tag, column in table.items()}
        told = [said(batch, minutes(200)) for batch in batches(lot, cut, 8) if len(batch.tags[0].values)]
        self.memory.give(DETECT, told)
        self.memory.give(RECORDED, told)
        self.tell()

    def learn(self, model: events.GoldenModelTrained) -> None:
        self.memory.give(DETECT, [trained(model, 0)])
        for run in runs(golden.MIN_TRAINING_RUNS):
            table = {tag: column.tolist() for tag, column in run.samples.table().items()}
            self.memory.give(RECORDED, [said(batch, minutes(0)) for batch in batches(run.lot, table)])

    async def row(self, equipment: str = OVEN) -> api.WallRow:
        answer = await self.api.ListWall(api.ListWallRequest(equipment=equipment), None)
        (row,) = answer.rows
        return row

    async def chart(self, lot: str, tag: str = "", most: int = 0) -> api.GetChartResponse:
        return await self.api.GetChart(api.GetChartRequest(lot=lot, tag=tag, most_points=most), None)


@pytest.fixture
def plant() -> Plant:
    return Plant()


async def test_each_piece_of_equipment_shows_the_run_it_began_last(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    plant.record(plant.start("B-1", at=10), values())
    later = plant.start("B-2", at=60)
    plant.record(later, values(), rows=16)
    answer = await plant.api.ListWall(api.ListWallRequest(plant="plant-1"), None)
    busy, idle = answer.rows
    assert (idle.equipment, idle.lot, idle.state) == (IDLE, "", api.WALL_STATE_UNSPECIFIED)
    assert (busy.lot, busy.product, busy.running) == (later, PRODUCT, True)
    assert busy.started.ToDatetime(UTC) == minutes(60)
    assert busy.latest_reading.ToDatetime(UTC) == minutes(15)
    assert busy.progress == pytest.approx(15 / (ROWS - 1))
    assert (busy.state, busy.judging) == (api.WALL_STATE_NORMAL, api.RUN_JUDGING_JUDGED)
    assert busy.model_version == model.version
    cost = busy.false_alarms
    assert (cost.alarmed, cost.runs, cost.at_most) == (model.false_alarms, model.judged_runs, False)
    assert not (await plant.api.ListWall(api.ListWallRequest(plant="plant-2"), None)).rows


async def test_a_tag_near_its_limit_is_to_be_watched_and_one_beyond_it_abnormal(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    """Load is 20 with a spread of 1 and a limit of 3 spreads: 2.7 above is 0.9 of it, 3.3 above 1.1."""
    plant.learn(model)
    lot, table = plant.start("B-1"), values()
    table["Load"][8:] = [22.7] * (ROWS - 8)
    plant.record(lot, table, rows=16)
    row = await plant.row()
    assert (row.state, row.worst.tag, row.worst.unit) == (api.WALL_STATE_WATCH, "Load", "kg")
    assert (row.worst.value, row.worst.limit) == pytest.approx((2.7, LIMIT))
    assert row.worst.ratio == pytest.approx(0.9)
    assert row.worst.at.ToDatetime(UTC) == minutes(15)
    assert "level chart" in row.worst.rule
    assert max(row.line.ratios) == pytest.approx(0.9)
    assert not row.deviations

    table["Load"][16:] = [23.3] * (ROWS - 16)
    plant.record(lot, table)
    row = await plant.row()
    assert row.state == api.WALL_STATE_ABNORMAL
    assert row.worst.ratio == pytest.approx(1.1)
    (found,) = row.deviations
    assert (found.tag, found.state) == ("Load", api.DEVIATION_STATE_OPEN)
    assert found.detected.ToDatetime(UTC) == minutes(17), "the second sample of three beyond the limit"


async def test_a_row_is_abnormal_until_its_deviations_are_disposed_of(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    lot, table = plant.start("B-1"), values()
    table["Load"][4:8] = [20 + LARGE] * 4
    plant.record(lot, table)
    row = await plant.row()
    assert row.worst.ratio < 1, "it came back"
    assert row.state == api.WALL_STATE_ABNORMAL
    (found,) = row.deviations
    asked = api.RejectDeviationRequest(lot=lot, deviation=found.deviation, reason="a knock on the scales")
    plant.memory.ask("RejectDeviation", asked)
    row = await plant.row()
    assert (row.state, list(row.deviations)) == (api.WALL_STATE_NORMAL, [])


async def test_a_run_whose_readings_stopped_is_silent_and_not_normal(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    lot, table = plant.start("B-1"), values()
    plant.record(lot, table, rows=16)
    plant.passed = SILENT_SECONDS
    row = await plant.row()
    assert (row.state, row.silent, row.silent_after) == (api.WALL_STATE_NORMAL, False, SILENT_SECONDS)
    plant.passed = SILENT_SECONDS + 1
    row = await plant.row()
    assert (row.state, row.silent) == (api.WALL_STATE_SILENT, True)
    assert row.latest_reading.ToDatetime(UTC) == minutes(15), "the last that was heard"
    table["Load"][16:] = [20 + LARGE] * (ROWS - 16)
    plant.record(lot, table)
    row = await plant.row()
    assert (row.state, row.silent) == (api.WALL_STATE_ABNORMAL, True), "silence hides no deviation"
    plant.memory.ask("CompleteLot", api.CompleteLotRequest(lot=lot), at=minutes(300))
    row = await plant.row()
    assert (row.silent, row.silent_after) == (False, 0), "a run that ended has nothing to say"


async def test_a_run_that_never_said_anything_is_silent_too(plant: Plant) -> None:
    plant.start("B-1")
    assert (await plant.row()).state == api.WALL_STATE_UNSPECIFIED
    plant.passed = SILENT_SECONDS + 1
    assert (await plant.row()).state == api.WALL_STATE_SILENT


async def test_a_fast_platform_and_a_rare_reading_are_given_their_time(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    plant.record(plant.start("B-1"), values(), rows=16)
    plant.clock.speed = 3600.0  # ten minutes are a sixth of a second, less than a record takes
    plant.passed = 9.0
    assert not (await plant.row()).silent
    plant.passed = 11.0
    row = await plant.row()
    assert (row.silent, row.silent_after) == (True, 36_000)
    hourly = Samples((np.arange(10, dtype=np.int64) * 3_600_000_000).tobytes())
    assert silent_after(hourly, 1.0) == 3 * 3600


async def test_nothing_is_made_up_where_nothing_judges(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    lot = plant.start("B-1")
    assert (await plant.row()).judging == api.RUN_JUDGING_UNSPECIFIED
    plant.record(lot, values())
    row = await plant.row()
    assert (row.judging, row.state) == (api.RUN_JUDGING_NO_MODEL, api.WALL_STATE_UNSPECIFIED)
    assert not row.HasField("worst")
    assert not row.HasField("progress")
    chart = await plant.chart(lot, "Temp")
    assert [point.value for point in chart.points] == values()["Temp"]
    assert not any(point.HasField("mean") for point in chart.points)


async def test_a_run_that_the_model_learnt_from_shows_its_band_and_no_verdict(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    lot = plant.start("good-0")
    plant.record(lot, values(LARGE))
    plant.learn(model)
    assert (await plant.row()).judging == api.RUN_JUDGING_TRAINED_ON
    chart = await plant.chart(lot, "Temp")
    assert (chart.judging, chart.monitored) == (api.RUN_JUDGING_TRAINED_ON, True)
    assert all(point.HasField("mean") and not point.HasField("ratio") for point in chart.points)


async def test_a_chart_shows_band_limits_and_the_rule_that_fired(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    lot = plant.start("B-1")
    plant.record(lot, values(LARGE))
    chart = await plant.chart(lot, "Load")
    assert (chart.unit, chart.samples, len(chart.points)) == ("kg", ROWS, ROWS)
    first = chart.points[3]
    assert (first.mean, first.band_low, first.band_high) == pytest.approx((20, 17, 23))
    assert (first.limit_low, first.limit_high) == pytest.approx((17, 23))
    assert chart.points[-1].ratio == pytest.approx(LARGE / LIMIT)
    (deviation,) = chart.deviations
    assert (deviation.detected.tag, deviation.detected.model_version) == ("Load", model.version)
    assert "two of three samples" in deviation.detected.rule
    assert chart.false_alarms.runs == model.judged_runs
    assert [one.tag for one in chart.standings] == ["Load", "Temp"]
    assert list(chart.tags) == ["Load", "Temp", "TempSP"]
    assert (await plant.chart(lot)).tag == "Load", "the worst one, where none is asked for"


async def test_a_chart_has_its_set_point_and_a_set_point_no_band(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    lot = plant.start("B-1")
    plant.record(lot, values())
    chart = await plant.chart(lot, "Temp")
    assert chart.set_point_tag == "TempSP"
    assert {point.set_point for point in chart.points} == {80.0}
    other = await plant.chart(lot, "TempSP")
    assert (other.monitored, other.set_point_tag, other.limit) == (False, "", 0)


async def test_a_changed_limit_is_the_charts_limit_and_has_its_price(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    plant.memory.give(DETECT, [limit(1.0, 5)])
    lot = plant.start("B-1", at=10)
    plant.record(lot, values())
    chart = await plant.chart(lot, "Temp")
    assert (chart.limit, chart.limit_changed, chart.false_alarms.at_most) == (1.0, True, True)
    point = chart.points[5]
    assert point.limit_high - point.mean == pytest.approx((point.band_high - point.mean) / LIMIT)
    other = await plant.chart(lot, "Load")
    assert (other.limit, other.limit_changed) == (LIMIT, False)


async def test_a_chart_of_a_finished_lot_is_the_same(plant: Plant, model: events.GoldenModelTrained) -> None:
    plant.learn(model)
    lot = plant.start("B-1")
    plant.record(lot, values(LARGE))
    before = await plant.chart(lot, "Temp")
    assert before.running
    plant.memory.ask("CompleteLot", api.CompleteLotRequest(lot=lot))
    after = await plant.chart(lot, "Temp")
    assert (after.running, after.lot_state) == (False, api.LOT_STATE_COMPLETED)
    assert list(after.points) == list(before.points)


@pytest.mark.parametrize(
    ("asked", "error", "reason", "field"),
    [
        ({"lot": "x"}, Invalid, "NOT_CANONICAL", "lot"),
        ({"lot": f"{PRODUCT}/nobody"}, Unknown, "UNKNOWN_LOT", "lot"),
        ({"tag": "Colour"}, Unknown, "UNKNOWN_TAG", "tag"),
        ({"most_points": 19}, Invalid, "OUT_OF_RANGE", "most_points"),
        ({"most_points": 5001}, Invalid, "OUT_OF_RANGE", "most_points"),
        ({"most_points": -1}, Invalid, "OUT_OF_RANGE", "most_points"),
    ],
)
async def test_a_chart_that_cannot_be_drawn_says_why(
    plant: Plant, asked: dict[str, Any], error: type[Invalid | Unknown], reason: str, field: str
) -> None:
    lot = plant.start("B-1")
    with pytest.raises(error) as refused:
        await plant.api.GetChart(api.GetChartRequest(**{"lot": lot} | asked), None)
    assert (refused.value.reason, refused.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("asked", "error", "reason", "field"),
    [
        ({"line": "a"}, Invalid, "REQUIRED", "plant"),
        ({"line": "a", "plant": "plant-1"}, Unknown, "UNKNOWN_LINE", "line"),
        ({"page_size": 1001}, Invalid, "OUT_OF_RANGE", "page_size"),
        ({"page_token": "x"}, Invalid, "BAD_PAGE_TOKEN", "page_token"),
    ],
)
async def test_a_wall_that_there_is_not_says_why(
    plant: Plant, asked: dict[str, Any], error: type[Invalid | Unknown], reason: str, field: str
) -> None:
    with pytest.raises(error) as refused:
        await plant.api.ListWall(api.ListWallRequest(**asked), None)
    assert (refused.value.reason, refused.value.field) == (reason, field)


async def test_a_row_names_the_lines_of_its_equipment_and_is_found_by_them(plant: Plant) -> None:
    for line in ("b", "a"):
        told = events.LineRegistered(plant="plant-1", line=line, equipment=OVEN)
        plant.memory.give(LISTED, [said(told, minutes(0), seq=1 if line == "b" else 2)])
    found = await plant.api.ListWall(api.ListWallRequest(plant="plant-1", line="a"), None)
    assert [(row.equipment, list(row.lines)) for row in found.rows] == [(OVEN, ["a", "b"])]
    with pytest.raises(Invalid, match="is registered for"):
        await plant.api.ListWall(api.ListWallRequest(plant="plant-1", line="a", equipment=IDLE), None)


async def test_a_lot_that_never_ran_here_comes_last_and_has_no_chart(plant: Plant) -> None:
    plant.start("B-1")
    lot = "maker/gtin/0/F-1"
    plant.memory.apply(LOTS, lot, events.LotImplicationAnswered(lot=lot, run="r1"))
    assert await lots(plant) == ["B-1", "F-1"]
    assert await lots(plant, prefix="F") == ["F-1"]
    with pytest.raises(Unknown) as refused:
        await plant.chart(lot)
    assert (refused.value.reason, refused.value.field) == ("NO_RUN", "lot")


async def test_the_wall_comes_in_pages(plant: Plant) -> None:
    first = await plant.api.ListWall(api.ListWallRequest(page_size=1), None)
    token = first.next_page_token
    second = await plant.api.ListWall(api.ListWallRequest(page_size=1, page_token=token), None)
    assert [row.equipment for row in (*first.rows, *second.rows)] == [OVEN, IDLE]
    assert not second.next_page_token


# -- lots ------------------------------------------------------------------


async def lots(plant: Plant, **asked: Any) -> list[str]:
    answer = await plant.api.ListLots(api.ListLotsRequest(**asked), None)
    return [one.lot.rpartition("/")[2] for one in answer.lots]


async def test_lots_are_found_by_number_product_and_state_newest_first(plant: Plant) -> None:
    for number, at in (("B-1", 10), ("B-2", 30), ("C-1", 20)):
        plant.start(number, at=at)
    plant.memory.ask("HoldLot", api.HoldLotRequest(lot=f"{PRODUCT}/B-1", reason="a question"))
    assert await lots(plant) == ["B-2", "C-1", "B-1"]
    assert await lots(plant, prefix="B-") == ["B-2", "B-1"]
    assert await lots(plant, state=api.LOT_STATE_HELD) == ["B-1"]
    assert await lots(plant, product=PRODUCT, prefix="C") == ["C-1"]
    assert await lots(plant, prefix=f"{PRODUCT}/B-2", product=PRODUCT) == ["B-2"]
    assert await lots(plant, prefix="maker/") == ["B-2", "C-1", "B-1"]
    assert await lots(plant, product=PRODUCT, prefix="maker/") == ["B-2", "C-1", "B-1"]
    assert await lots(plant, product="maker/item/APIX") == []
    assert await lots(plant, prefix="b-") == []
    with pytest.raises(Invalid, match="begins so"):
        await lots(plant, product=PRODUCT, prefix="other/")


async def test_the_oldest_lots_come_first_where_they_are_asked_for(plant: Plant) -> None:
    for number, at in (("B-1", 10), ("B-2", 30), ("C-1", 20)):
        plant.start(number, at=at)
    assert await lots(plant, oldest_first=True) == ["B-1", "C-1", "B-2"]


async def test_a_lot_tells_since_when_it_is_held(plant: Plant) -> None:
    lot, other = plant.start("B-1"), plant.start("B-2", at=20)
    held = api.HoldLotRequest(lot=lot, reason="a question")
    plant.memory.ask("HoldLot", held, at=minutes(40))
    shown = await plant.api.ListLots(api.ListLotsRequest(state=api.LOT_STATE_HELD), None)
    assert not shown.lots[0].HasField("since"), "the list has not heard of it yet"
    plant.tell()
    asked = await plant.api.ListLots(api.ListLotsRequest(oldest_first=True), None)
    first, second = asked.lots
    assert (first.lot, second.lot) == (lot, other)
    assert first.since.ToDatetime() == minutes(40).replace(tzinfo=None)
    assert not second.HasField("since"), "nobody decided on it"


def test_a_lot_that_is_held_once_more_is_held_since_the_first_time() -> None:
    row = None
    for event, at in (
        (events.LotHeld(lot="l"), "1"),
        (events.LotHeld(lot="l"), "2"),
        (events.LotReleased(lot="l"), "3"),
        (events.LotHeld(lot="l"), "4"),
        (events.LotRejected(lot="l"), "5"),
    ):
        row = decided(row, event, at)
        if at == "2":
            assert (row.state, row.since) == ("held", "1")
        if at == "4":
            assert (row.state, row.since) == ("held", "4")
    assert row == DecisionRow("l", "rejected", "5")


# -- deviations ------------------------------------------------------------


async def test_a_deviation_tells_what_was_done_about_it(
    plant: Plant, model: events.GoldenModelTrained
) -> None:
    plant.learn(model)
    lot, table = plant.start("B-1"), values()
    table["Load"][8:] = [20 + LARGE] * (ROWS - 8)
    plant.record(lot, table)
    (found,) = (await plant.row()).deviations
    given = {"lot": lot, "deviation": found.deviation}
    plant.memory.ask("StartInvestigation", api.StartInvestigationRequest(**given, reason="the scales"))
    plant.memory.ask("ConfirmDeviation", api.ConfirmDeviationRequest(**given, reason="it is heavier"))
    impact: dict[str, Any] = {"severity": events.SEVERITY_MAJOR, "impact": "more water"}
    plant.memory.ask("ClassifyDeviation", api.ClassifyDeviationRequest(**given, **impact))
    plant.tell()
    answer = await plant.api.ListDeviations(
        api.ListDeviationsRequest(deviation=found.deviation, product=PRODUCT), None
    )
    (deviation,) = answer.deviations
    assert [(one.event, one.actor) for one in deviation.history] == [
        ("DeviationDetected", "platform"),
        ("DeviationInvestigationStarted", "qa"),
        ("DeviationConfirmed", "qa"),
        ("DeviationClassified", "qa"),
    ]
    assert deviation.history[0].statement == deviation.detected.rule
    assert deviation.history[3].statement == "major: more water"
    other = api.ListDeviationsRequest(deviation=found.deviation, product="maker/item/OTHER")
    assert not (await plant.api.ListDeviations(other, None)).deviations


# -- the numbers -----------------------------------------------------------


def noisy(rows: int, gaps: bool = False) -> Samples:
    """A run of both tags, with a gap where asked for."""
    rng = np.random.default_rng(7)
    times = 60_000_000 * np.arange(rows, dtype=np.int64)
    load, temp = rng.normal(20, 0.5, rows), rng.normal(55, 0.5, rows)
    if gaps:
        load[rows // 3 : rows // 2] = math.nan
    columns = (Column("Load", "kg", load.tobytes()), Column("Temp", "Cel", temp.tobytes()))
    return Samples(times.tobytes(), columns)


def first_rows(held: Samples, rows: int) -> Samples:
    columns = tuple(Column(one.tag, one.unit, one.values[: 8 * rows]) for one in held.columns)
    return Samples(held.times[: 8 * rows], columns)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_run_that_grows_stands_where_it_stands_as_a_whole(learnt: GoldenModel, gaps: bool) -> None:
    whole, looking = noisy(200, gaps), Looking()
    for rows in (1, 7, 8, 100, 100, 60, 200):
        grown = looking.course("run", first_rows(whole, rows), learnt)
    once = standing.followed(standing.begun(learnt, "run"), learnt, whole)
    assert np.array_equal(grown.sizes, once.sizes, equal_nan=True)
    assert np.array_equal(grown.seconds, once.seconds)


def test_what_is_forgotten_is_looked_at_again(learnt: GoldenModel) -> None:
    looking, run = Looking(most_bytes=1), noisy(50)
    once = looking.course("a", run, learnt)
    assert np.array_equal(looking.course("a", run, learnt).sizes, once.sizes, equal_nan=True)


@pytest.mark.parametrize("most", [20, 21, 60, 500])
def test_a_thinned_chart_keeps_the_extremes_and_what_deviations_are_about(
    learnt: GoldenModel, most: int
) -> None:
    whole = noisy(3000, gaps=True)
    chart = tag_chart.drawn(whole, "Load", "", learnt, LIMIT, True)
    moments = [60.0 * 777, 60.0 * 2500]
    thin = tag_chart.thinned(chart, most, moments)
    assert len(thin.seconds) <= most
    assert (np.diff(thin.seconds) > 0).all()
    assert {0.0, 60.0 * 2999, *moments} <= set(thin.seconds.tolist())
    kept, every = thin.columns["value"], chart.columns["value"]
    assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(every), np.nanmax(every))
    assert np.isnan(kept).any(), "a gap stays one"


def test_the_line_of_a_long_run_has_its_peak(learnt: GoldenModel) -> None:
    course = standing.followed(standing.begun(learnt, "run"), learnt, noisy(3000))
    seconds, ratios = standing.line(course, learnt, {}, 60)
    assert len(seconds) <= 60
    assert seconds == sorted(seconds)
    assert max(ratios) == np.nanmax(standing.ratios(course, learnt, {}))


def test_several_changed_limits_cost_at_most_what_each_adds(learnt: GoldenModel) -> None:
    nothing = standing.price(learnt, {})
    assert (nothing.alarmed, nothing.at_most) == (learnt.false_alarms, False)
    assert (nothing.low, nothing.high) == (learnt.rate_low, learnt.rate_high)
    place = golden.LIMITS.index(1.5)
    added = [counts[place] - learnt.false_alarms for counts in learnt.alarms_at]
    both = standing.price(learnt, dict.fromkeys(learnt.recipe.tags, 1.5))
    assert both.alarmed == min(learnt.judged_runs, learnt.false_alarms + sum(added))
    assert both.at_most
