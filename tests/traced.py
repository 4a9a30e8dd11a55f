"""Spans in tests: made in memory, and asked who is whose child."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from prometheus_client.openmetrics.exposition import generate_latest

from services.kit import tracing
from services.kit.metrics import Metrics
from services.kit.tracing.otel import Tracer

#: A trace that came from elsewhere, its span, and its traceparent; and the traceparent of another.
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CAME = f"00-{TRACE}-{SPAN}-01"
OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


@dataclass(frozen=True)
class Told:
    """One span that was told. `said` are its attributes; ids are as a traceparent writes them."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    said: dict[str, object]
    error: bool
    began: int
    ended: int

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.id}-01"


def exposed(metrics: Metrics) -> list[str]:
    """The lines of a scrape that asks for OpenMetrics."""
    told: bytes = generate_latest(metrics.registry)  # type: ignore[no-untyped-call]
    return told.decode().splitlines()


class Book:
    """All spans that were told."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> list[Told]:
        return [_told(span) for span in self._exporter.get_finished_spans()]

    def named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Told:
        (span,) = self.named(name)
        return span


def _told(span: ReadableSpan) -> Told:
    assert span.context is not None
    return Told(
        span.name,
        span.kind.name,
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent else "",
        tuple(f"{link.context.span_id:016x}" for link in span.links),
        dict(span.attributes or {}),
        not span.status.is_ok and not span.status.is_unset,
        span.start_time or 0,
        span.end_time or 0,
    )


@contextmanager
def traced(ratio: float = 1.0) -> Iterator[Book]:
    """Spans are made for a while."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=TraceIdRatioBased(ratio), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(Tracer(provider))
    try:
        yield Book(exporter)
    finally:
        tracing.use(None)
        tracing.enter(tracing.OFF)
