"""Ask a platform until it answers, as its users' programs do, and write down what was acknowledged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from tests.reliability.world import Late

#: Who sends every command, where nobody else is named.
ACTOR = "qa"
#: After these statuses the same request is sent again; every other one is an error of the test.
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    }
)
#: Of a channel to a service that may be killed.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True)
class Acknowledged:
    """An input that was acknowledged: the events it made, or the records where its facts stand."""

    method: str
    request_id: str
    event_ids: tuple[str, ...] = ()
    facts: int = 0
    positions: tuple[tuple[str, int, int], ...] = ()
    expects: tuple[tuple[str, str, str], ...] = ()
    actor: str = ACTOR


@dataclass
class Journal:
    """Everything that was acknowledged, and how often the caller had to ask."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    calls: int = 0
    #: What came instead of an answer: the request and the status.
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)


def noted(
    request: Any, answer: Any, expects: Iterable[tuple[str, str, str]] = (), actor: str = ACTOR
) -> Acknowledged:
    """What is written down of an input by its answer; one of whose facts some are refused is an error."""
    method, receipt = type(request).__name__.removesuffix("Request"), answer.receipt
    places = tuple((p.topic, p.partition, p.offset) for p in receipt.positions.positions)
    if isinstance(receipt, common.FactReceipt):
        assert not receipt.refused, receipt
        ids, facts = (), receipt.accepted
    else:
        ids, facts = tuple(receipt.event_ids), 0
    return Acknowledged(method, request.request_id, ids, facts, places, tuple(expects), actor)


def answered(
    call: Callable[..., Any],
    request: Message,
    journal: Journal,
    *,
    seconds: float,
    patience: float,
    actor: str = ACTOR,
    again: Collection[grpc.StatusCode] = AGAIN,
) -> Any:
    """The answer, asked for again and again: `seconds` each time, `patience` seconds in all (Late).

    A refusal is an error of the test.
    """
    end = time.monotonic() + patience
    name = f"{type(request).__name__} {getattr(request, 'request_id', '')}".rstrip()
    while True:
        journal.calls += 1
        try:
            return call(request, timeout=seconds, metadata=metadata(actor))
        except grpc.RpcError as error:
            code = error.code()
            journal.failed[(type(request).__name__, code.name)] += 1
            if code not in again:
                raise AssertionError(f"{name}: {code.name} {reason_of(error)} {error.details()}") from error
            if time.monotonic() > end:
                raise Late(f"{name} was not answered: {code.name}") from error
        time.sleep(0.1)
