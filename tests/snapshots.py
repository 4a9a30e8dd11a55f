"""Databases as they were at one moment, and put back: what a snapshot of MongoDB's volume does."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

Client = MongoClient[dict[str, Any]]
#: Documents by collection.
Dump = dict[str, list[dict[str, Any]]]
#: A collection was made a moment ago, and has no state at the moment that is read.
_SNAPSHOT_UNAVAILABLE = 246
_SECONDS = 30.0


def copied(client: Client, databases: Iterable[str]) -> dict[str, Dump]:
    """Every collection of the databases, all at one moment."""
    names, end = list(databases), time.monotonic() + _SECONDS
    while True:
        held = {name: client[name].list_collection_names() for name in names}
        try:
            with client.start_session(snapshot=True) as session:
                return {
                    name: {one: list(client[name][one].find(session=session)) for one in collections}
                    for name, collections in held.items()
                }
        except OperationFailure as error:
            if error.code != _SNAPSHOT_UNAVAILABLE or time.monotonic() > end:
                raise
        time.sleep(0.1)


def put_back(client: Client, database: str, dump: Dump) -> None:
    """Its collections hold these documents, and no others."""
    for name in {*client[database].list_collection_names(), *dump}:
        client[database][name].delete_many({})
        if docs := dump.get(name):
            client[database][name].insert_many(docs)


def dumped(uri: str, database: str) -> Dump:
    """One database, as `copied` has it."""
    with Client(uri) as client:
        return copied(client, [database])[database]


def set_back(uri: str, database: str, dump: Dump) -> None:
    """One database, as `put_back` does it."""
    with Client(uri) as client:
        put_back(client, database, dump)
