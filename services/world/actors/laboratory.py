"""A plant's laboratory: tests every lot whose run is over, before quality assurance decides about it.

What is out of specification it tests again, from what was kept of the sample:
now and then it had misread, and the second result is within specification.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.entities import LotTest
from services.world.ids import moment
from services.world.platform_api import check_facts
from services.world.timing import LOOK_SECONDS

_AT_ONCE = 500
#: A result out of specification is tested again so long after.
_RETEST = timedelta(hours=6)


class Laboratory:
    """`hand_on` gives quality assurance the slip of a lot that is tested."""

    def __init__(
        self, desk: Desk, source: str, tests: Iterable[LotTest], hand_on: Callable[[str], None]
    ) -> None:
        self._desk, self._source, self._hand_on = desk, source, hand_on
        self._tests: dict[str, list[LotTest]] = defaultdict(list)
        for test in sorted(tests, key=lambda one: (one.at, one.lot, one.test)):
            self._tests[test.lot].append(test)
        self._samples: list[str] = []

    def hand_in(self, lot: str) -> None:
        """The plant's slip, with a sample of the lot."""
        self._samples.append(lot)

    def waiting(self) -> int:
        """Lots that are not tested yet."""
        return len(self._samples)

    async def run(self) -> None:
        while True:
            while self._samples:
                await self.record(self._samples[:1])
                self._hand_on(self._samples.pop(0))
            await asyncio.sleep(LOOK_SECONDS)

    async def record(self, lots: Collection[str]) -> None:
        """Record what was found on some lots, in the order in which it was, and what is found when suspect
        results are tested again; return when it is judged."""
        progress = self._desk.progress
        new = [lot for lot in lots if not progress.is_done(f"tested:{lot}")]
        found = sorted((test for lot in new for test in self._tests[lot]), key=lambda test: test.at)
        for first in range(0, len(found), _AT_ONCE):
            await self._send([self._result(test) for test in found[first : first + _AT_ONCE]])
        if again := [self._retest(test) for test in found if test.suspect]:
            await self._send(again)
        for lot in new:
            progress.finish(f"tested:{lot}")

    async def _send(self, results: Sequence[events.TestResultRecorded]) -> None:
        desk, production = self._desk, self._desk.platform.production
        request = api.RecordTestResultsRequest(
            request_id=desk.request("results", results[0].record, str(len(results))), results=results
        )
        answer = await desk.call(production.RecordTestResults, request)
        check_facts(answer.receipt, "RecordTestResults")
        await self._judged(answer.receipt.positions)

    async def _judged(self, places: common.PositionVector) -> None:
        """Whoever decides about the lots must see what the results mean for them."""
        request = api.ListResultsRequest(page_size=1, min_position=places)
        await self._desk.call(self._desk.platform.production.ListResults, request)

    def _result(self, test: LotTest) -> events.TestResultRecorded:
        return events.TestResultRecorded(
            lot=test.lot,
            test=test.test,
            value=test.first,
            unit=test.unit,
            low=test.low,
            high=test.high,
            at=moment(test.at),
            record=f"{test.lot} {test.test}",
            source=self._source,
        )

    def _retest(self, test: LotTest) -> events.TestResultRecorded:
        """What is truly in it, by a record of its own."""
        again = self._result(test)
        again.value = test.value
        again.record = f"{again.record} retest"
        again.at.CopyFrom(moment(test.at + _RETEST))
        return again
