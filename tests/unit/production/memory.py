"""A production service in memory: its runners and commands over one memory database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from google.protobuf.message import Message

from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Partition, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.ids import derived_id
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind
from services.kit.store.memory import MemoryDatabase
from services.kit.store.protocol import Transaction
from services.kit.words import meaning_of
from services.kit.work import Cause, Done, Job, Overlay, Work, run_jobs
from services.production.handlers import COMMANDS
from tests.unit.rough_stores import SnapshotStore

START = datetime(2026, 3, 1, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def said(
    message: Message,
    at: datetime,
    *,
    seq: int | None = None,
    case: str = "",
    run: str = "",
    subject: str = "",
) -> tuple[Event, str]:
    """An event as another part of the platform publishes it, and its topic."""
    topic, key = contract().route(message, "hospital-a")
    id = derived_id("test", topic, key, subject, str(seq), message.SerializeToString().hex())
    event = Event(
        id=id, source="/svc/test", subject=subject or key, time=at, message=message, key=key,
        seq=seq, case=case, run=run, trace="00-0-0-01",
    )  # fmt: skip
    return event, topic


class Memory:
    """Runners and commands of production, over a database in memory."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.store = SnapshotStore(self.database)
        self._offsets: dict[Partition, int] = defaultdict(int)
        self._around = Surroundings(
            service="production",
            site="",
            contract=contract(),
            bus=MemoryBus(),
            store=self.store,
            metrics=Metrics("production"),
            committed=lambda: None,
        )
        self._runners: dict[tuple[str, int], BatchRunner] = {}

    def give(self, reactor: Reactor, events: Iterable[tuple[Event, str]], worker: int = 0) -> None:
        """One batch of records to a worker of a runner; each worker has partitions of its own."""
        runner = self._runner(reactor, worker)
        records = [self._record(to_record(event, topic), worker) for event, topic in events]
        if records:
            runner.process(records)

    def look_aside(self, reactor: Reactor) -> None:
        """Take up what waits for a state that is there now."""
        self._runner(reactor, 0).look_aside()

    def _runner(self, reactor: Reactor, worker: int) -> BatchRunner:
        return self._runners.setdefault((reactor.name, worker), BatchRunner(reactor, self._around))

    def give_together(self, reactor: Reactor, first: tuple[Event, str], second: tuple[Event, str]) -> None:
        """Two workers at the same moment: the second one's is done between what the first one reads
        and its commit."""
        self.store.interrupt = partial(self.give, reactor, [second], 1)
        self.give(reactor, [first])
        self.store.interrupt = None

    def _record(self, out: Outgoing, worker: int) -> Record:
        place = Partition(out.topic, worker)
        offset = self._offsets[place]
        self._offsets[place] += 1
        return Record(out.topic, worker, offset, out.key, out.value, out.headers, 0)

    def ask(self, method: str, request: Any, at: datetime = START, actor: str = "qa") -> Message:
        """Run a command; raises what a caller would be answered with."""
        return self._decide(method, COMMANDS[method], request, at, actor)

    def apply(self, kind: Kind[Any], id: str, message: Message) -> None:
        """Let an event of an aggregate happen, however it came to it."""

        def happens(work: Work, message: Message) -> Message:
            work.apply(kind, id, message)
            return message

        self._decide("happens", happens, message, START, "test")

    def _decide(
        self, method: str, command: Callable[..., Message], request: Any, at: datetime, actor: str
    ) -> Message:
        id = derived_id(method, str(len(self.database.outbox)))
        cause = Cause(id, at, actor, meaning=meaning_of(request))

        def decide(txn: Transaction) -> Done:
            overlay, job = Overlay(), Job(cause, lambda work: command(work, request))
            work = run_jobs([job], overlay, contract(), "production")
            try:
                reads = next(work)
                while True:
                    reads = work.send(txn.load(reads))
            except StopIteration as stop:
                done: Done = stop.value[0]
            txn.write(overlay.plan())
            return done

        done = self._around.store.transact(decide)
        if done.error is not None:
            raise done.error
        answer: Message = done.answer
        return answer

    def out(self, cls: type[Message] | None = None) -> list[Event]:
        """The events that went out, in order of (aggregate, version)."""
        rows = sorted(self.database.outbox.values(), key=lambda row: (row.aggregate, row.seq))
        letters = [row for row in rows if row.topic.endswith(".dlq")]
        assert not letters, [dict(row.headers) for row in letters]
        records = [Record(r.topic, 0, 0, r.key, r.value, r.headers, 0) for r in rows]
        events = [from_record(contract(), record) for record in records]
        return [event for event in events if cls is None or isinstance(event.message, cls)]

    def told(self) -> list[tuple[Event, str]]:
        """The events that went out, as they stand on their topics."""
        return [(event, contract().route(event.message, "")[0]) for event in self.out()]

    def states(self, kind: Kind[Any]) -> dict[str, Any]:
        return {id: kind.from_doc(doc).state for id, doc in self.database.docs[kind.name].items()}
