"""The stores on a real MongoDB: the shared suite, and what only a database can do."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from services.kit.errors import Retryable
from services.kit.settings import MongoSettings
from services.kit.store import mongo as mongo_store
from services.kit.store.kinds import Get, Plan, Write
from services.kit.store.mongo import MongoStore
from services.kit.store.motor_db import MotorStore
from services.kit.store.protocol import AsyncTransaction, Transaction
from tests.suites.makings import MakingSuite, RowSuite
from tests.suites.stores import (
    KINDS,
    THING,
    QuerySuite,
    Stores,
    Thing,
    TransactionSuite,
    form,
    insert,
    keep,
    row,
)

__all__ = ["form"]


@pytest.fixture(scope="module")
def database(mongo: str) -> Iterator[str]:
    """One database for the module: making its indexes takes longer than the tests."""
    name = f"t{uuid.uuid4().hex[:12]}"
    store = MongoStore(MongoSettings(uri=mongo), name)
    store.prepare(KINDS)
    store.close()
    yield name
    with MongoClient[dict[str, object]](mongo) as client:
        client.drop_database(name)


@pytest.fixture
async def stores(mongo: str, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    monkeypatch.setattr(mongo_store, "backoff", lambda attempt: 0.002)
    settings = MongoSettings(uri=mongo)
    stores = Stores(MongoStore(settings, database), MotorStore(settings, database))
    yield stores
    stores.blocking.close()
    await stores.waiting.close()
    with MongoClient[dict[str, object]](mongo) as client:
        for name in client[database].list_collection_names():
            client[database][name].delete_many({})


class TestMongoTransactions(TransactionSuite):
    pass


class TestMongoQueries(QuerySuite):
    pass


class TestMongoRows(RowSuite):
    pass


class TestMongoMakings(MakingSuite):
    pass


async def test_a_transaction_sees_one_moment(stores: Stores) -> None:
    await keep(stores.form("sync"), insert("a", Thing(size=1)), insert("b", Thing(size=1)))
    a, b, seen = Get(THING, "a"), Get(THING, "b"), []

    def work(txn: Transaction) -> None:
        seen.append(txn.load([a])[a][0].state.size)
        both = tuple(Write(THING, id, 1, 2, Thing(size=2)) for id in ("a", "b"))
        stores.blocking.transact(lambda other: other.write(Plan(both, ())))
        seen.append(txn.load([b])[b][0].state.size)

    stores.blocking.transact(work)
    assert seen == [1, 1], "half of another transaction was seen"


@pytest.mark.parametrize(
    "query", ["get", "where", "page", "count", "not_after", "unpublished", "positions_of", "backlog"]
)
async def test_a_database_that_does_not_answer_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    # As another error it would end the relay and the steps, and tell callers that we are broken.
    arguments: dict[str, tuple[object, ...]] = {
        "get": (THING, "a"),
        "where": (THING, "colour", "red"),
        "page": (THING, {}, "_id", False, "", 1),
        "count": (THING, {}),
        "not_after": (THING, "at", "x", 1),
        "unpublished": (1,),
        "positions_of": (["a"],),
        "backlog": (),
    }
    monkeypatch.setattr(mongo_store, "CALL_SECONDS", 0.1)
    store = MotorStore(MongoSettings(uri="mongodb://127.0.0.1:1/?replicaSet=rs0"), "none")
    with pytest.raises(Retryable):
        await getattr(store, query)(*arguments[query])
    await store.close()


class Commands(CommandListener):
    """Counts the commands that go to the database, by name."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.counted: Counter[str] = Counter()

    def started(self, event: CommandStartedEvent) -> None:
        if event.database_name in (self._database, "admin"):
            self.counted[event.command_name] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def test_five_hundred_aggregates_are_a_handful_of_journeys(
    stores: Stores, mongo: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Commands(database)
    options = mongo_store.client_options
    monkeypatch.setattr(
        mongo_store, "client_options", lambda *given: {**options(*given), "event_listeners": [listener]}
    )
    store = MotorStore(MongoSettings(uri=mongo), database)
    ids = [f"bulk-{n}" for n in range(500)]

    async def work(txn: AsyncTransaction) -> None:
        reads = [Get(THING, id) for id in ids]
        found = await txn.load(reads)
        versions = {read: found[read][0].version if found[read] else 0 for read in reads}
        writes = tuple(Write(THING, r.id, v, v + 1, Thing(size=v)) for r, v in versions.items())
        await txn.write(Plan(writes, tuple(row(f"{id}-{versions[Get(THING, id)]}", id) for id in ids)))

    for _ in range(2):  # once they are inserted, once replaced
        listener.counted.clear()
        await store.transact(work)
        journeys = {name: n for name, n in listener.counted.items() if name not in ("hello", "ping")}
        assert sum(journeys.values()) <= 6, journeys
        assert journeys["commitTransaction"] == 1
    await store.close()


async def test_a_row_that_is_there_already_costs_one_attempt_and_no_more(stores: Stores) -> None:
    tries: list[int] = []

    async def work(txn: AsyncTransaction) -> None:
        tries.append(1)
        await txn.write(Plan((), (row("e1"), row(f"fresh-{len(tries)}"))))

    await keep(stores.form("sync"), outbox=(row("e1", value=b"first"),))
    await stores.waiting.transact(work)
    assert len(tries) == 2
    rows = await stores.waiting.unpublished(9)
    assert {(r.id, r.value) for r in rows} == {("e1", b"first"), ("fresh-2", b"\x00\xff")}


async def test_a_database_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands and says nothing: as one behind a broken network does."""
    monkeypatch.setattr(mongo_store, "CALL_SECONDS", 0.5)
    silent = socket.create_server(("127.0.0.1", 0))
    uri = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?directConnection=true"
    store = MotorStore(MongoSettings(uri=uri), "none")

    async def nothing(txn: AsyncTransaction) -> None:
        await txn.load([Get(THING, "a")])

    async with asyncio.timeout(10):
        with pytest.raises(Retryable):
            await store.transact(nothing)
        with pytest.raises(Retryable):
            await store.get(THING, "a")
    await store.close()
    silent.close()


async def test_every_searched_field_and_the_open_outbox_have_an_index(
    stores: Stores, mongo: str, database: str
) -> None:
    # Without these the cost of a query grows with what is stored.
    with MongoClient[dict[str, object]](mongo) as client:
        fields = {spec["key"][0][0] for spec in client[database]["thing"].index_information().values()}
        assert fields == {"_id", *(f"s.{name}" for name in THING.fields)}
        keys = [spec["key"] for spec in client[database]["thing"].index_information().values()]
        assert [("s.colour", 1), ("s.size", 1), ("_id", 1)] in keys
        outbox = client[database]["_outbox"].index_information().values()
        assert [("agg", 1), ("seq", 1)] in [spec["key"] for spec in outbox]
        assert any(spec.get("expireAfterSeconds") for spec in outbox), "published rows would stay for ever"
