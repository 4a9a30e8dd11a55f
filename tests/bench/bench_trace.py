"""From a lot to its patients at the size of a city: a million dispenses, three levels of genealogy.

World W-H in its numbers: 3,558 finished lots, made of 740 intermediate ones,
made of 100 raw lots. Everything goes in through the public API and is folded
by the real service; every answer is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.ids import lot_key
from services.kit.rpc.client import channel, metadata
from tests.bench.framework.engines import Engines, spent
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p99

DISPENSES = option("COUNT", 1_000_000)
#: With a tenth of both, BENCH_COUNT=100000 BENCH_RAWS=10, each lot has as many dispenses as with all.
RAWS = option("RAWS", 100)
INTERMEDIATES, FINISHED = 740 * RAWS // 100, 3_558 * RAWS // 100
SITE = "hospital-a"
_BULK, _FLYING = 1_000, 4
_ASKED = {"finished": 200, "intermediate": 100, "raw": 40}
_WAIT_SECONDS = option("WAIT", 3_600)
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class City:
    """Lots by level, what each is made of, and how many dispenses each finished lot has."""

    levels: dict[str, list[str]]
    parents: dict[str, str]
    given: dict[str, int]

    def patients(self, level: str) -> dict[str, int]:
        """Dispenses below each lot of a level."""
        found: dict[str, int] = defaultdict(int)
        for lot, count in self.given.items():
            above = lot
            while above not in self.levels[level]:
                above = self.parents[above]
            found[above] += count
        return found


def city() -> City:
    draw = random.Random("W-H")
    raws = [lot_key("maker", "item", "substance", f"R-{n:04d}") for n in range(RAWS)]
    middle = [lot_key("maker", "item", "granulate", f"G-{n:04d}") for n in range(INTERMEDIATES)]
    packs = [lot_key("maker", "gtin", "06901234500547", f"A-{n:05d}") for n in range(FINISHED)]
    parents = {lot: raws[n % RAWS] for n, lot in enumerate(middle)}
    parents |= {lot: middle[n % INTERMEDIATES] for n, lot in enumerate(packs)}
    given = dict.fromkeys(packs, 0)
    for lot in draw.choices(packs, k=DISPENSES):
        given[lot] += 1
    return City({"raw": raws, "intermediate": middle, "finished": packs}, parents, given)


def _moment(hours: float) -> common.Moment:
    moment = common.Moment()
    moment.at.FromDatetime(_START + timedelta(hours=hours))
    return moment


def materials(made: City) -> list[events.MaterialRecorded]:
    return [
        events.MaterialRecorded(
            lot=lot, inputs=[events.MaterialInput(lot=parent)], at=_moment(0), record=lot, source="maker"
        )
        for lot, parent in made.parents.items()
    ]


def dispenses(made: City) -> Iterator[events.DispenseRecorded]:
    number = 0
    for lot, count in made.given.items():
        for _ in range(count):
            number += 1
            yield events.DispenseRecorded(
                lot=lot,
                site=SITE,
                pseudonym=f"P-{number % 400_000:06d}",
                order=f"RX-{number}",
                at=_moment(24),
                source="pharmacy-1",
            )


class Trace:
    """The service as a partner meets it."""

    def __init__(self, address: str) -> None:
        self._channel = channel(address)
        self._stub: Any = api_grpc.TraceabilityServiceStub(self._channel)
        self._who = metadata("bench")

    async def close(self) -> None:
        await self._channel.close()

    async def load(self, made: City) -> float:
        """Record everything; answers dispenses taken a second."""
        await self._material(materials(made))
        await self._registered()
        gate, began = asyncio.Semaphore(_FLYING), time.monotonic()
        async with asyncio.TaskGroup() as group:
            bulk: list[events.DispenseRecorded] = []
            for record in dispenses(made):
                bulk.append(record)
                if len(bulk) == _BULK:
                    await gate.acquire()
                    group.create_task(self._dispense(bulk, gate))
                    bulk = []
            await gate.acquire()
            group.create_task(self._dispense(bulk, gate))
        return DISPENSES / (time.monotonic() - began)

    async def _material(self, records: Sequence[events.MaterialRecorded]) -> None:
        for start in range(0, len(records), _BULK):
            request = api.RecordMaterialRequest(
                materials=records[start : start + _BULK], all_or_nothing=True, request_id=f"m{start}"
            )
            await self._stub.RecordMaterial(request, timeout=60, metadata=self._who)

    async def _registered(self) -> None:
        """The site has made itself known when a dispense that names it is taken."""
        probe = events.DispenseRecorded(
            lot=lot_key("maker", "item", "other", "X"), site=SITE, pseudonym="P", order="x", at=_moment(1)
        )
        for _ in range(300):
            request = api.RecordDispenseRequest(dispenses=[probe], request_id="probe")
            answer = await self._stub.RecordDispense(request, timeout=60, metadata=self._who)
            if not answer.receipt.refused:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{SITE} did not register")

    async def _dispense(self, bulk: list[events.DispenseRecorded], gate: asyncio.Semaphore) -> None:
        try:
            request = api.RecordDispenseRequest(
                dispenses=bulk, all_or_nothing=True, request_id=bulk[0].order if bulk else "none"
            )
            await self._stub.RecordDispense(request, timeout=120, metadata=self._who)
        finally:
            gate.release()

    async def folded(self, made: City) -> float:
        """Seconds until the last dispense is folded."""
        began = time.monotonic()
        lots = [lot for lot, count in made.given.items() if count]
        for lot in (lots[0], lots[len(lots) // 2], *lots[-3:]):
            while await self._count(lot) < made.given[lot]:
                assert time.monotonic() - began < _WAIT_SECONDS, "not folded in time"
                await asyncio.sleep(0.5)
        return time.monotonic() - began

    async def _count(self, lot: str) -> int:
        answer = await self._stub.GetLotNode(api.GetLotNodeRequest(lot=lot), timeout=60, metadata=self._who)
        return int(answer.dispenses)

    async def patients(self, lot: str) -> tuple[float, int]:
        """Milliseconds of a whole trace, and how many dispenses it names."""
        began, found, ended = time.perf_counter(), 0, False
        stream = self._stub.TraceLot(api.TraceLotRequest(lot=lot), timeout=120, metadata=self._who)
        async for part in stream:
            found += len(part.dispenses)
            ended = part.HasField("end")
        assert ended, f"the trace of {lot} broke off"
        return 1000 * (time.perf_counter() - began), found


def raw_read(mongodb: str, lots: Sequence[str]) -> float:
    """Milliseconds in which a raw client reads the same dispenses, lot by lot."""
    with MongoClient[Any](mongodb) as client:
        collection = client["pharmaloop_traceability"]["dispense"]
        began = time.perf_counter()
        for lot in lots:
            list(collection.find({"s.lots": lot}))
        return 1000 * (time.perf_counter() - began) / len(lots)


async def measure(
    address: str, made: City, engines: Callable[[], Engines]
) -> tuple[float, float, dict[str, list[float]], list[Row]]:
    """Dispenses taken a second, seconds until the last is folded, times of traces by level, and what the
    engines took for it."""
    trace = Trace(address)
    try:
        before = engines()
        rate = await trace.load(made)
        waited = await trace.folded(made)
        growth = taken(before, engines())
        times: dict[str, list[float]] = {}
        for level, count in _ASKED.items():
            expected = made.patients(level)
            chosen = random.Random(level).choices(made.levels[level], k=count)
            times[level] = []
            for lot in chosen:
                took, found = await trace.patients(lot)
                assert found == expected[lot], f"{lot}: {found} of {expected[lot]} dispenses"
                times[level].append(took)
        return rate, waited, times, growth
    finally:
        await trace.close()


def taken(before: Engines, after: Engines) -> list[Row]:
    """What a dispense takes of the engines' disks, and a thousand of them of processors: to be taken through
    gRPC, logged, folded into the view, and to wait for the next."""
    disks = [
        ("Kafka", after.kafka_bytes - before.kafka_bytes, "one copy, as the producer compresses it"),
        ("MongoDB", after.mongo_bytes - before.mongo_bytes, "one member, with indexes, without the journal"),
    ]
    rows = [
        row(
            f"disk of {engine} per dispense",
            grown / DISPENSES,
            "bytes",
            note=f"{DISPENSES:,} dispenses; {how}",
        )
        for engine, grown, how in disks
    ]
    shown = {name: after.seconds[name] for name in ("kafka", "mongod", "traceability")}
    return rows + spent(before.seconds, shown, DISPENSES, "dispenses")


def run(machine: Machine) -> list[Row]:
    made = city()
    only = ("kafka", "mongod", "migrate", "traceability", "clinical")
    with LocalStack(machine.folder / "stack", only=only) as stack:
        stack.up()
        pids = stack.pids()

        def engines() -> Engines:
            return Engines.of(stack.state, stack.mongodb, pids)

        rate, waited, times, growth = asyncio.run(measure(stack.endpoints()["traceability"], made, engines))
        raw = raw_read(stack.mongodb, random.Random("finished").choices(made.levels["finished"], k=50))
    rows = [
        row(
            "dispenses taken through gRPC, by one client",
            rate,
            "dispenses/s",
            note=f"{DISPENSES:,} in bulks of {_BULK}; the last was folded {waited:.0f} s after it was taken",
        ),
        *growth,
    ]
    bars = {"finished": 100.0, "intermediate": None, "raw": 1_000.0}
    for level, lasted in times.items():
        bar = bars[level]
        patients = sum(made.patients(level).values()) / len(made.levels[level])
        rows.append(
            row(
                f"lot -> patients, {level} lot at {DISPENSES:,} dispenses, p99",
                p99(lasted),
                "ms",
                target=Target(at_most=bar) if bar else None,
                yardstick=("a raw client reads the same dispenses", raw) if level == "finished" else None,
                note=f"{len(lasted)} whole traces through gRPC, {patients:,.0f} dispenses each on average, "
                f"p50 {p50(lasted):.1f} ms; every answer complete and exact",
            )
        )
    return rows
