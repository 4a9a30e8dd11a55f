"""Drives the real handlers, commands and step in memory, as Kafka and MongoDB would.

Transactions read a snapshot and fail on a write conflict, and a transaction
may be interrupted between its reads and its commit: what the protocol must
survive. Nothing here knows the protocol's rules.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Partition, Record
from services.kit.clock import ManualClock
from services.kit.contracts import contract, event_type
from services.kit.envelope import Event, from_record, to_record
from services.kit.errors import Retryable
from services.kit.ids import lot_key
from services.kit.metrics import Metrics
from services.kit.positions import Positions
from services.kit.recovery import OwnLog, Restored, recover
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.reactor import Reactor
from services.kit.runners.step import StepRunner
from services.kit.store.kinds import OutboxRow
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.store.protocol import Transaction
from services.kit.work import Job, Overlay, Scope, request_cause, run_one
from services.traceability.fold import CUT_STEP
from services.traceability.handlers import CUT_EVENTS, commands, fold_events
from services.traceability.outside import Outside
from services.traceability.protocol import FOLD
from services.traceability.regain import REGAIN
from services.traceability.steps import CutStep
from services.traceability.views import KINDS
from tests.unit.rough_stores import SnapshotStore

FACTS = (
    events.MaterialRecorded,
    events.ShipmentRecorded,
    events.DispenseRecorded,
    events.ReturnRecorded,
    events.DispenseCorrected,
    production.TestResultRecorded,
)
START = datetime(2026, 3, 1, tzinfo=UTC)
TOPICS = contract().names_for([event_type(cls) for cls in CUT_EVENTS])


class Keys:
    """Keys that need no folder."""

    def make(self, key_id: str) -> bytes:
        return key_id.encode().ljust(32, b".")[:32]

    def find(self, key_id: str) -> bytes:
        return self.make(key_id)

    def destroy(self, key_id: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Told:
    """An event that the service emitted."""

    message: Message
    topic: str
    seq: int
    case: str
    run: str


class Entered:
    """An entry of a journal as its site hears of it."""

    def __init__(self, site: str, epoch: int, entry: events.ExposureEntry) -> None:
        self.site, self.epoch = site, epoch
        self.dispense, self.pseudonym, self.lot = entry.dispense, entry.pseudonym, entry.lot
        self.number, self.possible = entry.number, entry.possible
        name = events.Disposition.Name(entry.disposition).removeprefix("DISPOSITION_")
        self.disposition = "" if name == "UNSPECIFIED" else name
        self.kind = f"DISPOSITION/{self.number}/{name}" if self.number else "MEMBER"
        assert (entry.kind == events.ENTRY_KIND_MEMBER) == (self.kind == "MEMBER")


def fact_id(message: Message) -> str:
    """One id for equal messages: a fact that is sent twice is the same fact."""
    return f"{event_type(type(message))}/{message.SerializeToString(deterministic=True).hex()}"


def moment(hours: float) -> common.Moment:
    result = common.Moment()
    result.at.FromDatetime(START + timedelta(hours=hours))
    return result


def lot(name: str) -> str:
    return lot_key("maker", "gtin", "04012345678901", name)


def material(name: str, *inputs: str, at: float = 0) -> events.MaterialRecorded:
    used = [events.MaterialInput(lot=lot(other)) for other in inputs]
    return events.MaterialRecorded(lot=lot(name), inputs=used, at=moment(at), record=f"{name}{inputs}")


def dispense(
    id: str,
    name: str,
    site: str = "",
    pseudonym: str = "",
    source: str = "pharmacy",
    at: float = 10,
    possible: Iterable[str] = (),
) -> events.DispenseRecorded:
    return events.DispenseRecorded(
        dispense=id,
        lot=lot(name),
        site=site,
        pseudonym=pseudonym,
        source=source,
        at=moment(at),
        order=id,
        possible_lots=[lot(other) for other in possible],
    )


def back(id: str, name: str, unopened: bool = True, source: str = "pharmacy") -> events.ReturnRecorded:
    state = events.RETURN_STATE_UNOPENED if unopened else events.RETURN_STATE_OPENED
    record = f"{id}/{source}/{unopened}"
    return events.ReturnRecorded(
        dispense=id, lot=lot(name), state=state, at=moment(20), record=record, source=source
    )


def wrong(id: str, name: str, source: str = "pharmacy", right: str = "") -> events.DispenseCorrected:
    return events.DispenseCorrected(
        dispense=id,
        lot=lot(name),
        reason="a slip",
        replaced_by=right,
        at=moment(20),
        record=f"{id}/{source}",
        source=source,
    )


def cancelled(run: str, name: str) -> loops.LoopClosed:
    return loops.LoopClosed(run=run, case=lot(name), outcome=loops.RUN_OUTCOME_CANCELLED, reason="a mistake")


def started(name: str, at: float = 0) -> production.LotStarted:
    return production.LotStarted(lot=lot(name), at=moment(at).at)


def registered(site: str) -> clinical.SiteRegistered:
    return clinical.SiteRegistered(site=site, name=site)


def opened(run: str, name: str, follows: str = "") -> loops.SafetyRunOpened:
    return loops.SafetyRunOpened(run=run, case=lot(name), lot=lot(name), follows=follows)


def asked(run: str, version: int) -> loops.SealRequested:
    return loops.SealRequested(run=run, version=version)


class Service:
    """Traceability in memory: publish to it, let it fold and step, see what it tells."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.database = MemoryDatabase()
        self.store = SnapshotStore(self.database)
        self.clock = ManualClock(START)
        self.outside = Outside()
        self.outside.connect(Keys(), self.clock)
        self.fail_next_answer = False
        self._count = 0
        #: What happens between the reads and the commit of the next command of a method.
        self.during: dict[str, Callable[[], None]] = {}
        self._commands = commands(self.outside)
        self._seqs: dict[str, int] = defaultdict(int)
        self._loop = asyncio.Runner()
        #: What is on the topics of the service itself, by the events' ids.
        self._said: dict[str, OutboxRow] = {}
        self._start(None)

    def _start(self, restored: Restored | None) -> None:
        """The process, on the database as it stands."""
        self._restored = restored
        metrics, until = Metrics("traceability"), restored.until() if restored else {}
        around = Surroundings(
            *("traceability", "", contract(), self.bus, self.store, metrics, lambda: None), restored=until
        )
        reactor = Reactor("fold", fold_events(self.outside))
        #: Two workers of the fold, as in a consumer group: each has its own partitions.
        self._workers = (BatchRunner(reactor, around), BatchRunner(reactor, around))
        topics = sorted(self._workers[0].topics)
        assert self._workers[0].name == FOLD
        self._partitions = [p for topic in topics for p in self.bus.partitions_of(topic)]
        for partition in self._partitions:
            self._workers[self.worker(partition)]._start_at([partition])
        store = AsyncMemoryStore(self.database)
        positions = Positions(store, {FOLD: topics})
        step = CutStep(
            *(store, self.bus.log(), lambda: positions.of(FOLD), self._submit, TOPICS),
            patience=0.0,
            life=restored.life if restored else "",
        )
        self._steps = StepRunner(store, self.clock, metrics, {CUT_STEP: step})

    # -- a database that is set back ------------------------------------------

    def relay(self, most: int | None = None) -> None:
        """Publish what was said, in its order; or so many events of it."""
        waiting = [row for id, row in self.database.outbox.items() if id not in self.database.published]
        for row in sorted(waiting, key=lambda row: (row.aggregate, row.seq))[:most]:
            record = Outgoing(row.topic, row.key, row.value, row.headers)
            self.database.published[row.id] = self.bus.append(record)
            self._said[row.id] = row

    def saved(self) -> Any:
        """A copy of the database."""
        database = self.database
        return deepcopy((dict(database.docs), database.outbox, database.published))

    def set_back(self, copy: Any) -> None:
        """The database is what it was, and the process starts on it; what was not published is gone."""
        docs, outbox, published = deepcopy(copy)
        for held, kept in (
            (self.database.docs, docs),
            (self.database.outbox, outbox),
            (self.database.published, published),
        ):
            held.clear()
            held.update(kept)
        sites = tuple(sorted(m.site for m in self._facts(clinical.SiteRegistered)))
        own = OwnLog(
            *("traceability", contract(), self.bus, self.store, KINDS, sites),
            reads=self._workers[0].topics,
            regain=REGAIN,
            now=self.clock.now,
        )
        self._start(recover(own))
        self.clock.advance(60)  # leases of the process that ran then

    def _facts(self, cls: type[Any]) -> list[Any]:
        topic = contract().topic_of(event_type(cls)).name
        found = (from_record(contract(), record).message for record in self.bus.all(topic))
        return [message for message in found if isinstance(message, cls)]

    @property
    def recovering(self) -> bool:
        """Is it still folding again what it had folded before its database was set back?"""
        until = self._restored.until() if self._restored else {}
        return any(p in self._partitions and self.folded(p) < end for p, end in until.items())

    def close(self) -> None:
        self._loop.close()

    # -- in -----------------------------------------------------------------

    def publish(self, message: Message, *, again: bool = False) -> None:
        """Put an event on its topic; `again` repeats the newest of its aggregate."""
        topic, key = contract().route(message)
        seq = None
        if not isinstance(message, FACTS):
            self._seqs[topic + key] += 0 if again else 1
            seq = self._seqs[topic + key]
        id = fact_id(message)
        case = message.case if isinstance(message, loops.SafetyRunOpened) else ""
        event = Event(id, "/svc/test", key, START, message, key, seq, case=case)
        self.bus.append(to_record(event, topic))

    def worker(self, partition: Partition) -> int:
        """Which worker of the fold has the partition: of two topics not always the same ones."""
        place = self._partitions.index(partition)  # each topic has two
        return (place // 2 + place) % 2

    def folded(self, partition: Partition) -> int:
        """How many of its records are folded; none of a topic that is not taken."""
        if partition not in self._partitions:
            return 0
        return self._workers[self.worker(partition)].positions().get(partition, 0)

    def waiting(self) -> list[Partition]:
        """Partitions with records that are not folded, in a stable order."""
        return [p for p in self._partitions if self.folded(p) < len(self.bus.records[p])]

    def fold(self, partition: Partition, count: int) -> None:
        start = self.folded(partition)
        self._workers[self.worker(partition)].process(self.bus.records[partition][start : start + count])

    def fold_all(self) -> None:
        while parts := self.waiting():
            self.fold(parts[0], 100)

    def step(self) -> int:
        """Run every due step once, each until it has to wait."""
        self.clock.advance(20)
        return self._loop.run(self._steps.run_due())

    def settle(self) -> None:
        """Fold and step until nothing is left to do."""
        for _ in range(200):
            self.fold_all()
            if not self.step() and not self.waiting():
                return
        raise AssertionError("the protocol does not come to rest")

    async def _submit(
        self, method: str, request: Message, request_id: str, trace: str, actor: str = "platform"
    ) -> object:
        if self.recovering:
            raise Retryable("the database was older than its topics and catches up")
        cause = request_cause(actor, method, request_id, self.clock.now(), trace)
        command = self._commands[method]

        def work(txn: Transaction) -> Any:
            overlay = Overlay(Scope(restored=self._restored is not None))
            job = run_one(Job(cause, lambda w: command(w, request)), overlay, contract(), "traceability")
            try:
                reads = next(job)
                while True:
                    reads = job.send(txn.load(reads))
            except StopIteration as stop:
                if stop.value.error is not None:
                    raise stop.value.error from None
            txn.write(overlay.plan())

        if method in self.during:
            self.store.interrupt = self.during.pop(method)
        self.store.transact(work)
        if self.fail_next_answer:
            self.fail_next_answer = False
            raise Retryable("the process died after its commit")
        return None

    # -- out ----------------------------------------------------------------

    def told(self, run: str = "") -> list[Told]:
        """What the service emitted, in the order in which its relay would publish it."""
        rows = sorted({**self._said, **self.database.outbox}.values(), key=lambda r: (r.aggregate, r.seq))
        told = [_told(row) for row in rows if row.aggregate.startswith("exposure/")]
        return [item for item in told if not run or item.run == run]

    def announced(self, run: str) -> list[events.ExposureAnnounced]:
        return [t.message for t in self.told(run) if isinstance(t.message, events.ExposureAnnounced)]

    def entered(self, run: str) -> list[Entered]:
        """Entries of the journal, as the sites hear of them."""
        heard = [t.message for t in self.told(run) if isinstance(t.message, events.ExposureEntriesJoined)]
        return [Entered(bulk.site, bulk.epoch, entry) for bulk in heard for entry in bulk.entries]

    def members(self, run: str) -> dict[str, Entered]:
        """Members by dispense; for dispenses that name one patient."""
        heard = [m for m in self.entered(run) if m.kind == "MEMBER"]
        assert len({m.dispense for m in heard}) == len(heard), "a member entered twice"
        return {entered.dispense: entered for entered in heard}

    def dispositions(self, run: str, dispense: str) -> list[str]:
        """What became of the members of a dispense, in the order in which it was told."""
        return [m.disposition for m in self.entered(run) if m.dispense == dispense and m.disposition]

    def do(self, method: str, request: Message, actor: str = "head-of-quality") -> None:
        """A person's command."""
        self._count += 1
        self._loop.run(self._submit(method, request, f"do/{self._count}", "", actor))

    def state(self, kind: Any, id: str) -> Any:
        doc = self.database.docs[kind.name].get(id)
        return kind.from_doc(deepcopy(doc)).state if doc else None

    def states(self, kind: Any) -> dict[str, Any]:
        return {id: self.state(kind, id) for id in sorted(self.database.docs[kind.name])}


def _told(row: OutboxRow) -> Told:
    event = from_record(contract(), Record(row.topic, 0, 0, row.key, row.value, row.headers, 0))
    return Told(event.message, row.topic, event.seq or 0, event.case, event.run)
