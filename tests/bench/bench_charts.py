"""Readings to charts: one worker process of production judges the runs of many lots.

A model is trained and lots are started through the API. Then, with nobody
there to take them, columnar batches of all runs are put onto their topic, and
one worker is started, with all its runners: the detector judges every sample,
`history` records it beside that. Every planted deviation must be found where it
begins, and every run must be held whole.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pymongo import MongoClient

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from services.kit.rpc.client import channel, metadata
from services.kit.testing.engines import free_port
from services.world.ids import stamp
from tests.bench.framework import process
from tests.bench.framework.engines import processors
from tests.bench.framework.machine import Child, Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option

#: Runs that a model is made of, as long as those that it judges.
HISTORY = 12
LOTS = option("LOTS", 20)
SAMPLES = option("SAMPLES", 7_200)
WIDTHS = (60, 600)
_DATABASE = "pharmaloop_production"
_WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """Runs that are put onto the topic in batches of so many samples."""

    kind: str
    width: int

    @property
    def batches(self) -> int:
        return LOTS * -(-SAMPLES // self.width)

    @property
    def points(self) -> int:
        return LOTS * SAMPLES * len(process.TAGS)


LOADS = [Load(f"w{width}", width) for width in WIDTHS]


async def prepare(address: str) -> None:
    """A trained model, and every lot started."""
    async with channel(address) as open_channel:
        stub: Any = production_grpc.ProductionServiceStub(open_channel)

        async def call(method: Any, request: Any) -> Any:
            return await method(request, timeout=60, metadata=metadata("bench"), wait_for_ready=True)

        tags = [events.Tag(name=tag, unit=process.UNIT) for tag in process.TAGS]
        await call(
            stub.RegisterEquipment,
            production.RegisterEquipmentRequest(
                request_id="equipment", equipment=process.EQUIPMENT, plant="plant-1", tags=tags
            ),
        )
        place = await _history(stub, call)
        await call(
            stub.TrainModel,
            production.TrainModelRequest(
                request_id="train",
                product=process.PRODUCT,
                lots=[process.lot("good", number) for number in range(HISTORY)],
                min_position=place,
            ),
        )
        for load in LOADS:
            for number in range(LOTS):
                await call(stub.StartLot, _start(process.lot(load.kind, number)))


async def _history(stub: Any, call: Any) -> Any:
    """The good runs; answers where the last of them stands."""
    position = None
    for number in range(HISTORY):
        await call(stub.StartLot, _start(process.lot("good", number)))
        read = process.values("good", number, SAMPLES)
        batch = process.window("good", number, read, 0, SAMPLES)
        request = production.RecordReadingsRequest(request_id=str(uuid.uuid4()), batches=[batch])
        answer = await call(stub.RecordReadings, request)
        assert not answer.receipt.refused, answer.receipt
        if position is None:
            position = answer.receipt.positions
        else:
            position.MergeFrom(answer.receipt.positions)
    return position


def _start(lot: str) -> production.StartLotRequest:
    return production.StartLotRequest(
        request_id=f"start|{lot}",
        lot=lot,
        product=process.PRODUCT,
        equipment=process.EQUIPMENT,
        at=stamp(process.moment(0)),
    )


def watches(machine: Machine) -> dict[str, dict[str, Any]]:
    """What the detector holds of each run, by lot."""
    client: MongoClient[dict[str, Any]] = MongoClient(machine.mongo.uri)
    with client:
        return {doc["s"]["lot"]: doc["s"] for doc in client[_DATABASE]["watch"].find()}


def deviations(machine: Machine) -> dict[tuple[str, str], events.DeviationDetected]:
    """What was detected, by lot and tag."""
    client: MongoClient[dict[str, Any]] = MongoClient(machine.mongo.uri)
    with client:
        found = [
            events.DeviationDetected.FromString(one["detected"])
            for doc in client[_DATABASE]["lot"].find()
            for one in doc["s"]["deviations"]
        ]
    return {(one.lot, one.tag): one for one in found}


def until_watched(machine: Machine) -> None:
    """Every lot is under watch of the model before the readings come."""
    deadline, wanted = time.monotonic() + _WAIT_SECONDS, len(LOADS) * LOTS
    while sum(bool(held["basis"]) for held in watches(machine).values()) < wanted + HISTORY:
        assert time.monotonic() < deadline, "the lots did not come under watch"
        time.sleep(0.2)


def taken(
    machine: Machine, worker: Child, load: Load
) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """What it told when it had its partitions, and when its detector had judged every batch; microseconds
    of processor time that each engine took for a point."""
    begun, before = worker.told("assigned"), processors(machine.engines)
    told = worker.told("taken")
    while told["detector"] < load.batches:
        told = worker.told("taken")
    assert told["detector"] == load.batches, f"{told['detector']} batches were taken, not {load.batches}"
    after = processors(machine.engines)
    each = {name: (after[name] - before[name]) / load.points * 1e6 for name in after}
    return begun, told, each


def check(machine: Machine, load: Load) -> int:
    """Every run is held whole and every fault is found where it begins; answers what else was found."""
    held = watches(machine)
    found = {key: one for key, one in deviations(machine).items() if f"/{load.kind}-" in key[0]}
    planted = 0
    for number in range(LOTS):
        lot, begins = process.lot(load.kind, number), process.onset(number, SAMPLES)
        kept = len(held[lot]["samples"]["times"]) // 8
        assert kept == SAMPLES, f"{lot}: {kept} of {SAMPLES} samples are held"
        if begins is None:
            continue
        planted += 1
        one = found.get((lot, process.FAULTY_TAG))
        assert one is not None, f"{lot}: its deviation was not found"
        wanted = process.moment(begins)
        assert one.first_out.ToDatetime(UTC) == wanted, f"{lot}: {one.first_out}, not {wanted}"
    return len(found) - planted


def measure(machine: Machine, load: Load) -> Row:
    """One load: put onto the topic while nobody takes it, then judged by one worker."""
    words = (load.kind, *(str(number) for number in (LOTS, SAMPLES, load.width)))
    done = machine.child("historian", *words).told("produced")
    assert (done["count"], done["left"]) == (load.batches, 0), f"the broker did not take every batch: {done}"
    worker = site(machine, "worker")
    machine.profiled(worker, f"charts-{load.width}", f"Readings to charts, batches of {load.width} s")
    begun, told, engines = taken(machine, worker, load)
    worker.stop()
    others = check(machine, load)
    cpu = (told["cpu"] - begun["cpu"]) / load.points * 1e6
    return row(
        f"readings -> charts, batches of {load.width} s, one worker",
        load.points / (told["at"] - begun["at"]),
        "points/s",
        yardstick=("raw consumer that decodes the columns", decoded(machine, load)),
        target=Target(at_least=100_000),
        note=f"{load.points:,} points of {LOTS} lots side by side, {len(process.TAGS)} tags, a sample a "
        f"second, {load.batches:,} batches; until the detector has committed the last one, with `history` "
        f"recording beside it; processor time a point: worker {cpu:.2f} us, broker "
        f"{engines['kafka']:.2f} us, database {engines['mongod']:.2f} us; {told['rss']:.0f} MB at the end; "
        f"every planted deviation found where it begins, {others} more where nothing was planted",
    )


def decoded(machine: Machine, load: Load) -> float:
    """Points a second of the yardstick, which takes everything from the topic's beginning."""
    before = LOADS[: LOADS.index(load)]
    batches = HISTORY + sum(one.batches for one in (*before, load))
    raw = machine.child("raw_readings", str(batches))
    done = raw.told("done")
    raw.stop()
    return float(done["points"] / done["seconds"])


def site(machine: Machine, role: str, port: int = 0) -> Child:
    return machine.child("plant_site", "--role", role, PHARMALOOP_PRODUCTION_GRPC_PORT=str(port))


def run(machine: Machine) -> list[Row]:
    port = free_port()
    everything = site(machine, "all", port)
    everything.told("started")
    asyncio.run(prepare(f"127.0.0.1:{port}"))
    until_watched(machine)
    everything.stop()
    return [measure(machine, load) for load in LOADS]
