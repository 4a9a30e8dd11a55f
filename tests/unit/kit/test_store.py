"""The store in memory, by the suite that the real one passes too."""

from __future__ import annotations

import pytest

from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase, MemoryStore
from tests.suites.makings import MakingSuite, RowSuite
from tests.suites.stores import QuerySuite, Stores, TransactionSuite, form

__all__ = ["form"]


@pytest.fixture
def stores() -> Stores:
    database = MemoryDatabase()
    return Stores(MemoryStore(database), AsyncMemoryStore(database))


class TestMemoryTransactions(TransactionSuite):
    pass


class TestMemoryQueries(QuerySuite):
    pass


class TestMemoryRows(RowSuite):
    pass


class TestMemoryMakings(MakingSuite):
    pass
