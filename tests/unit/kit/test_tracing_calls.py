"""Spans of calls: one at both ends, in the call's metadata, with the code that it was answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import aio

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from services.kit import tracing
from services.kit.errors import Integrity, Rejected
from services.kit.metrics import RPC_SECONDS, Metrics
from services.kit.rpc.client import channel
from services.kit.rpc.context import caller
from services.kit.rpc.server import RpcServer
from services.kit.settings import ServiceSettings
from tests.traced import CAME, SPAN, TRACE, Book, Told, exposed, traced

ACKNOWLEDGE = "pharmaloop.alerting.v1.AlertingService/AcknowledgeAlert"
WATCH = "pharmaloop.alerting.v1.AlertingService/WatchAlerts"


@pytest.fixture
def book() -> Iterator[Book]:
    with traced() as told:
        yield told


class Alerting(alerting_grpc.AlertingServiceServicer):
    """Remembers who called, and fails as it is told."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.traces: list[str] = []

    async def ListAlerts(self, request: Any, context: Any) -> alerting.ListAlertsResponse:
        raise NotImplementedError

    async def GetAlert(self, request: Any, context: Any) -> alerting.GetAlertResponse:
        raise NotImplementedError

    async def AcknowledgeAlert(self, request: Any, context: Any) -> alerting.AcknowledgeAlertResponse:
        self.traces.append(caller().trace)
        if self.failure is not None:
            raise self.failure
        return alerting.AcknowledgeAlertResponse()

    async def WatchAlerts(self, request: Any, context: Any) -> AsyncIterator[alerting.WatchAlertsResponse]:
        self.traces.append(caller().trace)
        for _ in range(3):
            yield alerting.WatchAlertsResponse()


@pytest.fixture
async def served(book: Book) -> AsyncIterator[Any]:
    """A real server and a channel to it, while spans are made."""
    metrics, servicer = Metrics("alerting"), Alerting()
    server = RpcServer(ServiceSettings(), metrics)
    alerting_grpc.add_AlertingServiceServicer_to_server(servicer, server.server)
    port = await server.start(["pharmaloop.alerting.v1.AlertingService"])
    async with channel(f"127.0.0.1:{port}") as line:
        stub = alerting_grpc.AlertingServiceStub(line)
        yield SimpleNamespace(stub=stub, servicer=servicer, metrics=metrics, book=book)
    await server.stop()


async def told(book: Book, name: str, many: int) -> list[Told]:
    """The spans of a name, once there are so many: a server's call ends after its answer has gone."""
    async with asyncio.timeout(5):
        while len(book.named(name)) < many:
            await asyncio.sleep(0.005)
    return book.named(name)


def request() -> alerting.AcknowledgeAlertRequest:
    return alerting.AcknowledgeAlertRequest(request_id="r-1", alert="a")


async def test_a_call_is_a_span_at_both_ends(served: Any) -> None:
    await served.stub.AcknowledgeAlert(request(), timeout=5)
    spans = {span.kind: span for span in await told(served.book, ACKNOWLEDGE, 2)}
    client, server = spans["CLIENT"], spans["SERVER"]
    assert (client.parent, server.parent, server.trace) == ("", client.id, client.trace)
    assert client.said["rpc.response.status_code"] == server.said["rpc.response.status_code"] == "OK"
    assert served.servicer.traces == [server.traceparent]


async def test_a_call_is_a_child_of_what_runs(served: Any) -> None:
    with tracing.inside(tracing.serve("/outer", CAME)):
        await served.stub.AcknowledgeAlert(request(), timeout=5)
    client = next(span for span in await told(served.book, ACKNOWLEDGE, 2) if span.kind == "CLIENT")
    assert client.trace == TRACE


async def test_what_a_caller_says_of_its_trace_stands(served: Any) -> None:
    await served.stub.AcknowledgeAlert(request(), timeout=5, metadata=(("traceparent", CAME),))
    server = next(span for span in await told(served.book, ACKNOWLEDGE, 2) if span.kind == "SERVER")
    assert (server.trace, server.parent) == (TRACE, SPAN)


@pytest.mark.parametrize(
    ("failure", "code", "fault"),
    [(Rejected("HELD", "no"), "FAILED_PRECONDITION", False), (Integrity("broken"), "DATA_LOSS", True)],
)
async def test_a_refusal_is_the_callers_error_and_a_fault_is_the_servers(
    served: Any, failure: Exception, code: str, fault: bool
) -> None:
    served.servicer.failure = failure
    with pytest.raises(grpc.RpcError):
        await served.stub.AcknowledgeAlert(request(), timeout=5)
    spans = {span.kind: span for span in await told(served.book, ACKNOWLEDGE, 2)}
    assert {span.said["rpc.response.status_code"] for span in spans.values()} == {code}
    assert (spans["CLIENT"].error, spans["SERVER"].error) == (True, fault)


async def test_a_stream_is_a_span_until_it_ends(served: Any) -> None:
    answers = [answer async for answer in served.stub.WatchAlerts(alerting.WatchAlertsRequest(), timeout=5)]
    spans = {span.kind: span for span in await told(served.book, WATCH, 2)}
    assert len(answers) == 3
    assert spans["SERVER"].parent == spans["CLIENT"].id
    assert spans["CLIENT"].said["rpc.response.status_code"] == "OK"


async def test_a_call_without_a_deadline_is_told_as_well(served: Any) -> None:
    with pytest.raises(aio.AioRpcError):
        await served.stub.AcknowledgeAlert(request())
    (server,) = [span for span in await told(served.book, ACKNOWLEDGE, 2) if span.kind == "SERVER"]
    assert server.said["rpc.response.status_code"] == "INVALID_ARGUMENT"


async def test_a_slow_call_can_be_found_by_its_exemplar(served: Any) -> None:
    await served.stub.AcknowledgeAlert(request(), timeout=5)
    server = next(span for span in await told(served.book, ACKNOWLEDGE, 2) if span.kind == "SERVER")
    lines = exposed(served.metrics)
    marked = [line for line in lines if line.startswith(f"{RPC_SECONDS.name}_bucket") and " # " in line]
    assert marked
    assert all(f'trace_id="{server.trace}"' in line and f'span_id="{server.id}"' in line for line in marked)
