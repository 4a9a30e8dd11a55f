"""Reactors and projectors: batches of events, each with one transaction.

The transaction sets the runner's watermark only if it still holds the value
read (a paused and revived process is fenced), writes the states, and puts the
reactor's events, and its dead letters, into the outbox. So a record has one
effect, however often it is delivered; an aggregate's event that is not newer
than the last one seen is dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message

from services.kit import points
from services.kit.bus.protocol import Bus, Consumer, Partition, Record
from services.kit.clock import wall_now
from services.kit.contracts import Contract, event_type
from services.kit.envelope import Event, from_record
from services.kit.errors import Integrity, PharmaLoopError, Poison, Rejected, Retryable
from services.kit.ids import derived_id
from services.kit.log import get_logger
from services.kit.metrics import (
    DEAD_LETTERS,
    RUNNER_AGE,
    RUNNER_LAG,
    RUNNER_RECORDS,
    RUNNER_RETRIES,
    RUNNER_UP,
    Metrics,
)
from services.kit.store.kinds import Get, Kind, OutboxRow, Plan, Read, Where, Write
from services.kit.store.protocol import Loaded, Store, Transaction
from services.kit.work import Cause, Done, Job, Overlay, Work, event_cause, load_ahead, run_one

_log = get_logger("kit.batch")
T = TypeVar("T")

#: What an event does: reads and changes states through the work.
Handler = Callable[[Work, Event], None]
Events = Mapping[type[Message], Handler]

_TAKE = 500
_TAKE_SECONDS = 0.2
_LAG_SECONDS = 2.0


@dataclass(frozen=True)
class Mark:
    """How far a runner has folded one partition: the offset it takes next."""

    runner: str
    generation: int
    topic: str
    partition: int
    next: int


@dataclass(frozen=True)
class Seen:
    """The newest version of an aggregate that a runner has folded."""

    seq: int


@dataclass(frozen=True)
class Parked:
    """A key behind a dead letter: what follows it goes the same way, in order."""

    runner: str
    topic: str
    key: str
    behind: str


MARKS: Kind[Mark] = Kind("_mark", Mark, ("runner",))
SEEN: Kind[Seen] = Kind("_seen", Seen)
PARKED: Kind[Parked] = Kind("_parked", Parked, ("runner",))
KIT_KINDS: tuple[Kind[Mark] | Kind[Parked], ...] = (MARKS, PARKED)


@dataclass(frozen=True)
class Reactor:
    """A named set of event handlers. `emits` is False for a projector, which
    writes read models and nothing else, ever."""

    name: str
    events: Events
    emits: bool = True
    generation: int = 1

    def topics(self, contract: Contract, site: str) -> tuple[str, ...]:
        return contract.names_for([event_type(cls) for cls in self.events], site)


def projector(name: str, events: Events) -> Reactor:
    """A runner that writes read models and emits nothing."""
    return Reactor(name, events, emits=False)


class Fenced(PharmaLoopError):
    """Another instance has moved the watermark: take again from where it stands."""


class DeadLetterLimit:
    """Stops a runner that dead-letters too much: a bad deploy must not drain a topic."""

    def __init__(self, consecutive: int = 100, ratio: float = 0.5, window: int = 400) -> None:
        self._consecutive = consecutive
        self._ratio = ratio
        self._recent: deque[bool] = deque(maxlen=window)

    def check(self, dead: list[bool]) -> None:
        """Would these records break the limit? Integrity says so; nothing is noted."""
        recent = deque(self._recent, maxlen=self._recent.maxlen)
        recent.extend(dead)
        run = 0
        for bad in reversed(recent):
            if not bad:
                break
            run += 1
        full = len(recent) == recent.maxlen
        if run > self._consecutive or (full and sum(recent) > self._ratio * len(recent)):
            raise Integrity(
                f"{sum(recent)} of the last {len(recent)} records could not be processed, {run} in a row: "
                "stopped before more are dead-lettered; look at the newest deploy, then restart"
            )

    def note(self, dead: list[bool]) -> None:
        self._recent.extend(dead)


@dataclass
class RunnerState:
    """What a runner says about itself."""

    name: str
    state: str = "starting"
    lag: int = 0
    records: int = 0
    dead_letters: int = 0
    parked: int = 0
    detail: str = ""
    beat: float = 0.0


@dataclass(frozen=True)
class Surroundings:
    """What a batch runner works with."""

    service: str
    site: str
    contract: Contract
    bus: Bus
    store: Store
    metrics: Metrics
    wake_relay: Callable[[], None]
    group_prefix: str = ""
    instance: str = "0"


class BatchRunner:
    """Runs one reactor or projector in a thread of its own."""

    def __init__(self, reactor: Reactor, around: Surroundings) -> None:
        self.reactor = reactor
        self.name = f"{around.service}.{reactor.name}"
        self.status = RunnerState(self.name)
        self._around = around
        self._topics = reactor.topics(around.contract, around.site)
        self._positions: dict[Partition, int] = {}
        self._limit = DeadLetterLimit()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._log = around.bus.log()
        self._lag_at = 0.0
        self._any_parked = False

    @property
    def topics(self) -> tuple[str, ...]:
        return self._topics

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to finish its batch and leave; `join` waits."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def positions(self) -> dict[Partition, int]:
        """The offset it takes next, by partition."""
        return dict(self._positions)

    # -- the loop -------------------------------------------------------

    def _run(self) -> None:
        consumer: Consumer | None = None
        try:
            consumer = self._around.bus.consumer(self._around.group_prefix + self.name, self._around.instance)
            consumer.subscribe(self._topics, self._start_at, self._lost)
            self._state("running")
            while not self._stopping.is_set():
                self.turn(consumer)
            self._state("stopped")
        except Exception as error:  # noqa: BLE001 -- the runner says why it stopped
            self._state("failed", str(error))
            _log.error("runner stopped", runner=self.name, error=repr(error))
        finally:
            if consumer is not None:
                consumer.close()

    def turn(self, consumer: Consumer) -> int:
        """Take and process one batch; answers how many records it had."""
        self.status.beat = time.monotonic()
        try:
            records = consumer.take(_TAKE, _TAKE_SECONDS)
        except Retryable as error:
            _log.warning("nothing taken, trying again", runner=self.name, error=str(error))
            time.sleep(1.0)
            return 0
        if records:
            points.reached("batch.taken")
            self._until_done(consumer, records)
        self._tell_lag()
        return len(records)

    def _until_done(self, consumer: Consumer, records: list[Record]) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                self._take_in(consumer, records)
                return
            except Retryable as error:
                attempt += 1
                self._around.metrics.add(RUNNER_RETRIES, runner=self.name)
                _log.warning("batch tried again", runner=self.name, attempt=attempt, error=str(error))
                self.status.beat = time.monotonic()
                time.sleep(min(5.0, 0.05 * 2**attempt))

    def _take_in(self, consumer: Consumer, records: list[Record]) -> None:
        partitions = _partitions(records)
        try:
            self.process(records)
        except Fenced:
            self._positions |= self._stored(partitions)
            consumer.rewind({p: self._positions[p] for p in partitions})
        else:
            consumer.commit({p: self._positions[p] for p in partitions})
        points.reached("batch.told")

    # -- one batch ------------------------------------------------------

    def process(self, records: list[Record]) -> None:
        """Fold a batch: all its effects and its watermark in one transaction."""
        dead = self._around.store.transact(lambda txn: self._fold(txn, records))
        points.reached("batch.committed")
        self._limit.note([reason is not None for reason in dead])
        for partition, offset in _ends(records).items():
            self._positions[partition] = offset
        self._around.wake_relay()
        self._count(records, [reason for reason in dead if reason is not None])

    def _fold(self, txn: Transaction, records: list[Record]) -> list[str | None]:
        """For each record, the reason to dead-letter it, if there was one."""
        overlay = Overlay()
        work = self._batch(records, overlay)
        dead = _drive(txn, work)
        self._limit.check([reason is not None for reason in dead])
        plan = overlay.plan()
        if (
            plan.outbox
            and not self.reactor.emits
            and not all(r.aggregate.startswith("dlq/") for r in plan.outbox)
        ):
            raise Integrity(f"{self.name} is a projector and emitted an event")
        marks = self._marks(txn, records)
        txn.write(Plan(plan.writes + marks, plan.outbox))
        points.reached("batch.written")
        return dead

    def _batch(
        self, records: list[Record], overlay: Overlay
    ) -> Generator[set[Read], Loaded, list[str | None]]:
        around = self._around
        jobs = [self._job(record) for record in records]
        yield from load_ahead(jobs, overlay, around.contract, around.service)
        dead: list[str | None] = []
        for record, job in zip(records, jobs, strict=True):
            bad = _poison((yield from run_one(job, overlay, around.contract, around.service)))
            if bad is not None:
                # At once, before the next record: what follows on its key is parked.
                burial = Job(_bare_cause(record), self._dead_letter(record, bad))
                yield from run_one(burial, overlay, around.contract, around.service)
            dead.append(bad.reason if bad is not None else None)
        return dead

    def _job(self, record: Record) -> Job:
        try:
            event = from_record(self._around.contract, record)
        except Poison as error:
            return Job(_bare_cause(record), _raiser(error))
        handler = self.reactor.events.get(type(event.message))
        if handler is None:
            return Job(_bare_cause(record), lambda work: None)
        return Job(
            event_cause(event, f"service:{self._around.service}"), self._guarded(handler, event, record)
        )

    def _guarded(self, handler: Handler, event: Event, record: Record) -> Callable[[Work], None]:
        """The handler behind the guards: parked keys, and versions already seen."""
        seen_id = f"{self.name}|{record.topic}|{event.source}|{event.subject}"

        def call(work: Work) -> None:
            if self._any_parked and work.get(PARKED, self._parked_id(record)) is not None:
                raise Poison("PARKED", "an earlier record of this key was dead-lettered")
            if event.seq is not None:
                seen = work.get(SEEN, seen_id)
                if seen is not None and seen.seq >= event.seq:
                    return
                work.put(SEEN, seen_id, Seen(event.seq))
            try:
                handler(work, event)
            except PharmaLoopError:
                raise
            except Exception as error:
                _log.error("handler failed", runner=self.name, type=event.type, id=event.id, exc_info=True)
                raise Poison("HANDLER_FAILED", repr(error)) from error

        return call

    # -- dead letters ---------------------------------------------------

    def _parked_id(self, record: Record) -> str:
        return f"{self.name}|{record.topic}|{(record.key or b'').hex()}"

    def _dead_letter(self, record: Record, error: Poison) -> Callable[[Work], None]:
        ordered = any(name == "pl_seq" for name, _ in record.headers)

        def call(work: Work) -> None:
            work.outbox.append(_letter(self.name, record, error))
            if ordered and work.get(PARKED, self._parked_id(record)) is None:
                where = f"{record.topic}/{record.partition}/{record.offset}"
                key = (record.key or b"").decode(errors="replace")
                self._any_parked = True
                work.put(PARKED, self._parked_id(record), Parked(self.name, record.topic, key, where))

        return call

    # -- positions ------------------------------------------------------

    def _mark_id(self, partition: Partition) -> str:
        return f"{self.name}|{self.reactor.generation}|{partition.topic}|{partition.number}"

    def _marks(self, txn: Transaction, records: list[Record]) -> tuple[Write, ...]:
        """Compare-and-set of the watermarks. Fenced when one is not where it was left."""
        ends = _ends(records)
        reads = {p: Get(MARKS, self._mark_id(p)) for p in ends}
        loaded = txn.load(reads.values())
        writes = []
        for partition, end in ends.items():
            found = loaded[reads[partition]]
            stands, base = (found[0].state.next, found[0].version) if found else (0, 0)
            if stands != self._positions.get(partition, 0):
                raise Fenced(f"{partition.topic}/{partition.number} stands at {stands}")
            mark = Mark(self.name, self.reactor.generation, partition.topic, partition.number, end)
            writes.append(Write(MARKS, self._mark_id(partition), base, base + 1, mark))
        return tuple(writes)

    def _stored(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        reads = {p: Get(MARKS, self._mark_id(p)) for p in partitions}
        loaded = self._around.store.transact(lambda txn: txn.load(reads.values()))
        return {p: loaded[read][0].state.next if loaded[read] else 0 for p, read in reads.items()}

    def _start_at(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        offsets = self._stored(partitions)
        self._positions |= offsets
        # Whoever had the partitions before may have parked keys of theirs.
        self.status.parked = self._count_parked()
        self._any_parked = self.status.parked > 0
        return offsets

    def _lost(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)

    def _count_parked(self) -> int:
        read = Where(PARKED, "runner", self.name)
        return len(self._around.store.transact(lambda txn: txn.load([read]))[read])

    # -- telling --------------------------------------------------------

    def _state(self, state: str, detail: str = "") -> None:
        self.status.state, self.status.detail = state, detail
        self._around.metrics.set(RUNNER_UP, float(state == "running"), runner=self.name)

    def _count(self, records: list[Record], dead: list[str]) -> None:
        self.status.records += len(records)
        self._around.metrics.add(RUNNER_RECORDS, len(records), runner=self.name)
        now = wall_now().timestamp()
        oldest = min(record.timestamp_ms for record in records) / 1000
        self._around.metrics.observe(RUNNER_AGE, max(0.0, now - oldest), runner=self.name)
        if dead:
            self.status.dead_letters += len(dead)
            self.status.parked = self._count_parked()
            for reason in dead:
                self._around.metrics.add(DEAD_LETTERS, runner=self.name, reason=reason)

    def _tell_lag(self) -> None:
        if time.monotonic() - self._lag_at < _LAG_SECONDS:
            return
        self._lag_at = time.monotonic()
        try:
            ends = self._log.ends(self._topics)
        except Retryable:
            return
        mine = self.positions()
        self.status.lag = sum(max(0, ends[p] - mine[p]) for p in mine if p in ends)
        self._around.metrics.set(RUNNER_LAG, self.status.lag, runner=self.name)


def _drive(txn: Transaction, work: Generator[set[Read], Loaded, T]) -> T:
    try:
        reads = next(work)
        while True:
            reads = work.send(txn.load(reads))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _partitions(records: list[Record]) -> set[Partition]:
    return {Partition(record.topic, record.partition) for record in records}


def _ends(records: list[Record]) -> dict[Partition, int]:
    """The offset after the last record, by partition."""
    return {Partition(r.topic, r.partition): r.offset + 1 for r in records}


def _poison(done: Done) -> Poison | None:
    """The reason to dead-letter a record; other errors stop or repeat the batch."""
    if done.error is None or isinstance(done.error, Poison):
        return done.error
    if isinstance(done.error, Rejected):
        return Poison(done.error.reason, done.error.description)
    raise done.error


def _raiser(error: Poison) -> Callable[[Work], None]:
    def call(work: Work) -> None:
        raise error

    return call


def _bare_cause(record: Record) -> Cause:
    where = derived_id("record", record.topic, str(record.partition), str(record.offset))
    return Cause(where, datetime.fromtimestamp(record.timestamp_ms / 1000, UTC), "platform")


def _letter(runner: str, record: Record, error: Poison) -> OutboxRow:
    """The dead letter: original bytes and headers, and why."""
    why = {
        "dlq_reason": error.reason,
        "dlq_description": error.description,
        "dlq_runner": runner,
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
    }
    headers = record.headers + tuple((name, value.encode()) for name, value in why.items())
    id = derived_id("dlq", runner, record.topic, str(record.partition), str(record.offset))
    place = f"dlq/{record.topic}/{record.partition}"
    topic = f"{record.topic}.dlq"
    return OutboxRow(id, place, record.offset, topic, record.key or b"", record.value or b"", headers)
