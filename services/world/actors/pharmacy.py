"""A pharmacy's feed to the trace: what it handed out and what came back, with its own errors.

It writes for itself; what it forgot only the hospital's record shows. Where it
had opened packs it names every lot that a dispense may be of, and where nobody
asked for a name it names none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.world.actors.calendar import Due, keep
from services.world.actors.desk import Desk
from services.world.entities import Dispense
from services.world.ids import moment
from services.world.platform_api import check_facts
from services.world.records import Correction, Late, Pharmacy, Return
from services.world.timing import LOOK_SECONDS

_BATCH = 500


class PharmacyClerk:
    def __init__(self, desk: Desk, pharmacy: Pharmacy) -> None:
        self._desk, self._pharmacy = desk, pharmacy

    async def send_records(self) -> None:
        """Everything that is on time, in bulk; a few records go out a second time."""
        feed = self._pharmacy.feed
        for start in range(0, len(feed.on_time), _BATCH):
            await self._once(f"dispense:{start}", feed.on_time[start : start + _BATCH])
        await self._once("dispense:again", feed.sent_twice)
        for correction in feed.corrections:
            if correction.late is None and not self._is_done(f"correction:{correction.record}"):
                await self._correct(correction)
                self._finish(f"correction:{correction.record}")
        back = [item for item in self._pharmacy.returns if item.late is None]
        if back and not self._is_done("return:past"):
            await self._take_back(back, "return:past")
            self._finish("return:past")

    async def send_late(self) -> None:
        """What comes later: late records, patients found out, corrections, and packs that come back."""
        feed, name = self._pharmacy.feed, self._pharmacy.name
        dues = [self._late(item, f"{name}: a dispense was recorded late") for item in feed.late]
        dues += [
            self._late(item, f"{name}: found out who received a dispense", "found")
            for item in self._pharmacy.found_out
        ]
        dues += [self._correction(item) for item in feed.corrections if item.late]
        dues += [self._return(item) for item in self._pharmacy.returns if item.late]
        await keep(self._desk, dues)

    # -- what comes later -----------------------------------------------------

    def _late(self, late: Late, said: str, how: str = "late") -> Due:
        step = f"dispense:{how}:{late.dispense.dispense}"

        async def send() -> None:
            await self._send(step, [late.dispense])

        return Due(late.after, self._step(step), send, said)

    def _correction(self, correction: Correction) -> Due:
        assert correction.late

        async def send() -> None:
            await self._correct(correction)

        step = self._step(f"correction:{correction.record}")
        return Due(correction.late, step, send, f"{self._pharmacy.name}: a wrong lot was corrected")

    def _return(self, item: Return) -> Due:
        assert item.late

        async def send() -> None:
            await self._take_back([item], f"return:{item.record}")

        state = "opened" if item.opened else "unopened"
        said = f"{self._pharmacy.name}: a pack came back {state}"
        return Due(item.late, self._step(f"return:{item.record}"), send, said)

    # -- calls ----------------------------------------------------------------

    async def _once(self, step: str, dispenses: Sequence[Dispense]) -> None:
        if dispenses and not self._is_done(step):
            await self._send(step, dispenses)
            self._finish(step)

    async def _send(self, step: str, dispenses: Sequence[Dispense]) -> None:
        desk = self._desk
        request = api.RecordDispenseRequest(
            request_id=desk.request(step), dispenses=[self._message(dispense) for dispense in dispenses]
        )
        answer = await desk.call(desk.platform.traceability.RecordDispense, request)
        while any(refusal.reason == "UNKNOWN_SITE" for refusal in answer.receipt.refused):
            await asyncio.sleep(LOOK_SECONDS)  # the hospital is still registering
            answer = await desk.call(desk.platform.traceability.RecordDispense, request)
        check_facts(answer.receipt, "RecordDispense")

    async def _correct(self, correction: Correction) -> None:
        """Take back the wrong record, and say what is right."""
        desk, wrong, right = self._desk, correction.wrong, correction.right
        request = api.RecordCorrectionsRequest(
            request_id=desk.request("correction", correction.record),
            corrections=[
                events.DispenseCorrected(
                    dispense=wrong.dispense,
                    lot=wrong.lot,
                    reason=correction.reason,
                    replaced_by=right.dispense,
                    at=moment(correction.at),
                    record=correction.record,
                    source=self._pharmacy.name,
                )
            ],
        )
        answer = await desk.call(desk.platform.traceability.RecordCorrections, request)
        check_facts(answer.receipt, "RecordCorrections")
        await self._send(f"dispense:right:{right.dispense}", [right])

    async def _take_back(self, returns: Sequence[Return], step: str) -> None:
        desk = self._desk
        request = api.RecordReturnsRequest(
            request_id=desk.request(step), returns=[self._returned(item) for item in returns]
        )
        answer = await desk.call(desk.platform.traceability.RecordReturns, request)
        check_facts(answer.receipt, "RecordReturns")

    def _message(self, dispense: Dispense) -> events.DispenseRecorded:
        return events.DispenseRecorded(
            dispense=dispense.dispense,
            lot=dispense.lot,
            site=dispense.site,
            pseudonym=dispense.pseudonym,
            at=moment(dispense.at),
            quantity=common.Quantity(value=dispense.amount, unit=dispense.unit),
            source=self._pharmacy.name,
            order=dispense.order,
            possible_lots=dispense.possible_lots,
        )

    def _returned(self, item: Return) -> events.ReturnRecorded:
        state = events.RETURN_STATE_OPENED if item.opened else events.RETURN_STATE_UNOPENED
        return events.ReturnRecorded(
            dispense=item.dispense.dispense,
            lot=item.dispense.lot,
            state=state,
            at=moment(item.at),
            record=item.record,
            source=self._pharmacy.name,
        )

    # -- progress -------------------------------------------------------------

    def _step(self, step: str) -> str:
        return f"{self._pharmacy.name}:{step}"

    def _is_done(self, step: str) -> bool:
        return self._desk.progress.is_done(self._step(step))

    def _finish(self, step: str) -> None:
        self._desk.progress.finish(self._step(step))
