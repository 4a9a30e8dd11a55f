"""The examples deal with a change once, and not with an older one that is told behind a newer one."""

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
from tests.partners.programs import Program

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
#: Lot and version of what each stream tells; version 0 is of a platform that knows none.
TOLD = (
    (("A", 3), ("B", 2), ("A", 5), ("A", 3), ("B", 2)),
    (("B", 1), ("A", 5), ("B", 7), ("C", 0), ("C", 0)),
)


class Plant(production_grpc.ProductionServiceServicer):
    """Tells one half, cuts the stream, and tells the other."""

    def __init__(self) -> None:
        self.asked: list[production.WatchLotsRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        production_grpc.add_ProductionServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def WatchLots(
        self, request: production.WatchLotsRequest, context: Any
    ) -> Iterator[production.WatchLotsResponse]:
        self.asked.append(request)
        half = TOLD[min(len(self.asked), len(TOLD)) - 1]
        place = common.LogPosition(topic="lots", partition=0, offset=len(self.asked))
        yield production.WatchLotsResponse(
            changes=[
                production.LotChange(lot=f"m/item/p/{lot}", version=version, reason=f"v{version}")
                for lot, version in half
            ],
            position=common.PositionVector(positions=[place]),
        )


@pytest.fixture
def plant() -> Iterator[Plant]:
    made = Plant()  # type: ignore[abstract]
    yield made
    made.stop()


async def test_each_lot_is_told_of_what_is_newer_only_also_after_a_new_start(
    program: Program, plant: Plant, tmp_path: Path
) -> None:
    watch = ("watch", "--to", plant.address)
    first = await program.run(tmp_path, *watch, "--count", "3")
    assert first[0] == 0, first[2]
    again = await program.run(tmp_path, *watch, "--count", "3")
    assert again[0] == 0, again[2]
    heard = [(line.split()[1][-1], line.rpartition(" ")[2]) for line in (first[1] + again[1]).splitlines()]
    assert heard == [("A", "v3"), ("B", "v2"), ("A", "v5"), ("B", "v7"), ("C", "v0"), ("C", "v0")]
    assert [len(request.after.positions) for request in plant.asked] == [0, 1]
