"""The kit unpacked, its examples built, and the services that they talk to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.kit.app import App
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.facts import vector
from services.kit.rpc.client import metadata
from services.kit.testing.engines import free_port
from services.kit.testing.service import running_service
from services.production.main import SPEC
from services.traceability.main import make_spec
from tests.partners.programs import LANGUAGES, Program, built, unpack

SITE = "hospital-a"


@pytest.fixture(scope="session")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="session")
def builds(
    request: pytest.FixtureRequest, kit_folder: Path, backbone: str
) -> Iterator[dict[str, Future[Program]]]:
    """The examples that this session runs; a slow compiler works while the tests of another language run.

    It begins when the engines are up: their start does not wait behind a compiler.
    """
    specs = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {spec.params.get("program") for spec in specs if spec}
    pool = ThreadPoolExecutor(1)
    yield {name: pool.submit(built, name, kit_folder) for name in LANGUAGES if name in wanted}
    pool.shutdown(cancel_futures=True)


@pytest.fixture(
    scope="session",
    params=[LANGUAGES[0], *(pytest.param(one, marks=pytest.mark.long) for one in LANGUAGES[1:])],
)
def program(request: pytest.FixtureRequest, builds: dict[str, Future[Program]]) -> Program:
    """The example of each language in turn."""
    return builds[request.param].result()


@dataclass
class Platform:
    """The trace and a plant, as a partner reaches them: by address."""

    app: App
    trace_port: int
    plant_port: int
    trace: Any  # a stub that is waited for; mypy would take it for a blocking one
    plant: Any

    async def register(self, site: str) -> None:
        message = clinical.SiteRegistered(site=site, name=site)
        topic, key = contract().route(message)
        event = Event(str(uuid.uuid4()), "/svc/test", site, datetime.now(UTC), message, key=key, seq=1)
        published = asyncio.wrap_future(self.app.producer.publish([to_record(event, topic)]))
        at = vector(await published)
        await self.trace.ListSuspects(traceability.ListSuspectsRequest(min_position=at), timeout=10)

    async def dispenses(self, lot: str) -> int:
        """How many dispenses the trace knows of a lot."""
        return int(
            (await self.trace.GetLotNode(traceability.GetLotNodeRequest(lot=lot), timeout=10)).dispenses
        )

    async def hold(self, lot: str, reason: str) -> None:
        """Make a lot, and hold it."""
        made = {"lot": lot, "product": lot.rsplit("/", 1)[0], "equipment": "plant-1/press-1"}
        await self._decide("StartLot", **made)
        await self._decide("CompleteLot", lot=lot)
        await self._decide("HoldLot", lot=lot, reason=reason)

    async def equip(self) -> None:
        tags = [events.Tag(name="Force", unit="kN")]
        await self._decide("RegisterEquipment", equipment="plant-1/press-1", plant="plant-1", tags=tags)

    async def _decide(self, method: str, **fields: Any) -> None:
        request = getattr(production, f"{method}Request")(request_id=str(uuid.uuid4()), **fields)
        await getattr(self.plant, method)(request, timeout=20, metadata=metadata("qa"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    backbone: str, mongo: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """One for all tests of a module: each is about lots of its own."""
    ports, state = (free_port(), free_port()), tmp_path_factory.mktemp("state")
    async with AsyncExitStack() as stack:
        trace, to_trace = await stack.enter_async_context(
            running_service(make_spec(), backbone, mongo, state / "trace", grpc_port=str(ports[0]))
        )
        _, to_plant = await stack.enter_async_context(
            running_service(SPEC, backbone, mongo, state / "plant", grpc_port=str(ports[1]))
        )
        trace_stub = traceability_grpc.TraceabilityServiceStub(to_trace)
        plant_stub = production_grpc.ProductionServiceStub(to_plant)
        made = Platform(trace, *ports, trace_stub, plant_stub)
        await made.register(SITE)
        await made.equip()
        yield made
