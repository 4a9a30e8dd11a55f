"""A whole service in memory: its real handlers behind the real batch runner, fed record by record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

from google.protobuf.message import Message

from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Partition, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.metrics import Metrics
from services.kit.recovery import OwnLog, Regain
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind, OutboxRow
from services.kit.store.memory import MemoryDatabase
from services.kit.store.protocol import Transaction
from services.kit.words import meaning_of
from services.kit.work import Done, Job, Overlay, Scope, request_cause, run_jobs
from tests.unit.rough_stores import SnapshotStore

S = TypeVar("S")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Said:
    """One event to deliver: who says it, its number there (None for a fact), its record's wall time in ms."""

    message: Message
    source: str
    seq: int | None
    id: str
    time: datetime
    case: str = ""
    run: str = ""
    recorded: int = 0


class MemoryService:
    """Delivers events and commands to a service, and tells what it holds and says."""

    def __init__(self, name: str, reactor: Reactor, commands: Mapping[str, Command], site: str = "") -> None:
        self.database = MemoryDatabase()
        self._name, self._site, self._commands = name, site, commands
        self._reactor, self._store = reactor, SnapshotStore(self.database)
        #: Everything that was delivered.
        self.log: dict[Partition, list[Record]] = defaultdict(list)
        self._said: dict[str, OutboxRow] = {}
        self._requests = 0
        self._start({})

    def _start(self, restored: Mapping[Partition, int]) -> None:
        around = Surroundings(
            *(
                self._name,
                self._site,
                contract(),
                MemoryBus(),
                self._store,
                Metrics(self._name),
                lambda: None,
            ),
            restored=restored,
        )
        self._is_restored = bool(restored)
        #: As in a consumer group: each has partitions of its own.
        self._workers = (BatchRunner(self._reactor, around), BatchRunner(self._reactor, around))
        for partition in self.log:
            self._workers[partition.number]._start_at([partition])

    # -- a database that is set back ------------------------------------------

    def saved(self) -> Any:
        """A copy of the database."""
        return deepcopy((dict(self.database.docs), self.database.outbox))

    def set_back(
        self, copy: Any, kinds: Iterable[Kind[Any]], regain: Mapping[Kind[Any], Regain], now: datetime
    ) -> int:
        """The database is what it was, and everything that was said is on the topics: the process starts,
        and catches up; how many events it lacked. What it had folded it has to `fold` again."""
        self._said |= self.database.outbox
        bus = MemoryBus()
        for row in sorted(self._said.values(), key=lambda row: (row.aggregate, row.seq)):
            bus.append(Outgoing(row.topic, row.key, row.value, row.headers))
        docs, outbox = deepcopy(copy)
        for held, kept in ((self.database.docs, docs), (self.database.outbox, outbox)):
            held.clear()
            held.update(kept)
        sites = (self._site,) if self._site else ()
        own = OwnLog(
            *(self._name, contract(), bus, self._store, kinds, sites, self._site),
            regain=regain,
            now=lambda: now,
        )
        lacking = own.catch_up()
        self._start({partition: len(records) for partition, records in self.log.items()} if lacking else {})
        return lacking

    def unfolded(self) -> list[Partition]:
        """Partitions of which something is not folded (again)."""
        return [p for p, records in self.log.items() if self._next(p) < len(records)]

    def _next(self, partition: Partition) -> int:
        return self._workers[partition.number].positions().get(partition, 0)

    def fold(self, partition: Partition, count: int) -> None:
        """Fold the next records of a partition."""
        start = self._next(partition)
        self._workers[partition.number].process(self.log[partition][start : start + count])

    def deliver(self, *said: Said, together: bool = False) -> None:
        """One batch for each of two workers, one after the other, or at the same moment: then the
        second one's is done between what the first one reads and its commit."""
        records = [self._record(one) for one in said]
        first, second = ([one for one in records if one.partition == number] for number in (0, 1))
        if together and first and second:
            self._store.interrupt = partial(self._workers[1].process, second)
            self._workers[0].process(first)
            return
        for worker, share in zip(self._workers, (first, second), strict=True):
            if share:
                worker.process(share)

    def append(self, *said: Said) -> None:
        """Records that are in the log, and not folded."""
        for one in said:
            self._record(one)

    def _record(self, said: Said) -> Record:
        topic, key = contract().route(said.message, self._site)
        event = Event(
            id=said.id,
            source=said.source,
            subject=said.source,
            time=said.time,
            message=said.message,
            key=key,
            seq=said.seq,
            case=said.case,
            run=said.run,
        )
        out = to_record(event, topic)
        place = Partition(topic, crc32(f"{topic}/{key}".encode()) % 2)
        offset = len(self.log[place])
        record = Record(topic, place.number, offset, out.key, out.value, out.headers, said.recorded)
        self.log[place].append(record)
        return record

    def command(self, method: str, request: Message, now: datetime, actor: str = "platform") -> Message:
        """Decide a command, as the decider does; its refusal is raised."""
        self._requests += 1
        cause = request_cause(actor, method, f"request-{self._requests}", now, meaning=meaning_of(request))
        job = Job(cause, lambda work: self._commands[method](work, request))
        done = self._store.transact(lambda txn: self._decide(txn, job))
        if done.error is not None:
            raise done.error
        answer: Message = done.answer
        return answer

    def _decide(self, txn: Transaction, job: Job) -> Done:
        overlay = Overlay(Scope(restored=self._is_restored))
        deciding = run_jobs([job], overlay, contract(), self._name)
        try:
            reads = next(deciding)
            while True:
                reads = deciding.send(txn.load(reads))
        except StopIteration as stop:
            (done,) = stop.value
        txn.write(overlay.plan())
        result: Done = done
        return result

    def states(self, kind: Kind[S]) -> dict[str, S]:
        return {id: kind.from_doc(doc).state for id, doc in self.database.docs[kind.name].items()}

    def rows(self) -> list[OutboxRow]:
        """What it has said, in the order of its making; also what a database that was set back lacks."""
        return list({**self._said, **self.database.outbox}.values())

    def events(self) -> list[Event]:
        """Everything the service has said, in the order of its making."""
        return [
            from_record(contract(), Record(row.topic, 0, n, row.key, row.value, row.headers, 0))
            for n, row in enumerate(self.rows())
        ]

    def all(self, cls: type[M]) -> list[M]:
        return [event.message for event in self.events() if isinstance(event.message, cls)]

    def dead_letters(self) -> list[OutboxRow]:
        return [row for row in self.rows() if row.topic.endswith(".dlq")]
