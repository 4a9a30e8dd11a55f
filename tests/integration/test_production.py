"""Production on real engines: real dryer runs, a planted fault, a person, and the safety loop's part."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import math
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import RpcError, aio

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.app import App
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.service import running_service
from services.production.main import SPEC

DRYER = "plant-1/dryer-1"
UNITS = {
    "CollectorTankLevel": "%",
    "DifferentialPressure": "mbar",
    "DryerPressure": "mbar",
    "AgitatorPower": "A",
    "AgitatorTorque": "/min",
    "AgitatorSpeed": "%",
    "JacketTemperatureSP": "Cel",
    "JacketTemperature": "Cel",
    "DryerTemperatureSP": "Cel",
    "DryerTemp": "Cel",
}
START = datetime(2026, 3, 1, tzinfo=UTC)
FAULTY, GOOD = "39", [str(number) for number in range(1, 17)]
TAG, FAULT = "JacketTemperature", 40.0  # far beyond six spreads
Table = dict[str, list[float]]


def dryer_runs() -> dict[str, Table]:
    """The real dryer runs by number; found by path, for the package itself needs pandas."""
    spec = importlib.util.find_spec("process_improve")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], "datasets", "batch", "dryer.csv")
    runs: dict[str, Table] = defaultdict(lambda: defaultdict(list))
    with path.open() as file:
        for row in csv.DictReader(file):
            for tag in (*UNITS, "ClockTime"):
                runs[row["batch_id"]][tag].append(float(row[tag]))
    return runs


def batch(lot: str, run: Table, first: int = 0, last: int | None = None) -> events.ReadingsRecorded:
    """Rows of a run as a batch; a row is a minute."""
    cut = slice(first, last)
    made = events.ReadingsRecorded(equipment=DRYER, lot=lot)
    made.start.at.FromDatetime(START + timedelta(minutes=run["ClockTime"][first]))
    made.offsets_ms[:] = [int((t - run["ClockTime"][first]) * 60_000) for t in run["ClockTime"][cut]]
    for tag, unit in UNITS.items():
        made.tags.add(tag=tag, unit=unit, values=run[tag][cut])
    return made


def with_fault(run: Table, tag: str, by: float) -> Table:
    """A copy with a step that lasts from the middle on."""
    middle = len(run[tag]) // 2
    return {**run, tag: [value + (by if n >= middle else 0) for n, value in enumerate(run[tag])]}


class Plant:
    """Talks to the service as the plant's people and systems do."""

    def __init__(self, app: App, channel: aio.Channel) -> None:
        self.app = app
        self.stub = api_grpc.ProductionServiceStub(channel)
        self.product = f"maker/item/{uuid.uuid4().hex}"

    def lot(self, name: str) -> str:
        return f"{self.product}/{name}"

    async def call(self, method: str, **fields: Any) -> Any:
        made = getattr(api, f"{method}Request")(request_id=str(uuid.uuid4()), **fields)
        return await getattr(self.stub, method)(made, timeout=60, metadata=metadata("qa"))

    async def record(self, *batches: events.ReadingsRecorded) -> common.FactReceipt:
        answer = await self.call("RecordReadings", batches=batches)
        receipt: common.FactReceipt = answer.receipt
        return receipt

    async def deviations(self, lot: str) -> list[api.Deviation]:
        answer = await self.stub.ListDeviations(api.ListDeviationsRequest(lot=lot), timeout=5)
        return list(answer.deviations)

    async def say(self, service: str, message: Message, lot: str, run: str) -> None:
        """Publish an event of another service."""
        topic, key = contract().route(message, "hospital-a")
        event = Event(
            id=str(uuid.uuid4()),
            source=f"/svc/{service}/test",
            subject=str(uuid.uuid4()),
            time=self.app.clock.now(),
            message=message,
            key=key,
            seq=1,
            case=lot,
            run=run,
        )
        await asyncio.wrap_future(self.app.producer.publish([to_record(event, topic)]))


async def until(ask: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
    """The first true answer."""
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):
            await asyncio.sleep(0.05)
        return answer


async def refusal(call: Awaitable[Any]) -> tuple[str, str, str]:
    """(code, reason, field) of a call that must fail."""
    with pytest.raises(RpcError) as failed:
        await call
    error: Any = failed.value
    return (error.code().name, *reason_of(error))


@pytest.fixture
async def plant(backbone: str, mongo: str, tmp_path: Path) -> AsyncIterator[Plant]:
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        plant = Plant(app, channel)
        tags = [events.Tag(name=n, unit=u, set_point=n.endswith("SP")) for n, u in UNITS.items()]
        await plant.call("RegisterEquipment", equipment=DRYER, plant="plant-1", tags=tags)
        yield plant


async def train(plant: Plant, runs: dict[str, Table]) -> str:
    lots = [plant.lot(number) for number in GOOD]
    receipt = await plant.record(*(batch(plant.lot(n), runs[n]) for n in GOOD))
    assert receipt.accepted == len(GOOD)
    answer = await plant.call("TrainModel", product=plant.product, lots=lots, min_position=receipt.positions)
    version: str = answer.version
    return version


async def test_a_refused_action_changes_no_limit_and_a_person_closes_its_deviation(plant: Plant) -> None:
    runs = dryer_runs()
    await train(plant, runs)
    lot = plant.lot("R")
    await plant.call("StartLot", lot=lot, equipment=DRYER)
    await plant.record(batch(lot, with_fault(runs[FAULTY], TAG, FAULT)))
    found = await until(lambda: found_in(plant, lot, TAG))
    about = {"lot": lot, "deviation": found.detected.deviation}
    await plant.call("ConfirmDeviation", **about, reason="seen")
    capa = await propose(plant, lot, found.detected, str(uuid.uuid4()))
    id, words = capa.proposed.capa, {"reason": "one hospital alone", "meaning": "I refuse the new limit"}
    assert await refusal(plant.call("RefuseCapa", capa=id, meaning="I refuse")) == (
        "INVALID_ARGUMENT", "REQUIRED", "reason",
    )  # fmt: skip

    # Two people decide at once: one of them is first, and the same request again has no second effect.
    one = api.RefuseCapaRequest(request_id=str(uuid.uuid4()), capa=id, **words)
    receipts = [await plant.stub.RefuseCapa(one, timeout=20, metadata=metadata("qa")) for _ in range(2)]
    assert receipts[0].receipt.event_ids == receipts[1].receipt.event_ids
    late = plant.call("ApproveCapa", capa=id, meaning="I approve")
    assert await refusal(late) == ("FAILED_PRECONDITION", "ILLEGAL_TRANSITION", "capa")

    asked = api.ListCapasRequest(capa=id, min_position=receipts[0].receipt.positions)
    (shown,) = (await plant.stub.ListCapas(asked, timeout=5)).capas
    assert shown.state == api.CAPA_STATE_REFUSED
    assert (shown.refused.actor, shown.refused.reason, shown.refused.meaning) == ("qa", *words.values())
    assert [moment.event for moment in shown.history] == ["CapaProposed", "CapaRefused"]
    model = await plant.stub.GetModel(api.GetModelRequest(product=plant.product), timeout=5)
    assert not model.changed_limits
    await plant.call("ClassifyDeviation", **about, severity=events.SEVERITY_MINOR, impact="none")
    await plant.call("CloseDeviation", **about, reason="judged without it")
    answer = await plant.stub.GetLot(api.GetLotRequest(lot=lot), timeout=5)
    states = {one.detected.deviation: (one.state, one.capa) for one in answer.lot.deviations}
    assert states[found.detected.deviation] == (api.DEVIATION_STATE_CLOSED, "")
    assert answer.lot.state == api.LOT_STATE_HELD


@pytest.mark.req("G2a")
async def test_from_real_runs_to_a_tightened_limit(plant: Plant) -> None:
    runs = dryer_runs()
    version = await train(plant, runs)
    model = (await plant.stub.GetModel(api.GetModelRequest(product=plant.product), timeout=5)).model
    assert (model.version, model.product) == (version, plant.product)
    assert 0 <= model.rate_low <= model.rate_high <= 1

    lot, faulty = plant.lot("F"), with_fault(runs[FAULTY], TAG, FAULT)
    rows = len(faulty[TAG])
    await plant.record(batch(lot, faulty, 0, 20))
    await plant.call("StartLot", lot=lot, equipment=DRYER)
    for first in range(20, rows, 40):
        await plant.record(batch(lot, faulty, first, first + 40))
    # Promised, from the last reading on.
    found = await until(lambda: found_in(plant, lot, TAG), seconds=5)
    middle = START + timedelta(minutes=rows // 2)
    assert middle <= found.detected.detected.ToDatetime(tzinfo=UTC) <= middle + timedelta(minutes=5)
    assert (found.detected.unit, found.detected.model_version) == ("Cel", version)
    assert found.detected.evidence

    id = found.detected.deviation
    await plant.call("ConfirmDeviation", lot=lot, deviation=id, reason="seen")
    await assert_held(plant, lot)
    await close_the_loop(plant, lot, found.detected)


async def found_in(plant: Plant, lot: str, tag: str) -> api.Deviation | None:
    return next((d for d in await plant.deviations(lot) if d.detected.tag == tag), None)


async def assert_held(plant: Plant, lot: str) -> None:
    shown = (await plant.stub.GetLot(api.GetLotRequest(lot=lot), timeout=5)).lot
    assert shown.state == api.LOT_STATE_HELD
    judged = [d.actor for d in shown.deviations if d.state == api.DEVIATION_STATE_CONFIRMED]
    assert judged == ["qa"]
    await plant.call("CompleteLot", lot=lot)
    code, reason, field = await refusal(plant.call("ReleaseLot", lot=lot))
    assert (code, field) == ("FAILED_PRECONDITION", "lot")
    assert reason in ("DEVIATION_CONFIRMED", "DEVIATION_OPEN")
    assert await refusal(plant.call("HoldLot", lot=lot, reason="again")) == (
        "FAILED_PRECONDITION",
        "ILLEGAL_TRANSITION",
        "lot",
    )


async def propose(plant: Plant, lot: str, detected: events.DeviationDetected, run: str) -> api.Capa:
    """The safety loop's other services speak; production answers and proposes."""
    finished = plant.lot("finished")
    opened = loops.SafetyRunOpened(
        run=run, case=lot, lot=lot, deviation=detected.deviation, product=detected.product, tag=detected.tag
    )
    announced = traceability.ExposureAnnounced(run=run, version=1, root=lot, lots=[lot, finished])
    announced.sites["hospital-a"].epoch = 1
    answers = clinical.FollowUpSummarised(run=run, site="hospital-a", plans=40, answered=36, complete=True)
    told = clinical.EvidenceReleased(
        run=run,
        site="hospital-a",
        lot=lot,
        number=1,
        final=True,
        plans=40,
        exposed=clinical.ReleasedRow(patients=36, cases=20),
        comparators=clinical.ReleasedRow(patients=70, withheld=True),
    )
    implied = [
        traceability.LotImplicated(run=run, lot=name, root=lot, depth=n)
        for n, name in enumerate((lot, finished))
    ]
    sealed = traceability.ExposureSealed(run=run, version=1, lots=[lot, finished], members=40)
    for message in (answers, told, sealed, *implied, announced, opened):
        await plant.say("test", message, lot, run)
    capa: api.Capa = await until(lambda: proposed(plant, run))
    return capa


async def close_the_loop(plant: Plant, lot: str, detected: events.DeviationDetected) -> None:
    """A run brings its evidence, and a person approves what is proposed."""
    run, finished = str(uuid.uuid4()), plant.lot("finished")
    capa = await propose(plant, lot, detected, run)
    assert (capa.proposed.deviation, capa.proposed.answered, capa.proposed.affected) == (
        detected.deviation,
        36,
        20,
    )
    shown = (await plant.stub.GetLot(api.GetLotRequest(lot=finished), timeout=5)).lot
    assert (shown.state, list(shown.runs)) == (api.LOT_STATE_HELD, [run])

    id = capa.proposed.capa
    await plant.call("ApproveCapa", capa=id, meaning="I approve the new limit")
    await plant.call("RecordValidation", capa=id, record="V-1", statement="judged again")
    in_force = await plant.call(
        "RecordFilingAssessment",
        capa=id,
        category=events.FILING_CATEGORY_NOT_REPORTED,
        statement="inside the range",
    )
    asked = api.GetModelRequest(product=plant.product, min_position=in_force.receipt.positions)
    limits = (await plant.stub.GetModel(asked, timeout=5)).changed_limits
    assert limits[detected.tag] == capa.proposed.limit_after <= capa.proposed.limit_before
    assert len(in_force.receipt.event_ids) == 3
    again = plant.call("ApproveCapa", capa=id, meaning="again")
    assert await refusal(again) == ("FAILED_PRECONDITION", "ILLEGAL_TRANSITION", "capa")
    await assert_on_record(plant, id, run, lot, detected.deviation)
    await assert_told(plant, run, lot)


async def assert_on_record(plant: Plant, capa: str, run: str, lot: str, deviation: str) -> None:
    """The action is found by whatever it is about, with all that was done about it."""
    by: list[dict[str, Any]] = [
        *({"capa": capa}, {"run": run}, {"lot": lot}),
        *({"deviation": deviation}, {"product": plant.product}),
    ]

    async def found(filters: dict[str, Any]) -> list[str]:
        answer = await plant.stub.ListCapas(api.ListCapasRequest(**filters), timeout=5)
        return [moment.event for one in answer.capas for moment in one.history]

    done = ["CapaProposed", "CapaApproved", "ChangeValidated", "ChangeFilingAssessed", "ProcessLimitChanged"]
    for filters in by:
        assert await found(filters) == done
    assert await found({"capa": capa, "run": "another"}) == []


async def proposed(plant: Plant, run: str) -> api.Capa | None:
    answer = await plant.stub.ListCapas(api.ListCapasRequest(state=api.CAPA_STATE_PROPOSED), timeout=5)
    return next((capa for capa in answer.capas if capa.proposed.run == run), None)


async def assert_told(plant: Plant, run: str, lot: str) -> None:
    """Everything that belongs to the run carries its case and run."""
    consumer = plant.app.bus.consumer(f"read-{uuid.uuid4().hex}", "0")
    topics = ("pharmaloop.production.capa.v1", "pharmaloop.production.lot.v1")
    consumer.subscribe(topics, lambda partitions: {p: 0 for p in partitions}, lambda partitions: None)
    seen: set[str] = set()

    def read() -> None:
        for record in consumer.take(500, 0.2):
            if ("pl_run", run.encode()) in record.headers:
                event = from_record(contract(), record)
                assert event.case == lot
                seen.add(type(event.message).__name__)

    async def enough() -> bool:
        await asyncio.to_thread(read)
        return len(seen) >= 8

    try:
        await until(enough)
    finally:
        await asyncio.to_thread(consumer.close)
    assert seen == {
        "LotImplicationAnswered",
        "DeviationCapaRequired",
        "CapaProposed",
        "CapaApproved",
        "ChangeValidated",
        "ChangeFilingAssessed",
        "ProcessLimitChanged",
        "InsightPublished",
    }


async def test_bad_input_is_refused_with_reason_and_field(plant: Plant) -> None:
    lot = plant.lot("1")
    table: Table = {tag: [1.0, 2.0, 3.0] for tag in (*UNITS, "ClockTime")}
    made = {name: batch(lot, table) for name in ("nan", "unit", "back", "equipment", "lot", "good")}
    made["nan"].tags[2].values[1] = math.nan
    made["unit"].tags[9].unit = "kg"
    made["back"].offsets_ms[:] = [0, 2000, 1000]
    made["equipment"].equipment = "plant-1/none"
    made["lot"].lot = "not canonical"
    receipt = await plant.record(*made.values())
    assert receipt.accepted == 1
    assert [(refused.reason, refused.field) for refused in receipt.refused] == [
        ("NOT_FINITE", "batches[0].tags[2].values[1]"),
        ("WRONG_UNIT", "batches[1].tags[9].unit"),
        ("NOT_INCREASING", "batches[2].offsets_ms[2]"),
        ("UNKNOWN_EQUIPMENT", "batches[3].equipment"),
        ("NOT_CANONICAL", "batches[4].lot"),
    ]
    assert "'Cel'" in receipt.refused[1].description
    all_or_none = plant.call("RecordReadings", batches=[made["good"], made["nan"]], all_or_nothing=True)
    assert await refusal(all_or_none) == ("INVALID_ARGUMENT", "NOT_FINITE", "batches[1].tags[2].values[1]")


async def test_a_call_is_refused_for_what_it_lacks_or_names(plant: Plant) -> None:
    lot = plant.lot("1")
    no_deadline = plant.stub.GetLot(api.GetLotRequest(lot=lot))
    assert await refusal(no_deadline) == ("INVALID_ARGUMENT", "DEADLINE_REQUIRED", "deadline")
    no_id = plant.stub.StartLot(api.StartLotRequest(lot=lot), timeout=5)
    assert await refusal(no_id) == ("INVALID_ARGUMENT", "REQUIRED", "request_id")
    start = plant.call("StartLot", lot=lot, equipment="plant-1/none")
    assert await refusal(start) == ("NOT_FOUND", "UNKNOWN_EQUIPMENT", "equipment")
    other = plant.call("StartLot", lot=lot, product="maker/item/other", equipment=DRYER)
    assert await refusal(other) == ("INVALID_ARGUMENT", "WRONG_PRODUCT", "product")
    unknown = plant.call("ReleaseLot", lot=lot)
    assert await refusal(unknown) == ("NOT_FOUND", "UNKNOWN_LOT", "lot")
    no_run = plant.call("TrainModel", product=plant.product, lots=[lot])
    assert await refusal(no_run) == ("NOT_FOUND", "NO_RUN", "lots[0]")
    no_model = plant.stub.GetModel(api.GetModelRequest(product=plant.product), timeout=5)
    assert await refusal(no_model) == ("NOT_FOUND", "UNKNOWN_MODEL", "product")
    capa = plant.call("ApproveCapa", capa="none", meaning="yes")
    assert await refusal(capa) == ("NOT_FOUND", "UNKNOWN_CAPA", "capa")
    big = events.ReadingsRecorded(tags=[events.TagReadings(values=[1.0] * 600_000)])
    large = plant.call("RecordReadings", batches=[big])
    assert (await refusal(large))[:2] == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")


async def test_charts_that_cost_too_much_leave_the_model_as_it_was(plant: Plant) -> None:
    version = await train(plant, dryer_runs())
    lots, charts = [plant.lot(n) for n in GOOD], events.ControlCharts(rules=["WE1", "WE4"])
    asked = plant.call("TrainModel", product=plant.product, lots=lots, charts=charts, most_false_alarms=0.1)
    refused = ("FAILED_PRECONDITION", "TOO_MANY_FALSE_ALARMS", "most_false_alarms")
    assert await refusal(asked) == refused
    shown = await plant.stub.GetModel(api.GetModelRequest(product=plant.product), timeout=5)
    assert (shown.model.version, list(shown.model.chart_prices)) == (version, [])
    quiet = events.ControlCharts(cusum=events.CusumChart(k=2, h=40))
    await plant.call("TrainModel", product=plant.product, lots=lots, charts=quiet)
    shown = await plant.stub.GetModel(api.GetModelRequest(product=plant.product), timeout=5)
    assert [price.chart for price in shown.model.chart_prices] == ["CUSUM"]
    assert shown.model.charts == quiet


async def test_the_same_request_twice_has_one_effect(plant: Plant) -> None:
    lot = plant.lot("1")
    request = api.StartLotRequest(request_id=str(uuid.uuid4()), lot=lot, equipment=DRYER)
    first = await plant.stub.StartLot(request, timeout=5)
    second = await plant.stub.StartLot(request, timeout=5)
    assert first.receipt.event_ids == second.receipt.event_ids
    again = plant.call("StartLot", lot=lot, equipment=DRYER)
    assert await refusal(again) == ("FAILED_PRECONDITION", "ILLEGAL_TRANSITION", "lot")


async def test_the_wall_and_the_chart_show_a_run_while_it_goes_on_and_after(plant: Plant) -> None:
    runs = dryer_runs()
    version = await train(plant, runs)
    lot, faulty = plant.lot("W-1"), with_fault(runs[FAULTY], TAG, FAULT)
    await plant.call("StartLot", lot=lot, equipment=DRYER)
    await plant.record(batch(lot, faulty, 0, 20))

    async def row(receipt: Any) -> api.WallRow:
        asked = api.ListWallRequest(plant="plant-1", equipment=DRYER, min_position=receipt.positions)
        (found,) = (await plant.stub.ListWall(asked, timeout=10)).rows
        return found

    begun = await row(await plant.record(batch(lot, faulty, 20, 40)))
    assert (begun.lot, begun.running, begun.model_version) == (lot, True, version)
    assert 0 < begun.progress < 1
    assert begun.worst.tag in UNITS
    receipt = await plant.record(batch(lot, faulty, 40))
    shown = await row(receipt)
    assert shown.state == api.WALL_STATE_ABNORMAL
    assert TAG in {found.tag for found in shown.deviations}
    assert 0 < len(shown.line.ratios) <= 60
    assert max(shown.line.ratios) > 1

    asked = api.GetChartRequest(lot=lot, tag=TAG, most_points=100)
    chart = await plant.stub.GetChart(asked, timeout=10)
    assert (chart.samples, chart.set_point_tag) == (len(faulty[TAG]), "JacketTemperatureSP")
    assert len(chart.points) <= 100
    (deviation,) = chart.deviations
    first = min(point.seconds for point in chart.points if point.ratio > 1)
    detected = deviation.detected.detected.ToMicroseconds() - chart.start.ToMicroseconds()
    assert detected / 1e6 == pytest.approx(first), "the chart and the detector see the same"

    ended = await plant.call("CompleteLot", lot=lot)
    assert not (await row(ended.receipt)).running
    assert list((await plant.stub.GetChart(asked, timeout=10)).points) == list(chart.points)
    named = api.ListLotsRequest(product=plant.product, prefix="W", state=api.LOT_STATE_COMPLETED)
    assert [one.lot for one in (await plant.stub.ListLots(named, timeout=5)).lots] == [lot]
    nobody = plant.stub.GetChart(api.GetChartRequest(lot=plant.lot("none")), timeout=5)
    assert await refusal(nobody) == ("NOT_FOUND", "UNKNOWN_LOT", "lot")
    colour = plant.stub.GetChart(api.GetChartRequest(lot=lot, tag="Colour"), timeout=5)
    assert await refusal(colour) == ("NOT_FOUND", "UNKNOWN_TAG", "tag")
