"""The store in memory, for unit tests and simulation only.

Both forms share one set of documents. States go through the same codec as
with the database, so a state that cannot be stored fails here too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any, TypeVar

import bson
from pymongo.errors import DocumentTooLarge

from services.kit.bus.protocol import Position
from services.kit.clock import wall_now
from services.kit.errors import Retryable
from services.kit.store.kinds import Doc, Get, Kind, Names, OutboxRow, Plan, Prefix, Read, Stored, over
from services.kit.store.mongo import (
    ATTEMPTS,
    LARGEST_DOCUMENT_BYTES,
    make_token,
    open_token,
    storable,
    token_mark,
)
from services.kit.store.protocol import AsyncTransaction, Backlog, Conflict, Loaded, Page, Transaction

T = TypeVar("T")
S = TypeVar("S")


class MemoryDatabase:
    """The documents of one service."""

    def __init__(self) -> None:
        self.docs: dict[str, dict[str, Doc]] = defaultdict(dict)
        self.names = Names()
        self.outbox: dict[str, OutboxRow] = {}
        self.published: dict[str, Position] = {}
        #: When each outbox row came, wall time.
        self.came: dict[str, datetime] = {}

    def of(self, kind: Kind[Any]) -> dict[str, Doc]:
        return self.docs[self.names.of(kind)]

    def matching(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        docs = (doc for doc in self.of(kind).values() if _may_hold(doc["s"].get(field), value))
        stored = [kind.from_doc(deepcopy(doc)) for doc in docs]
        return [item for item in stored if kind.matches(item.state, field, value)]


def _may_hold(held: Any, value: Any) -> bool:
    """May the stored field hold the value? Text is stored as it is; so most need not become a state first."""
    if not isinstance(value, str) or not isinstance(held, str | list | tuple):
        return True
    return held == value if isinstance(held, str) else value in held


def _fits(kind: Kind[Any], item: Stored[Any], field: str, value: Any) -> bool:
    if field != "_id":
        return kind.matches(item.state, field, value)
    return item.id.startswith(value.text) if isinstance(value, Prefix) else bool(item.id == value)


class MemoryTransaction:
    """Keeps its writes until `commit`, so that one that fails leaves nothing."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._plans: list[Plan] = []
        self._rows: list[tuple[Kind[Any], list[Doc]]] = []
        self._shown: dict[tuple[str, str], int] = {}

    def load(self, reads: Iterable[Read]) -> Loaded:
        return {read: self._read(read) for read in reads}

    def _read(self, read: Read) -> list[Stored[Any]]:
        if isinstance(read, Get):
            doc = self._database.of(read.kind).get(read.id)
            return [read.kind.from_doc(deepcopy(doc))] if doc else []
        found = self._database.matching(read.kind, read.field, read.value)
        return [item for item in found if read.takes(item.state)]

    def write(self, plan: Plan) -> None:
        self._check(plan)
        for write in plan.writes:
            if write.state is not None:
                # Refuses what the database could not store.
                size = len(bson.encode(write.kind.to_doc(write.id, write.version, write.state)))
                if size > LARGEST_DOCUMENT_BYTES:
                    raise DocumentTooLarge(f"a document of {size} bytes")
        self._plans.append(plan)

    def _check(self, plan: Plan) -> None:
        for write in plan.writes:
            doc = self._database.of(write.kind).get(write.id)
            if (doc["v"] if doc else 0) != write.base:
                raise Conflict(f"{write.kind.name} {write.id} changed since it was read")

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        held, name = self._database.of(kind), self._database.names.of(kind)
        asked = list(ids)
        self._shown |= {(name, id): held[id]["v"] if id in held else 0 for id in asked}
        return {id: deepcopy(held[id]) for id in asked if id in held}

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        for doc in [*new, *known]:
            bson.encode(doc)
        self._rows.append((kind, deepcopy([*new, *known])))

    def commit(self) -> None:
        for plan in self._plans:
            self._check(plan)
        for kind, docs in self._rows:
            self._check_rows(kind, docs)
        for plan in self._plans:
            self._apply(plan)
        for kind, docs in self._rows:
            self._database.of(kind).update({doc["_id"]: doc for doc in docs})

    def _check_rows(self, kind: Kind[Any], docs: list[Doc]) -> None:
        """A database aborts a transaction whose documents somebody else has changed since it began."""
        held, name = self._database.of(kind), self._database.names.of(kind)
        for id in (doc["_id"] for doc in docs):
            there = held[id]["v"] if id in held else 0
            if self._shown.get((name, id), there) != there:
                raise Conflict(f"{kind.name} {id} changed since it was read")

    def _apply(self, plan: Plan) -> None:
        for write in plan.writes:
            if write.state is None:
                self._database.of(write.kind).pop(write.id, None)
            else:
                held = self._database.of(write.kind)
                doc = write.kind.to_doc(write.id, write.version, write.state)
                held[write.id] = over(held[write.id], doc) if write.base else doc
        for row in plan.outbox:
            self._database.outbox.setdefault(row.id, row)
            self._database.came.setdefault(row.id, wall_now())


class MemoryStore:
    """The synchronous form."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.names = database.names

    def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        pass

    def transact(self, work: Callable[[Transaction], T]) -> T:
        for _ in range(ATTEMPTS):
            txn = MemoryTransaction(self.database)
            try:
                with storable():
                    result = work(txn)
                txn.commit()
                return result
            except Conflict as error:
                last = error
        raise Retryable(f"the transaction did not succeed in {ATTEMPTS} attempts: {last}") from last

    def close(self) -> None:
        pass


class _AsyncTransaction:
    def __init__(self, database: MemoryDatabase) -> None:
        self._sync = MemoryTransaction(database)
        self.commit = self._sync.commit

    async def load(self, reads: Iterable[Read]) -> Loaded:
        return self._sync.load(reads)

    async def write(self, plan: Plan) -> None:
        self._sync.write(plan)


class AsyncMemoryStore:
    """The asynchronous form."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.names = database.names

    async def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        pass

    async def transact(self, work: Callable[[AsyncTransaction], Awaitable[T]]) -> T:
        for _ in range(ATTEMPTS):
            txn = _AsyncTransaction(self.database)
            try:
                with storable():
                    result = await work(txn)
                txn.commit()
                return result
            except Conflict as error:
                last = error
        raise Retryable(f"the transaction did not succeed in {ATTEMPTS} attempts: {last}") from last

    async def get(self, kind: Kind[S], id: str) -> Stored[S] | None:
        doc = self.database.of(kind).get(id)
        return kind.from_doc(deepcopy(doc)) if doc else None

    async def where(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        return self.database.matching(kind, field, value)

    async def among(
        self, kind: Kind[S], field: str, values: Collection[Any], limit: int = 0
    ) -> list[Stored[S]]:
        if field == "_id":
            found = [item for id in dict.fromkeys(values) if (item := await self.get(kind, id))]
        else:
            found = [item for value in values for item in self.database.matching(kind, field, value)]
        return list({item.id: item for item in found}.values())[: limit or None]

    def _filtered(self, kind: Kind[Any], filters: Mapping[str, Any]) -> list[Stored[Any]]:
        stored = [kind.from_doc(deepcopy(doc)) for doc in self.database.of(kind).values()]
        return [i for i in stored if all(_fits(kind, i, f, v) for f, v in filters.items())]

    async def page(
        self,
        kind: Kind[Any],
        filters: Mapping[str, Any],
        order: str,
        descending: bool,
        token: str,
        limit: int,
    ) -> Page:
        def place(item: Stored[Any]) -> tuple[Any, str]:
            return (item.id if order == "_id" else getattr(item.state, order)), item.id

        items = sorted(self._filtered(kind, filters), key=place, reverse=descending)
        mark = token_mark(filters, order, descending)
        if token:
            end = open_token(token, mark)
            items = [i for i in items if (place(i) < end if descending else place(i) > end)]
        return Page(items[:limit], make_token(mark, order, items[limit - 1]) if len(items) > limit else "")

    async def count(self, kind: Kind[Any], filters: Mapping[str, Any]) -> int:
        return len(self._filtered(kind, filters))

    async def not_after(
        self, kind: Kind[S], field: str, bound: Any, limit: int, also: Mapping[str, Any] | None = None
    ) -> list[Stored[S]]:
        stored = [kind.from_doc(deepcopy(doc)) for doc in self.database.of(kind).values()]
        bounds = {field: bound, **(also or {})}
        due = [i for i in stored if all(getattr(i.state, name) <= end for name, end in bounds.items())]
        return sorted(due, key=lambda item: getattr(item.state, field))[:limit]

    def _open(self) -> list[OutboxRow]:
        return [row for id, row in self.database.outbox.items() if id not in self.database.published]

    async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
        rows = [row for row in self._open() if row.aggregate > after]
        return sorted(rows, key=lambda row: (row.aggregate, row.seq))[:limit]

    async def outbox_waiting(self) -> int:
        return len(self._open())

    async def backlog(self) -> Backlog:
        came = [self.database.came[row.id] for row in self._open()]
        return Backlog(len(came), min(came, default=None))

    async def mark_published(self, positions: Mapping[str, Position]) -> None:
        for id, at in positions.items():
            if id in self.database.outbox:
                self.database.published.setdefault(id, at)

    async def positions_of(self, ids: Iterable[str]) -> dict[str, Position]:
        return {id: self.database.published[id] for id in ids if id in self.database.published}

    async def forget(self, kind: Kind[Any]) -> None:
        self.database.docs.pop(self.names.of(kind), None)

    async def forget_ids(self, kind: Kind[Any], prefix: str) -> None:
        held = self.database.of(kind)
        for id in [id for id in held if id.startswith(prefix)]:
            del held[id]

    async def close(self) -> None:
        pass
