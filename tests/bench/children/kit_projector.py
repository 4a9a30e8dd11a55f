"""One projector process of the kit: the latest reading of each lot.

A whole service by the kit's composition root, with one projector and no API
of its own; it tells its parent how many records it has folded.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.app import App, ServiceSpec, main
from services.kit.envelope import Event
from services.kit.rpc.status import memory_mb
from services.kit.runners.reactor import Row, projector
from services.kit.store.kinds import Kind
from tests.bench.framework.machine import tell

_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Latest:
    """The newest reading of a lot."""

    equipment: str
    tag: str
    value: float
    at_ms: int


LATEST: Kind[Latest] = Kind("latest", Latest)


def lot_of(event: Event) -> str:
    return cast(production.ReadingsRecorded, event.message).lot


def newest(held: Latest | None, event: Event) -> Latest:
    batch = cast(production.ReadingsRecorded, event.message)
    at_ms = batch.start.at.seconds * 1000 + batch.start.at.nanos // 1_000_000 + batch.offsets_ms[-1]
    if held is not None and held.at_ms > at_ms:
        return held
    reading = batch.tags[0]
    return Latest(batch.equipment, reading.tag, reading.values[-1], at_ms)


async def _watch(app: App) -> None:
    """Tell how far it is whenever that has changed."""
    told = -1
    while True:
        records = sum(runner.status.records for runner in app.runners)
        if records != told:
            told = records
            cpu, rss = time.process_time(), memory_mb()
            tell("folded", records=records, at=time.time(), cpu=cpu, rss=rss)
        await asyncio.sleep(_LOOK_SECONDS)


def _no_servicer(_app: App, _server: object) -> None:
    """It has no API of its own."""


SPEC = ServiceSpec(
    name="bench",
    rpc_names=(),
    servicer=_no_servicer,
    kinds=(LATEST,),
    reactors=(projector("latest", {production.ReadingsRecorded: Row(LATEST, lot_of, newest)}),),
    background=_watch,
)

if __name__ == "__main__":
    main(SPEC)
