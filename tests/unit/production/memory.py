"""A production service in memory: its runners and commands over one memory database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.ids import derived_id
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind
from services.kit.store.memory import MemoryDatabase, MemoryStore
from services.kit.store.protocol import Transaction
from services.kit.work import Cause, Done, Job, Overlay, run_jobs
from services.production.handlers import COMMANDS

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
        self._offsets: dict[str, int] = defaultdict(int)
        self._around = Surroundings(
            service="production",
            site="",
            contract=contract(),
            bus=MemoryBus(),
            store=MemoryStore(self.database),
            metrics=Metrics("production"),
            committed=lambda: None,
        )
        self._runners: dict[str, BatchRunner] = {}

    def give(self, reactor: Reactor, events: Iterable[tuple[Event, str]]) -> None:
        """One batch of records to a runner."""
        runner = self._runners.setdefault(reactor.name, BatchRunner(reactor, self._around))
        runner.process([self._record(to_record(event, topic)) for event, topic in events])

    def _record(self, out: Outgoing) -> Record:
        offset = self._offsets[out.topic]
        self._offsets[out.topic] += 1
        return Record(out.topic, 0, offset, out.key, out.value, out.headers, 0)

    def ask(self, method: str, request: Any, at: datetime = START, actor: str = "qa") -> Message:
        """Run a command; raises what a caller would be answered with."""
        cause = Cause(derived_id(method, str(len(self.database.outbox))), at, actor)
        command: Callable[..., Message] = COMMANDS[method]

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

    def states(self, kind: Kind[Any]) -> dict[str, Any]:
        return {id: kind.from_doc(doc).state for id, doc in self.database.docs[kind.name].items()}
