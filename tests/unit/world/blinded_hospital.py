"""Hospital A of a world beside the real trace, both in memory: what each says reaches the other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as trace_events
from services.clinical.keys import digest_keys
from services.clinical.steps import Steps
from services.kit.app import App
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.ids import in_kit
from services.kit.sealing import Sealer
from services.kit.store.kinds import OutboxRow
from services.kit.work import STEPS, moment_text
from tests.unit.clinical.door import Door
from tests.unit.clinical.memory_site import SITE, START, MemorySite, moment
from tests.unit.clinical.teller import Teller
from tests.unit.memory_service import Said
from tests.unit.traceability.driver import Keys, Service, registered
from tests.unit.world.support import Recorder

#: What the trace says to a hospital, and a hospital to itself and to the trace.
_HEARD = (
    trace_events.ExposureOpened,
    trace_events.ExposureEntriesJoined,
    trace_events.ExposureAnnounced,
)
_ITS_OWN = (clinical.ComparatorsChosen,)
_FOR_THE_TRACE = (trace_events.DispenseRecorded, trace_events.DispenseCorrected)


class BlindedHospital:
    """`recorder` holds what the world's makers, pharmacies and this hospital sent."""

    def __init__(self, recorder: Recorder, keys: Path) -> None:
        self.trace, self.site = Service(), MemorySite()
        self.site.open_key = digest_keys(Sealer(Keys()))
        self._door = Door(cast(Teller, SimpleNamespace(site=self.site)), keys)
        self._sent = recorder.of
        self._seen: dict[str, int] = {"trace": 0, "site": 0}
        app = SimpleNamespace(
            store=self._door.store, sealer=self._door.sealer, clock=self.site.clock, site=SITE, decider=self
        )
        self._steps: Any = Steps(cast(App, app)).all()

    def ask(self, method: str, request: Message) -> Any:
        return asyncio.run(self._door.call(method, request))

    async def submit(self, method: str, request: Message, **_: Any) -> None:
        """As the decider does."""
        self.site.command(method, request, self.site.clock.now())

    # -- what happens ------------------------------------------------------------

    def record(self, lost: Collection[str] = ()) -> None:
        """Everything that was sent of the material and of the study's kits; of these dispenses only what
        the hospital sent."""
        self.trace.publish(registered(SITE))
        told = [material for request in self._sent("RecordMaterial") for material in request.materials]
        told += [fact for request in self._sent("RecordDispense") for fact in request.dispenses]
        told += [fact for request in self._sent("RecordReturns") for fact in request.returns]
        told += [fact for request in self._sent("RecordCorrections") for fact in request.corrections]
        for fact in told:
            if isinstance(fact, trace_events.MaterialRecorded) or (
                in_kit(fact.lot) and fact.dispense not in lost
            ):
                self.trace.publish(fact)
        self.trace.settle()
        for method in ("RecordSubjects", "RecordMedications", "RecordMedicationCorrections"):
            for request in self._sent(method):
                assert not self.ask(method, request).receipt.refused

    def recall(self, run: str, lot: str) -> None:
        """A run of the lot opens, and its hazard is evaluated."""
        opened = loops.SafetyRunOpened(run=run, case=lot, lot=lot, tag="DryerTemp")
        self.trace.publish(opened)
        hazard = production.HazardEvaluated(run=run, lot=lot, text="so", instruction="bring it back")
        hazard.hazard_class = production.HAZARD_CLASS_II
        for message in (opened, hazard):
            source = f"/svc/{type(message).__name__}/{run}"
            self.site.deliver(Said(message, source, 1, source, START, lot, run))

    def settle(self) -> None:
        """Until nobody has anything more to say, and nothing is due."""
        self.trace.settle()
        while (
            self._pass(self.trace.database.outbox.values(), "trace")
            + self._pass(self.site.rows(), "site")
            + self._run_due()
        ):
            self.trace.settle()

    def _pass(self, rows: Iterable[OutboxRow], who: str) -> int:
        """Tell those whom they concern what was said since the last time."""
        said = list(rows)
        fresh, self._seen[who] = said[self._seen[who] :], len(said)
        events = [_event(row) for row in sorted(fresh, key=lambda row: (row.aggregate, row.seq))]
        heard = [event for event in events if isinstance(event.message, _HEARD + _ITS_OWN)]
        # An event's number is that of its aggregate: each run is a source of its own.
        self.site.deliver(
            *(Said(e.message, f"{e.source}/{e.subject}", e.seq, e.id, e.time, e.case, e.run) for e in heard)
        )
        for event in events:
            if isinstance(event.message, _FOR_THE_TRACE):
                self.trace.publish(event.message)
        assert not self.site.dead_letters()
        return len(fresh)

    def _run_due(self) -> int:
        rows, now = self.site.states(STEPS), moment_text(self.site.clock.now())
        due = [(id, step) for id, step in rows.items() if step.due <= now]
        for id, step in due:
            del self.site.database.docs[STEPS.name][id]
            asyncio.run(self._steps[step.step](step))
        return len(due)

    def follow_up(self, runs: Iterable[str], complain: bool) -> None:
        """Everybody is told, and answers; then time passes until every follow-up is over."""
        for run in runs:
            told = api.RecordNoticesRequest()
            for notice in self.all("ListNotices", api.ListNoticesRequest(run=run), "notices"):
                told.notices.add(
                    run=run, pseudonym=notice.pseudonym, outcome="NOTICE_OUTCOME_NOTIFIED", at=moment(0)
                )
            self.ask("RecordNotices", told)
        for view in self.all("ListPlans", api.ListPlansRequest(only_open=True), "plans"):
            plan = view.plan
            answer = api.RecordResponseRequest(plan=plan.plan, pseudonym=plan.pseudonym, affected=complain)
            answer.at.CopyFrom(moment(0))
            self.ask("RecordResponse", answer)
        for _ in range(3):
            self.settle()
            self.site.clock.advance(24 * 3600)
        self.settle()

    # -- what its people can get ----------------------------------------------------

    def all(self, method: str, request: Any, field: str) -> list[Any]:
        """Every page of an answer."""
        request.page_size, found = 1000, []
        while True:
            answer = self.ask(method, request)
            found += getattr(answer, field)
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    def on_its_topics(self) -> Iterator[bytes]:
        """Every record on the hospital's own topics: key, value and headers."""
        rows = [*self.trace.database.outbox.values(), *self.site.rows()]
        yield from (_bytes(row.topic, row.key, row.value, row.headers) for row in rows if _its_own(row.topic))
        for record in self._door.records():
            if _its_own(record.topic):
                yield _bytes(record.topic, record.key, record.value, record.headers)


def _its_own(topic: str) -> bool:
    return SITE in topic.split(".")


def _bytes(topic: str, key: bytes | None, value: bytes | None, headers: Any) -> bytes:
    parts = [topic.encode(), key or b"", value or b""]
    return b"\n".join([*parts, *(name.encode() + b"=" + text for name, text in headers)])


def _event(row: OutboxRow) -> Event:
    return from_record(contract(), Record(row.topic, 0, 0, row.key, row.value, row.headers, 0))
