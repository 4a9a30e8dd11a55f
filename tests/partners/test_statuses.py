"""After which statuses the examples ask again, against a server that ends calls with any of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import dossier_pb2 as dossier
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.kit.rpc.errors import AGAIN, GO_ON
from tests.partners.programs import Program

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
ENDED = None
FINAL = grpc.StatusCode.FAILED_PRECONDITION


class Server(production_grpc.ProductionServiceServicer, traceability_grpc.TraceabilityServiceServicer):
    """Ends one call after the other with the given statuses, then answers."""

    def __init__(self, ends: list[grpc.StatusCode | None]) -> None:
        self.ends, self.asked = ends, list[Any]()
        self._server = grpc.server(ThreadPoolExecutor(4))
        production_grpc.add_ProductionServiceServicer_to_server(self, self._server)
        traceability_grpc.add_TraceabilityServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def WatchLots(
        self, request: production.WatchLotsRequest, context: Any
    ) -> Iterator[production.WatchLotsResponse]:
        self.asked.append(request)
        number = len(self.asked)
        answer = production.WatchLotsResponse(
            changes=[production.LotChange(lot=f"maker-1/item/p/L-{number}", reason="seen")],
            position=common.PositionVector(
                positions=[common.LogPosition(topic="lots", partition=0, offset=number)]
            ),
        )
        yield answer
        if number <= len(self.ends) and (code := self.ends[number - 1]) is not ENDED:
            context.abort(code, "the test ends it")

    def GetLotDossier(
        self, request: traceability.GetLotDossierRequest, context: Any
    ) -> traceability.GetLotDossierResponse:
        self.asked.append(request)
        if len(self.asked) <= len(self.ends) and (code := self.ends[len(self.asked) - 1]):
            context.abort(code, "the test ends it")
        return traceability.GetLotDossierResponse(dossier=dossier.LotDossier(lot=request.lot))


def ending(*ends: grpc.StatusCode | None) -> Server:
    """A server that serves what it defines; the calls that it leaves out are not made here."""
    return Server(list(ends))  # type: ignore[abstract]


def by_name(statuses: frozenset[grpc.StatusCode]) -> list[grpc.StatusCode]:
    return sorted(statuses, key=lambda status: str(status.name))


async def test_a_subscription_goes_on_after_all_that_passes(program: Program, tmp_path: Path) -> None:
    passing = by_name(GO_ON)
    server = ending(*passing, ENDED)
    try:
        count = str(len(passing) + 2)
        code, out, err = await program.run(tmp_path, "watch", "--to", server.address, "--count", count)
    finally:
        server.stop()
    assert code == 0, err
    assert [line.split()[1].rpartition("/")[2] for line in out.splitlines()] == [
        f"L-{number}" for number in range(1, len(passing) + 3)
    ]
    assert [one.after.positions[0].offset for one in server.asked[1:]] == list(range(1, len(passing) + 2))
    told = [line.removeprefix("partner: ").partition(", again in")[0] for line in err.splitlines()]
    assert told == [*(one.name for one in passing), "the stream ended"]


async def test_a_subscription_stops_at_a_refusal(program: Program, tmp_path: Path) -> None:
    server = ending(FINAL)
    try:
        code, _, err = await program.run(tmp_path, "watch", "--to", server.address)
    finally:
        server.stop()
    assert (code, len(server.asked)) == (2, 1)
    assert err.endswith("the test ends it\n")


async def test_a_call_is_tried_again_after_what_passes(program: Program, tmp_path: Path) -> None:
    passing = by_name(AGAIN)
    server = ending(*passing)
    try:
        code, out, err = await program.run(tmp_path, "dossier", "maker-1/item/p/L", "--to", server.address)
    finally:
        server.stop()
    assert code == 0, err
    assert out.startswith("lot maker-1/item/p/L\n")
    assert len({one.SerializeToString() for one in server.asked}) == 1
    assert len(server.asked) == len(passing) + 1


@pytest.mark.parametrize("status", by_name(GO_ON - AGAIN))
async def test_a_call_is_not_tried_again_after_another(
    program: Program, tmp_path: Path, status: grpc.StatusCode
) -> None:
    server = ending(status)
    try:
        code, out, err = await program.run(tmp_path, "dossier", "maker-1/item/p/L", "--to", server.address)
    finally:
        server.stop()
    assert (code, out, len(server.asked)) == (2, "", 1)
    assert err == f"partner: {status.name}: the test ends it\n"
