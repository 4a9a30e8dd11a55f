"""All databases as they were at one moment, and back.

Every collection is read under one snapshot of the cluster (read concern
"snapshot"), so one service's outbox and states agree, and so do the databases
among each other: what was acknowledged before the moment is in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection as Stored
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from services.cli.backup import dumps
from services.cli.backup.manifest import Broken, Collection
from services.cli.session import Unreachable
from services.kit.clock import wall_now
from services.kit.runners.notes import MARKS
from services.kit.settings import MongoSettings
from services.kit.store.mongo import OUTBOX, client_options

Place = tuple[str, int]
Client = MongoClient[RawBSONDocument]
Moved = Callable[[int], None]
PREFIX = "pharmaloop_"
#: Of a snapshot that the server does not have (any more): it was too long ago, or a collection came or
#: went meanwhile.
_SNAPSHOT_TOO_OLD, _SNAPSHOT_UNAVAILABLE, _UNAUTHORIZED = 239, 246, 13
_ATTEMPTS = 3
_TOGETHER, _TOGETHER_BYTES = 1000, 8 << 20
#: What was noted as published longer ago stands below the ends that were asked for just now, however
#: far the clocks of two machines may lie apart.
_LATELY = timedelta(minutes=10)
#: Where a database tells how far it knows a partition: its watermarks, where its events stand, and the
#: cuts of the log that runs of the trace wait for.
_FOLDED = [
    {"$group": {"_id": {"topic": "$s.topic", "partition": "$s.partition"}, "end": {"$max": "$s.next"}}}
]
_PUBLISHED: list[dict[str, Any]] = [
    {
        "$group": {
            "_id": {"topic": "$topic_at", "partition": "$partition"},
            "end": {"$max": {"$add": ["$offset", 1]}},
        }
    }
]

NOTED = "exposure_run"
_NOTED: list[dict[str, Any]] = [
    {"$unwind": "$s.cut"},
    {
        "$group": {
            "_id": {"topic": "$s.cut.topic", "partition": "$s.cut.partition"},
            "end": {"$max": "$s.cut.offset"},
        }
    },
]


class Log(Protocol):
    """The log beside the databases, which is looked at before their moment and cut when it stands."""

    def look(self) -> None: ...

    def cut_at(self, known: Mapping[Place, int]) -> None:
        """`known`: the end of what a database knows of a partition."""


class Shifted(Exception):
    """Collections came or went while they were read: what was read does not fit together."""


@contextmanager
def connected(settings: MongoSettings) -> Iterator[Client]:
    """A client that gives documents as bytes; Unreachable says who does not answer."""
    try:
        with Client(
            settings.uri, document_class=RawBSONDocument, **client_options(settings, "backup")
        ) as client:
            yield client
    except PyMongoError as error:
        raise Unreachable(
            f"MongoDB: {error}", "see that it runs, and that MONGODB_URI may read and write everything"
        ) from None


def names(client: Client, prefix: str = PREFIX) -> list[str]:
    """The databases of the platform."""
    try:
        # Otherwise MongoDB leaves out what the user may not read, and says nothing.
        found = [one["name"] for one in client.list_databases(nameOnly=True, authorizedDatabases=False)]
    except OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        raise Unreachable(
            "the login of MONGODB_URI may not list all databases: the backup would lack some",
            "give it the role readAnyDatabase, and for a restore readWriteAnyDatabase",
        ) from None
    return sorted(name for name in found if name.startswith(prefix))


def collections(client: Client, database: str) -> list[dict[str, Any]]:
    """Its collections as the server describes them; MongoDB's own are left out."""
    found = client[database].list_collections()
    every = [dict(one) for one in found]
    return [one for one in every if one["type"] == "collection" and not one["name"].startswith("system.")]


# -- out ----------------------------------------------------------------------


def dump(
    client: Client, folder: Path, prefix: str, moved: Moved, log: Log
) -> tuple[datetime, tuple[Collection, ...]]:
    """Write every collection; the moment at which they were so, and what was written.

    The log is asked just before the moment and as soon as it stands, and again where the reading
    begins again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _dump(client, folder, prefix, moved, log)
        except Shifted:
            pass
        except OperationFailure as error:
            if error.code == _SNAPSHOT_TOO_OLD:
                raise Unreachable(
                    "MongoDB keeps a moment for a shorter time than it takes to read everything",
                    "raise its parameter minSnapshotHistoryWindowInSeconds above the time that this took, "
                    "or take snapshots of its volumes instead",
                ) from None
            if error.code != _SNAPSHOT_UNAVAILABLE:
                raise
        shutil.rmtree(folder / "databases", ignore_errors=True)
    raise Unreachable(
        f"collections came and went during each of {_ATTEMPTS} attempts",
        "wait until no view is made anew ('pharmaloop rebuild list'), and make the backup again",
    )


def _dump(
    client: Client, folder: Path, prefix: str, moved: Moved, log: Log
) -> tuple[datetime, tuple[Collection, ...]]:
    log.look()
    with client.start_session(snapshot=True) as session:
        moment = wall_now()
        databases = names(client, prefix)
        before = _identities(client, databases)
        # The first reading fixes the moment for all others.
        log.cut_at(known(client, before, moment, session))
        written = tuple(
            _dump_one(client, folder, database, about, session, moved)
            for database in databases
            for about in collections(client, database)
        )
    if _identities(client, names(client, prefix)) != before:
        raise Shifted
    return moment, written


def known(
    client: Client, stored: Iterable[tuple[str, str]], now: datetime, session: ClientSession
) -> dict[Place, int]:
    """How far the databases know the log: the end of each partition of which one of them tells."""
    found: dict[Place, int] = {}
    plain: CodecOptions[dict[str, Any]] = CodecOptions()
    asked: dict[str, list[dict[str, Any]]] = {
        MARKS.name: _FOLDED,
        OUTBOX: [_published(now - _LATELY), *_PUBLISHED],
        NOTED: _NOTED,
    }
    for database, name in stored:
        if name in asked:
            rows = client[database].get_collection(name, plain).aggregate(asked[name], session=session)
            for row in rows:
                place = str(row["_id"]["topic"]), int(row["_id"]["partition"])
                found[place] = max(int(row["end"]), found.get(place, 0))
    return found


def _published(since: datetime) -> dict[str, Any]:
    return {"$match": {"open": False, "published": {"$gte": since}}}


def _identities(client: Client, databases: Iterable[str]) -> dict[tuple[str, str], Any]:
    return {
        (name, one["name"]): one["info"]["uuid"] for name in databases for one in collections(client, name)
    }


def _dump_one(
    client: Client, folder: Path, database: str, about: dict[str, Any], session: ClientSession, moved: Moved
) -> Collection:
    name = about["name"]
    stored = client[database][name]
    place = dumps.place(database, name)
    file, described = f"{place}.bson.gz", f"{place}.metadata.json.gz"
    found = dumps.write(folder / file, _counted(stored.find(session=session), moved))
    uuid = about["info"]["uuid"]
    dumps.write_about(
        folder / described,
        {
            "indexes": [dict(index) for index in stored.list_indexes()],
            "uuid": (uuid.as_uuid() if hasattr(uuid, "as_uuid") else uuid).hex,
            "collectionName": name,
            "type": "collection",
            "options": dict(about["options"]),
        },
    )
    return Collection(database, name, found.documents, found.text, file, described)


def _counted(documents: Iterable[RawBSONDocument], moved: Moved) -> Iterator[RawBSONDocument]:
    """The same documents; `moved` hears of them, a thousand at a time."""
    count = 0
    for count, document in enumerate(documents, 1):
        yield document
        if count % _TOGETHER == 0:
            moved(_TOGETHER)
    moved(count % _TOGETHER)


# -- back ---------------------------------------------------------------------


def lay_back(client: Client, folder: Path, kept: Iterable[Collection], moved: Moved) -> None:
    """Write the collections of a backup, and see that they are then what they were."""
    for one in kept:
        about = dumps.read_about(folder / one.about)
        options = about["options"]
        database = client[one.database]
        database.create_collection(one.name, **options)
        stored = database.get_collection(one.name, write_concern=WriteConcern("majority"))
        for part in _parts(dumps.read(folder / one.file)):
            stored.insert_many(part)
            moved(len(part))
        indexes = [index for index in about["indexes"] if index["name"] != "_id_"]
        if indexes:
            database.command({"createIndexes": one.name, "indexes": [_index(index) for index in indexes]})
        _compare(stored, one)


def _index(index: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in index.items() if key != "ns"}


def _parts(documents: Iterable[RawBSONDocument]) -> Iterator[list[RawBSONDocument]]:
    part: list[RawBSONDocument] = []
    size = 0
    for document in documents:
        part.append(document)
        size += len(document.raw)
        if len(part) == _TOGETHER or size > _TOGETHER_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _compare(stored: Stored[RawBSONDocument], one: Collection) -> None:
    found = dumps.Digest()
    for document in stored.find():
        found.add(document)
    if (found.documents, found.text) != (one.documents, one.digest):
        raise Broken(
            f"{one.database}.{one.name} holds {found.documents:,} documents that are not the "
            f"{one.documents:,} of the backup: somebody else writes to this database"
        )
