"""The StatusService of every service: health, lag, memory, positions, version."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import service_pb2 as api
from pharmaloop.common.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.protocol import Partition, Position
from services.kit.errors import PharmaLoopError, Retryable
from services.kit.facts import vector

if TYPE_CHECKING:
    from datetime import datetime

    from services.kit.app import App
    from services.kit.runners.batch import BatchRunner
    from services.kit.runners.protocol import Runner

_PAGE_KB = 4
_OUTBOX_SECONDS = 1.0
_ELSEWHERE_SECONDS = 2.0


def memory_mb() -> float:
    """Resident memory of this process in megabytes, from the kernel."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return round(resident * _PAGE_KB / 1024, 1)


def timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


async def _elsewhere(app: App, runner: BatchRunner) -> tuple[api.RunnerStatus, dict[Partition, int]]:
    """A runner that other processes run: where it stands, as its stored watermarks tell, and how far behind.

    What neither the database nor Kafka tells now is left out: just then somebody wants to know the rest.
    """
    told = api.RunnerStatus(name=runner.name, state="elsewhere", generation=runner.generation)
    at: dict[Partition, int] = {}
    with contextlib.suppress(TimeoutError, PharmaLoopError):
        async with asyncio.timeout(_ELSEWHERE_SECONDS):
            at = await app.positions.of(runner.name)
            log = app.bus.log()
            ends, starts = await asyncio.gather(
                asyncio.to_thread(log.ends, runner.topics), asyncio.to_thread(log.starts, runner.topics)
            )
            left = (end - max(at.get(place, 0), starts.get(place, 0)) for place, end in ends.items())
            told.lag = sum(max(0, records) for records in left)
    return told, at


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
        elsewhere = await asyncio.gather(*(_elsewhere(app, runner) for runner in app.elsewhere))
        stand = [*(runner.positions() for runner in app.watched), *(at for _, at in elsewhere)]
        places = [
            Position(partition.topic, partition.number, offset - 1)
            for at in stand
            for partition, offset in at.items()
            if offset
        ]
        return api.GetStatusResponse(
            service=app.spec.name,
            version=app.version,
            health="serving" if app.ready else "not serving",
            memory_mb=memory_mb(),
            started=timestamp(app.started),
            platform_time=timestamp(app.clock.now()),
            runners=[*map(_runner, app.watched), *(told for told, _ in elsewhere)],
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
