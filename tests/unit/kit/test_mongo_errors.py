"""Which errors of the database are nobody's fault, and which are the command's."""

from __future__ import annotations

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from services.kit.store.mongo import ATTEMPTS, backoff, is_transient, is_unstorable


def bulk(*codes: int, concern: int = 0) -> BulkWriteError:
    concerns = [{"code": concern, "errmsg": "x"}] if concern else []
    return BulkWriteError(
        {"writeErrors": [{"code": c, "errmsg": "x"} for c in codes], "writeConcernErrors": concerns}
    )


def labelled(label: str) -> PyMongoError:
    return PyMongoError("x", error_labels=[label])


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailure("reset"),
        AutoReconnect("primary stepped down"),
        NetworkTimeout("cut off"),
        ServerSelectionTimeoutError("no primary"),
        NotPrimaryError("not primary"),
        ExecutionTimeout("operation exceeded time limit", 50),
        WTimeoutError("waiting for replication timed out", 64),
        WriteConcernError("not enough data-bearing nodes", 100),
        OperationFailure("No space left on device", 14031),
        OperationFailure("not primary", 10107),
        OperationFailure("shutdown in progress", 91),
        OperationFailure("interrupted at shutdown", 11600),
        OperationFailure("exceeded time limit", 262),
        OperationFailure("temporarily unavailable", 365),
        OperationFailure("not authorized on db to execute command", 13),
        OperationFailure("write conflict", 112),
        OperationFailure("duplicate key", 11000),
        OperationFailure("snapshot too old", 239),
        bulk(11000, 112),
        bulk(14031),
        bulk(concern=64),
        labelled("TransientTransactionError"),
        labelled("RetryableWriteError"),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '')}",
)
def test_a_database_that_cannot_now_may_be_asked_again(error: PyMongoError) -> None:
    assert is_transient(error)
    assert not is_unstorable(error)


@pytest.mark.parametrize(
    "error",
    [
        InvalidDocument("key must not contain NUL"),
        DocumentTooLarge("BSON document too large"),
        OverflowError("MongoDB can only handle up to 8-byte ints"),
        OperationFailure("object to insert too large", 10334),
        OperationFailure("document failed validation", 121),
        OperationFailure("resulting document is too large", 17419),
        OperationFailure("total size of the transaction is too large", 257),
        bulk(10334),
        bulk(11000, 10334),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '')}",
)
def test_what_can_never_be_stored_is_told_as_that(error: Exception) -> None:
    assert is_unstorable(error)
    assert not (isinstance(error, PyMongoError) and is_transient(error))


@pytest.mark.parametrize(
    "error", [OperationFailure("?", 8), OperationFailure("no code"), PyMongoError("?"), bulk()]
)
def test_what_nobody_knows_is_neither(error: PyMongoError) -> None:
    assert not is_transient(error)
    assert not is_unstorable(error)


def test_attempts_come_later_and_later_and_not_together() -> None:
    for attempt in range(ATTEMPTS):
        waits = {backoff(attempt) for _ in range(50)}
        assert len(waits) > 40, "two that met would meet again"
        assert 0 < min(waits) <= max(waits) <= 0.5
    assert min(backoff(6) for _ in range(20)) > max(backoff(2) for _ in range(20))
