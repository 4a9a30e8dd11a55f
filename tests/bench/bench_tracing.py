"""What spans cost: nothing to speak of when off, and how much when on.

Off, an event and a call pass a handful of tests. They are timed by themselves,
as the runner and the server call them, and compared with the whole way of the
same run: over memory, so that no database or broker makes the share look
small. On, the same events are folded with all spans kept and with one trace
in twenty; spans go to an exporter that drops them, for sending is another
thread's work. All times are the process's own, whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvloop
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.production.v1 import events_pb2 as production
from services.kit import tracing
from services.kit.envelope import Event, new_trace
from services.kit.metrics import Metrics
from services.kit.rpc.client import channel
from services.kit.rpc.server import RpcServer
from services.kit.settings import ServiceSettings
from services.kit.tracing.otel import Tracer
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.unit.kit.support import Bench, lot_event, note_lot

COUNT = option("COUNT", 20_000)
CALLS = option("CALLS", 4000)
_TIMES = 3
_BATCH = 500
_OFF = Target(at_most=2.0)


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@contextmanager
def _spans(ratio: float) -> Iterator[None]:
    provider = TracerProvider(sampler=TraceIdRatioBased(ratio), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=100_000))
    tracer = Tracer(provider)
    tracing.use(tracer)
    try:
        yield
    finally:
        tracing.use(None)
        tracer.close()


def _events() -> list[Event]:
    return [lot_event(f"lot-{n}", 1, trace=new_trace()) for n in range(COUNT)]


def _folded() -> float:
    """Seconds an event takes through a handler that reads, writes and emits; the best of some runs."""
    best = float("inf")
    for _ in range(_TIMES):
        bench = Bench()
        bench.send(*_events())
        turner = bench.turner({production.LotStarted: note_lot})
        done, began = 0, time.process_time()
        while done < COUNT:
            done += turner.turn()
        best = min(best, (time.process_time() - began) / COUNT)
        assert len(bench.database.outbox) == COUNT
    return best


def _timed(work: Callable[[], None], times: int) -> float:
    """Seconds of one time; the best of some runs."""
    best = float("inf")
    for _ in range(_TIMES):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - began) / times)
    return best


def _event_hooks() -> float:
    """Seconds of what an event passes when there are no spans: its share of a batch's hooks included."""
    spans, events = tracing.Spans("bench"), _events()[:_BATCH]
    rows: list[Any] = [None] * _BATCH
    reasons: list[str | None] = [None] * _BATCH

    def batch() -> None:
        spans.begin(quiet=False)
        for event in events:
            span = spans.of(event)
            if span.trace:
                raise AssertionError
            if span is not tracing.OFF:
                raise AssertionError
        for reason in reasons:
            if reason is not None:
                span.fail(reason)
        tracing.spread(rows)
        spans.done()

    return _timed(batch, max(20, COUNT // _BATCH)) / _BATCH


def _call_hooks() -> float:
    """Seconds of what a call passes when there are no spans."""

    def call() -> None:
        span = tracing.serve("/pharmaloop.alerting.v1.AlertingService/AcknowledgeAlert", "")
        if span.trace:
            raise AssertionError
        tracing.end_call(span, "OK", served=True)
        tracing.current()
        tracing.add_ids(None, "info", {})

    return _timed(call, 20_000)


class _Alerting(alerting_grpc.AlertingServiceServicer):
    async def ListAlerts(self, request: Any, context: Any) -> alerting.ListAlertsResponse:
        raise NotImplementedError

    async def GetAlert(self, request: Any, context: Any) -> alerting.GetAlertResponse:
        raise NotImplementedError

    async def WatchAlerts(self, request: Any, context: Any) -> AsyncIterator[alerting.WatchAlertsResponse]:
        for answer in list[alerting.WatchAlertsResponse]():
            yield answer

    async def AcknowledgeAlert(self, request: Any, context: Any) -> alerting.AcknowledgeAlertResponse:
        return alerting.AcknowledgeAlertResponse()


async def _call() -> float:
    """Seconds of a call that does nothing, both ends together."""
    server = RpcServer(ServiceSettings(), Metrics("alerting"))
    alerting_grpc.add_AlertingServiceServicer_to_server(_Alerting(), server.server)
    port = await server.start(["pharmaloop.alerting.v1.AlertingService"])
    async with channel(f"127.0.0.1:{port}") as line:
        stub: Any = alerting_grpc.AlertingServiceStub(line)
        began = time.process_time()
        for number in range(CALLS):
            await stub.AcknowledgeAlert(
                alerting.AcknowledgeAlertRequest(request_id=str(number), alert="a"), timeout=10
            )
        took = time.process_time() - began
    await server.stop()
    return took / CALLS


def run(machine: Machine) -> list[Row]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        call = runner.run(_call())
        with _spans(1.0):
            call_on = runner.run(_call())
    event, event_hooks, call_hooks = _folded(), _event_hooks(), _call_hooks()
    with _spans(1.0):
        event_on = _folded()
    with _spans(0.05):
        event_few = _folded()
    return [
        row(
            "tracing off, of an event through a handler",
            100 * event_hooks / event,
            "%",
            target=_OFF,
            note=f"{event_hooks * 1e9:.0f} ns of {event * 1e6:.1f} us, over memory",
        ),
        row(
            "tracing off, of a call that does nothing",
            100 * call_hooks / call,
            "%",
            target=_OFF,
            note=f"{call_hooks * 1e9:.0f} ns of {call * 1e6:.0f} us",
        ),
        row(
            "tracing on, all kept, an event through a handler",
            event_on * 1e6,
            "us",
            yardstick=("the same with tracing off", event * 1e6),
            note="over memory; a span a handled event",
        ),
        row(
            "tracing on, one trace in twenty kept, an event through a handler",
            event_few * 1e6,
            "us",
            yardstick=("the same with tracing off", event * 1e6),
        ),
        row(
            "tracing on, all kept, a call that does nothing",
            call_on * 1e6,
            "us",
            yardstick=("the same with tracing off", call * 1e6),
            note="a span at both ends, in one process",
        ),
    ]
