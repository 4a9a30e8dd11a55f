"""Reactors and projectors: batches of events, each with one transaction.

The transaction sets the runner's watermark only if it still holds the value
read (a paused and revived process is fenced), writes the states, and puts the
reactor's events, and its dead letters, into the outbox. So a record has one
effect, however often it is delivered; an aggregate's event that is not newer
than the last one seen is dropped. Records that concern the reactor not at all
are passed over: their watermark is written with the next batch's, or soon
after, when nothing else is to be done.

While a fault lasts the batch is held and tried again, the runner stays in its
group and says that it waits; nothing is given up and nothing is overtaken.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from services.kit import points
from services.kit.bus.protocol import Bus, Consumer, Partition, Record
from services.kit.clock import wall_now
from services.kit.contracts import Contract
from services.kit.errors import Integrity, PharmaLoopError, Poison, Retryable
from services.kit.log import get_logger
from services.kit.metrics import RUNNER_LAG, RUNNER_RETRIES, RUNNER_UP, RUNNER_WAITING, Metrics
from services.kit.runners.aside import Aside
from services.kit.runners.counts import Counts
from services.kit.runners.fold import Flags, HandlerFold, scope_of
from services.kit.runners.letters import LETTERS, OPEN, Graves, letter_id
from services.kit.runners.limit import PARKED_REASON, DeadLetterLimit, TooManyLetters
from services.kit.runners.notes import MARKS, PARKED, Fenced, Making, Mark
from services.kit.runners.reactor import Reactor
from services.kit.runners.rows import RowFold
from services.kit.store.kinds import Get, Plan, Where, Write
from services.kit.store.protocol import Store, Transaction, Unstorable
from services.kit.work import Scope

_log = get_logger("kit.batch")

_TAKE_SECONDS = 0.2
_TELL_SECONDS = 2.0
#: What was set aside is looked at so often: where something is known to be, and where a person may want
#: a letter tried again.
_ASIDE_SECONDS, _LETTERS_SECONDS = 0.5, 2.0
#: What was passed over is marked when nothing comes for so long, and at the latest after so long:
#: readers of the watermarks wait for it.
_QUIET_SECONDS, _UNMARKED_SECONDS = 0.01, 0.1
#: Attempts at full speed; after them the runner holds its partitions and says so.
_QUICK_ATTEMPTS = 4
_LONGEST_PAUSE = 5.0
#: A transaction should take no longer: what is read after it waits for it, and one that takes longer than
#: the database lets it is undone as a whole, and was for nothing.
_PIECE_SECONDS = 1.0


class Superseded(PharmaLoopError):
    """A newer making of the views has taken over; this one has nothing to do any more."""


@dataclass
class RunnerState:
    """What a runner says about itself."""

    name: str
    state: str = "starting"
    lag: int = 0
    records: int = 0
    dead_letters: int = 0
    parked: int = 0
    waiting: int = 0
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
    #: Called after every commit.
    committed: Callable[[], None]
    group_prefix: str = ""
    instance: str = "0"
    #: Of a database that was set back: below these offsets nothing is done that was done before.
    restored: Mapping[Partition, int] = field(default_factory=dict)


class BatchRunner:
    """Runs one making of a reactor or projector, in a thread of its own.

    `follows` is the generation that is live while this one is only being made
    (a rebuild): then it emits nothing, and never passes the one it follows.
    """

    def __init__(
        self, reactor: Reactor, around: Surroundings, generation: int = 1, *, follows: int = 0
    ) -> None:
        self.reactor = reactor
        self.name = f"{around.service}.{reactor.name}"
        self.making = Making(self.name, generation)
        self.status = RunnerState(self.name)
        self.paused = False
        self._around = around
        self._follows = follows
        self._topics = reactor.topics(around.contract, around.site)
        self._fold: HandlerFold | RowFold = _fold_of(reactor, self.making, around)
        self._flags = Flags()
        #: So many records are processed in one transaction.
        self._piece = self._fold.take
        #: Where it takes next, and what its stored watermarks say: less where records were passed over.
        self._positions: dict[Partition, int] = {}
        self._marked: dict[Partition, int] = {}
        self._aside = Aside(around.store, self._fold, self.making, self._scope, self._marked)
        self._unmarked_since = 0.0
        self._failed_takes = 0
        self._limit = DeadLetterLimit()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._log = around.bus.log()
        # A site's processes read for their site alone: another site's take nothing from them.
        self._group = ".".join(filter(None, (self.name, around.site)))
        self._counts = Counts(around.metrics, reactor, self.name, self._group, self._topics)
        self._told: dict[Partition, int] = {}
        self._told_at = 0.0
        self._aside_at = 0.0

    @property
    def topics(self) -> tuple[str, ...]:
        return self._topics

    @property
    def generation(self) -> int:
        return self.making.generation

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

    def tell_behind(self) -> None:
        """Measure how old what waits is. For another thread, so that it is told of a runner that hangs.

        Whether it runs is told again: another making of its views has the same name, and may have ended.
        """
        self._counts.tell_behind(self.positions())
        self._around.metrics.set(RUNNER_UP, float(self.status.state == "running"), runner=self.name)

    def go_live(self) -> None:
        """From now on this making is the live one: it emits, and follows nobody."""
        self._follows = 0

    # -- the loop -------------------------------------------------------

    def _run(self) -> None:
        consumer: Consumer | None = None
        try:
            group = self._around.group_prefix + self._group
            if self.making.generation > 1:
                group += f".g{self.making.generation}"
            consumer = self._around.bus.consumer(group, self._around.instance)
            consumer.subscribe(self._topics, self._start_at, self._lost)
            self._state("running")
            while not self._stopping.is_set():
                self.turn(consumer)
            self._mark(consumer)
            self._tell_group(consumer)
            self._state("stopped")
        except Superseded:
            # Said nowhere: the process hears of the new making within a second, and runs it.
            _log.info("a newer making has taken over", runner=self.name)
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
            records = self._take(consumer)
        except Retryable as error:
            self._failed_takes += 1
            self._tell_retry(self._failed_takes, error)
            time.sleep(1.0)
            return 0
        self._failed_takes = 0
        self._goes_on()
        if records:
            points.reached("batch.taken")
            self._until_done(consumer, records)
        if not records or time.monotonic() - self._unmarked_since > _UNMARKED_SECONDS:
            self._mark(consumer)
        if self.paused:
            return 0
        self._look_aside(consumer)
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            self._tell_group(consumer)
            self._tell_lag()
        return len(records)

    def _take(self, consumer: Consumer) -> list[Record]:
        if self.paused:
            consumer.hold(_TAKE_SECONDS)
            return []
        records = consumer.take(self._fold.take, _QUIET_SECONDS if self.unmarked else _TAKE_SECONDS)
        firsts = {Partition(*place): offset for place, offset in _firsts(records).items()}
        if any(offset < self._positions.get(place, offset + 1) for place, offset in firsts.items()):
            # A partition was lost while they were taken, or came back while its records were held.
            records = self._not_done(records)
        if not self._follows or not records:
            return records
        try:
            return self._not_beyond(consumer, records)
        except Retryable:
            # They are taken, and the next ones would be folded as if these had been.
            consumer.rewind({p: self._positions.get(p, 0) for p in _partitions(records)})
            raise

    def _until_done(self, consumer: Consumer, records: list[Record]) -> None:
        """Process the batch, whatever it takes.

        Each failure halves the piece that is tried, for a batch that takes longer than a transaction
        may take would be tried for ever; what succeeds in time doubles it again.
        """
        left, attempt = records, 0
        while left and not self._stopping.is_set():
            self._counts.behind.took(left)
            piece, began = self._piece_of(left), time.monotonic()
            try:
                done = self._take_in(consumer, piece, left)
            except Retryable as error:
                attempt += 1
                self._piece = max(1, len(piece) // 2)
                self._tell_retry(attempt, error)
                _pause(consumer, attempt)
                left = self._not_done(left)
                continue
            self._goes_on()
            left, attempt = left[len(piece) :] if done else [], 0
            self._piece = self._next_piece(len(piece), time.monotonic() - began)
        self._counts.behind.took(())

    def _piece_of(self, left: list[Record]) -> list[Record]:
        size = 0
        for n, record in enumerate(left[: self._piece]):
            size += len(record.value or b"")
            if n and size > self._fold.most_bytes:
                return left[:n]
        return left[: self._piece]

    def _next_piece(self, records: int, took: float) -> int:
        """So many records next, after so many took so many seconds."""
        if took > _PIECE_SECONDS:
            return max(1, int(records * _PIECE_SECONDS / took))
        return min(self._fold.take, 2 * self._piece) if 2 * took < _PIECE_SECONDS else self._piece

    def _not_done(self, records: list[Record]) -> list[Record]:
        """What is still to do: a part of the piece may be committed, and a partition lost meanwhile."""
        places = self._positions
        return [r for r in records if r.offset >= places.get(Partition(r.topic, r.partition), r.offset + 1)]

    def _goes_on(self) -> None:
        if self.status.state == "retrying":
            self._state("running")

    def _tell_retry(self, attempt: int, error: Exception) -> None:
        self._around.metrics.add(RUNNER_RETRIES, runner=self.name)
        _log.warning("trying again", runner=self.name, attempt=attempt, error=str(error))
        self.status.beat = time.monotonic()
        if attempt > _QUICK_ATTEMPTS:
            self._state("retrying", str(error))

    def _take_in(self, consumer: Consumer, piece: list[Record], left: list[Record]) -> bool:
        """Process a piece of what is left; False when all of that is to be taken anew."""
        if not any(map(self._fold.concerns, piece)):
            self._pass_over(piece)
            return True
        try:
            self.process(piece)
        except Fenced:
            self._counts.fenced()
            self._take_anew(consumer, _partitions(left))
            return False
        return True

    def _take_anew(self, consumer: Consumer, partitions: set[Partition]) -> None:
        """Another instance has moved the watermarks: go on from where they stand."""
        # One that was lost meanwhile belongs to somebody else.
        mine = (partitions | set(self.unmarked)) & self._positions.keys()
        self._stand_at(self._stands(mine))
        consumer.rewind({p: self._positions[p] for p in mine})

    def _stand_at(self, offsets: Mapping[Partition, int]) -> None:
        self._positions |= offsets
        self._marked |= offsets

    # -- what concerns nobody -------------------------------------------

    def _pass_over(self, records: list[Record]) -> None:
        if not self.unmarked:
            self._unmarked_since = time.monotonic()
        self._positions |= _ends(records)
        self._limit.note([None] * len(records))
        self._count(records, [])

    @property
    def unmarked(self) -> dict[Partition, int]:
        """The offset it takes next, in the partitions whose watermark says less."""
        return {p: end for p, end in self._positions.items() if end != self._marked.get(p, 0)}

    def _mark(self, consumer: Consumer) -> None:
        """Write the watermarks of what was passed over."""
        behind = self.unmarked
        if not behind:
            return
        try:
            try:
                self._around.store.transact(lambda txn: txn.write(Plan(self._marks(txn, behind), ())))
                self._marked |= behind
            except Fenced:
                self._counts.fenced()
                self._take_anew(consumer, set())
        except Retryable as error:
            _log.warning("watermarks not written, trying again", runner=self.name, error=str(error))

    # -- one batch ------------------------------------------------------

    def process(self, records: list[Record]) -> None:
        """Fold a batch: all its effects and its watermark in one transaction.

        Where the database can never store what a batch makes, its records are
        folded one by one, and the one at fault is dead-lettered. What comes
        before the dead letter that breaks the limit is folded still: its letters
        tell an operator what the records are.
        """
        began = time.monotonic()
        try:
            reasons = self._around.store.transact(lambda txn: self._batch(txn, records))
        except TooManyLetters as error:
            if error.fits:
                self.process(records[: error.fits])
            raise
        except Unstorable as error:
            if len(records) > 1:
                for record in records:
                    self.process([record])
                return
            bad = Poison("UNSTORABLE", str(error))
            self._fold.spans.fail(bad.reason)
            reasons = self._around.store.transact(lambda txn: self._burial(txn, records[0], bad))
        points.reached("batch.committed")
        trace = self._fold.spans.done()
        self._limit.note(reasons)
        self._stand_at(self.unmarked | _ends(records))
        self._around.committed()
        self._counts.committed(records, reasons, time.monotonic() - began, trace)
        self._count(records, [reason for reason in reasons if reason is not None])

    def _batch(self, txn: Transaction, records: list[Record]) -> list[str | None]:
        """For each record, the reason to dead-letter it, if there was one."""
        marks = self._marks(txn, self.unmarked | _ends(records))
        reasons = self._fold.fold(txn, records, self._scope(records), self._flags)
        self._check_limit(txn, records, reasons)
        txn.write(Plan(marks, ()))
        points.reached("batch.written")
        return reasons

    def _check_limit(self, txn: Transaction, records: list[Record], reasons: list[str | None]) -> None:
        """TooManyLetters where these would be too many, with the open ones that an earlier process left."""
        if any(reasons) and not self._limit.begun:
            read, these = Where(LETTERS, "state", OPEN), {letter_id(self.name, record) for record in records}
            left = [one.state for one in txn.load([read])[read] if one.id not in these]
            mine = (one for one in left if one.runner == self.name and one.reason != PARKED_REASON)
            self._limit.begin(sum(1 for _ in mine))
        self._limit.check(reasons, records)

    def _scope(self, records: Iterable[Record]) -> Scope:
        """What the works of these records may touch."""
        restored = self._has_happened(records)
        return scope_of(self.reactor, self.making.generation, making=bool(self._follows), restored=restored)

    def _has_happened(self, records: Iterable[Record]) -> bool:
        """May something of this have been done before the database was set back?"""
        until = self._around.restored
        return bool(until) and any(r.offset < until.get(Partition(r.topic, r.partition), 0) for r in records)

    def _burial(self, txn: Transaction, record: Record, bad: Poison) -> list[str | None]:
        graves = Graves(txn, self.making, [record], any_parked=self._flags.parked, emits=not self._follows)
        reason = graves.bury(record, bad)
        self._flags.parked = self._flags.parked or graves.any_parked
        self._check_limit(txn, [record], [reason])
        marks = self._marks(txn, self.unmarked | _ends([record]))
        letters = graves.plan()
        txn.write(Plan(letters.writes + marks, letters.outbox))
        return [reason]

    # -- what was set aside ---------------------------------------------

    def _look_aside(self, consumer: Consumer) -> None:
        known = self._flags.parked or self._flags.waiting
        if time.monotonic() - self._aside_at < (_ASIDE_SECONDS if known else _LETTERS_SECONDS):
            return
        self._aside_at = time.monotonic()
        try:
            try:
                self.look_aside()
            except Fenced:
                self._counts.fenced()
                self._take_anew(consumer, set(self._positions))
        except Retryable as error:
            _log.warning("what was set aside is not taken up yet", runner=self.name, error=str(error))

    def look_aside(self) -> int:
        """Take up letters to process again, and events whose state has arrived; answers how many.

        Fenced when another instance has moved a watermark.
        """
        done = 0 if self._follows else self._aside.redrive()
        if self._flags.waiting:
            done += self._aside.take_up()
        if done:
            self._around.committed()
        if done or self._flags.parked or self._flags.waiting:
            self._recount()
        return done

    def _recount(self) -> None:
        self._flags.parked = self._flags.waiting = True  # as long as it is not known
        read = Where(PARKED, "runner", self.name)
        parked = self._around.store.transact(lambda txn: txn.load([read]))[read]
        self.status.parked = sum(self.making.owns(one.state) for one in parked)
        self.status.waiting = self._aside.waiting()
        self._flags.parked, self._flags.waiting = self.status.parked > 0, self.status.waiting > 0
        self._around.metrics.set(RUNNER_WAITING, self.status.waiting, runner=self.name)

    # -- positions ------------------------------------------------------

    def _marks(self, txn: Transaction, ends: Mapping[Partition, int]) -> tuple[Write, ...]:
        """Compare-and-set of the watermarks. Fenced when one is not where it was left."""
        reads = {p: Get(MARKS, self.making.mark(p)) for p in ends}
        loaded = txn.load(reads.values())
        writes = []
        for partition, end in ends.items():
            found = loaded[reads[partition]]
            if found and found[0].state.sealed:
                raise Superseded(self.name)
            stands, base = (found[0].state.next, found[0].version) if found else (0, 0)
            if stands != self._marked.get(partition, 0):
                raise Fenced(f"{partition.topic}/{partition.number} stands at {stands}")
            mark = Mark(self.name, self.making.generation, partition.topic, partition.number, end)
            writes.append(Write(MARKS, self.making.mark(partition), base, base + 1, mark))
        return tuple(writes)

    def _stored(self, partitions: Iterable[Partition], generation: int = 0) -> dict[Partition, int]:
        making = Making(self.name, generation or self.making.generation)
        reads = {p: Get(MARKS, making.mark(p)) for p in partitions}
        loaded = self._around.store.transact(lambda txn: txn.load(reads.values()))
        return {p: loaded[read][0].state.next if loaded[read] else 0 for p, read in reads.items()}

    def _start_at(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where to begin. It waits for the database: from a guess, records would be passed over."""
        wanted, attempt = list(partitions), 0
        while not self._stopping.is_set():
            try:
                offsets = self._stands(wanted)
            except Retryable as error:
                attempt += 1
                self._tell_retry(attempt, error)
                self._stopping.wait(_pause_seconds(attempt))
                continue
            self._stand_at(offsets)
            return offsets
        return {}

    def _stands(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where the stored watermarks stand, and then what is set aside: whoever had the partitions
        before may have set records of theirs aside, up to its very last watermark."""
        offsets = self._stored(partitions)
        self._recount()
        return offsets

    def _lost(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._marked.pop(partition, None)

    def _not_beyond(self, consumer: Consumer, records: list[Record]) -> list[Record]:
        """The records that the live generation has folded; the others are taken again later."""
        bounds = self._stored(_partitions(records), self._follows)
        within = [r for r in records if r.offset < bounds[Partition(r.topic, r.partition)]]
        if len(within) < len(records):
            back: dict[Partition, int] = {}
            for record in records:
                partition = Partition(record.topic, record.partition)
                if record.offset >= bounds[partition]:
                    back.setdefault(partition, record.offset)
            consumer.rewind(back)
            if not within:
                consumer.hold(0.05)
        return within

    # -- telling --------------------------------------------------------

    def _state(self, state: str, detail: str = "") -> None:
        self.status.state, self.status.detail = state, detail
        self._around.metrics.set(RUNNER_UP, float(state == "running"), runner=self.name)

    def _count(self, records: list[Record], dead: list[str]) -> None:
        self.status.records += len(records)
        self._counts.taken(records)
        if dead:
            self.status.dead_letters += len(dead)
            # The batch is committed: a database that goes away now must not have it folded again.
            with contextlib.suppress(Retryable):
                self._recount()
            for reason in dead:
                self._counts.dead(reason)

    def _tell_group(self, consumer: Consumer) -> None:
        """For lag tools, so not with every batch: each telling is a write of the log's own."""
        told = {p: end for p, end in self._marked.items() if end}
        if told != self._told:
            consumer.commit(told)
            self._told = told
            points.reached("batch.told")

    def _tell_lag(self) -> None:
        try:
            ends = self._log.ends(self._topics)
        except Retryable:
            return
        self._counts.behind.saw(ends, wall_now().timestamp())
        mine = self.positions()
        self.status.lag = sum(max(0, ends[p] - mine[p]) for p in mine if p in ends)
        self._around.metrics.set(RUNNER_LAG, self.status.lag, runner=self.name)


def _fold_of(reactor: Reactor, making: Making, around: Surroundings) -> HandlerFold | RowFold:
    rows = reactor.rows
    if rows is None:
        return HandlerFold(reactor, making, around.service, around.contract)
    if reactor.emits:
        raise Integrity(f"{making.runner} has rows: make it a projector, rows emit nothing")
    return RowFold(reactor, rows, making, around.contract)


def _pause_seconds(attempt: int) -> float:
    return min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(attempt, 10))


def _pause(consumer: Consumer, attempt: int) -> None:
    """Wait before the next attempt: a short while as it is, a longer one without leaving the group."""
    seconds = _pause_seconds(attempt)
    if attempt > _QUICK_ATTEMPTS:
        with contextlib.suppress(Retryable):  # the log may be away together with the database
            consumer.hold(seconds)
            return
    time.sleep(seconds)


def _partitions(records: list[Record]) -> set[Partition]:
    return {Partition(record.topic, record.partition) for record in records}


def _firsts(records: list[Record]) -> dict[tuple[str, int], int]:
    """The first offset, by topic and partition."""
    return {(r.topic, r.partition): r.offset for r in reversed(records)}


def _ends(records: list[Record]) -> dict[Partition, int]:
    """The offset after the last record, by partition."""
    ends: dict[tuple[str, int], int] = {(r.topic, r.partition): r.offset + 1 for r in records}
    return {Partition(*place): end for place, end in ends.items()}
