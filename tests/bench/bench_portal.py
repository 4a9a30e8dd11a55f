"""Two hundred open pages and fifty reads a second before a platform whose loops run.

Every open page is a live line that fetches its page again when it is told to, at most once a
second, as the portal's script does; beside them, fifty pages a second are opened, of every kind. Sets are
released to a plant meanwhile: how long each takes to its adaptation, with nobody looking and with
everybody looking, says whether the loops starve. The yardstick of a page is `/healthz`, which asks
nobody, in the same seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle

import aiohttp
import uvloop

from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from services.kit.rpc.client import channel
from services.kit.settings import KafkaSettings
from tests.bench.bench_transfer import TOPICS, Case, People
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine, memory_of
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p95
from tests.bench.framework.tap import Tap

PAGES = option("PAGES", 200)
READS = option("READS", 50)
COUNT = option("COUNT", 30)
_OPEN = ("/runs", "/alerts", "/transfers", "/status")
_NAMES = {"/runs": "domain:loops", "/alerts": "domain:alerting", "/transfers": "domain:production"}
_ENGLISH = {"accept-language": "en"}


@dataclass
class Seen:
    """Milliseconds of what was read."""

    pages: list[float] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    told: int = 0


class Readers:
    """Everybody who looks."""

    def __init__(self, portal: str) -> None:
        self._client = aiohttp.ClientSession(
            portal,
            headers=_ENGLISH,
            # The server ends a line that rested 5 s; a browser tries again what meets that, this does not.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=30),
        )
        self.seen = Seen()

    async def _get(self, path: str, into: list[float], **headers: str) -> None:
        began = time.perf_counter()
        async with self._client.get(path, headers=headers) as answer:
            assert answer.status == 200, f"{path} answers {answer.status}"
            await answer.read()
        into.append(1000 * (time.perf_counter() - began))

    async def _page(self, path: str) -> None:
        """One open page: its live line, and a look when it is told, at most one a second."""
        async with self._client.get(path) as first:
            await first.read()
        told = asyncio.Event()

        async def looks() -> None:
            while True:
                await told.wait()
                await asyncio.sleep(random.uniform(0.15, 0.4))
                told.clear()
                await self._get(path, self.seen.looks, **{"x-look": "1"})
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(looks())
            async with self._client.get("/live", params={"on": _NAMES.get(path, "")}) as line:
                async for text in line.content:
                    if text in (b"event: change\n", b"event: stale\n"):
                        self.seen.told += 1
                        told.set()

    async def _reads(self) -> None:
        """So many pages a second, whether the last is there or not."""
        async with asyncio.TaskGroup() as group:
            paths = cycle([*_OPEN, "/healthz"])
            while True:
                path = next(paths)
                into = self.seen.empty if path == "/healthz" else self.seen.pages
                group.create_task(self._get(path, into))
                await asyncio.sleep(1 / READS)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Everybody looks, until the end of the block; a failure of one of them is a failure."""
        tasks = [asyncio.create_task(self._page(path)) for _, path in zip(range(PAGES), cycle(_OPEN))]
        await asyncio.sleep(3)
        tasks.append(asyncio.create_task(self._reads()))
        try:
            yield
            broken = [task for task in tasks if task.done()]
            assert not broken, f"{len(broken)} readers broke off: {broken[0].exception()!r}"
        finally:
            for task in tasks:
                task.cancel()
            with suppress(BaseExceptionGroup):
                await asyncio.gather(*tasks, return_exceptions=True)
            await self._client.close()


async def measure(stack: LocalStack, portal: str) -> list[Row]:
    endpoints = stack.endpoints()
    cases = [Case(number) for number in range(2 * COUNT + 1)]
    kafka = KafkaSettings(bootstrap_servers=stack.bootstrap)
    async with channel(endpoints["production"]) as plant, channel(endpoints["rnd"]) as research:
        with Tap(kafka, TOPICS) as tap:
            stubs = production_grpc.ProductionServiceStub(plant), rnd_grpc.RndServiceStub(research)
            people = People(*stubs, tap)
            await people.prepare(cases)
            await people.release(cases[0])
            alone = [(await people.release(case))[0] for case in cases[1 : COUNT + 1]]
            readers = Readers(portal)
            async with readers.looking():
                watched = [(await people.release(case))[0] for case in cases[COUNT + 1 :]]
    seen = readers.seen
    memory, _ = memory_of(stack.pids()["portal"])
    return [
        row(
            "a page, p95",
            p95(seen.pages),
            "ms",
            yardstick=("/healthz", p95(seen.empty)),
            target=Target(at_most=200),
            note=f"{READS} reads a second beside {PAGES} open pages; {len(seen.pages)} read, "
            f"p50 {p50(seen.pages):.0f} ms",
        ),
        row(
            "an open page looks again, p95",
            p95(seen.looks),
            "ms",
            note=f"{len(seen.looks)} looks after {seen.told} changes that the live lines told",
        ),
        row(
            "ParameterSetReleased -> TwinAdapted while everybody looks, p95",
            p95(watched),
            "ms",
            yardstick=("nobody looks", p95(alone)),
            target=Target(at_most=2_000),
            note=f"{len(watched)} sets; p50 {p50(watched):.0f} ms, with nobody looking {p50(alone):.0f} ms",
        ),
        row("memory of the portal after all of it", memory, "MB", note="resident"),
    ]


def run(machine: Machine) -> list[Row]:
    only = ("kafka", "mongod", "migrate", "production", "rnd", "loops", "alerting", "portal")
    with LocalStack(machine.folder / "stack", only=only, settings={"PHARMALOOP_CLOCK_SPEED": "1"}) as stack:
        stack.up()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(stack, stack.portal()))
