"""Calls to a service that goes away and comes back, over real gRPC in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.loops.v1 import service_pb2_grpc as api_grpc
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from services.kit.errors import Rejected, Unknown
from services.kit.metrics import Metrics
from services.kit.rpc.errors import status_of
from services.world.platform_api import NEEDED, Platform, Refused


class Flaky(production_grpc.ProductionServiceServicer):
    """Fails as often as it is told; remembers the request ids it saw."""

    def __init__(self) -> None:
        self.failures: list[Exception | grpc.StatusCode] = []
        self.seen: list[str] = []

    async def StartLot(
        self, request: production.StartLotRequest, context: Any
    ) -> production.StartLotResponse:
        self.seen.append(request.request_id)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, grpc.StatusCode):
                await context.abort(failure, "away")
                raise AssertionError("abort raises")
            status = status_of(failure)
            await context.abort(status.code, status.details, tuple(status.trailing_metadata))
        return production.StartLotResponse()


class Paged(api_grpc.LoopsServiceServicer):
    async def ListRuns(self, request: api.ListRunsRequest, context: Any) -> api.ListRunsResponse:
        at = int(request.page_token or 0)
        token = str(at + 1) if at < 2 else ""
        return api.ListRunsResponse(runs=[api.Run(run=f"r{at}")], next_page_token=token)


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, Platform, list[str]]]:
    lines: list[str] = []
    server, servicer = aio.server(), Flaky()  # type: ignore[abstract]
    production_grpc.add_ProductionServiceServicer_to_server(servicer, server)
    api_grpc.add_LoopsServiceServicer_to_server(Paged(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    platform = Platform(dict.fromkeys(NEEDED, address), Metrics("world"), lines.append)
    yield servicer, platform, lines
    await platform.close()
    await server.stop(None)


async def test_a_service_that_is_away_gets_the_same_request_again(
    flaky: tuple[Flaky, Platform, list[str]],
) -> None:
    servicer, platform, lines = flaky
    servicer.failures = [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]
    await platform.call(platform.production.StartLot, production.StartLotRequest(request_id="one"), "me")
    assert set(servicer.seen) == {"one"}
    assert len(servicer.seen) == 3
    assert len(lines) == 1
    assert "trying again" in lines[0]


async def test_a_refusal_is_raised_with_reason_and_field(flaky: tuple[Flaky, Platform, list[str]]) -> None:
    servicer, platform, _ = flaky
    servicer.failures = [Rejected("ILLEGAL_TRANSITION", "a lot that is held cannot start", "lot")]
    with pytest.raises(Refused, match=r"ILLEGAL_TRANSITION \(lot\): a lot that is held cannot start"):
        await platform.call(platform.production.StartLot, production.StartLotRequest(request_id="1"), "me")
    assert len(servicer.seen) == 1


async def test_a_hospitals_process_is_called_where_it_has_an_address_of_its_own() -> None:
    """Each address is a server of its own; the first hospital's process is called clinical alone."""

    class Hospital(clinical_grpc.ClinicalServiceServicer):
        def __init__(self) -> None:
            self.called: list[str] = []

        async def ListPlans(
            self, request: clinical.ListPlansRequest, context: Any
        ) -> clinical.ListPlansResponse:
            self.called.append(request.site)
            return clinical.ListPlansResponse()

    hospitals, servers, addresses = [Hospital(), Hospital()], [aio.server(), aio.server()], []  # type: ignore[abstract]
    for hospital, server in zip(hospitals, servers, strict=True):
        clinical_grpc.add_ClinicalServiceServicer_to_server(hospital, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
    endpoints = dict.fromkeys(NEEDED, addresses[0])
    platform = Platform(
        {**endpoints, "clinical.hospital-b": addresses[1]}, Metrics("world"), lambda text: None
    )
    for site in ("hospital-a", "hospital-b"):
        await platform.call(platform.clinical_at(site).ListPlans, clinical.ListPlansRequest(site=site), "me")
    with pytest.raises(Unknown, match=r"no hospital 'hospital-x' here; known: hospital-a, hospital-b"):
        platform.clinical_at("hospital-x")
    await platform.close()
    for server in servers:
        await server.stop(None)
    assert [hospital.called for hospital in hospitals] == [["hospital-a"], ["hospital-b"]]


async def test_every_page_is_read(flaky: tuple[Flaky, Platform, list[str]]) -> None:
    _, platform, _ = flaky
    pages = platform.pages(platform.loops.ListRuns, api.ListRunsRequest(), "me")
    assert [run.run async for page in pages for run in page.runs] == ["r0", "r1", "r2"]
