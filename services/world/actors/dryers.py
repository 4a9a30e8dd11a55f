"""The plant's three dryers: their history in bulk, then the younger runs replayed.

The plant's historian is replayed after the fact: the readings carry the times
at which they were measured, and arrive at the pace of the platform clock. A
planted fault is sized in the spread of the model that the platform publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.dryer_runs import Model, Profile, Tag, profile_of
from services.world.entities import DryerLot
from services.world.ids import moment, short, stamp
from services.world.platform_api import check_facts
from services.world.worldgen.lots import SAMPLE
from services.world.worldgen.names import PLANT

_HISTORY_WINDOW = 60
_LIVE_WINDOW = 5
_AT_ONCE = 6
_PAUSE_BETWEEN_RUNS = timedelta(minutes=10)


@dataclass(frozen=True)
class Pace:
    """How fast the live runs are replayed, and when no more are started."""

    speed: float
    enough: Callable[[], bool]


class Dryers:
    """`hand_in` gives quality assurance the slip of a completed lot."""

    def __init__(
        self, desk: Desk, lots: Sequence[DryerLot], tags: Sequence[Tag], hand_in: Callable[[str], None]
    ) -> None:
        self._desk = desk
        self._tags = tags
        self._history = [lot for lot in lots if not lot.live]
        self._live = [lot for lot in lots if lot.live]
        self._hand_in = hand_in

    @property
    def history(self) -> list[str]:
        return [lot.lot for lot in self._history]

    async def register(self) -> None:
        """Make the dryers and their tags known."""
        for equipment in sorted({lot.equipment for lot in (*self._history, *self._live)}):
            request = api.RegisterEquipmentRequest(
                request_id=self._desk.request("register", equipment),
                equipment=equipment,
                plant=PLANT,
                tags=[
                    events.Tag(name=tag.name, unit=tag.unit, set_point=tag.set_point) for tag in self._tags
                ],
            )
            await self._desk.call(self._desk.platform.production.RegisterEquipment, request)

    async def record_history(self) -> None:
        """Each run of the past with all its readings, several lots at a time."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def record(lot: DryerLot) -> None:
            async with gate:
                if not self._desk.progress.is_done(f"history:{lot.lot}"):
                    await self._record(lot)

        await asyncio.gather(*(record(lot) for lot in self._history))
        self._desk.say(f"history {len(self._history)}/{len(self._history)} lots recorded")

    async def train(self) -> Model:
        """Have the golden model trained on the history; answers the model in force."""
        desk, product = self._desk, self._history[0].product
        if not desk.progress.is_done("train"):
            places = [
                common.LogPosition(topic=topic, partition=partition, offset=offset)
                for topic, partition, offset in desk.progress.places()
            ]
            request = api.TrainModelRequest(
                request_id=desk.request("train"),
                product=product,
                lots=self.history,
                min_position=common.PositionVector(positions=places),
            )
            await desk.call(desk.platform.production.TrainModel, request)
            desk.progress.finish("train")
        answer = await desk.call(desk.platform.production.GetModel, api.GetModelRequest(product=product))
        desk.say(
            f"golden model {answer.model.version[:8]} trained on {len(answer.model.calibration_lots)} lots, "
            f"{len(answer.model.tags)} tags"
        )
        return Model.of(answer.model)

    async def replay(self, model: Model, pace: Pace) -> None:
        """Replay the live runs, each dryer one after the other."""
        by_dryer: dict[str, list[DryerLot]] = {}
        for lot in self._live:
            by_dryer.setdefault(lot.equipment, []).append(lot)
        await asyncio.gather(*(self._run_dryer(lots, model, pace) for lots in by_dryer.values()))
        self._desk.say(f"{self._desk.progress.finished('live:')}/{len(self._live)} live runs replayed")

    def hand_in_again(self) -> None:
        """After a new start: the slips of lots that quality assurance had not decided about."""
        for lot in self._live:
            if self._desk.progress.is_done(f"live:{lot.lot}") and not self._desk.progress.is_done(
                f"release:{lot.lot}"
            ):
                self._hand_in(lot.lot)

    async def _run_dryer(self, lots: Sequence[DryerLot], model: Model, pace: Pace) -> None:
        for lot in lots:
            if self._desk.progress.is_done(f"live:{lot.lot}"):
                continue
            if pace.enough():
                return
            await self._run(lot, profile_of(lot.run, lot.fault, model), pace.speed)
            await self._desk.sleep(_PAUSE_BETWEEN_RUNS / pace.speed)

    async def _run(self, lot: DryerLot, profile: Profile, speed: float) -> None:
        desk = self._desk
        desk.say(f"{lot.equipment.rsplit('/', 1)[-1]}: lot {short(lot.lot)} running")
        await self._start(lot)
        begun = asyncio.get_running_loop().time()
        first = desk.progress.count(lot.lot)
        for start in range(first, lot.samples, _LIVE_WINDOW):
            end = min(start + _LIVE_WINDOW, lot.samples)
            due = (end - first) * SAMPLE / speed / desk.clock.speed
            await asyncio.sleep(begun + due.total_seconds() - asyncio.get_running_loop().time())
            await self._send(lot, [self._batch(lot, profile, start, end)], f"{start}")
            desk.progress.set_count(lot.lot, end)
        await self._complete(lot)
        desk.progress.finish(f"live:{lot.lot}")
        self._hand_in(lot.lot)

    async def _record(self, lot: DryerLot) -> None:
        profile = profile_of(lot.run)
        await self._start(lot)
        starts = range(0, lot.samples, _HISTORY_WINDOW)
        windows = [(start, min(start + _HISTORY_WINDOW, lot.samples)) for start in starts]
        await self._send(lot, [self._batch(lot, profile, *window) for window in windows], "history")
        await self._complete(lot)
        self._desk.progress.finish(f"history:{lot.lot}")

    async def _start(self, lot: DryerLot) -> None:
        request = api.StartLotRequest(
            request_id=self._desk.request("start", lot.lot),
            lot=lot.lot,
            product=lot.product,
            equipment=lot.equipment,
            at=stamp(lot.started),
        )
        await self._desk.call(self._desk.platform.production.StartLot, request)

    async def _complete(self, lot: DryerLot) -> None:
        request = api.CompleteLotRequest(
            request_id=self._desk.request("complete", lot.lot), lot=lot.lot, at=stamp(lot.completed)
        )
        await self._desk.call(self._desk.platform.production.CompleteLot, request)

    async def _send(self, lot: DryerLot, batches: list[events.ReadingsRecorded], part: str) -> None:
        request = api.RecordReadingsRequest(
            request_id=self._desk.request("readings", lot.lot, part), batches=batches
        )
        answer = await self._desk.call(self._desk.platform.production.RecordReadings, request)
        check_facts(answer.receipt, "RecordReadings")
        for place in answer.receipt.positions.positions:
            self._desk.progress.note_place(place.topic, place.partition, place.offset)

    def _batch(self, lot: DryerLot, profile: Profile, start: int, end: int) -> events.ReadingsRecorded:
        step = int(SAMPLE.total_seconds() * 1000)
        return events.ReadingsRecorded(
            equipment=lot.equipment,
            lot=lot.lot,
            start=moment(lot.started + start * SAMPLE),
            offsets_ms=[index * step for index in range(end - start)],
            tags=[_readings(tag, profile, start, end) for tag in self._tags],
        )


def _readings(tag: Tag, profile: Mapping[str, Sequence[float]], start: int, end: int) -> events.TagReadings:
    return events.TagReadings(tag=tag.name, unit=tag.unit, values=profile[tag.name][start:end])
