"""Events that wait for a state which has not arrived.

A fact may overtake what it refers to, for nothing is ordered across keys and
topics. Such an event is neither retried nor dead-lettered: it is stored, in
the transaction of its batch, and taken up when the state is there. What
follows it from the same source waits behind it.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.kit.bus.protocol import Record
from services.kit.runners.notes import WAITING, Kept, Making, Waiting
from services.kit.store.kinds import Get, Plan, Stored, Write
from services.kit.store.protocol import Transaction
from services.kit.work import NotYet


class Waits:
    """What one batch adds to the events that wait."""

    def __init__(self, txn: Transaction, making: Making, ids: Iterable[str], *, any_waiting: bool) -> None:
        self._txn = txn
        self._making = making
        self._held: dict[str, Stored[Waiting] | None] = {}
        self._changed: dict[str, Waiting] = {}
        if any_waiting:
            self._load(ids)

    def _load(self, ids: Iterable[str]) -> None:
        reads = {Get(WAITING, id) for id in ids}
        for read, found in self._txn.load(reads).items():
            self._held[read.id] = found[0] if found else None  # type: ignore[union-attr]

    @property
    def any_waiting(self) -> bool:
        return bool(self._changed)

    def holds(self, id: str) -> bool:
        """Does an earlier event of this source wait?"""
        return id in self._changed or self._held.get(id) is not None

    def follow(self, id: str, record: Record) -> None:
        """The record waits behind those of its source."""
        before = self._changed.get(id) or self._stored(id)
        assert before is not None, "something waits"
        self._changed[id] = self._grown(before, record)

    def begin(self, id: str, record: Record, lacks: NotYet) -> None:
        """The record is the first of its source that has to wait."""
        if id not in self._held:
            self._load([id])
        making = self._making
        before = self._stored(id) or Waiting(making.runner, making.generation, lacks.kind.name, lacks.id, ())
        self._changed[id] = self._grown(before, record)

    def _stored(self, id: str) -> Waiting | None:
        found = self._held.get(id)
        return found.state if found else None

    def _grown(self, before: Waiting, record: Record) -> Waiting:
        kept = Kept.of(record)
        if kept in before.records:
            return before
        return Waiting(before.runner, before.generation, before.kind, before.id, (*before.records, kept))

    def plan(self) -> Plan:
        writes = []
        for id, waiting in self._changed.items():
            stored = self._held.get(id)
            base = stored.version if stored else 0
            writes.append(Write(WAITING, id, base, base + 1, waiting))
        return Plan(tuple(writes), ())
