"""The pharmacy's feed to the trace: what it handed out, with its own small errors.

It writes for itself; what it forgot only the hospital's record shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.entities import Dispense, Feed
from services.world.ids import moment
from services.world.platform_api import check_facts
from services.world.timing import LOOK_SECONDS

_BATCH = 100


class Pharmacy:
    def __init__(self, desk: Desk, site: str, feed: Feed) -> None:
        self._desk = desk
        self._site = site
        self._feed = feed

    async def send_records(self) -> None:
        """Everything that is on time, in bulk; a few records go out a second time."""
        on_time = self._feed.on_time
        for start in range(0, len(on_time), _BATCH):
            await self._send(f"dispense:{start}", on_time[start : start + _BATCH])
        await self._send("dispense:again", self._feed.sent_twice)
        self._desk.say(f"pharmacy: {len(on_time)} dispenses recorded")

    async def send_late(self) -> None:
        """What arrives late, each record at its own time after the runs began."""
        waited = timedelta()
        for late in self._feed.late:
            step = f"dispense:late:{late.dispense.dispense}"
            if self._desk.progress.is_done(step):
                continue
            await self._desk.sleep(late.after - waited)
            waited = late.after
            await self._send(step, [late.dispense])
            self._desk.say("pharmacy: a dispense was recorded late")

    async def _send(self, step: str, dispenses: Sequence[Dispense]) -> None:
        desk = self._desk
        if desk.progress.is_done(step):
            return
        request = api.RecordDispenseRequest(
            request_id=desk.request(step), dispenses=[self._message(dispense) for dispense in dispenses]
        )
        answer = await desk.call(desk.platform.traceability.RecordDispense, request)
        while any(refusal.reason == "UNKNOWN_SITE" for refusal in answer.receipt.refused):
            await asyncio.sleep(LOOK_SECONDS)  # the hospital is still registering
            answer = await desk.call(desk.platform.traceability.RecordDispense, request)
        check_facts(answer.receipt, "RecordDispense")
        desk.progress.finish(step)

    def _message(self, dispense: Dispense) -> events.DispenseRecorded:
        return events.DispenseRecorded(
            lot=dispense.lot,
            site=self._site,
            pseudonym=dispense.pseudonym,
            at=moment(dispense.at),
            quantity=common.Quantity(value=dispense.amount, unit="{patch}"),
            source=self._desk.actor,
            order=dispense.order,
        )
