"""The two forms of the store, as one simulated process sees them.

Between any two operations of a transaction something else may happen in the
world; a transaction may fail for no reason of its own, and one that was
committed may look as if it had failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from services.kit.bus.protocol import Position
from services.kit.errors import Retryable
from services.kit.store.kinds import Doc, Kind, OutboxRow, Plan, Read, Stored
from services.kit.store.mongo import ATTEMPTS, backoff
from services.kit.store.protocol import AsyncTransaction, Backlog, Conflict, Loaded, Page
from services.kit.store.protocol import Transaction as SyncTransaction
from tests.reliability.sim.database import NAMES, Database, Transaction

T = TypeVar("T")
S = TypeVar("S")


class Weather(Protocol):
    """What a process meets: others that act between its own steps, and faults."""

    def between(self) -> None:
        """Something else may happen now. Raises Crash when this process died of it."""

    def alive(self) -> None:
        """Raises Crash when this process is dead: nothing it does has an effect any more."""

    def strikes(self, fault: str) -> bool:
        """Does this fault happen now?"""


class _Sync:
    def __init__(self, txn: Transaction, weather: Weather) -> None:
        self._txn = txn
        self._weather = weather

    def load(self, reads: Iterable[Read]) -> Loaded:
        loaded = self._txn.load(reads)
        self._weather.between()
        return loaded

    def write(self, plan: Plan) -> None:
        self._txn.write(plan)
        self._weather.between()

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        docs = self._txn.docs(kind, ids)
        self._weather.between()
        return docs

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        self._txn.put_docs(kind, new, known)
        self._weather.between()


class SyncStore:
    """The form of the batch runners, which are threads of their own."""

    def __init__(self, database: Database, weather: Weather) -> None:
        self.database = database
        self.names = NAMES
        self._weather = weather

    def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        pass

    def transact(self, work: Callable[[SyncTransaction], T]) -> T:
        last: Exception = Retryable("not tried")
        for attempt in range(ATTEMPTS):
            self._weather.alive()
            txn = Transaction(self.database)
            try:
                result = work(_Sync(txn, self._weather))
                commit(txn, self._weather)
                return result
            except Conflict as error:
                last = error
            finally:
                txn.abort()
            time.sleep(backoff(attempt))
        raise Retryable(f"the transaction did not succeed in {ATTEMPTS} attempts: {last}") from last

    def close(self) -> None:
        pass


def commit(txn: Transaction, weather: Weather) -> None:
    """Commit; Conflict where the client hears of a transient failure, rightly or not."""
    weather.alive()
    if weather.strikes("transaction fails"):
        raise Conflict("the database gave the transaction up")
    txn.commit()
    if weather.strikes("commit without answer"):
        raise Conflict("the connection broke before the answer of the commit")


class _Async:
    def __init__(self, txn: Transaction, weather: Weather) -> None:
        self._txn = txn
        self._weather = weather

    async def load(self, reads: Iterable[Read]) -> Loaded:
        await _elsewhere(self._weather)
        return self._txn.load(reads)

    async def write(self, plan: Plan) -> None:
        await _elsewhere(self._weather)
        self._txn.write(plan)


async def _elsewhere(weather: Weather) -> None:
    """Let others have their turn."""
    await asyncio.sleep(0)
    weather.alive()


class AsyncStore:
    """The form of deciders, steps, relays and queries."""

    def __init__(self, database: Database, weather: Weather) -> None:
        self.database = database
        self.names = NAMES
        self._weather = weather

    async def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        pass

    async def transact(self, work: Callable[[AsyncTransaction], Awaitable[T]]) -> T:
        last: Exception = Retryable("not tried")
        for attempt in range(ATTEMPTS):
            await _elsewhere(self._weather)
            txn = Transaction(self.database)
            try:
                result = await work(_Async(txn, self._weather))
                await _elsewhere(self._weather)
                commit(txn, self._weather)
                return result
            except Conflict as error:
                last = error
            finally:
                txn.abort()
            await asyncio.sleep(backoff(attempt))
        raise Retryable(f"the transaction did not succeed in {ATTEMPTS} attempts: {last}") from last

    async def _ask(self) -> None:
        await _elsewhere(self._weather)
        if self._weather.strikes("query fails"):
            raise Retryable("the database does not answer")

    async def get(self, kind: Kind[S], id: str) -> Stored[S] | None:
        await self._ask()
        cell = self.database.at(kind.name, id, self.database.commits)
        if cell is None:
            return None
        state: Any = cell.state
        return Stored(id, cell.version, state)

    async def where(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        await self._ask()
        return [i for i in self.database.all(kind.name) if kind.matches(i.state, field, value)]

    async def among(
        self, kind: Kind[S], field: str, values: Collection[Any], limit: int = 0
    ) -> list[Stored[S]]:
        await self._ask()
        every, wanted = self.database.all(kind.name), set(values)
        if field == "_id":
            found = [item for item in every if item.id in wanted]
        else:
            found = [i for i in every if any(kind.matches(i.state, field, value) for value in wanted)]
        return found[: limit or None]

    async def page(
        self,
        kind: Kind[Any],
        filters: Mapping[str, Any],
        order: str,
        descending: bool,
        token: str,
        limit: int,
    ) -> Page:
        """By id only; the token is the last id."""
        assert (order, descending) == ("_id", False), "the simulated world pages by id"
        await self._ask()
        behind = (item for item in self._filtered(kind, filters) if item.id > token)
        found = sorted(behind, key=lambda item: item.id)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else "")

    async def count(self, kind: Kind[Any], filters: Mapping[str, Any]) -> int:
        await self._ask()
        return len(self._filtered(kind, filters))

    def _filtered(self, kind: Kind[Any], filters: Mapping[str, Any]) -> list[Stored[Any]]:
        every = self.database.all(kind.name)
        return [item for item in every if all(kind.matches(item.state, *one) for one in filters.items())]

    async def not_after(
        self, kind: Kind[S], field: str, bound: Any, limit: int, also: Mapping[str, Any] | None = None
    ) -> list[Stored[S]]:
        await self._ask()
        bounds = {field: bound, **(also or {})}
        due = [
            item
            for item in self.database.all(kind.name)
            if all(getattr(item.state, name) <= end for name, end in bounds.items())
        ]
        return sorted(due, key=lambda item: (getattr(item.state, field), item.id))[:limit]

    async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
        await self._ask()
        rows = [row for row in self.database.open_rows.values() if row.aggregate > after]
        return sorted(rows, key=lambda row: (row.aggregate, row.seq, row.id))[:limit]

    async def backlog(self) -> Backlog:
        """How old a row is plays no part in a simulated world."""
        return Backlog(await self.outbox_waiting(), None)

    async def outbox_waiting(self) -> int:
        await self._ask()
        return len(self.database.open_rows)

    async def mark_published(self, positions: Mapping[str, Position]) -> None:
        await self._ask()
        self.database.mark(dict(positions))

    async def positions_of(self, ids: Iterable[str]) -> dict[str, Position]:
        await self._ask()
        return {id: self.database.published[id] for id in ids if id in self.database.published}

    async def forget(self, kind: Kind[Any]) -> None:
        raise NotImplementedError("no view is rebuilt in a simulated world")

    async def forget_ids(self, kind: Kind[Any], prefix: str) -> None:
        raise NotImplementedError("no view is rebuilt in a simulated world")

    async def close(self) -> None:
        pass
