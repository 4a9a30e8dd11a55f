"""Quality assurance and the head of quality: people who judge, release and sign.

They look at what the platform publishes, take about half an hour of platform
time, and write down why. With `--qa manual` judging and signing is left to
whoever sits at the keyboard; releasing goes on. They mind the lots of their own
world: another one may be played on the same platform.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.actors.judgement import judge
from services.world.ids import short
from services.world.platform_api import Refused
from services.world.timing import LOOK_SECONDS

THINKING = timedelta(minutes=30)
#: The detector may still say something about a run that has just ended.
BEFORE_RELEASE = timedelta(minutes=60)
_OPEN = events.INVESTIGATION_OUTCOME_UNSPECIFIED
_ERROR = events.INVESTIGATION_OUTCOME_LABORATORY_ERROR
_STANDS = events.INVESTIGATION_OUTCOME_CONFIRMED
_SAID_OF_ERROR = "The sample was diluted wrongly; the retest of what was kept is within specification."
_SAID_OF_RESULT = "Sample, method and instrument were checked; nothing explains the result."


class QualityAssurance:
    def __init__(self, desk: Desk, lots: Collection[str], *, manual: bool) -> None:
        self._desk, self._lots = desk, lots
        self._manual = manual
        self._seen: dict[str, datetime] = {}
        self._slips: dict[str, datetime] = {}

    def hand_in(self, lot: str, *, at_once: bool = False) -> None:
        """The plant's slip that a lot's run is over."""
        now = self._desk.clock.now()
        self._slips[lot] = now if at_once else now + BEFORE_RELEASE

    def waiting(self) -> int:
        """Lots that nobody has decided about yet."""
        return len(self._slips)

    async def run(self) -> None:
        while True:
            for deviation in await self._open_deviations():
                await self._look_at(deviation)
            await self._release_lots()
            await asyncio.sleep(LOOK_SECONDS)

    async def _open_deviations(self) -> list[events.DeviationDetected]:
        desk = self._desk
        request = api.ListDeviationsRequest(state=api.DEVIATION_STATE_OPEN)
        return [
            deviation.detected
            async for page in desk.platform.pages(
                desk.platform.production.ListDeviations, request, desk.actor
            )
            for deviation in page.deviations
            if deviation.detected.lot in self._lots
        ]

    async def _look_at(self, detected: events.DeviationDetected) -> None:
        now = self._desk.clock.now()
        if detected.deviation not in self._seen:
            self._seen[detected.deviation] = now
            self._announce(detected)
        if not self._manual and now - self._seen[detected.deviation] >= THINKING:
            await self._judge(detected)

    def _announce(self, detected: events.DeviationDetected) -> None:
        seen = f"{detected.tag} at {detected.magnitude:.1f} SD in phase {detected.phase or '-'}"
        self._desk.say(f"deviation on {short(detected.lot)}: {seen}")
        if self._manual:
            self._desk.say(
                f"it waits for you: pharmaloop deviation confirm {detected.lot} {detected.deviation} "
                "--reason ..."
            )

    async def _judge(self, detected: events.DeviationDetected) -> None:
        verdict = judge(detected)
        found = "the deviation is real" if verdict.confirmed else "this is a false alarm"
        desk, production = self._desk, self._desk.platform.production
        fields = {
            "request_id": desk.request("judge", detected.deviation),
            "lot": detected.lot,
            "deviation": detected.deviation,
            "reason": verdict.reason,
            "meaning": f"I have judged the evidence: {found}.",
        }
        try:
            if verdict.confirmed:
                await desk.call(production.ConfirmDeviation, api.ConfirmDeviationRequest(**fields))
            else:
                await desk.call(production.RejectDeviation, api.RejectDeviationRequest(**fields))
        except Refused as refusal:
            desk.say(f"qa: {refusal}")
            return
        word = "confirmed" if verdict.confirmed else "rejected"
        desk.say(f"deviation on {short(detected.lot)} {word} by qa: {verdict.reason}")

    async def _release_lots(self) -> None:
        now = self._desk.clock.now()
        due = [lot for lot, ready in self._slips.items() if now >= ready]
        await asyncio.gather(*(self._release(lot) for lot in due))

    async def _release(self, lot: str) -> None:
        """Release a completed lot; keep its slip while a deviation or a result waits for a judgement."""
        desk, production = self._desk, self._desk.platform.production
        found = (await desk.call(production.GetLot, api.GetLotRequest(lot=lot))).lot
        if any(deviation.state == api.DEVIATION_STATE_OPEN for deviation in found.deviations):
            return
        opened = [one for one in found.investigations if one.outcome == _OPEN]
        if opened:
            await asyncio.gather(*(self._investigate(lot, one) for one in opened))
            return
        stands = [one for one in found.investigations if one.outcome == _STANDS]
        if stands:
            await self._reject(lot, stands)
        elif found.state == api.LOT_STATE_COMPLETED:
            request = api.ReleaseLotRequest(
                request_id=desk.request("release", lot),
                lot=lot,
                meaning="I have judged the record of this lot and release it for use.",
            )
            try:
                await desk.call(production.ReleaseLot, request)
            except Refused as refusal:
                desk.say(f"qa: {refusal}")
        del self._slips[lot]
        desk.progress.finish(f"release:{lot}")

    async def _reject(self, lot: str, stands: Sequence[api.Investigation]) -> None:
        """A lot of which a result out of specification stands is rejected, whatever else holds it."""
        if self._manual:
            return  # whoever judged the result decides about the lot
        reason = "out of specification: " + ", ".join(sorted({one.test for one in stands}))
        request = api.RejectLotRequest(
            request_id=self._desk.request("reject", lot),
            lot=lot,
            reason=reason,
            meaning="I have judged the record of this lot and reject it for good.",
        )
        try:
            await self._desk.call(self._desk.platform.production.RejectLot, request)
        except Refused as refusal:
            self._desk.say(f"qa: {refusal}")
            return
        self._desk.say(f"lot {short(lot)} rejected by qa: {reason}")

    async def _investigate(self, lot: str, opened: api.Investigation) -> None:
        """The laboratory erred where its retest is within specification; else the result stands."""
        desk, id = self._desk, opened.investigation
        if id not in self._seen:
            self._seen[id] = desk.clock.now()
            desk.say(f"out of specification on {short(lot)}: {opened.rule}")
            if self._manual:
                desk.say(f"it waits for you: pharmaloop result close {lot} {id} --outcome ...")
        if self._manual or desk.clock.now() - self._seen[id] < THINKING:
            return
        request = api.CloseInvestigationRequest(
            request_id=desk.request("investigate", id),
            lot=lot,
            investigation=id,
            outcome=_ERROR if opened.retest else _STANDS,
            reason=_SAID_OF_ERROR if opened.retest else _SAID_OF_RESULT,
            meaning="I have looked into the result and stand for what was found.",
        )
        try:
            await desk.call(desk.platform.production.CloseInvestigation, request)
        except Refused as refusal:
            desk.say(f"qa: {refusal}")
            return
        if opened.retest:
            desk.say(f"result on {short(lot)} is void: the laboratory erred, {opened.test} passed its retest")
        else:
            desk.say(f"result on {short(lot)} stands: {opened.test} is out of specification")

    async def release_now(self, lots: Sequence[str]) -> None:
        """Release lots of the past, which had their time."""
        for lot in lots:
            if not self._desk.progress.is_done(f"release:{lot}"):
                self.hand_in(lot, at_once=True)
        while any(lot in self._slips for lot in lots):
            await asyncio.sleep(LOOK_SECONDS)


class HeadOfQuality:
    """Signs corrective actions, and takes their changes through change control."""

    def __init__(self, desk: Desk, lots: Collection[str]) -> None:
        self._desk, self._lots = desk, lots
        self._seen: dict[tuple[str, int], datetime] = {}

    async def run(self) -> None:
        while True:
            for capa in await self._waiting():
                now = self._desk.clock.now()
                if now - self._seen.setdefault((capa.proposed.capa, capa.state), now) >= THINKING:
                    await self._take_on(capa)
            await asyncio.sleep(LOOK_SECONDS)

    async def _waiting(self) -> list[api.Capa]:
        """The actions that wait for a signature, or for their change control."""
        desk = self._desk
        return [
            capa
            for state in (api.CAPA_STATE_PROPOSED, api.CAPA_STATE_APPROVED)
            async for page in desk.platform.pages(
                desk.platform.production.ListCapas, api.ListCapasRequest(state=state), desk.actor
            )
            for capa in page.capas
            if capa.proposed.lot in self._lots
        ]

    async def _take_on(self, capa: api.Capa) -> None:
        try:
            if capa.state == api.CAPA_STATE_PROPOSED:
                await self._sign(capa.proposed)
            else:
                await self._control(capa)
        except Refused as refusal:
            self._desk.say(f"head of quality: {refusal}")

    async def _sign(self, proposed: events.CapaProposed) -> None:
        desk = self._desk
        request = api.ApproveCapaRequest(
            request_id=desk.request("approve", proposed.capa),
            capa=proposed.capa,
            meaning=f"I have read the evidence and approve {_limit(proposed)}.",
        )
        await desk.call(desk.platform.production.ApproveCapa, request)
        desk.say(f"capa for {short(proposed.lot)} approved: {proposed.tag}, {_limit(proposed)}")

    async def _control(self, capa: api.Capa) -> None:
        """Record what change control still lacks; then the limit is in force."""
        desk, id = self._desk, capa.proposed.capa
        if not capa.HasField("validated"):
            validation = api.RecordValidationRequest(
                request_id=desk.request("validate", id),
                capa=id,
                record=f"VAL-{id[:8]}",
                statement=_shown(capa.proposed),
                meaning="The validation is on record as I say here.",
            )
            await desk.call(desk.platform.production.RecordValidation, validation)
        if not capa.HasField("filing"):
            filing = api.RecordFilingAssessmentRequest(
                request_id=desk.request("assess", id),
                capa=id,
                category=events.FILING_CATEGORY_NOT_REPORTED,
                statement="The limit stays inside the proven acceptable range that is filed.",
                meaning="I have assessed what this change needs and stand for it.",
            )
            await desk.call(desk.platform.production.RecordFilingAssessment, filing)
        desk.say(f"capa for {short(capa.proposed.lot)} in force: its change is validated and assessed")


def _narrows(proposed: events.CapaProposed) -> bool:
    return proposed.limit_after < proposed.limit_before


def _limit(proposed: events.CapaProposed) -> str:
    """The limit that is decided on, in words."""
    if _narrows(proposed):
        return f"the limit of {proposed.limit_after:.2f} SD instead of {proposed.limit_before:.2f} SD"
    return f"that the limit stays at {proposed.limit_after:.2f} SD"


def _shown(proposed: events.CapaProposed) -> str:
    """What the validation of the change shows, which is less where there is none."""
    if _narrows(proposed):
        return "The recorded runs were judged again with the narrower limit."
    return "The limit stays as it is, so the recorded runs were judged with it already."
