"""One batch through the handlers of a reactor, inside one transaction.

What a record does, or why it cannot be processed, is decided here; the batch
runner owns the transaction, the watermarks and the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from services.kit import tracing
from services.kit.bus.protocol import Record
from services.kit.contracts import Contract
from services.kit.envelope import Event, from_record, type_of
from services.kit.errors import Integrity, PharmaLoopError, Poison, Rejected
from services.kit.log import get_logger
from services.kit.runners.letters import LETTERS, Graves
from services.kit.runners.notes import MARKS, PARKED, SEEN, WAITING, Making, Seen
from services.kit.runners.reactor import Handler, Reactor
from services.kit.runners.waits import Waits
from services.kit.store.kinds import Plan, Read
from services.kit.store.protocol import Loaded, Transaction
from services.kit.work import (
    Ahead,
    Done,
    Job,
    NotYet,
    Overlay,
    Scope,
    Work,
    event_cause,
    run_one,
)

_log = get_logger("kit.batch")
T = TypeVar("T")
#: Notes of a runner, which a rebuild writes too.
OWN = tuple(kind.name for kind in (MARKS, SEEN, PARKED, WAITING, LETTERS))


@dataclass
class Flags:
    """What a runner need not look up as long as there is none of it."""

    parked: bool = False
    waiting: bool = False


def scope_of(reactor: Reactor, generation: int, *, making: bool, restored: bool = False) -> Scope:
    """What the works of a runner may touch."""
    views = {kind.name: kind.pinned(generation) for kind in reactor.views}
    return Scope(views, OWN, making, restored)


def drive(txn: Transaction, work: Generator[set[Read], Loaded, T]) -> T:
    """Run a generator that asks for states, against a transaction."""
    try:
        reads = next(work)
        while True:
            reads = work.send(txn.load(reads))
    except StopIteration as stop:
        result: T = stop.value
        return result


class HandlerFold:
    """Folds batches through handlers. Answers, for each record, why it was dead-lettered."""

    #: A batch's records: as many as a handler's rounds of reading are shared by.
    take = 500

    def __init__(self, reactor: Reactor, making: Making, service: str, contract: Contract) -> None:
        self._reactor = reactor
        self.most_bytes = reactor.most_bytes
        self._making = making
        self._service = service
        self._contract = contract
        self.spans = tracing.Spans(making.runner)

    def fold(self, txn: Transaction, records: list[Record], scope: Scope, flags: Flags) -> list[str | None]:
        overlay = Overlay(scope)
        self.spans.begin(quiet=scope.making)
        entries = [self._entry(record) for record in records]
        graves = Graves(txn, self._making, records, any_parked=flags.parked, emits=not scope.making)
        waits = Waits(txn, self._making, (e.wait for e in entries), any_waiting=flags.waiting)
        ahead = Ahead((entry.job for entry in entries if entry.job is not None), scope)
        reasons = [self._one(txn, entry, overlay, ahead, graves, waits) for entry in entries]
        for entry, reason in zip(entries, reasons, strict=True):
            if reason is not None:
                entry.span.fail(reason)
        flags.parked = flags.parked or graves.any_parked
        flags.waiting = flags.waiting or waits.any_waiting
        for part in (self._checked(overlay), graves.plan(), waits.plan()):
            if part.writes or part.outbox:
                txn.write(part)
        return reasons

    def concerns(self, record: Record) -> bool:
        """Does the record do anything here? False for another runner's event, and for that alone."""
        try:
            return self._contract.class_of(type_of(record)) in self._reactor.events
        except Poison:
            return True

    def again(self, txn: Transaction, record: Record, scope: Scope) -> Poison | NotYet | None:
        """Fold a record that was set aside; what stops it, and then nothing is written."""
        self.spans.begin(quiet=scope.making)
        entry = self._entry(record)
        if entry.bad is not None or entry.job is None:
            return entry.bad
        overlay = Overlay(scope)
        done = drive(txn, run_one(entry.job, overlay, self._contract, self._service))
        if isinstance(done.error, NotYet):
            entry.span.note("pharmaloop.outcome", "waits")
            return done.error
        bad = _poison(done)
        if bad is None:
            txn.write(self._checked(overlay))
        else:
            entry.span.fail(bad.reason)
        return bad

    def waits_as(self, record: Record) -> str:
        """Id of the note under which the record waits for a state, with those of its source."""
        wait = self._entry(record).wait
        self.spans.begin()
        return wait

    def _checked(self, overlay: Overlay) -> Plan:
        plan = overlay.plan()
        if not self._reactor.emits and plan.outbox:
            raise Integrity(f"{self._making.runner} is a projector and emitted an event")
        return plan

    def _one(
        self, txn: Transaction, entry: _Entry, overlay: Overlay, ahead: Ahead, graves: Graves, waits: Waits
    ) -> str | None:
        record = entry.record
        if entry.bad is not None and not graves.passes_over(record):
            return graves.bury(record, entry.bad)
        if entry.job is None or graves.passes_over(record):
            return None
        if graves.holds(record):
            return graves.follow(record)
        if waits.holds(entry.wait):
            waits.follow(entry.wait, record)
            return None
        done = drive(txn, run_one(entry.job, overlay, self._contract, self._service, ahead))
        if isinstance(done.error, NotYet):
            waits.begin(entry.wait, record, done.error)
            entry.span.note("pharmaloop.outcome", "waits")
            return None
        bad = _poison(done)
        return graves.bury(record, bad) if bad is not None else None

    def _entry(self, record: Record) -> _Entry:
        try:
            cls = self._contract.class_of(type_of(record))
            handler = self._reactor.events.get(cls)
            if handler is None:
                return _Entry(record)
            event = from_record(self._contract, record)
        except Poison as error:
            return _Entry(record, bad=error)
        source = f"{event.source}|{event.subject}"
        wait = self._making.waiting(record, source if event.seq is not None else event.id)
        span = self.spans.of(event)
        if span.trace:
            event = event._replace(trace=span.trace)
        cause = event_cause(event, f"service:{self._service}")
        assert callable(handler)
        return _Entry(record, Job(cause, self._guarded(handler, event, record, span)), wait=wait, span=span)

    def _guarded(
        self, handler: Handler, event: Event, record: Record, span: tracing.Span
    ) -> Callable[[Work], None]:
        """The handler behind the guard against versions already seen."""
        seen_id = self._making.seen(record.topic, f"{event.source}|{event.subject}")

        def call(work: Work) -> None:
            if event.seq is not None:
                seen = work.get(SEEN, seen_id)
                if seen is not None and seen.seq >= event.seq:
                    return
                work.put(SEEN, seen_id, Seen(event.seq))
            try:
                if span is tracing.OFF:
                    handler(work, event)
                else:
                    with tracing.inside(span):
                        handler(work, event)
            except (PharmaLoopError, NotYet):
                raise
            except Exception as error:
                runner = self._making.runner
                _log.error("handler failed", runner=runner, type=event.type, id=event.id, exc_info=True)
                raise Poison("HANDLER_FAILED", repr(error)) from error

        return call


@dataclass(frozen=True)
class _Entry:
    """A record and what it does: a job, nothing (another runner's event), or why it is unreadable."""

    record: Record
    job: Job | None = None
    bad: Poison | None = None
    wait: str = ""
    span: tracing.Span = tracing.OFF


def _poison(done: Done) -> Poison | None:
    """The reason to dead-letter a record; other errors stop or repeat the batch."""
    if done.error is None or isinstance(done.error, Poison):
        return done.error
    if isinstance(done.error, Rejected):
        return Poison(done.error.reason, done.error.description)
    raise done.error
