"""The stores on a real MongoDB: the shared suite, and what only a database can do."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from pymongo import MongoClient

from services.kit.errors import Retryable
from services.kit.settings import MongoSettings
from services.kit.store import mongo as mongo_store
from services.kit.store.kinds import Get, Plan, Write
from services.kit.store.mongo import MongoStore
from services.kit.store.motor_db import MotorStore
from services.kit.store.protocol import Transaction
from tests.suites.stores import (
    KINDS,
    THING,
    MakingSuite,
    QuerySuite,
    RowSuite,
    Stores,
    Thing,
    TransactionSuite,
    form,
    insert,
    keep,
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
    "query", ["get", "where", "page", "count", "not_after", "unpublished", "positions_of"]
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
    }
    monkeypatch.setattr(mongo_store, "client_options", lambda settings: {"serverSelectionTimeoutMS": 30})
    store = MotorStore(MongoSettings(uri="mongodb://127.0.0.1:1/?replicaSet=rs0"), "none")
    with pytest.raises(Retryable):
        await getattr(store, query)(*arguments[query])
    await store.close()


async def test_every_searched_field_and_the_open_outbox_have_an_index(
    stores: Stores, mongo: str, database: str
) -> None:
    # Without these the cost of a query grows with what is stored.
    with MongoClient[dict[str, object]](mongo) as client:
        fields = {spec["key"][0][0] for spec in client[database]["thing"].index_information().values()}
        assert fields == {"_id", *(f"s.{name}" for name in THING.fields)}
        outbox = client[database]["_outbox"].index_information().values()
        assert [("agg", 1), ("seq", 1)] in [spec["key"] for spec in outbox]
        assert any(spec.get("expireAfterSeconds") for spec in outbox), "published rows would stay for ever"
