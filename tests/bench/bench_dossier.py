"""The dossier of a raw lot in a recall: sixty finished lots, ten thousand patients, three hospitals.

Material and dispenses go in through the public API; what the other services
tell of the lot and of its runs is put on their topics, as they would publish
it. Each answer must be whole: every run, every hospital, the exact number of
patients, and no more bytes than a page may have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pymongo import MongoClient

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.kafka import KafkaProducer
from services.kit.bus.protocol import Outgoing
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import lot_key
from services.kit.rpc.client import channel, metadata
from services.kit.settings import KafkaSettings
from tests.bench.bench_trace import City, Trace
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p99

T = TypeVar("T")
PATIENTS = option("COUNT", 10_000)
PACKS = option("PACKS", 60)
ASKED = option("ASKED", 300)
RUNS = option("RUNS", 10)
_HOLDS, _WAIT_SECONDS = 100, option("WAIT", 600)
_LARGEST_BYTES = 100_000
_SITES = ("hospital-a", "hospital-b", "hospital-c")
_START = datetime(2026, 1, 1, tzinfo=UTC)
RAW = lot_key("maker", "item", "substance", "R-0001")


def recall() -> City:
    """One raw lot, and the packs made from it."""
    packs = [lot_key("maker", "gtin", "06901234500547", f"A-{n:05d}") for n in range(PACKS)]
    given = {lot: PATIENTS // PACKS + (n < PATIENTS % PACKS) for n, lot in enumerate(packs)}
    return City({"raw": [RAW], "finished": packs}, dict.fromkeys(packs, RAW), given)


def told() -> Iterator[tuple[str, Message]]:
    """What other services say of the lot and its runs: the teller, and the event."""
    at = Timestamp()
    at.FromDatetime(_START)
    yield "lot", production.LotStarted(lot=RAW, product="maker/item/substance", equipment="dryer", at=at)
    for n in range(_HOLDS):
        yield "lot", production.LotHeld(lot=RAW, reason=f"for the {n}th time", actor="qa")
    for n in range(RUNS):
        run = f"run-{n:03d}"
        yield run, loops.SafetyRunOpened(run=run, case=RAW, lot=RAW, deviation=f"d-{n}")
        hazard = production.HazardEvaluated(
            run=run, lot=RAW, hazard_class="HAZARD_CLASS_II", actor="physician"
        )
        yield f"{run}/hazard", hazard
        for number, site in enumerate(_SITES):
            teller, here = f"{run}/{site}", PATIENTS // len(_SITES) + (number < PATIENTS % len(_SITES))
            yield teller, clinical.ExposureReceived(run=run, site=site, n=here, patients=here)
            yield teller, clinical.PlansOpened(run=run, site=site, patients=here, plans=here)


def sites() -> Iterator[tuple[str, Message]]:
    """The hospitals make themselves known; none of them runs here."""
    for site in _SITES:
        yield site, clinical.SiteRegistered(site=site, name=site)


def publish(bootstrap: str, told: Iterable[tuple[str, Message]]) -> None:
    producer = KafkaProducer(KafkaSettings(bootstrap_servers=bootstrap), "bench")
    numbers: dict[str, int] = {}
    records: list[Outgoing] = []
    for teller, message in told:
        numbers[teller] = numbers.get(teller, 0) + 1
        topic, key = contract().route(message)
        at = _START + timedelta(minutes=len(records))
        id, run = f"{teller}/{numbers[teller]}", getattr(message, "run", "")
        event = Event(id, "/svc/bench", teller, at, message, key, numbers[teller], case=RAW, run=run)
        records.append(to_record(event, topic))
    try:
        producer.publish(records).result(60)
    finally:
        producer.close()


async def _until_known(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while nothing of the lot is folded."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND or time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)


class Asker:
    """Asks for the dossier as a partner does."""

    def __init__(self, address: str) -> None:
        self._channel = channel(address)
        self._stub: Any = api_grpc.TraceabilityServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def dossier(self) -> tuple[float, page.LotDossier]:
        """Milliseconds, and the answer."""
        began = time.perf_counter()
        request = api.GetLotDossierRequest(lot=RAW)
        answer = await self._stub.GetLotDossier(request, timeout=60, metadata=metadata("bench"))
        return 1000 * (time.perf_counter() - began), answer.dossier

    async def until_whole(self) -> None:
        end = time.monotonic() + _WAIT_SECONDS
        while not is_whole((await _until_known(self.dossier))[1]):
            assert time.monotonic() < end, "the dossier is not whole in time"
            await asyncio.sleep(0.5)


def is_whole(found: page.LotDossier) -> bool:
    """Every run lists every lot, and its hospitals have told their numbers."""
    return len(found.exposed.runs) == min(RUNS, 10) and all(
        len(run.lots) + run.lots_left_out == PACKS + 1
        and run.people.dispenses.value == PATIENTS
        and run.people.patients.value == PATIENTS
        for run in found.exposed.runs
    )


async def measure(stack: LocalStack) -> tuple[list[float], int]:
    address = stack.endpoints()["traceability"]
    trace, asker, made = Trace(address), Asker(address), recall()
    try:
        await asyncio.to_thread(publish, stack.bootstrap, sites())
        await trace.load(made)
        await _until_known(lambda: trace.folded(made))
        await asyncio.to_thread(publish, stack.bootstrap, told())
        await asker.until_whole()
        times, size = [], 0
        for _ in range(ASKED):
            took, found = await asker.dossier()
            assert is_whole(found), "a dossier that is not whole"
            times.append(took)
            size = found.ByteSize()
        assert size <= _LARGEST_BYTES, f"{size} bytes"
        return times, size
    finally:
        await trace.close()
        await asker.close()


def raw_read(mongodb: str) -> float:
    """Milliseconds in which a raw client reads the documents of a dossier by their ids."""
    runs = [f"run-{n:03d}" for n in range(RUNS)]
    of_lot = ("lot_node", "dossier_lot", "balance")
    of_run = ("exposure_run", "exposure", "dossier_run", "dossier_hazard")
    with MongoClient[Any](mongodb) as client:
        database = client["pharmaloop_traceability"]
        began = time.perf_counter()
        for _ in range(ASKED):
            for name in of_lot:
                database[name].find_one({"_id": RAW})
            for name in of_run:
                list(database[name].find({"_id": {"$in": runs}}))
            list(database["dossier_site"].find({"s.run": {"$in": runs}}))
        return 1000 * (time.perf_counter() - began) / ASKED


def run(machine: Machine) -> list[Row]:
    only = ("kafka", "mongod", "migrate", "traceability")
    with LocalStack(machine.folder / "stack", only=only) as stack:
        stack.up()
        times, size = asyncio.run(measure(stack))
        raw = raw_read(stack.mongodb)
    return [
        row(
            f"dossier of a raw lot with {PACKS} finished lots and {PATIENTS:,} patients, p99",
            p99(times),
            "ms",
            target=Target(at_most=1_000.0),
            yardstick=("a raw client reads the same documents", raw),
            note=f"{len(times)} answers through gRPC, {RUNS} runs, {size:,} bytes each, "
            f"p50 {p50(times):.1f} ms; every answer complete and exact",
        )
    ]
