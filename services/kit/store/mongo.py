"""What both MongoDB drivers share, and the synchronous store on PyMongo.

Batch runners use sync PyMongo: one transaction and a few round trips a batch.
"""

from __future__ import annotations

import base64
import json
import random
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, DeleteOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from services.kit.bus.protocol import Position
from services.kit.errors import Invalid, Retryable
from services.kit.settings import MongoSettings
from services.kit.store.elsewhere import Stream
from services.kit.store.kinds import (
    Doc,
    Get,
    Kind,
    Names,
    OutboxRow,
    Plan,
    Prefix,
    Read,
    Stored,
    Where,
    Write,
)
from services.kit.store.protocol import Conflict, Loaded, Transaction, Unstorable

T = TypeVar("T")
IndexSpec = tuple[str, list[tuple[str, int]], dict[str, Any]]
OUTBOX = "_outbox"
#: How long the server waits for a change before it answers that there is none.
_AWAIT_MS = 1000
#: Published outbox rows are kept so long for those who ask for positions.
KEEP_PUBLISHED_SECONDS = 86_400
_MARKED_TOGETHER = 100
ATTEMPTS = 8
#: Sorts after every text that follows a prefix.
BEYOND = "\U0010ffff"
#: A call, with all its attempts, is given up then: a database that is cut off answers nothing at all.
CALL_SECONDS = 10.0
LARGEST_DOCUMENT_BYTES = 16 * 1024 * 1024
MAJORITY = WriteConcern("majority", j=True)
SNAPSHOT = ReadConcern("snapshot")


def client_options(settings: MongoSettings, client: str = "pharmaloop") -> dict[str, Any]:
    """The one place that says how a client connects. `client` names it to the server."""
    options: dict[str, Any] = {
        "appname": client,
        "serverSelectionTimeoutMS": 10_000,
        # A firewall may have forgotten every open connection. A call on one of them finds out when its
        # time is over; those that nobody used meanwhile are not tried one after the other.
        "maxIdleTimeMS": int(CALL_SECONDS * 1000),
        "retryWrites": True,
        "w": "majority",
        # What only the primary holds is undone when it dies: an event that the relay read and published
        # would be of a state that never was. Transactions see to it themselves (SNAPSHOT, MAJORITY).
        "readConcernLevel": "majority",
    }
    if settings.tls_ca_file:
        options |= {"tls": True, "tlsCAFile": settings.tls_ca_file}
    if settings.tls_certificate_key_file:
        options |= {"tls": True, "tlsCertificateKeyFile": settings.tls_certificate_key_file}
    return options


def index_specs(kinds: Iterable[Kind[Any]], names: Names) -> list[IndexSpec]:
    """(collection, keys, options) of every index the kinds and the outbox need."""
    specs: list[IndexSpec] = [
        (OUTBOX, [("agg", ASCENDING), ("seq", ASCENDING)], {"partialFilterExpression": {"open": True}}),
        (OUTBOX, [("at", ASCENDING)], {"partialFilterExpression": {"open": True}}),
        (OUTBOX, [("published", ASCENDING)], {"expireAfterSeconds": KEEP_PUBLISHED_SECONDS}),
    ]
    for kind in kinds:
        specs += [(names.of(kind), [(f"s.{field}", ASCENDING)], {}) for field in kind.fields]
        for order in kind.orders:
            keys = [*((f"s.{field}", ASCENDING) for field in order), ("_id", ASCENDING)]
            specs.append((names.of(kind), keys, {}))
    return specs


def queries(reads: Iterable[Read]) -> list[tuple[Kind[Any], Doc, list[Read]]]:
    """Reads as few queries: ids of one kind together, and the values of one field."""
    ids: dict[Kind[Any], list[Get]] = defaultdict(list)
    values: dict[tuple[Kind[Any], str, tuple[tuple[str, Any], ...]], list[Where]] = defaultdict(list)
    for read in reads:
        if isinstance(read, Get):
            ids[read.kind].append(read)
        else:
            values[read.kind, read.field, read.also].append(read)
    result: list[tuple[Kind[Any], Doc, list[Read]]] = []
    for (kind, field, also), wheres in values.items():
        query: Doc = {f"s.{name}": value for name, value in also}
        query[f"s.{field}"] = {"$in": [where.value for where in wheres]}
        result.append((kind, query, [*wheres]))
    for kind, gets in ids.items():
        result.append((kind, {"_id": {"$in": [get.id for get in gets]}}, [*gets]))
    return result


def sort_out(kind: Kind[Any], asked: list[Read], docs: Iterable[Doc], into: Loaded) -> None:
    """File the documents of one query under the reads that asked for them."""
    stored = [kind.from_doc(doc) for doc in docs]
    if len(asked) == 1:
        into[asked[0]] = stored
        return
    found: dict[Any, list[Stored[Any]]] = {_sought(read): [] for read in asked}
    for item in stored:
        for value in _held(asked[0], item):
            if value in found:
                found[value].append(item)
    for read in asked:
        into[read] = found[_sought(read)]


def _sought(read: Read) -> Any:
    return read.id if isinstance(read, Get) else read.value


def _held(read: Read, item: Stored[Any]) -> Iterable[Any]:
    """Under which values an item may be sought: its id, or each that its field holds."""
    if isinstance(read, Get):
        return (item.id,)
    held = getattr(item.state, read.field)
    return set(held) if isinstance(held, (tuple, frozenset, list)) else (held,)


def by_collection(writes: Iterable[Write], names: Names) -> dict[str, tuple[list[Doc], list[Any]]]:
    """Writes as (documents to insert, guarded operations) by collection."""
    result: dict[str, tuple[list[Doc], list[Any]]] = defaultdict(lambda: ([], []))
    for write in writes:
        inserts, guarded = result[names.of(write.kind)]
        if write.state is None:
            if write.base:
                guarded.append(DeleteOne({"_id": write.id, "v": write.base}))
        elif write.base == 0:
            inserts.append(write.kind.to_doc(write.id, write.version, write.state))
        else:
            changes = write.kind.changes(write.version, write.state)
            guarded.append(UpdateOne({"_id": write.id, "v": write.base}, {"$set": changes}))
    return result


def check_guarded(expected: int, matched: int) -> None:
    if matched != expected:
        raise Conflict("another transaction changed a state that this one had read")


def fresh_rows(rows: Iterable[OutboxRow], there: set[str]) -> list[Doc]:
    """Documents of the rows that are not there yet; of two rows with one id, the first."""
    fresh: dict[str, OutboxRow] = {}
    for row in rows:
        if row.id not in there:
            fresh.setdefault(row.id, row)
    return [outbox_doc(row) for row in fresh.values()]


def outbox_doc(row: OutboxRow) -> Doc:
    return {
        "_id": row.id,
        "agg": row.aggregate,
        "seq": row.seq,
        "topic": row.topic,
        "key": row.key,
        "value": row.value,
        "headers": [[name, value] for name, value in row.headers],
        "at": datetime.now(UTC),
        "open": True,
    }


def outbox_row(doc: Doc) -> OutboxRow:
    headers = tuple((name, bytes(value)) for name, value in doc["headers"])
    return OutboxRow(doc["_id"], doc["agg"], doc["seq"], doc["topic"], doc["key"], doc["value"], headers)


def published_updates(positions: Mapping[str, Position]) -> Iterator[tuple[Doc, list[Doc]]]:
    """(filter, pipeline) of the updates that note where rows stand.

    One update for many rows costs the server far less than one for each; each row finds its own
    offset in a list, so the lists are short.
    """
    now = datetime.now(UTC)
    of_partition: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for id, position in positions.items():
        of_partition[(position.topic, position.partition)].append((id, position.offset))
    for (topic, number), rows in of_partition.items():
        for first in range(0, len(rows), _MARKED_TOGETHER):
            ids, offsets = map(list, zip(*rows[first : first + _MARKED_TOGETHER], strict=True))
            offset = {"$arrayElemAt": [offsets, {"$indexOfArray": [ids, "$_id"]}]}
            place = {"topic_at": {"$literal": topic}, "partition": number, "offset": offset}
            yield (
                {"_id": {"$in": ids}, "open": True},
                [{"$set": {**place, "open": False, "published": now}}],
            )


def position_of(doc: Doc) -> Position:
    return Position(doc["topic_at"], doc["partition"], doc["offset"])


def page_query(
    filters: Mapping[str, Any], order: str, descending: bool, token: str
) -> tuple[Doc, list[tuple[str, int]]]:
    """Filter and sort of a page; the token holds where the page before ended."""
    path = _path(order)
    query: Doc = {_path(name): _sought_as(value) for name, value in filters.items()}
    direction = DESCENDING if descending else ASCENDING
    if token:
        value, id = open_token(token, token_mark(filters, order, descending))
        beyond = "$lt" if descending else "$gt"
        query["$or"] = [{path: {beyond: value}}, {path: value, "_id": {beyond: id}}]
    return query, [(path, direction), ("_id", direction)]


def _path(field: str) -> str:
    return "_id" if field == "_id" else f"s.{field}"


def _sought_as(value: Any) -> Any:
    return {"$gte": value.text, "$lt": value.text + BEYOND} if isinstance(value, Prefix) else value


def token_mark(filters: Mapping[str, Any], order: str, descending: bool) -> str:
    """What tells the tokens of one query from those of another."""
    query = json.dumps([sorted(filters.items()), order, descending], default=str)
    return f"{zlib.crc32(query.encode()):08x}"


def open_token(token: str, mark: str) -> tuple[Any, str]:
    """The place at which a page ended; Invalid for what this query did not give."""
    try:
        given, value, id = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError):
        given = value = id = None
    # Plain values only: an object would reach the database as an operator.
    if given != mark or not isinstance(id, str) or isinstance(value, dict | list):
        raise Invalid(
            "BAD_PAGE_TOKEN",
            "give next_page_token back as it was, with the query that gave it",
            "page_token",
        )
    return value, id


def make_token(mark: str, order: str, stored: Stored[Any]) -> str:
    value = stored.id if order == "_id" else getattr(stored.state, order)
    return base64.urlsafe_b64encode(json.dumps([mark, value, stored.id]).encode()).decode()


#: The database is not able to now, whatever was asked of it (error_codes.yml of the server).
_NOT_NOW = {
    6: "HostUnreachable",
    7: "HostNotFound",
    13: "Unauthorized: its rights were taken away",
    18: "AuthenticationFailed",
    24: "LockTimeout",
    50: "MaxTimeMSExpired",
    64: "WriteConcernFailed",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    100: "UnsatisfiableWriteConcern",
    112: "WriteConflict",
    133: "FailedToSatisfyReadPreference",
    134: "ReadConcernMajorityNotAvailableYet",
    189: "PrimarySteppedDown",
    202: "NetworkInterfaceExceededTimeLimit",
    216: "ElectionInProgress",
    225: "TransactionTooOld",
    239: "SnapshotTooOld",
    246: "SnapshotUnavailable",
    251: "NoSuchTransaction",
    261: "TooManyLogicalSessions",
    262: "ExceededTimeLimit",
    264: "TooManyFilesOpen",
    290: "TransactionExceededLifetimeLimitSeconds",
    317: "ConnectionPoolExpired",
    365: "TemporarilyUnavailable",
    371: "UserWritesBlocked",
    384: "ConnectionError",
    391: "ReauthenticationRequired",
    402: "ResourceExhausted",
    407: "PooledConnectionAcquisitionExceededTimeLimit",
    433: "AdmissionQueueOverflow",
    449: "RateLimitExceeded",
    9001: "SocketException",
    10058: "LegacyNotPrimary",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11601: "Interrupted",
    11602: "InterruptedDueToReplStateChange",
    13388: "StaleConfig",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
    14031: "OutOfDiskSpace",
    # Two transactions inserted one id; the second run sees the first's.
    11000: "DuplicateKey",
}
#: What was asked can never be stored.
_NEVER = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    22: "InvalidBSON",
    52: "DollarPrefixedFieldName",
    57: "DottedFieldName",
    121: "DocumentValidationFailure",
    257: "TransactionTooLarge",
    388: "TransactionTooLargeForCache",
    10334: "BSONObjectTooLarge",
    17280: "KeyTooLong",
    17419: "a document grew too large",
    17420: "a document is too large",
}


def codes_of(error: BaseException) -> set[int]:
    """Every code of the server that an error carries."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        told = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return {one["code"] for one in told if "code" in one}
    code = error.code if isinstance(error, OperationFailure) else None
    return {code} if code is not None else set()


def is_transient(error: PyMongoError) -> bool:
    """Would the same transaction, run again, perhaps succeed? Then nothing is wrong with what it does."""
    if isinstance(error, ConnectionFailure) or error.timeout:
        return True
    if any(error.has_error_label(f"{label}Error") for label in ("TransientTransaction", "RetryableWrite")):
        return True
    codes = codes_of(error)
    return bool(codes) and codes <= _NOT_NOW.keys()


def is_unstorable(error: BaseException) -> bool:
    """Can what was asked never be stored, whenever it is tried?"""
    if isinstance(error, BSONError | OverflowError | UnicodeEncodeError):
        return True
    return bool(codes_of(error) & _NEVER.keys())


@contextmanager
def storable() -> Iterator[None]:
    """Tell by one name, Unstorable, what can never be stored."""
    try:
        yield
    except Exception as error:
        if is_unstorable(error):
            raise Unstorable(str(error)) from error
        raise


def backoff(attempt: int) -> float:
    """Seconds to wait after an attempt; not the same for two that met."""
    return float(min(0.5, 0.005 * 2**attempt) * random.uniform(0.5, 1.0))


class _MongoTransaction:
    def __init__(self, database: Database[Doc], session: ClientSession, names: Names, first: bool) -> None:
        self._database = database
        self._session = session
        self._names = names
        self._first = first

    def _of(self, kind: Kind[Any]) -> Collection[Doc]:
        return self._database[self._names.of(kind)]

    def load(self, reads: Iterable[Read]) -> Loaded:
        loaded: Loaded = {}
        for kind, query, asked in queries(reads):
            sort_out(kind, asked, self._of(kind).find(query, session=self._session), loaded)
        return loaded

    def write(self, plan: Plan) -> None:
        for name, (inserts, guarded) in by_collection(plan.writes, self._names).items():
            if inserts:
                self._database[name].insert_many(inserts, ordered=False, session=self._session)
            if guarded:
                done = self._database[name].bulk_write(guarded, ordered=False, session=self._session)
                check_guarded(len(guarded), done.matched_count + done.deleted_count)
        if plan.outbox:
            self._write_outbox(plan.outbox)

    def docs(self, kind: Kind[Any], ids: Iterable[str]) -> dict[str, Doc]:
        found = self._of(kind).find({"_id": {"$in": list(ids)}}, session=self._session)
        return {doc["_id"]: doc for doc in found}

    def put_docs(self, kind: Kind[Any], new: list[Doc], known: list[Doc]) -> None:
        collection = self._of(kind)
        if new:
            collection.insert_many(new, ordered=False, session=self._session)
        if known:
            changes = [ReplaceOne({"_id": doc["_id"]}, doc) for doc in known]
            collection.bulk_write(changes, ordered=False, session=self._session)

    def _write_outbox(self, rows: tuple[OutboxRow, ...]) -> None:
        outbox = self._database[OUTBOX]
        there: set[str] = set()
        # A row that is there already is rare: its duplicate key undoes the first attempt,
        # and the second looks.
        if not self._first:
            ids = [row.id for row in rows]
            there = {d["_id"] for d in outbox.find({"_id": {"$in": ids}}, {"_id": 1}, session=self._session)}
        fresh = fresh_rows(rows, there)
        if fresh:
            outbox.insert_many(fresh, ordered=False, session=self._session)


class MongoStore:
    """The synchronous store of one service's database."""

    def __init__(self, settings: MongoSettings, database: str, client: str = "pharmaloop") -> None:
        self._client: MongoClient[Doc] = MongoClient(settings.uri, **client_options(settings, client))
        self._database = self._client[database]
        self._name = client
        self.names = Names()

    def end_abandoned(self) -> int:
        """End the transactions that an earlier process of this name left open when it was killed.

        The server would keep them, and what they hold, until their lifetime is
        over (a minute by default). Answers how many; call it before the first
        transaction of this process.
        """
        match = {"type": "idleSession", "appName": self._name, "transaction": {"$exists": True}}
        # It tells of the server itself, of which no majority can be read.
        admin = self._client.get_database("admin", read_concern=ReadConcern("local"))
        idle = admin.aggregate([{"$currentOp": {"idleSessions": True}}, {"$match": match}])
        sessions = [{"id": op["lsid"]["id"]} for op in idle]
        if sessions:
            self._client.admin.command("killSessions", sessions)
        return len(sessions)

    def outbox_stream(self) -> Stream:
        """Tells of every row that any process writes to the outbox from now on."""
        pipeline: list[Doc] = [{"$match": {"operationType": "insert"}}, {"$project": {"_id": 1}}]
        return self._database[OUTBOX].watch(pipeline, max_await_time_ms=_AWAIT_MS)

    def prepare(self, kinds: Iterable[Kind[Any]]) -> None:
        for name, keys, options in index_specs(kinds, self.names):
            self._database[name].create_index(keys, **options)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        end, attempt = time.monotonic() + CALL_SECONDS, 0
        while True:
            try:
                with storable(), pymongo.timeout(max(0.001, end - time.monotonic())):
                    return self._once(work, attempt == 0)
            except (PyMongoError, Conflict) as error:
                if isinstance(error, PyMongoError) and not is_transient(error):
                    raise
                last: Exception = error
            attempt += 1
            if attempt == ATTEMPTS or time.monotonic() > end:
                tried = f"the transaction did not succeed in {attempt} attempts"
                raise Retryable(f"{tried}: {last}") from last
            time.sleep(backoff(attempt))

    def _once(self, work: Callable[[Transaction], T], first: bool) -> T:
        with (
            self._client.start_session() as session,
            session.start_transaction(read_concern=SNAPSHOT, write_concern=MAJORITY),
        ):
            return work(_MongoTransaction(self._database, session, self.names, first))

    def close(self) -> None:
        self._client.close()
