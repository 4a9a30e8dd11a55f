"""Takes up what a runner has set aside: letters to process again, events whose state has arrived.

Each record is a transaction of its own, in the order of its key or source, by
the instance that holds its partition. A record that fails again stays where it
was, and so does what stands behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Any, Protocol

from services.kit.bus.protocol import Partition, Record
from services.kit.errors import Poison
from services.kit.runners.letters import DONE, LETTERS, OPEN, REDRIVE, Graves, Letter
from services.kit.runners.notes import PARKED, WAITING, Making, Waiting
from services.kit.runners.waits import Waits
from services.kit.store.kinds import Get, Kind, Plan, Stored, Where, Write
from services.kit.store.protocol import Store, Transaction
from services.kit.work import NotYet, Scope

_MANY = 500


class Folding(Protocol):
    """What processes a record that was set aside."""

    def again(self, txn: Transaction, record: Record, scope: Scope) -> Poison | NotYet | None:
        """Fold the record; what stops it, and then nothing is written."""


class Aside:
    """What one runner has set aside."""

    def __init__(self, store: Store, folding: Folding, making: Making) -> None:
        self._store = store
        self._folding = folding
        self._making = making

    # -- letters that somebody wants to be processed again ----------------

    def redrive(self, scope: Scope, held: Container[Partition]) -> int:
        """Process the letters that wait for it; answers how many went through."""
        asked = self._store.transact(lambda txn: txn.load([Where(LETTERS, "state", REDRIVE)]))
        mine = [
            letter
            for letter in asked[Where(LETTERS, "state", REDRIVE)]
            if letter.state.runner == self._making.runner and _partition(letter.state) in held
        ]
        through = 0
        for key in dict.fromkeys(letter.state.key or letter.id for letter in sorted(mine, key=_place)):
            while self._store.transact(lambda txn, key=key: self._next(txn, key, scope)):  # type: ignore[misc]
                through += 1
        return through

    def _next(self, txn: Transaction, key: str, scope: Scope) -> bool:
        """Process the first letter of a key, if somebody wants it; False when it is not to go on."""
        letters = self._letters(txn, key)
        if not letters or letters[0].state.state != REDRIVE:
            return False
        first = letters[0]
        stopped = self._folding.again(txn, first.state.record.record, scope)
        if isinstance(stopped, Poison):
            back = replace(
                first.state,
                state=OPEN,
                attempts=first.state.attempts + 1,
                reason=stopped.reason,
                description=stopped.description,
            )
            rest = [(letter, replace(letter.state, state=OPEN)) for letter in letters[1:]]
            txn.write(Plan(tuple(_letter_write(*one) for one in [(first, back), *rest]), ()))
            return False
        if isinstance(stopped, NotYet):
            self._keep(txn, first.state.record.record, stopped)
        writes = [_letter_write(first, replace(first.state, state=DONE))]
        if len(letters) == 1:
            writes += unpark(txn, self._making, first.state)
        txn.write(Plan(tuple(writes), ()))
        return len(letters) > 1

    def _letters(self, txn: Transaction, key: str) -> list[Stored[Letter]]:
        """The letters of a key that wait, in order; a fact's letter is alone."""
        reads: tuple[Where | Get, Where | Get] = (Where(LETTERS, "key", key), Get(LETTERS, key))
        loaded = txn.load(reads)
        return sorted((one for read in reads for one in loaded[read] if one.state.waits), key=_place)

    def _keep(self, txn: Transaction, record: Record, lacks: NotYet) -> None:
        id = self._making.waiting(record, f"redrive/{record.partition}/{record.offset}")
        waits = Waits(txn, self._making, [id], any_waiting=True)
        waits.begin(id, record, lacks)
        txn.write(waits.plan())

    # -- events that wait -------------------------------------------------

    def waiting(self) -> int:
        """How many sources wait."""
        return len(self._rows())

    def _rows(self) -> list[Stored[Waiting]]:
        read = Where(WAITING, "runner", self._making.runner)
        found = self._store.transact(lambda txn: txn.load([read]))[read]
        return [row for row in found if self._making.owns(row.state)]

    def take_up(self, scope: Scope) -> int:
        """Fold what waits for a state that is there now; answers how many records were folded."""
        taken = 0
        for row in self._rows()[:_MANY]:
            while self._store.transact(lambda txn, id=row.id: self._first(txn, id, scope)):  # type: ignore[misc]
                taken += 1
        return taken

    def _first(self, txn: Transaction, id: str, scope: Scope) -> bool:
        """Fold the first waiting record of a source; False when it still has to wait, or nothing is left."""
        found = txn.load([Get(WAITING, id)])[Get(WAITING, id)]
        if not found or not _is_there(txn, scope, found[0].state):
            return False
        row, record = found[0], found[0].state.records[0].record
        stopped = self._folding.again(txn, record, scope)
        if isinstance(stopped, NotYet):
            lacks = replace(row.state, kind=stopped.kind.name, id=stopped.id)
            txn.write(Plan((Write(WAITING, id, row.version, row.version + 1, lacks),), ()))
            return False
        if isinstance(stopped, Poison):
            graves = Graves(txn, self._making, [record], any_parked=True, emits=not scope.making)
            graves.bury(record, stopped)
            txn.write(graves.plan())
        rest = replace(row.state, records=row.state.records[1:])
        state = rest if rest.records else None
        txn.write(Plan((Write(WAITING, id, row.version, row.version + 1, state),), ()))
        return state is not None


def _is_there(txn: Transaction, scope: Scope, waiting: Waiting) -> bool:
    kind: Kind[Any] = scope.views.get(waiting.kind) or Kind(waiting.kind, object)
    return bool(txn.docs(kind, [waiting.id]))


def _partition(letter: Letter) -> Partition:
    return Partition(letter.record.topic, letter.record.partition)


def _place(letter: Stored[Letter]) -> tuple[str, int, int]:
    record = letter.state.record
    return record.topic, record.partition, record.offset


def _letter_write(letter: Stored[Letter], state: Letter) -> Write:
    return Write(LETTERS, letter.id, letter.version, letter.version + 1, state)


def unpark(txn: Transaction, making: Making, letter: Letter) -> Iterable[Write]:
    """End the parking of a letter's key."""
    if not letter.key:
        return []
    get = Get(PARKED, making.parked(letter.record.record))
    return [Write(PARKED, get.id, one.version, 0, None) for one in txn.load([get])[get]]
