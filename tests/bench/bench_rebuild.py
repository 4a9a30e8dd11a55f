"""A view made anew from the log: speed at three sizes, memory while catching up, and a second worker.

A rebuild should be linear in events: its speed should be the same at every
size. Every read model that is made must hold exactly the last fact of each lot.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from typing import Any

import uvloop

from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from services.kit.rpc.client import channel, metadata
from services.kit.testing.engines import free_port
from tests.bench.bench_projector import check, kit_projector, produce, rate_of, until_folded
from tests.bench.framework import facts
from tests.bench.framework.machine import Child, Machine
from tests.bench.framework.rows import Row, row
from tests.bench.framework.run import option

LARGEST = option("COUNT", 1_000_000)
SIZES = (LARGEST // 10, LARGEST * 3 // 10, LARGEST)
_VIEW = "bench.latest"
_LOOK_SECONDS = 0.1
_LONGEST_SECONDS = option("WAIT", 900)
_POINTS = 10


async def rebuilt(address: str, live: int) -> float:
    """Seconds from the request until the new making, the one after `live`, has taken over."""
    async with channel(address) as open_channel:
        stub: Any = operations_grpc.OperationsServiceStub(open_channel)
        who = metadata("bench")
        began = time.monotonic()
        request = operations.RebuildViewRequest(request_id=str(uuid.uuid4()), view=_VIEW)
        await stub.RebuildView(request, timeout=15, metadata=who)
        while True:
            answer = await stub.ListViews(operations.ListViewsRequest(), timeout=15, metadata=who)
            view = next(view for view in answer.views if view.view == _VIEW)
            if view.live > live:
                took = time.monotonic() - began
                break
            assert time.monotonic() - began < _LONGEST_SECONDS, f"not rebuilt: {view}"
            await asyncio.sleep(_LOOK_SECONDS)
        while view.building or await _still_drops(stub, who):
            await asyncio.sleep(_LOOK_SECONDS)
        return took


async def _still_drops(stub: Any, who: Any) -> bool:
    """Whether the old making is still being dropped: the next rebuild waits for that."""
    answer = await stub.ListViews(operations.ListViewsRequest(), timeout=15, metadata=who)
    view = next(view for view in answer.views if view.view == _VIEW)
    return bool(view.building)


def of_size(machine: Machine, total: int) -> tuple[float, list[dict[str, Any]], float]:
    """Rate of the first making, what it told, and seconds of the second, of everything in the log."""
    port = free_port()
    worker = kit_projector(machine, f"rebuild{total}", port=port)
    told = until_folded(worker, total)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(rebuilt(f"127.0.0.1:{port}", live=1))
    worker.stop()
    check(machine, [f"rebuild{total}"], total, collection="latest~2")
    return rate_of(told), told, seconds


def curve(told: list[dict[str, Any]], total: int) -> str:
    """Resident memory in MB at each tenth of the way."""
    at = [next(one for one in told if one["records"] >= total * n / _POINTS) for n in range(1, _POINTS + 1)]
    return ", ".join(f"{one['rss']:.0f}" for one in at)


def two_workers(machine: Machine, total: int) -> float:
    """Rate of two processes that share the partitions; every fact once, whoever folds it."""
    workers = [kit_projector(machine, "shared", instance=str(number)) for number in range(2)]
    told: list[dict[str, Any]] = []

    def listen(worker: Child) -> None:
        for one in worker.told_all():
            told.append({**one, "worker": worker.pid})

    threads = [threading.Thread(target=listen, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while _folded(told) < total:
        assert time.monotonic() - began < _LONGEST_SECONDS, f"{_folded(told)} of {total} were folded"
        time.sleep(_LOOK_SECONDS)
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join(10)
    check(machine, ["shared"], total)
    shares = sorted(_last(told).values())
    assert sum(shares) == total, f"{sum(shares)} facts were folded, {total} stand in the log"
    assert shares[0], "the second worker had nothing to do"
    begun = next(one for one in told if one["records"])
    end = max(one["at"] for one in told if one["records"] == _last(told)[one["worker"]])
    return float((total - begun["records"]) / (end - begun["at"]))


def _last(told: list[dict[str, Any]]) -> dict[int, int]:
    return {one["worker"]: one["records"] for one in list(told)}


def _folded(told: list[dict[str, Any]]) -> int:
    return sum(_last(told).values())


def run(machine: Machine) -> list[Row]:
    found: list[Row] = []
    produced, per_event = 0, list[float]()
    for size in SIZES:
        produce(machine, size - produced, first=produced)
        produced = size
        first, told, seconds = of_size(machine, size)
        per_event.append(seconds / size)
        found.append(
            row(
                f"rebuild of a view of {size:,} events",
                size / seconds,
                "events/s",
                yardstick=("its first making", first),
                note=f"{seconds:.1f} s, the live making beside it",
            )
        )
    before = told[0]["rss"]
    highest = max(one["rss"] for one in told)
    return [
        *found,
        row(
            "time for an event, largest rebuild against the smallest",
            per_event[-1] / per_event[0],
            "times",
            note="1 is linear; below 1, fixed costs of the small one weigh more",
        ),
        row(
            f"memory of a projector that catches up {LARGEST:,} events, highest",
            highest,
            "MB",
            yardstick=("at its start", before),
            note=f"RSS at each tenth: {curve(told, LARGEST)} MB",
        ),
        row(
            "two workers on a topic of 12 partitions",
            two_workers(machine, LARGEST),
            "events/s",
            yardstick=("one worker", first),
            note=f"{LARGEST:,} facts of {facts.KEYS:,} lots; 2 cores are shared with broker and database",
        ),
    ]
