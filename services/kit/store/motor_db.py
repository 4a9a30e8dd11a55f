"""The asynchronous store on motor; the only module that imports it.

Motor is past its end of life: moving to PyMongo's own asynchronous client
must stay a change in this file. So nothing of motor leaves it, and only calls
that both drivers share, or that differ in one line here, are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from datetime import UTC
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import UpdateMany
from pymongo.errors import PyMongoError

from services.kit.bus.protocol import Position
from services.kit.errors import Retryable
from services.kit.settings import MongoSettings
from services.kit.store import mongo
from services.kit.store.kinds import Doc, Kind, Names, OutboxRow, Plan, Read, Stored
from services.kit.store.protocol import AsyncTransaction, Backlog, Conflict, Loaded, Page

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")


def _retryable(query: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A database that does not answer a query is Retryable: nothing is wrong with who asked."""

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with pymongo.timeout(mongo.CALL_SECONDS):
                return await query(*args, **kwargs)
        except PyMongoError as error:
            if not mongo.is_transient(error):
                raise
            raise Retryable(f"MongoDB did not answer: {error}") from error

    return call


class _MotorTransaction:
    def __init__(self, database: Any, session: Any, names: Names, first: bool) -> None:
        self._database = database
        self._session = session
        self._names = names
        self._first = first

    async def load(self, reads: Iterable[Read]) -> Loaded:
        loaded: Loaded = {}
        for kind, query, asked in mongo.queries(reads):
            docs = await self._database[self._names.of(kind)].find(query, session=self._session).to_list(None)
            mongo.sort_out(kind, asked, docs, loaded)
        return loaded

    async def write(self, plan: Plan) -> None:
        for name, (inserts, guarded) in mongo.by_collection(plan.writes, self._names).items():
            if inserts:
                await self._database[name].insert_many(inserts, ordered=False, session=self._session)
            if guarded:
                done = await self._database[name].bulk_write(guarded, ordered=False, session=self._session)
                mongo.check_guarded(len(guarded), done.matched_count + done.deleted_count)
        if plan.outbox:
            await self._write_outbox(plan.outbox)

    async def _write_outbox(self, rows: tuple[OutboxRow, ...]) -> None:
        outbox = self._database[mongo.OUTBOX]
        there: set[str] = set()
        if not self._first:
            ids = [row.id for row in rows]
            known = outbox.find({"_id": {"$in": ids}}, {"_id": 1}, session=self._session)
            there = {doc["_id"] for doc in await known.to_list(None)}
        fresh = mongo.fresh_rows(rows, there)
        if fresh:
            await outbox.insert_many(fresh, ordered=False, session=self._session)


class MotorStore:
    """The asynchronous store of one service's database.

    Make it inside the running event loop and use it from that loop only.
    """

    def __init__(self, settings: MongoSettings, database: str, client: str = "pharmaloop") -> None:
        self._loop = asyncio.get_running_loop()
        self._client: Any = AsyncIOMotorClient(settings.uri, **mongo.client_options(settings, client))
        self._database = self._client[database]
        self.names = Names()

    def _of(self, kind: Kind[Any]) -> Any:
        return self._database[self.names.of(kind)]

    async def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        for name, keys, options in mongo.index_specs(kinds, self.names):
            await self._database[name].create_index(keys, **options)

    async def transact(self, work: Callable[[AsyncTransaction], Awaitable[T]]) -> T:
        assert asyncio.get_running_loop() is self._loop, "one store per event loop"
        end, attempt = self._loop.time() + mongo.CALL_SECONDS, 0
        while True:
            try:
                with mongo.storable(), pymongo.timeout(max(0.001, end - self._loop.time())):
                    return await self._once(work, attempt == 0)
            except (PyMongoError, Conflict) as error:
                if isinstance(error, PyMongoError) and not mongo.is_transient(error):
                    raise
                last: Exception = error
            attempt += 1
            if attempt == mongo.ATTEMPTS or self._loop.time() > end:
                tried = f"the transaction did not succeed in {attempt} attempts"
                raise Retryable(f"{tried}: {last}") from last
            await asyncio.sleep(mongo.backoff(attempt))

    async def _once(self, work: Callable[[AsyncTransaction], Awaitable[T]], first: bool) -> T:
        async with (
            await self._client.start_session() as session,
            session.start_transaction(read_concern=mongo.SNAPSHOT, write_concern=mongo.MAJORITY),
        ):
            return await work(_MotorTransaction(self._database, session, self.names, first))

    @_retryable
    async def get(self, kind: Kind[S], id: str) -> Stored[S] | None:
        doc = await self._of(kind).find_one({"_id": id})
        return kind.from_doc(doc) if doc else None

    @_retryable
    async def where(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        docs = await self._of(kind).find({f"s.{field}": value}).to_list(None)
        return [kind.from_doc(doc) for doc in docs]

    @_retryable
    async def among(
        self, kind: Kind[S], field: str, values: Collection[Any], limit: int = 0
    ) -> list[Stored[S]]:
        path = "_id" if field == "_id" else f"s.{field}"
        docs = await self._of(kind).find({path: {"$in": list(values)}}).limit(limit).to_list(None)
        return [kind.from_doc(doc) for doc in docs]

    @_retryable
    async def page(
        self,
        kind: Kind[Any],
        filters: Mapping[str, Any],
        order: str,
        descending: bool,
        token: str,
        limit: int,
    ) -> Page:
        query, sort = mongo.page_query(filters, order, descending, token)
        docs = await self._of(kind).find(query).sort(sort).limit(limit + 1).to_list(None)
        items = [kind.from_doc(doc) for doc in docs[:limit]]
        mark = mongo.token_mark(filters, order, descending)
        return Page(items, mongo.make_token(mark, order, items[-1]) if len(docs) > limit else "")

    @_retryable
    async def count(self, kind: Kind[Any], filters: Mapping[str, Any]) -> int:
        query, _ = mongo.page_query(filters, "_id", False, "")
        return int(await self._of(kind).count_documents(query))

    @_retryable
    async def not_after(
        self, kind: Kind[S], field: str, bound: Any, limit: int, also: Mapping[str, Any] | None = None
    ) -> list[Stored[S]]:
        query = {f"s.{name}": {"$lte": end} for name, end in {field: bound, **(also or {})}.items()}
        cursor = self._of(kind).find(query).sort([(f"s.{field}", 1)]).limit(limit)
        return [kind.from_doc(doc) for doc in await cursor.to_list(None)]

    @_retryable
    async def unpublished(self, limit: int, after: str = "") -> list[OutboxRow]:
        query: Doc = {"open": True, "agg": {"$gt": after}}
        cursor = self._database[mongo.OUTBOX].find(query).sort([("agg", 1), ("seq", 1)])
        return [mongo.outbox_row(doc) for doc in await cursor.limit(limit).to_list(None)]

    @_retryable
    async def outbox_waiting(self) -> int:
        return int(await self._database[mongo.OUTBOX].count_documents({"open": True}))

    @_retryable
    async def backlog(self) -> Backlog:
        outbox = self._database[mongo.OUTBOX]
        oldest = await outbox.find({"open": True}, {"at": 1}).sort([("at", 1)]).limit(1).to_list(None)
        if not oldest:
            return Backlog(0, None)
        # A row of an older version of the platform does not say when it came.
        came = oldest[0].get("at")
        return Backlog(await outbox.count_documents({"open": True}), came and came.replace(tzinfo=UTC))

    @_retryable
    async def mark_published(self, positions: Mapping[str, Position]) -> None:
        updates: list[Any] = [
            UpdateMany(*update, hint="_id_") for update in mongo.published_updates(positions)
        ]
        if updates:
            await self._database[mongo.OUTBOX].bulk_write(updates, ordered=False)

    @_retryable
    async def positions_of(self, ids: Iterable[str]) -> dict[str, Position]:
        query: Doc = {"_id": {"$in": list(ids)}, "open": False}
        docs = await self._database[mongo.OUTBOX].find(query).to_list(None)
        return {doc["_id"]: mongo.position_of(doc) for doc in docs}

    @_retryable
    async def forget(self, kind: Kind[Any]) -> None:
        await self._of(kind).drop()

    @_retryable
    async def forget_ids(self, kind: Kind[Any], prefix: str) -> None:
        await self._of(kind).delete_many({"_id": {"$gte": prefix, "$lt": prefix + mongo.BEYOND}})

    async def close(self) -> None:
        self._client.close()
