"""The store in memory as the database is at its worst: transactions that do not see each other, or away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from services.kit.errors import Retryable
from services.kit.store.kinds import Doc, Kind, Plan, Read
from services.kit.store.memory import MemoryDatabase, MemoryStore, MemoryTransaction
from services.kit.store.protocol import Conflict, Loaded, Transaction

T = TypeVar("T")


class _Snapshot:
    """A transaction that reads what was committed when it began."""

    def __init__(self, database: MemoryDatabase, before_commit: Callable[[], None]) -> None:
        frozen = MemoryDatabase()
        # A commit puts documents in the place of others, and changes none.
        frozen.docs.update({kind: dict(docs) for kind, docs in database.docs.items()})
        self._reads = MemoryTransaction(frozen)
        self._writes = MemoryTransaction(database)
        self._plans: list[Plan] = []
        self._before_commit = before_commit

    def load(self, reads: Iterable[Read]) -> Loaded:
        return self._reads.load(reads)

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        return self._reads.docs(kind, ids)

    def write(self, plan: Plan) -> None:
        self._plans.append(plan)

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        self._writes.put_docs(kind, new, known)

    def commit(self) -> None:
        if self._plans:
            self._before_commit()
        for plan in self._plans:
            self._writes.write(plan)
        self._writes.commit()


class SnapshotStore(MemoryStore):
    """The store in memory, with snapshots, conflicts, and something between read and commit.

    `interrupt` happens once, before the next transaction that writes something commits.
    """

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.interrupt: Callable[[], None] | None = None

    def _before_commit(self) -> None:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        while True:
            try:
                txn = _Snapshot(self.database, self._before_commit)
                result = work(txn)
                txn.commit()
                return result
            except Conflict:
                continue


class Unsteady(MemoryStore):
    """A database that is away the next few times."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.away = 0

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        if self.away:
            self.away -= 1
            raise Retryable("no primary")
        return super().transact(work)
