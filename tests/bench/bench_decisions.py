"""Decisions through gRPC, delivered: the answer says where the events stand in the log.

The service runs in a process of its own and registers equipment: a real
command of the contract, one aggregate and one event each. Beside it stand the
raw transaction (motor, one by one and together) and the raw gRPC echo.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import uvloop
from grpc import aio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient

from deploy.local.health import is_serving
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.production.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.kafka import KafkaLog
from services.kit.rpc.client import channel, metadata
from services.kit.settings import MongoSettings
from services.kit.store.mongo import MAJORITY, SNAPSHOT, client_options
from services.kit.testing.engines import free_port
from tests.bench.framework.engines import processors, spent
from tests.bench.framework.machine import Child, Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p95

TOGETHER = option("COUNT", 12_000)
ALONE = option("ALONE", 400)
IN_FLIGHT = 64
_WARM_UP = 200
_TOPIC = "pharmaloop.production.equipment.v1"
_READY_SECONDS = 30.0

#: One call, by number; its wall time in seconds is taken around it.
Call = Callable[[int], Awaitable[None]]


async def measure(call: Call, count: int, in_flight: int) -> tuple[float, list[float]]:
    """Calls a second, and how long each took, with so many always in flight (a closed loop)."""
    numbers, times = iter(range(count)), list[float]()

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return count / (time.perf_counter() - began), times


def _request(name: str) -> api.RegisterEquipmentRequest:
    tags = [events.Tag(name="JacketTemperature", unit="Cel"), events.Tag(name="Pressure", unit="mbar")]
    return api.RegisterEquipmentRequest(
        request_id=str(uuid.uuid4()), equipment=name, plant="plant-1", tags=tags
    )


def _register(stub: Any, prefix: str, pending: list[str]) -> Call:
    async def call(number: int) -> None:
        answer = await stub.RegisterEquipment(
            _request(f"{prefix}-{number}"), timeout=30, metadata=metadata("bench")
        )
        if answer.receipt.pending:
            pending.append(f"{prefix}-{number}")

    return call


def _start(machine: Machine, name: str, *arguments: str, **variables: str) -> tuple[Child, str]:
    port = free_port()
    words = (*arguments, str(port)) if name == "echo" else arguments
    around = {**machine.surroundings(), "PHARMALOOP_PRODUCTION_GRPC_PORT": str(port), **variables}
    child = machine.child(name, *words, on=around)
    return child, f"127.0.0.1:{port}"


def _until_serving(address: str, child: Child) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not is_serving(address):
        assert child.process.poll() is None, "the service ended"
        assert time.monotonic() < deadline, "the service does not serve"
        time.sleep(0.05)


@dataclass
class Measured:
    """Calls with many in flight: a second, and how long each took; calls alone; what was decided and not
    yet published; processor time before and after those with many in flight."""

    rate: float
    times: list[float]
    alone: list[float]
    pending: list[str]
    before: Mapping[str, float]
    after: Mapping[str, float]


async def _decisions(address: str, pids: Mapping[str, int]) -> Measured:
    pending: list[str] = []
    async with channel(address) as open_channel:
        stub = api_grpc.ProductionServiceStub(open_channel)
        await measure(_register(stub, "warm", []), _WARM_UP, IN_FLIGHT)
        before = processors(pids)
        rate, times = await measure(_register(stub, "together", pending), TOGETHER, IN_FLIGHT)
        after = processors(pids)
        _, alone = await measure(_register(stub, "alone", pending), ALONE, 1)
    return Measured(rate, times, alone, pending, before, after)


async def _echoes(address: str) -> tuple[float, list[float]]:
    async with aio.insecure_channel(address) as open_channel:
        stub = api_grpc.ProductionServiceStub(open_channel)
        await measure(_register(stub, "warm", []), _WARM_UP, IN_FLIGHT)
        together, _ = await measure(_register(stub, "echo", []), TOGETHER, IN_FLIGHT)
        _, alone = await measure(_register(stub, "echo", []), ALONE, 1)
    return together, alone


async def _raw_transactions(mongo: MongoSettings, in_flight: int, count: int) -> tuple[float, list[float]]:
    """An aggregate updated and an event into the outbox, in one transaction, by motor alone."""
    client: Any = AsyncIOMotorClient(mongo.uri, **client_options(mongo))
    database = client[f"raw_{in_flight}"]
    await database.aggregate_.insert_one({"_id": "warm"})
    await database.outbox.insert_one({"_id": "warm"})

    async def call(number: int) -> None:
        async with (
            await client.start_session() as session,
            session.start_transaction(read_concern=SNAPSHOT, write_concern=MAJORITY),
        ):
            key = {"_id": str(number)}
            await database.aggregate_.update_one(
                key, {"$set": {"v": 1, "s": "x"}}, upsert=True, session=session
            )
            await database.outbox.insert_one({**key, "open": True, "value": b"x" * 100}, session=session)

    measured = await measure(call, count, in_flight)
    assert await database.outbox.count_documents({}) == count + 1
    client.close()
    return measured


def _check(machine: Machine, database: str, pending: list[str]) -> None:
    """Every command is one aggregate, one event in the log, and told where it stands."""
    wanted = _WARM_UP + TOGETHER + ALONE
    client: MongoClient[dict[str, Any]] = MongoClient(machine.mongo.uri)
    with client:
        held = client[database]["equipment"].count_documents({})
        unpublished = client[database]["_outbox"].count_documents({"open": True})
    ends = sum(KafkaLog(machine.kafka, "bench").ends([_TOPIC]).values())
    assert (held, ends, unpublished) == (wanted, wanted, 0), (held, ends, unpublished, wanted)
    assert not pending, f"{len(pending)} answers did not say where their event stands"


def run(machine: Machine) -> list[Row]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        one_by_one, raw_alone = runner.run(_raw_transactions(machine.mongo, 1, ALONE))
        raw_together, _ = runner.run(_raw_transactions(machine.mongo, 32, ALONE * 5))
        echo, echo_address = _start(machine, "echo")
        echo.told("serving")
        echo_rate, echo_alone = runner.run(_echoes(echo_address))
        echo.stop()
        child, address = _start(machine, "decider", PHARMALOOP_PRODUCTION_DATABASE="decider")
        _until_serving(address, child)
        machine.profiled(child, "decisions", "Decisions through gRPC: the service")
        found = runner.run(_decisions(address, {**machine.engines, "the service": child.pid}))
        child.stop()
    _check(machine, "decider", found.pending)
    times, alone = found.times, found.alone
    return [
        row(
            f"decisions through gRPC, delivered, {IN_FLIGHT} in flight",
            found.rate,
            "decisions/s",
            yardstick=("raw motor transactions one by one", one_by_one),
            target=Target(at_least=1500),
            note=f"p50 {p50(times) * 1e3:.1f} ms, p95 {p95(times) * 1e3:.1f} ms; "
            f"raw transactions 32 in flight: {raw_together:,.0f}/s; raw gRPC echo: {echo_rate:,.0f}/s",
        ),
        row(
            "decision through gRPC, delivered, alone, p50",
            p50(alone) * 1e3,
            "ms",
            yardstick=("raw motor transaction p50 + gRPC echo p50", (p50(raw_alone) + p50(echo_alone)) * 1e3),
            target=Target(at_most=15),
            note=f"p95 {p95(alone) * 1e3:.1f} ms; raw transaction {p50(raw_alone) * 1e3:.1f} ms, "
            f"echo {p50(echo_alone) * 1e3:.1f} ms",
        ),
        *spent(found.before, found.after, TOGETHER, "decisions"),
    ]
