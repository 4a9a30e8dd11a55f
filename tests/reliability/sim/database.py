"""A MongoDB of the simulated world: snapshots, write conflicts, and nothing more.

What the product relies on, and no more: a transaction reads the snapshot of
its first read; a write to what somebody else has changed since then, or is
changing, fails at once; write skew is possible. Every committed value of a
document is kept, so that invariants can look at all that ever was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.kit.bus.protocol import Position
from services.kit.store.kinds import Doc, Get, Kind, Names, OutboxRow, Plan, Read, Stored, Write
from services.kit.store.protocol import Conflict, Loaded
from tests.reliability.sim.clockwork import Time

S = TypeVar("S")
Key = tuple[str, str]
_OUTBOX = "_outbox"
#: No view is rebuilt in a simulated world.
NAMES = Names()
_LIFETIME_SECONDS = 5.0


class Cell(NamedTuple):
    """A value of a document since a commit; no state where it was deleted.
    `more` is what the document holds beside its state."""

    since: int
    version: int
    state: Any | None
    more: Doc


class Database:
    """The documents of one service, with their history."""

    def __init__(self, name: str, time: Time) -> None:
        self.name = name
        self.time = time
        self.commits = 0
        self.cells: dict[str, dict[str, list[Cell]]] = defaultdict(dict)
        self.outbox: dict[str, OutboxRow] = {}
        self.outbox_since: dict[str, int] = {}
        self.open_rows: dict[str, OutboxRow] = {}
        self.published: dict[str, Position] = {}
        self._writing: dict[Key, Transaction] = {}

    # -- reading ------------------------------------------------------------

    def at(self, kind: str, id: str, moment: int) -> Cell | None:
        """The value that stood after so many commits."""
        for cell in reversed(self.cells[kind].get(id, ())):
            if cell.since <= moment:
                return cell if cell.state is not None else None
        return None

    def read(self, read: Read, moment: int) -> list[Stored[Any]]:
        name = NAMES.of(read.kind)
        if isinstance(read, Get):
            cell = self.at(name, read.id, moment)
            return [Stored(read.id, cell.version, cell.state)] if cell else []
        return [item for item in self.all(name, moment) if read.takes(item.state)]

    def all(self, kind: str, moment: int | None = None) -> list[Stored[Any]]:
        """Every document of a kind."""
        stands = self.commits if moment is None else moment
        found = ((id, self.at(kind, id, stands)) for id in self.cells[kind])
        return [Stored(id, cell.version, cell.state) for id, cell in found if cell is not None]

    def states(self, kind: Kind[S]) -> dict[str, S]:
        return {item.id: item.state for item in self.all(kind.name)}

    def history(self, kind: Kind[Any]) -> dict[str, list[Any]]:
        """All that a document ever was, by id; None where it was deleted."""
        return {id: [cell.state for cell in cells] for id, cells in self.cells[kind.name].items()}

    # -- writing ------------------------------------------------------------

    def lock(self, txn: Transaction, key: Key, snapshot: int) -> None:
        """First writer wins."""
        holder = self._writing.get(key)
        if holder is not None and holder is not txn and not holder.outlived():
            raise Conflict(f"{key[0]} {key[1]} is being changed by another transaction")
        cells = self.cells[key[0]].get(key[1])
        if cells and cells[-1].since > snapshot:
            raise Conflict(f"{key[0]} {key[1]} changed since the snapshot")
        self._writing[key] = txn

    def unlock(self, txn: Transaction, keys: Iterable[Key]) -> None:
        for key in keys:
            if self._writing.get(key) is txn:
                del self._writing[key]

    def put(self, kind: str, id: str, version: int, state: Any | None, more: Doc) -> None:
        self.cells[kind].setdefault(id, []).append(Cell(self.commits, version, state, more))

    def add_row(self, row: OutboxRow) -> None:
        self.outbox[row.id] = self.open_rows[row.id] = row
        self.outbox_since[row.id] = self.commits

    def mark(self, positions: dict[str, Position]) -> None:
        for id, position in positions.items():
            if id in self.outbox:
                self.published[id] = position
                self.open_rows.pop(id, None)


def _stored_form(write: Write) -> Any | None:
    """The state as it comes back from the database."""
    if write.state is None:
        return None
    plain = write.kind.to_doc(write.id, write.version, write.state)["s"]
    return msgspec.convert(plain, write.kind.state, builtin_types=(bytes,))


class _Written(NamedTuple):
    version: int
    state: Any | None
    more: Doc


class Transaction:
    """One transaction; `commit` or `abort` ends it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._snapshot: int | None = None
        self._writes: dict[Key, _Written] = {}
        self._rows: dict[str, OutboxRow] = {}
        self._locked: list[Key] = []
        self._began = database.time.seconds
        self._gone = False

    def outlived(self) -> bool:
        """Does the server end it, because it stands in somebody's way for too long?"""
        if self.database.time.seconds - self._began > _LIFETIME_SECONDS:
            self._gone = True
            self.abort()
        return self._gone

    def _check(self) -> None:
        if self._gone:
            raise Conflict("the server ended the transaction, which took too long")

    @property
    def snapshot(self) -> int:
        if self._snapshot is None:
            self._snapshot = self.database.commits
        return self._snapshot

    def load(self, reads: Iterable[Read]) -> Loaded:
        self._check()
        return {read: self.database.read(read, self.snapshot) for read in reads}

    def write(self, plan: Plan) -> None:
        self._check()
        for write in plan.writes:
            self._write(write)
        for row in plan.outbox:
            self._row(row)

    def _write(self, write: Write) -> None:
        if write.state is None and not write.base:
            return
        key = (NAMES.of(write.kind), write.id)
        self._lock(key)
        held = self._writes.get(key)
        cell = self.database.at(*key, self.snapshot)
        version = held.version if held else cell.version if cell else 0
        stored = _stored_form(write)
        self._writes[key] = _Written(write.version if stored is not None else 0, stored, {})
        if version != write.base:
            raise Conflict(f"{key[0]} {key[1]} is at {version}, not at {write.base}")

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        """Documents as they are stored."""
        self._check()
        found = {}
        for id in ids:
            cell = self.database.at(NAMES.of(kind), id, self.snapshot)
            if cell is not None:
                found[id] = {**kind.to_doc(id, cell.version, cell.state), **deepcopy(cell.more)}
        return found

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        """Insert the new, replace the known."""
        self._check()
        for doc in [*new, *known]:
            key = (NAMES.of(kind), doc["_id"])
            self._lock(key)
            more = {name: value for name, value in doc.items() if name not in ("_id", "v", "s")}
            self._writes[key] = _Written(doc["v"], kind.from_doc(doc).state, deepcopy(more))

    def _row(self, row: OutboxRow) -> None:
        since = self.database.outbox_since.get(row.id)
        if since is not None and since <= self.snapshot:
            return
        self._lock((_OUTBOX, row.id))
        if since is not None:
            raise Conflict(f"outbox row {row.id} was inserted by another transaction")
        self._rows.setdefault(row.id, row)

    def _lock(self, key: Key) -> None:
        self.database.lock(self, key, self.snapshot)
        self._locked.append(key)

    def commit(self) -> None:
        self._check()
        database = self.database
        if self._locked:
            database.commits += 1
        for (kind, id), written in sorted(self._writes.items(), key=itemgetter(0)):
            database.put(kind, id, *written)
        for row in self._rows.values():
            database.add_row(row)
        self.abort()

    def abort(self) -> None:
        """Release what is held."""
        self.database.unlock(self, self._locked)
        self._locked = []
