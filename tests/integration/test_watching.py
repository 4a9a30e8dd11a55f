"""Subscriptions on real engines: over a restart, after the fold, and of readers that stop reading."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.common.v1 import changes_pb2 as changes
from pharmaloop.common.v1 import changes_pb2_grpc as changes_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.alerting.main import SPEC as ALERTING
from services.kit.app import App
from services.kit.bus.protocol import Partition, Record
from services.kit.contracts import contract, event_type
from services.kit.envelope import Event, to_record
from services.kit.facts import vector
from services.kit.rpc.client import channel as connected
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.engines import free_port
from services.kit.testing.service import running_service
from services.loops.main import SPEC as LOOPS
from services.production.main import SPEC
from tests.suites.backbone import new_name

_SECONDS = 60.0
DETECTED = event_type(events.DeviationDetected)


class Plant:
    """Talks to production about lots of its own product."""

    def __init__(self, app: App, channel: aio.Channel, product: str = "") -> None:
        self.app = app
        self.stub = api_grpc.ProductionServiceStub(channel)
        self.changes = changes_grpc.ChangesServiceStub(channel)
        self.product = product or f"maker/item/{uuid.uuid4().hex}"

    def lot(self, name: object) -> str:
        return f"{self.product}/{name}"

    async def call(self, method: str, **fields: Any) -> Any:
        made = getattr(api, f"{method}Request")(request_id=str(uuid.uuid4()), **fields)
        return await getattr(self.stub, method)(made, timeout=20, metadata=metadata("qa"))

    async def register(self) -> None:
        tags = [events.Tag(name="T", unit="Cel")]
        await self.call("RegisterEquipment", equipment="plant-1/dryer-9", plant="plant-1", tags=tags)

    async def start(self, name: object) -> None:
        lot = self.lot(name)
        await self.call("StartLot", lot=lot, product=self.product, equipment="plant-1/dryer-9")

    def watch(self, position: common.PositionVector | None = None, **fields: Any) -> Any:
        request = api.WatchLotsRequest(products=[self.product], after=position, **fields)
        return self.stub.WatchLots(request, timeout=_SECONDS, metadata=metadata("partner"))


async def say(app: App, message: Message, subject: str, seq: int, run: str = "") -> common.PositionVector:
    """Publish an event as if the service had said it; answers where it stands."""
    topic, key = contract().route(message)
    event = Event(
        id=str(uuid.uuid4()),
        source="/svc/other/test",
        subject=subject,
        time=app.clock.now(),
        message=message,
        key=key,
        seq=seq,
        run=run,
    )
    stands = await asyncio.wrap_future(app.producer.publish([to_record(event, topic)]))
    return vector(stands)


async def told(stream: Any, count: int) -> tuple[list[Any], Any]:
    """So many changes of a stream, and the last answer."""
    found: list[Any] = []
    async with asyncio.timeout(30):
        while True:
            answer = await stream.read()
            assert answer is not aio.EOF
            found += answer.changes
            if len(found) >= count:
                return found, answer


def states(found: list[Any]) -> dict[str, list[int]]:
    by_lot: dict[str, list[int]] = {}
    for change in found:
        by_lot.setdefault(change.lot.rpartition("/")[2], []).append(change.state)
    return by_lot


async def until_standing(app: App, count: int) -> None:
    async with asyncio.timeout(10):
        while app.watching.subscriptions != count:
            await asyncio.sleep(0.02)


STARTED, HELD, RELEASED = api.LOT_STATE_STARTED, api.LOT_STATE_HELD, api.LOT_STATE_RELEASED
COMPLETED = api.LOT_STATE_COMPLETED


async def test_lots_are_watched_over_a_restart_without_a_gap(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    lots, port = range(8), str(free_port())
    outlives = connected(f"127.0.0.1:{port}")
    async with running_service(SPEC, backbone, mongo, tmp_path, grpc_port=port) as (app, _):
        database = app.settings.database
        plant = Plant(app, outlives)
        await plant.register()
        stream = plant.watch()
        assert not (await stream.read()).changes, "the first answer says where it begins"
        for n in lots:
            await plant.start(n)
        await plant.call("HoldLot", lot=plant.lot(0), reason="a smell")
        before, answer = await told(stream, 9)
        await plant.call("CompleteLot", lot=plant.lot(1))  # while the service goes down
        rest = asyncio.ensure_future(_drained(stream))
        await asyncio.sleep(0)
    late, code = await rest
    await outlives.close()
    assert code == grpc.StatusCode.UNAVAILABLE, "the client goes on elsewhere"
    position = late[-1].position if late else answer.position
    before += [change for one in late for change in one.changes]
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, channel):
        plant = Plant(app, channel, plant.product)
        await plant.call("HoldLot", lot=plant.lot(1), reason="a sound")
        for n in lots[2:]:
            await plant.call("CompleteLot", lot=plant.lot(n))
        stream = plant.watch(position)
        after, _ = await told(stream, 17 - len(before))
        stream.cancel()
        whole = plant.watch(from_start=True)
        everything, _ = await told(whole, 17)
        only = plant.watch(from_start=True, states=[HELD])
        held, _ = await told(only, 2)
        await until_standing(app, 2)
    found = before + after
    assert len({change.event for change in found}) == len(found) == 17, "no gap, and nothing twice"
    expected = {"0": [STARTED, HELD], "1": [STARTED, COMPLETED, HELD]}
    expected |= {str(n): [STARTED, COMPLETED] for n in lots[2:]}
    assert states(found) == states(everything) == expected, "in order for each lot"
    assert {change.event for change in everything} == {change.event for change in found}
    for told_so in (found, everything, held):
        for lot in {change.lot for change in told_so}:
            versions = [change.version for change in told_so if change.lot == lot]
            assert versions == sorted(set(versions)), "a version only grows within a lot, over a restart too"
            assert versions[0] > 0
    assert {(change.lot, change.reason) for change in held} == {
        (plant.lot(0), "a smell"),
        (plant.lot(1), "a sound"),
    }


async def test_what_a_crash_tells_again_behind_something_newer_bears_its_old_version(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        plant = Plant(app, channel)
        lot = plant.lot("1")
        stream = plant.watch()
        await stream.read()
        # A relay that died before it noted what it had published publishes it once more.
        for seq, message in (
            (1, events.LotHeld(lot=lot, reason="a smell")),
            (2, events.LotReleased(lot=lot)),
            (1, events.LotHeld(lot=lot, reason="a smell")),
        ):
            await say(app, message, lot, seq)
        found, _ = await told(stream, 3)
        assert [(change.state, change.version) for change in found] == [(HELD, 1), (RELEASED, 2), (HELD, 1)]


async def _drained(stream: Any) -> tuple[list[Any], grpc.StatusCode]:
    """What still comes of a stream, and how it ends."""
    answers = []
    try:
        while (answer := await stream.read()) is not aio.EOF:
            answers.append(answer)
    except aio.AioRpcError as error:
        return answers, error.code()
    return answers, grpc.StatusCode.OK


async def test_a_change_is_told_when_a_query_shows_it(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        plant = Plant(app, channel)
        request = changes.WatchChangesRequest(types=[DETECTED])
        stream = plant.changes.WatchChanges(request, timeout=_SECONDS)
        await stream.read()
        for n in range(20):
            deviation = events.DeviationDetected(deviation=f"d-{uuid.uuid4().hex}", lot=plant.lot(n), tag="T")
            await say(app, deviation, plant.lot(n), 1, run="run-1")
            change: Any = None
            while change is None:  # what other tests left is folded by this service too
                found, _ = await told(stream, 1)
                change = next((one for one in found if one.id == plant.lot(n)), None)
            assert (change.type, change.run) == (DETECTED, "run-1")
            asked = api.ListDeviationsRequest(lot=change.id)
            shown = (await plant.stub.ListDeviations(asked, timeout=5)).deviations
            assert [one.detected.deviation for one in shown] == [deviation.deviation]
        with pytest.raises(aio.AioRpcError) as refused:
            await plant.changes.WatchChanges(
                changes.WatchChangesRequest(types=["pharmaloop.rnd.v1.InsightRecorded"]), timeout=5
            ).read()
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(refused.value) == ("UNKNOWN_TYPE", "types[0]")


async def test_a_reader_that_stops_reading_holds_nothing_and_loses_nothing(
    backbone: str, mongo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, reason = 3000, "r" * 4000
    port = str(free_port())
    async with running_service(SPEC, backbone, mongo, tmp_path, grpc_port=port) as (app, channel):
        plant = Plant(app, channel)
        async with connected(f"127.0.0.1:{port}") as other:
            slow, gone = (Plant(app, other, plant.product).watch() for _ in range(2))
            quick = plant.watch()
            for stream in (slow, gone, quick):
                await stream.read()
            reading = asyncio.ensure_future(told(quick, count))
            for first in range(0, count, 100):
                held = [
                    (events.LotHeld(lot=plant.lot(n % 50), reason=f"{n} {reason}"), n)
                    for n in range(first, first + 100)
                ]
                await asyncio.gather(*(say(app, one, plant.lot(n % 50), n // 50 + 1) for one, n in held))
            quickly, _ = await reading
            assert [int(change.reason.split()[0]) for change in quickly if change.lot == plant.lot(7)] == [
                *range(7, count, 50)
            ]
            gone.cancel()
            await until_standing(app, 2)
            read = app.watching._read
            reads: list[int] = []

            def counted(places: dict[Partition, int]) -> list[Record]:
                reads.append(1)
                return read(places)

            monkeypatch.setattr(app.watching, "_read", counted)
            slowly, _ = await told(slow, count)
            assert [c.event for c in slowly if c.lot == plant.lot(7)] == [
                c.event for c in quickly if c.lot == plant.lot(7)
            ]
            assert len(slowly) == count
            assert reads, "it was told from the log, for nobody kept it for the slow one"
            quick.cancel()
            slow.cancel()
            await until_standing(app, 0)


async def test_one_subscription_too_many_is_refused(backbone: str, mongo: str, tmp_path: Path) -> None:
    few = {"most_subscriptions_of_actor": "2"}
    async with running_service(SPEC, backbone, mongo, tmp_path, **few) as (app, channel):
        plant = Plant(app, channel)
        streams = [plant.watch() for _ in range(2)]
        for stream in streams:
            await stream.read()
        with pytest.raises(aio.AioRpcError) as refused:
            await plant.watch().read()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refused.value)[0] == "TOO_MANY_OF_ACTOR"
        beyond = [common.LogPosition(topic="pharmaloop.production.lot.v1", offset=10**9)]
        streams[0].cancel()
        await until_standing(app, 1)
        with pytest.raises(aio.AioRpcError) as refused:
            await plant.watch(common.PositionVector(positions=beyond)).read()
        assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE
        assert reason_of(refused.value) == ("BEYOND_END", "after")


async def _runs(stream: Any, run: str) -> AsyncIterator[Any]:
    """Answers about the run, and the position after each."""
    position, mine = None, None
    while True:
        answer = await stream.read()
        mine = answer.run if answer.HasField("run") and answer.run.run == run else mine
        position = answer.position if answer.HasField("position") else position
        if mine and answer.HasField("position"):
            yield mine, answer.position
            mine = None


async def test_runs_are_watched_as_they_stand(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with running_service(LOOPS, backbone, mongo, tmp_path) as (app, channel):
        stub, run, lot = loops_grpc.LoopsServiceStub(channel), new_name("run"), "maker/item/G/1"
        opened = loops_events.SafetyRunOpened(run=run, case=lot, lot=lot, deviation="d")
        await say(app, opened, run, 1, run=run)
        async with asyncio.timeout(30):
            while not (await stub.ListRuns(loops.ListRunsRequest(lot=lot), timeout=5)).runs:
                await asyncio.sleep(0.02)
            stream = stub.WatchRuns(loops.WatchRunsRequest(), timeout=_SECONDS)
            watched = _runs(stream, run)
            shown, position = await anext(watched)
            assert (shown.state, list(shown.stages)) == (loops.RUN_STATE_OPEN, []), "as it stands"
            stage = loops_events.StageCompleted(run=run, case=lot, stage="trace")
            await say(app, stage, run, 2, run=run)
            shown, _ = await anext(watched)
            assert [one.name for one in shown.stages] == ["trace"]
            stream.cancel()
            for seq, name in enumerate(("receive", "hold", "plan"), 3):
                stage = loops_events.StageCompleted(run=run, case=lot, stage=name)
                last = await say(app, stage, run, seq, run=run)
            await app.positions.reached(last)
            stream = stub.WatchRuns(loops.WatchRunsRequest(after=position), timeout=_SECONDS)
            shown, position = await anext(_runs(stream, run))
            assert len(shown.stages) == 4, "what changed four times is told once"
            stream.cancel()


async def test_alerts_are_watched_as_they_stand(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with running_service(ALERTING, backbone, mongo, tmp_path) as (app, channel):
        stub, lot = alerting_grpc.AlertingServiceStub(channel), f"maker/item/G/{uuid.uuid4().hex}"
        stream: Any = stub.WatchAlerts(alerting.WatchAlertsRequest(), timeout=_SECONDS)
        detected = events.DeviationDetected(deviation=new_name("d"), lot=lot, tag="T")
        await say(app, detected, lot, 1)

        async def mine() -> Any:
            while True:
                answer = await stream.read()
                if answer.alert.raised.lot == lot:
                    return answer.alert

        async with asyncio.timeout(30):
            alert = await mine()
            assert not alert.actor
            taken = alerting.AcknowledgeAlertRequest(
                request_id=str(uuid.uuid4()), alert=alert.raised.alert, note="on it"
            )
            await stub.AcknowledgeAlert(taken, timeout=10, metadata=metadata("qa-1"))
            assert (await mine()).actor == "qa-1"
            stream.cancel()
            again = stub.WatchAlerts(alerting.WatchAlertsRequest(), timeout=_SECONDS)
            told: Any = None
            while told is None or not told.HasField("position"):
                told = await again.read()
                assert told.alert.raised.lot != lot, "it is not open any more"
            again.cancel()
