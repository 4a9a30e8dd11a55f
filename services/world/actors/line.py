"""A line of a plant: its history in bulk, then the younger runs replayed.

The plant's historian is replayed after the fact: the readings carry the times
at which they were measured, and arrive at the pace of the platform clock, a
sample a minute. A fault in a copy of a real run is sized in the spread of the
model that the platform publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.entities import Line, ProcessLot
from services.world.ids import moment, short, stamp
from services.world.platform_api import check_facts
from services.world.processes import SAMPLE, TAGS, profile
from services.world.signals import Model, Profile, Tag

_HISTORY_WINDOW = 60
_LIVE_WINDOW = 5
_AT_ONCE = 6
_REPLAYED_SAMPLE = timedelta(minutes=1)
_PAUSE_BETWEEN_RUNS = timedelta(minutes=10)
#: Training reads every recorded run.
_TRAINING_SECONDS = 120.0


@dataclass(frozen=True)
class Pace:
    """How fast the live runs are replayed, and when no more are started."""

    speed: float
    enough: Callable[[], bool]


class PlantLine:
    """`hand_in` gives quality assurance the slip of a completed lot."""

    def __init__(self, desk: Desk, line: Line, hand_in: Callable[[str], None]) -> None:
        self._desk, self._line, self._hand_in = desk, line, hand_in
        self._tags: Sequence[Tag] = TAGS[line.process]
        self._step = SAMPLE[line.process]
        self._history = [lot for lot in line.lots if not lot.live]
        self._live = [lot for lot in line.lots if lot.live]

    @property
    def name(self) -> str:
        return self._line.plant

    @property
    def history(self) -> list[str]:
        return [lot.lot for lot in self._history]

    async def register(self) -> None:
        """Make the equipment and its tags known."""
        for equipment in self._line.equipment:
            request = api.RegisterEquipmentRequest(
                request_id=self._desk.request("register", equipment),
                equipment=equipment,
                plant=self._line.plant,
                tags=[
                    events.Tag(name=tag.name, unit=tag.unit, set_point=tag.set_point) for tag in self._tags
                ],
            )
            await self._desk.call(self._desk.platform.production.RegisterEquipment, request)

    async def record_history(self) -> None:
        """Each run of the past with all its readings, several lots at a time."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def record(lot: ProcessLot) -> None:
            async with gate:
                if not self._desk.progress.is_done(f"history:{lot.lot}"):
                    await self._record(lot)

        await asyncio.gather(*(record(lot) for lot in self._history))
        self._desk.say(f"{self.name}: {len(self._history)} lots of its history recorded")

    async def train(self) -> Model:
        """Have the golden model trained on the history; answers the model in force."""
        desk, product = self._desk, self._line.product
        if not desk.progress.is_done(f"train:{product}"):
            places = [
                common.LogPosition(topic=topic, partition=partition, offset=offset)
                for topic, partition, offset in desk.progress.places()
            ]
            request = api.TrainModelRequest(
                request_id=desk.request("train", product),
                product=product,
                lots=self.history,
                min_position=common.PositionVector(positions=places),
            )
            await desk.call(desk.platform.production.TrainModel, request, _TRAINING_SECONDS)
            desk.progress.finish(f"train:{product}")
        answer = await desk.call(desk.platform.production.GetModel, api.GetModelRequest(product=product))
        model = answer.model
        learnt = f"{len(model.calibration_lots)} lots, {len(model.tags)} tags"
        desk.say(f"{self.name}: golden model {model.version[:8]} trained on {learnt}")
        return Model.of(answer.model)

    async def replay(self, model: Model, pace: Pace) -> None:
        """Replay the live runs, on each piece of equipment one after the other."""
        by_equipment: dict[str, list[ProcessLot]] = {}
        for lot in self._live:
            by_equipment.setdefault(lot.equipment, []).append(lot)
        await asyncio.gather(*(self._run_all(lots, model, pace) for lots in by_equipment.values()))
        done = sum(self._desk.progress.is_done(f"live:{lot.lot}") for lot in self._live)
        self._desk.say(f"{self.name}: {done}/{len(self._live)} live runs replayed")

    def hand_in_again(self) -> None:
        """After a new start: the slips of lots that quality assurance had not decided about."""
        for lot in self._live:
            if self._desk.progress.is_done(f"live:{lot.lot}") and not self._desk.progress.is_done(
                f"release:{lot.lot}"
            ):
                self._hand_in(lot.lot)

    async def _run_all(self, lots: Sequence[ProcessLot], model: Model, pace: Pace) -> None:
        for lot in lots:
            if self._desk.progress.is_done(f"live:{lot.lot}"):
                continue
            if pace.enough():
                return
            await self._run(lot, profile(self._line.process, lot, model), pace.speed)
            await self._desk.sleep(_PAUSE_BETWEEN_RUNS / pace.speed)

    async def _run(self, lot: ProcessLot, values: Profile, speed: float) -> None:
        desk = self._desk
        desk.say(f"{lot.equipment.rsplit('/', 1)[-1]}: lot {short(lot.lot)} running")
        await self._start(lot)
        begun = asyncio.get_running_loop().time()
        first = desk.progress.count(lot.lot)
        for start in range(first, lot.samples, _LIVE_WINDOW):
            end = min(start + _LIVE_WINDOW, lot.samples)
            due = (end - first) * _REPLAYED_SAMPLE / speed / desk.clock.speed
            await asyncio.sleep(begun + due.total_seconds() - asyncio.get_running_loop().time())
            await self._send(lot, [self._batch(lot, values, start, end)], f"{start}")
            desk.progress.set_count(lot.lot, end)
        await self._complete(lot)
        desk.progress.finish(f"live:{lot.lot}")
        self._hand_in(lot.lot)

    async def _record(self, lot: ProcessLot) -> None:
        values = profile(self._line.process, lot)
        await self._start(lot)
        starts = range(0, lot.samples, _HISTORY_WINDOW)
        windows = [(start, min(start + _HISTORY_WINDOW, lot.samples)) for start in starts]
        await self._send(lot, [self._batch(lot, values, *window) for window in windows], "history")
        await self._complete(lot)
        self._desk.progress.finish(f"history:{lot.lot}")

    async def _start(self, lot: ProcessLot) -> None:
        request = api.StartLotRequest(
            request_id=self._desk.request("start", lot.lot),
            lot=lot.lot,
            product=self._line.product,
            equipment=lot.equipment,
            at=stamp(lot.started),
        )
        await self._desk.call(self._desk.platform.production.StartLot, request)

    async def _complete(self, lot: ProcessLot) -> None:
        request = api.CompleteLotRequest(
            request_id=self._desk.request("complete", lot.lot), lot=lot.lot, at=stamp(lot.completed)
        )
        await self._desk.call(self._desk.platform.production.CompleteLot, request)

    async def _send(self, lot: ProcessLot, batches: list[events.ReadingsRecorded], part: str) -> None:
        request = api.RecordReadingsRequest(
            request_id=self._desk.request("readings", lot.lot, part), batches=batches
        )
        answer = await self._desk.call(self._desk.platform.production.RecordReadings, request)
        check_facts(answer.receipt, "RecordReadings")
        for place in answer.receipt.positions.positions:
            self._desk.progress.note_place(place.topic, place.partition, place.offset)

    def _batch(self, lot: ProcessLot, values: Profile, start: int, end: int) -> events.ReadingsRecorded:
        step = int(self._step.total_seconds() * 1000)
        return events.ReadingsRecorded(
            equipment=lot.equipment,
            lot=lot.lot,
            start=moment(lot.started + start * self._step),
            offsets_ms=[index * step for index in range(end - start)],
            tags=[_readings(tag, values, start, end) for tag in self._tags],
        )


def _readings(tag: Tag, values: Profile, start: int, end: int) -> events.TagReadings:
    return events.TagReadings(tag=tag.name, unit=tag.unit, values=values[tag.name][start:end])
