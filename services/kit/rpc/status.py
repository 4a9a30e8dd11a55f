"""The StatusService of every service: health, lag, memory, positions, version."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import service_pb2 as api
from pharmaloop.common.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.protocol import Position
from services.kit.errors import Retryable
from services.kit.facts import vector

if TYPE_CHECKING:
    from datetime import datetime

    from services.kit.app import App
    from services.kit.runners.protocol import Runner

_PAGE_KB = 4
_OUTBOX_SECONDS = 1.0


def memory_mb() -> float:
    """Resident memory of this process in megabytes, from the kernel."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return round(resident * _PAGE_KB / 1024, 1)


def timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _runner(runner: Runner) -> api.RunnerStatus:
    status = runner.status
    return api.RunnerStatus(
        name=status.name,
        state=status.state,
        lag=status.lag,
        records=status.records,
        dead_letters=status.dead_letters,
        parked_keys=status.parked,
        detail=status.detail,
        waiting_sources=status.waiting,
        generation=runner.generation,
    )


class StatusServicer(api_grpc.StatusServiceServicer):
    def __init__(self, app: App) -> None:
        self._app = app
        self._waiting = 0

    async def GetStatus(self, request: api.GetStatusRequest, context: Any) -> api.GetStatusResponse:
        app = self._app
        places = [
            Position(partition.topic, partition.number, offset - 1)
            for runner in app.watched
            for partition, offset in runner.positions().items()
            if offset
        ]
        return api.GetStatusResponse(
            service=app.spec.name,
            version=app.version,
            health="serving" if app.ready else "not serving",
            memory_mb=memory_mb(),
            started=timestamp(app.started),
            platform_time=timestamp(app.clock.now()),
            runners=[_runner(runner) for runner in app.watched],
            positions=vector(places),
            outbox_waiting=await self._outbox_waiting(),
            not_ready=app.readiness.reasons(),
            contract=app.contract_digest,
        )

    async def _outbox_waiting(self) -> int:
        """As it was last known while the database is silent: just then somebody wants to know the rest."""
        with contextlib.suppress(TimeoutError, Retryable):
            async with asyncio.timeout(_OUTBOX_SECONDS):
                self._waiting = await self._app.store.outbox_waiting()
        return self._waiting


def add_status(app: App, server: Any) -> None:
    api_grpc.add_StatusServiceServicer_to_server(StatusServicer(app), server)
