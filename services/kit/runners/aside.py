"""Takes up what a runner has set aside: letters to process again, events whose state has arrived.

Each record is a transaction of its own, in the order of its key or source. A
record that fails again stays where it was, and so does what stands behind it.
Letters rest while a view is made anew: processed in between, they would have
their effect in one of the two makings only.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

from services.kit.bus.protocol import Partition, Record
from services.kit.errors import Poison, Retryable
from services.kit.log import get_logger
from services.kit.runners.letters import DONE, LETTERS, OPEN, REDRIVE, Graves, Letter
from services.kit.runners.limit import PARKED_REASON
from services.kit.runners.notes import MARKS, PARKED, REBUILDS, WAITING, Fenced, Making, Rebuild, Waiting
from services.kit.runners.waits import Waits
from services.kit.store.kinds import Get, Kind, Plan, Stored, Where, Write
from services.kit.store.protocol import Store, Transaction, Unstorable
from services.kit.tracing import Spans
from services.kit.work import NotYet, Scope

_log = get_logger("kit.aside")
#: Sources taken up in one go, so that the runner does not forget its partitions over them.
_MANY = 500
#: For the same reason, and for the records that come meanwhile, a look takes about so long; the rest waits
#: for the next one.
_LOOK_SECONDS = 2.0
#: What waits for so long is told in the log: most that overtakes waits for less.
_LONG_SECONDS = 60.0
#: Letters of a key that are read for one of them: it, the one behind it, and the one that was done before.
_FRONT = 3


class Turn(NamedTuple):
    """What became of one record: was it dealt with, and may the one behind it be tried?"""

    done: bool
    more: bool


_STOP = Turn(False, False)
#: Deals with the first record of a key or source; with the reason to refuse it, when it is known already.
Try = Callable[[Transaction, Poison | None], Turn]


class Folding(Protocol):
    """What processes a record that was set aside. `spans` are those of what it has in hand."""

    spans: Spans

    def again(self, txn: Transaction, record: Record, scope: Scope) -> Poison | NotYet | None:
        """Fold the record; what stops it, and then nothing is written."""

    def waits_as(self, record: Record) -> str:
        """Id of the note under which the record would wait for a state; empty where it never waits."""


@dataclass
class _Queue:
    """A key, or the id of a fact's letter; and the ids of its letters that wait, in order, as last seen."""

    key: str
    ids: list[str] = field(default_factory=list)


class Aside:
    """What one runner has set aside."""

    def __init__(
        self,
        store: Store,
        folding: Folding,
        making: Making,
        scope: Callable[[Iterable[Record]], Scope],
        marked: Mapping[Partition, int],
    ) -> None:
        """`scope` says what the works of some records may touch; `marked` are the partitions of this
        instance, always as they are now, with the watermarks that it knows."""
        self._store = store
        self._folding = folding
        self._making = making
        self._scope = scope
        self._marked = marked
        #: The sources that wait, since when (monotonic seconds), and of which of them it was told.
        self._waited: dict[str, float] = {}
        self._told: set[str] = set()

    def _in_turn(self, tries: Iterable[Try]) -> int:
        """Deal with each key or source as far as it goes; answers how many records were dealt with.

        What is done counts also when the database goes away in between: the
        runner must hear that keys and sources are not as they were.
        """
        done, end = 0, time.monotonic() + _LOOK_SECONDS
        try:
            for attempt in tries:
                turn = Turn(True, True)
                while turn.more:
                    turn = self._once(attempt)
                    done += turn.done
                    if done and time.monotonic() > end:
                        return done
        except Retryable as error:
            if not done:
                raise
            _log.warning(
                "not all that was set aside is taken up", runner=self._making.runner, error=str(error)
            )
        return done

    def _once(self, attempt: Try) -> Turn:
        try:
            turn = self._store.transact(lambda txn: attempt(txn, None))
        except Unstorable as error:
            bad = Poison("UNSTORABLE", str(error))
            self._folding.spans.fail(bad.reason)
            turn = self._store.transact(lambda txn: attempt(txn, bad))
        self._folding.spans.done()
        return turn

    def _rebuild(self, txn: Transaction) -> Rebuild:
        found = txn.load([Get(REBUILDS, self._making.runner)])[Get(REBUILDS, self._making.runner)]
        return found[0].state if found else Rebuild()

    def _holds_mark(self, txn: Transaction, record: Record) -> bool:
        """Is this making in charge of the record's partition? Fenced when another instance is.

        The mark is written again, so that a swap or another instance's batch at
        the same moment conflicts with this transaction.
        """
        get = Get(MARKS, self._making.mark(_place_of(record)))
        found = txn.load([get])[get]
        if found and found[0].state.sealed:
            return False
        stands = found[0].state.next if found else 0
        if stands != self._marked.get(_place_of(record)):
            raise Fenced(f"{record.topic}/{record.partition} stands at {stands}")
        txn.write(
            Plan(tuple(Write(MARKS, get.id, one.version, one.version + 1, one.state) for one in found), ())
        )
        return True

    # -- letters that somebody wants to be processed again ----------------

    def redrive(self) -> int:
        """Process the letters that wait for it; answers how many went through."""
        read = Where(LETTERS, "state", REDRIVE)
        asked = self._store.transact(lambda txn: txn.load([read]))[read]
        ours = [letter for letter in asked if letter.state.runner == self._making.runner]
        mine = [letter for letter in ours if _place_of(letter.state.record.record) in self._marked]
        keys = dict.fromkeys(letter.state.key or letter.id for letter in sorted(mine, key=_place))
        return self._in_turn(partial(self._next, _Queue(key)) for key in keys)

    def _next(self, queue: _Queue, txn: Transaction, bad: Poison | None) -> Turn:
        """Process the first letter of a key, if somebody wants it."""
        letters = self._front(txn, queue)
        rebuild = self._rebuild(txn)
        if not letters or letters[0].state.state != REDRIVE:
            return _STOP
        if rebuild.building or rebuild.live != self._making.generation:
            return _STOP
        record = letters[0].state.record.record
        if not self._holds_mark(txn, record):
            return _STOP
        stopped = bad or self._fold(txn, record)
        if stopped:
            letters = self._letters(txn, queue.key)
        writes = _put_back(letters, stopped) if stopped else self._passed(txn, letters)
        txn.write(Plan(tuple(writes), ()))
        return Turn(not stopped, not stopped and len(letters) > 1)

    def _front(self, txn: Transaction, queue: _Queue) -> list[Stored[Letter]]:
        """The first letters of a key that wait: two at least, or all.

        All are read for the first one alone, for a key may have thousands. What is settled stays so.
        """
        reads = [Get(LETTERS, id) for id in queue.ids[:_FRONT]]
        loaded = txn.load(reads) if reads else {}
        letters = [one for read in reads for one in loaded[read] if one.state.waits]
        if len(letters) < 2:
            letters = self._letters(txn, queue.key)
            queue.ids = [one.id for one in letters]
        else:
            queue.ids = queue.ids[queue.ids.index(letters[0].id) :]
        return letters

    def _letters(self, txn: Transaction, key: str) -> list[Stored[Letter]]:
        """The letters of a key that wait, in order; a fact's letter is alone."""
        reads: tuple[Where | Get, Where | Get] = (Where(LETTERS, "key", key), Get(LETTERS, key))
        loaded = txn.load(reads)
        return sorted((one for read in reads for one in loaded[read] if one.state.waits), key=_place)

    def _fold(self, txn: Transaction, record: Record) -> Poison | None:
        """Fold the record, or have it wait for its state, behind those of its source that wait already."""
        wait = self._folding.waits_as(record)
        waits = Waits(txn, self._making, [wait], any_waiting=bool(wait))
        if waits.holds(wait):
            waits.follow(wait, record)
        else:
            stopped = self._folding.again(txn, record, self._scope([record]))
            if not isinstance(stopped, NotYet):
                return stopped
            waits.begin(wait, record, stopped)
        txn.write(waits.plan())
        return None

    def _passed(self, txn: Transaction, letters: list[Stored[Letter]]) -> Iterable[Write]:
        """The first letter is done. What only followed it goes on; behind the last one the key is free."""
        first, rest = letters[0], letters[1:]
        yield _letter_write(first, first.state.become(DONE))
        if not rest:
            yield from self._unpark(txn, first.state)
        elif rest[0].state.state == OPEN and rest[0].state.reason == PARKED_REASON:
            by = {"judged_by": first.state.judged_by, "judged_at": first.state.judged_at}
            yield _letter_write(rest[0], rest[0].state.become(REDRIVE, **by))

    def _unpark(self, txn: Transaction, letter: Letter) -> Iterable[Write]:
        if not letter.key:
            return []
        get = Get(PARKED, self._making.parked(letter.record.record))
        return [Write(PARKED, get.id, one.version, 0, None) for one in txn.load([get])[get]]

    # -- events that wait -------------------------------------------------

    def waiting(self) -> int:
        """How many sources wait; what one lacks is told once it has waited for a minute."""
        rows, now = self._store.transact(self._rows), time.monotonic()
        self._waited = {row.id: self._waited.get(row.id, now) for row in rows}
        self._told &= self._waited.keys()
        for row in rows:
            if row.id not in self._told and now - self._waited[row.id] >= _LONG_SECONDS:
                self._told.add(row.id)
                first = row.state.records[0]
                place = f"{first.topic}/{first.partition}/{first.offset}"
                lacks = f"{row.state.kind} {row.state.id}"
                runner = row.state.runner
                _log.warning("waits for what it refers to", runner=runner, record=place, lacks=lacks)
        return len(rows)

    def _rows(self, txn: Transaction) -> list[Stored[Waiting]]:
        read = Where(WAITING, "runner", self._making.runner)
        return [row for row in txn.load([read])[read] if self._making.owns(row.state)]

    def take_up(self) -> int:
        """Fold what waits for a state that is there now; answers how many records were dealt with.

        Other partitions are left to whoever has them: it believes to know what of them is set aside.
        """
        ready = self._store.transact(self._ready)
        return self._in_turn(partial(self._first, id) for id in ready[:_MANY])

    def _ready(self, txn: Transaction) -> list[str]:
        """The sources whose state is there; those that still wait must not stand in their way."""
        rows = [row for row in self._rows(txn) if _place_of(row.state.records[0].record) in self._marked]
        wanted: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            wanted[row.state.kind].add(row.state.id)
        scope = self._scope([])
        there = {name: txn.docs(_kind(scope, name), ids) for name, ids in wanted.items()}
        return [row.id for row in rows if row.state.id in there[row.state.kind]]

    def _first(self, id: str, txn: Transaction, bad: Poison | None) -> Turn:
        """Deal with the first waiting record of a source, unless its state is not there after all."""
        found = txn.load([Get(WAITING, id)])[Get(WAITING, id)]
        kind = _kind(self._scope([]), found[0].state.kind) if found else None
        if kind is None or not txn.docs(kind, [found[0].state.id]):
            return _STOP
        row, record, rebuild = found[0], found[0].state.records[0].record, self._rebuild(txn)
        used = self._making.generation in (rebuild.live, rebuild.building)
        if not used or not self._holds_mark(txn, record):
            return _STOP
        lacks = self._taken(txn, record, bad)
        if lacks is not None:
            still = replace(row.state, kind=lacks.kind.name, id=lacks.id)
            txn.write(Plan((Write(WAITING, id, row.version, row.version + 1, still),), ()))
            return _STOP
        rest = replace(row.state, records=row.state.records[1:])
        state = rest if rest.records else None
        txn.write(Plan((Write(WAITING, id, row.version, row.version + 1, state),), ()))
        return Turn(True, state is not None)

    def _taken(self, txn: Transaction, record: Record, bad: Poison | None) -> NotYet | None:
        """Fold or dead-letter a record that waited; the state that it lacks now, if there is one."""
        scope = self._scope([record])
        graves = Graves(txn, self._making, [record], any_parked=True, emits=not scope.making)
        if graves.passes_over(record):
            return None
        if graves.holds(record):
            graves.follow(record)
        else:
            stopped = bad or self._folding.again(txn, record, scope)
            if isinstance(stopped, NotYet):
                return stopped
            if stopped is not None:
                graves.bury(record, stopped)
        letters = graves.plan()
        if letters.writes:
            txn.write(letters)
        return None


def _kind(scope: Scope, name: str) -> Kind[Any]:
    return scope.views.get(name) or Kind(name, object)


def _place_of(record: Record) -> Partition:
    return Partition(record.topic, record.partition)


def _place(letter: Stored[Letter]) -> tuple[str, int, int]:
    record = letter.state.record
    return record.topic, record.partition, record.offset


def _put_back(letters: list[Stored[Letter]], stopped: Poison) -> Iterable[Write]:
    """The first letter has failed again: it and those behind it are open as before."""
    first, rest = letters[0], letters[1:]
    attempts = first.state.attempts + 1
    told = {"attempts": attempts, "reason": stopped.reason, "description": stopped.description}
    yield _letter_write(first, first.state.become(OPEN, **told))
    for letter in rest:
        if letter.state.state == REDRIVE:
            yield _letter_write(letter, letter.state.become(OPEN))


def _letter_write(letter: Stored[Letter], state: Letter) -> Write:
    return Write(LETTERS, letter.id, letter.version, letter.version + 1, state)
