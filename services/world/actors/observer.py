"""Watches the runs of the loop from outside, tells of them, and knows when all is done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.world.actors.desk import Desk
from services.world.actors.runs import all_runs
from services.world.ids import short
from services.world.timing import LOOK_SECONDS

#: What has ended must stay so for a while: a late effect may open another run.
_SETTLED_LOOKS = 8


class Observer:
    """`lots` are those of the world; `sending` says what the world itself has still to send."""

    def __init__(self, desk: Desk, lots: Collection[str], sending: Callable[[], list[str]]) -> None:
        self._desk, self._lots, self._sending = desk, lots, sending
        self._told: dict[str, int] = {}
        self.closed = 0
        self.missing: list[str] = ["the first look"]

    async def run_until_done(self) -> None:
        """Return when everything was replayed, judged and closed, and stayed so for some seconds."""
        quiet = 0
        while quiet < _SETTLED_LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            runs = await all_runs(self._desk, self._lots)
            for run in runs:
                self._tell(run)
            self.closed = sum(run.state == loops.RUN_STATE_CLOSED for run in runs)
            self.missing = self._sending() or await self._unfinished(runs)
            quiet = 0 if self.missing else quiet + 1

    async def _unfinished(self, runs: list[loops.Run]) -> list[str]:
        """What the platform has still to do, in words."""
        found = [
            f"run of {short(run.opened.lot)} waits in stage {run.stage or '?'}"
            for run in runs
            if run.state != loops.RUN_STATE_CLOSED
        ]
        covered = {run.opened.lot for run in runs}
        for state, lots in (await self._lots_by_deviation()).items():
            if state == production.DEVIATION_STATE_OPEN:
                found += [f"a deviation on {short(lot)} waits for a judgement" for lot in lots]
            if state == production.DEVIATION_STATE_CONFIRMED:
                found += [f"no run was opened for {short(lot)}" for lot in lots if lot not in covered]
        if not found and (lag := await self._desk.platform.lag()):
            found.append(f"{lag} records wait to be taken")
        return found

    async def _lots_by_deviation(self) -> dict[int, Counter[str]]:
        desk = self._desk
        lots: dict[int, Counter[str]] = {}
        request = production.ListDeviationsRequest()
        async for page in desk.platform.pages(desk.platform.production.ListDeviations, request, desk.actor):
            for deviation in page.deviations:
                if deviation.detected.lot in self._lots:
                    lots.setdefault(deviation.state, Counter())[deviation.detected.lot] += 1
        return lots

    def _tell(self, run: loops.Run) -> None:
        if self._told.get(run.run) == run.state:
            return
        first = run.run not in self._told
        self._told[run.run] = run.state
        lot = short(run.opened.lot)
        if run.state == loops.RUN_STATE_CLOSED:
            ended = run.closed
            self._desk.say(
                f"loop closed: {lot}: {len(ended.lots)} lots, {ended.patients} patients, "
                f"{ended.answered} answered, {run.seconds:.1f} s"
            )
        elif run.state == loops.RUN_STATE_STALLED:
            self._desk.say(f"loop stalled: {lot}: {run.waiting_for}")
        elif first:
            self._desk.say(f"loop opened: {lot}")
