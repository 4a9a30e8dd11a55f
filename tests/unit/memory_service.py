"""A whole service in memory: its real handlers behind the real batch runner, fed record by record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar
from zlib import crc32

from google.protobuf.message import Message

from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Partition, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind, OutboxRow
from services.kit.store.memory import MemoryDatabase
from services.kit.store.protocol import Transaction
from services.kit.words import meaning_of
from services.kit.work import Done, Job, Overlay, request_cause, run_jobs
from tests.unit.rough_stores import SnapshotStore

S = TypeVar("S")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Said:
    """One event to deliver: who says it, and its number there (None for a fact)."""

    message: Message
    source: str
    seq: int | None
    id: str
    time: datetime
    case: str = ""
    run: str = ""


class MemoryService:
    """Delivers events and commands to a service, and tells what it holds and says."""

    def __init__(self, name: str, reactor: Reactor, commands: Mapping[str, Command], site: str = "") -> None:
        self.database = MemoryDatabase()
        self._name, self._site, self._commands = name, site, commands
        self._store, metrics = SnapshotStore(self.database), Metrics(name)
        around = Surroundings(name, site, contract(), MemoryBus(), self._store, metrics, lambda: None)
        #: As in a consumer group: each has partitions of its own.
        self._workers = (BatchRunner(reactor, around), BatchRunner(reactor, around))
        self._offsets: dict[Partition, int] = defaultdict(int)
        self._requests = 0

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
        offset = self._offsets[place]
        self._offsets[place] += 1
        return Record(topic, place.number, offset, out.key, out.value, out.headers, 0)

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
        overlay = Overlay()
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
        return list(self.database.outbox.values())

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
