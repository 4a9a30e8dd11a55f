"""A plant at work in the background: readings at a fixed rate through the gRPC API (open loop).

    python -m tests.bench.children.plant POINTS_A_SECOND

Many lines run at once; each sends a window of samples of all tags a second,
and starts its next lot when its run is over. The schedule stands: a window
that is late is still sent, and counted as late.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime

import uvloop

from services.kit.metrics import Metrics
from services.world.dryer_runs import TAGS, profile_of, sample_counts
from services.world.platform_api import Platform
from services.world.signals import Profile
from tests.bench.framework.industry import Industry, raw_lot, window
from tests.bench.framework.machine import tell

_SAMPLES = 20
_LATE_SECONDS = 1.0
_BEGAN = datetime(2026, 2, 2, tzinfo=UTC)


class Line:
    """One line: run after run, each lot the replay of a real one."""

    def __init__(self, industry: Industry, number: int) -> None:
        self._industry = industry
        self.equipment = f"line-{number}"
        self._number = number
        self._lots = 0
        self._at = 0
        self._profile: Profile = {}
        self._lot = ""

    async def send(self) -> int:
        """The next window; answers how many points it had."""
        if not self._profile or self._at >= len(self._profile[TAGS[0].name]):
            await self._next_lot()
        end = min(self._at + _SAMPLES, len(self._profile[TAGS[0].name]))
        batch = window(self._lot, self.equipment, _BEGAN, self._profile, self._at, end)
        self._at = end
        await self._industry.record([batch])
        return sum(len(tag.values) for tag in batch.tags)

    async def _next_lot(self) -> None:
        numbers = sorted(sample_counts())
        self._profile = profile_of(numbers[(self._number + 7 * self._lots) % len(numbers)])
        self._lots, self._at = self._lots + 1, 0
        self._lot = raw_lot(f"line-{self._number}-{self._lots}")
        await self._industry.start_lot(self._lot, self.equipment, _BEGAN)


async def _run(rate: int) -> None:
    platform = Platform(json.loads(os.environ["PHARMALOOP_ENDPOINTS"]), Metrics("bench"), print)
    industry = Industry(platform, "bench/plant")
    lines = [Line(industry, number) for number in range(max(1, rate // (_SAMPLES * len(TAGS))))]
    await industry.register(line.equipment for line in lines)
    tell("registered", lines=len(lines))
    began, points, late = time.monotonic(), 0, 0

    async def work(line: Line, number: int) -> None:
        nonlocal points, late
        due = began + number / len(lines)
        while True:
            await asyncio.sleep(due - time.monotonic())
            late += time.monotonic() - due > _LATE_SECONDS
            sent = await line.send()
            points += sent  # not in one: the sum would be taken from before the wait
            due += 1.0

    async def report() -> None:
        while True:
            await asyncio.sleep(1.0)
            tell("sent", points=points, late=late, seconds=time.monotonic() - began)

    await asyncio.gather(report(), *(work(line, number) for number, line in enumerate(lines)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(int(sys.argv[1])))
