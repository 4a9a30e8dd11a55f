"""What the tests of the runners stand on: a small domain, and the kit's parts over memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Headers, Outgoing, Partition, Position, Record
from services.kit.clock import ManualClock
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.metrics import Metrics
from services.kit.relay import Relay
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.decider import Command, Decider
from services.kit.runners.notes import MARKS
from services.kit.runners.reactor import Handler, Reactor
from services.kit.store.kinds import Kind, OutboxRow
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase, MemoryStore
from services.kit.store.protocol import AsyncTransaction
from services.kit.work import Work

T = TypeVar("T")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT_TOPIC = "pharmaloop.production.lot.v1"
READINGS_TOPIC = "pharmaloop.production.readings.v1"
INSIGHT_TOPIC = "pharmaloop.rnd.insight.v1"
DLQ = f"{LOT_TOPIC}.dlq"


@dataclass(frozen=True)
class Lot:
    """An aggregate: what happened to a lot, in order."""

    happened: tuple[str, ...] = ()
    held: bool = False


def evolve(state: Lot | None, message: Message) -> Lot:
    before = state or Lot()
    held = before.held or isinstance(message, production.LotHeld)
    return Lot((*before.happened, type(message).__name__), held)


@dataclass(frozen=True)
class Note:
    """A state that handlers put as they like."""

    text: str
    about: tuple[str, ...] = ()
    next: str = ""


LOT: Kind[Lot] = Kind("lot", Lot, ("held",), evolve=evolve)
NOTE: Kind[Note] = Kind("note", Note, ("text", "about"))


def started(lot: str) -> production.LotStarted:
    return production.LotStarted(lot=lot, product="m/item/G", equipment="dryer-1")


def lot_event(lot: str, seq: int | None, message: Message | None = None, **fields: Any) -> Event:
    """An event of another service's lot aggregate."""
    known: dict[str, Any] = {
        "id": f"{lot}-{seq}",
        "source": "/svc/production/lot",
        "subject": lot,
        "time": NOON,
        "message": message or started(lot),
        "key": lot,
        "seq": seq,
    }
    return Event(**{**known, **fields})


def record_of(event: Event, offset: int = 0, partition: int = 0, topic: str = LOT_TOPIC) -> Record:
    out = to_record(event, topic)
    return Record(topic, partition, offset, out.key, out.value, out.headers, 1_790_000_000_000)


def headers(record: Record | Outgoing | OutboxRow) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


@dataclass
class Bench:
    """One service over memory: its database, a backbone, a clock that stands."""

    service: str = "rnd"
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    bus: MemoryBus = field(default_factory=lambda: MemoryBus(2))
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))
    wakes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.service)
        self.store = MemoryStore(self.database)
        self.waiting = AsyncMemoryStore(self.database)

    # -- backbone -------------------------------------------------------

    def send(self, *events: Event, topic: str = LOT_TOPIC) -> list[Position]:
        return [self.bus.append(to_record(event, topic)) for event in events]

    def send_raw(self, key: str, value: bytes | None, headers: Headers, topic: str = LOT_TOPIC) -> Position:
        return self.bus.append(Outgoing(topic, key.encode(), value, headers))

    def read(self, topic: str) -> list[Event]:
        return [from_record(contract(), record) for record in self.bus.all(topic)]

    # -- batch runners --------------------------------------------------

    def turner(
        self,
        events: Mapping[Any, Handler],
        *,
        emits: bool = True,
        name: str = "test",
        restored: Mapping[Partition, int] | None = None,
    ) -> Turner:
        return Turner(self, Reactor(name, events, emits=emits), restored=restored)

    def making(self, reactor: Reactor, generation: int = 1, *, follows: int = 0) -> Turner:
        """A runner in one making of its views; `follows` names the live one while this one is being made."""
        return Turner(self, reactor, generation, follows)

    # -- what is stored -------------------------------------------------

    def states(self, kind: Kind[T]) -> dict[str, T]:
        return {id: kind.from_doc(doc).state for id, doc in self.database.of(kind).items()}

    def versions(self, kind: Kind[Any]) -> dict[str, int]:
        return {id: doc["v"] for id, doc in self.database.docs[kind.name].items()}

    def marks(self) -> int:
        """Records behind the watermarks."""
        return sum(mark.next for mark in self.states(MARKS).values())

    def snapshot(self) -> object:
        """Everything stored but watermarks, to compare."""
        kept = {name: docs for name, docs in self.database.docs.items() if name != MARKS.name and docs}
        return repr((kept, sorted(self.database.outbox)))

    # -- deciding -------------------------------------------------------

    def relay(self, holder: str = "one", bus: Any = None) -> Relay:
        return Relay(self.waiting, (bus or self.bus).producer(), self.clock, self.metrics, holder)

    @asynccontextmanager
    async def deciding(self, commands: Mapping[str, Command], store: Any = None) -> AsyncIterator[Decider]:
        """A decider and a relay that run."""
        relay = self.relay()
        decider = Decider(
            self.service,
            dict(commands),
            store=store or self.waiting,
            relay=relay,
            contract=contract(),
            clock=self.clock,
            metrics=self.metrics,
        )
        async with running(decider.run(), relay.run()):
            yield decider


class Turner:
    """A batch runner that is turned by hand, as its thread would turn it."""

    def __init__(
        self,
        bench: Bench,
        reactor: Reactor,
        generation: int = 1,
        follows: int = 0,
        restored: Mapping[Partition, int] | None = None,
    ) -> None:
        self.bench = bench
        around = Surroundings(
            bench.service,
            "hospital-a",
            contract(),
            bench.bus,
            bench.store,
            bench.metrics,
            lambda: bench.wakes.append(1),
            restored=restored or {},
        )
        self.runner = BatchRunner(reactor, around, generation, follows=follows)
        self.consumer = bench.bus.consumer(self.runner.name, "0")
        self.consumer.subscribe(self.runner.topics, self.runner._start_at, self.runner._lost)

    def turn(self) -> int:
        """Fold what there is; answers how many records it was given."""
        waiting = [p for p, at in self.consumer._next.items() if len(self.bench.bus.records[p]) > at]
        return self.runner.turn(self.consumer) if waiting else 0

    def rest(self) -> None:
        """A turn in which nothing comes."""
        assert self.runner.turn(self.consumer) == 0

    def settle(self) -> int:
        """Fold what there is and take up what was set aside, until nothing moves; answers how many moved."""
        moved = 0
        while step := self.turn() + self.runner.look_aside():
            moved += step
        return moved


class Crash(BaseException):
    """The process is gone at this point."""


@asynccontextmanager
async def running(*work: Any) -> AsyncIterator[None]:
    """Coroutines that run while the block does; a failure of one fails the test."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return once the condition holds; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


class CountingStore(AsyncMemoryStore):
    """Notes each transaction."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.transactions = 0

    async def transact(self, work: Callable[[AsyncTransaction], Any]) -> Any:
        self.transactions += 1
        return await super().transact(work)


def note_lot(work: Work, event: Event) -> None:
    """A handler that keeps what it heard and says so: a state and an event."""
    lot = cast(production.LotStarted, event.message).lot
    before = work.get(NOTE, lot)
    text = f"{before.text} {event.id}" if before else event.id
    work.put(NOTE, lot, Note(text))
    if work.get(LOT, lot) is None:
        work.apply(LOT, lot, rnd.InsightRecorded(insight=lot, run=event.run))


def ids(rows: Iterable[Any]) -> list[str]:
    return [row.id for row in rows]


def moved(event: Event, **fields: Any) -> Event:
    return event._replace(**fields)
