"""Spans by OpenTelemetry: the one module that imports it.

The provider is the process's own and not the global one, so that no library
makes spans by itself: their attributes would say more than ours may, as paths
of pages name lots.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from services.kit import tracing
from services.kit.settings import PlatformSettings
from services.kit.version import code_version

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_NOWHERE = Context()
_EXPORT_SECONDS = 10
_CLOSE_SECONDS = 2.0


def connected(service: str, instance: str, site: str, settings: PlatformSettings) -> Tracer:
    """A tracer that sends spans by OTLP over gRPC, in batches, from a thread of its own.

    It never waits for the collector: where that is away, spans are dropped and the platform goes on.
    """
    told = {
        "service.namespace": "pharmaloop",
        "service.name": service,
        "service.instance.id": instance,
        "service.version": code_version(),
    }
    provider = TracerProvider(
        resource=Resource.create(told | ({"pharmaloop.site": site} if site else {})),
        sampler=TraceIdRatioBased(settings.trace_ratio),
        shutdown_on_exit=False,
    )
    endpoint = settings.otlp_endpoint
    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_SECONDS
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider)


def context_of(trace: str) -> SpanContext | None:
    """What a traceparent says; None for what is none."""
    if not tracing.is_traceparent(trace):
        return None
    flags = TraceFlags(int(trace[53:55], 16))
    return SpanContext(int(trace[3:35], 16), int(trace[36:52], 16), is_remote=True, trace_flags=flags)


class Tracer:
    """Makes spans by a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("services.kit", code_version())

    def start(
        self,
        name: str,
        kind: tracing.Kind,
        attributes: tracing.Attributes,
        *,
        parent: str = "",
        links: Sequence[str] = (),
        at: int | None = None,
    ) -> Span:
        known = context_of(parent) if parent else None
        around = set_span_in_context(NonRecordingSpan(known), _NOWHERE) if known is not None else _NOWHERE
        linked = [Link(found) for found in map(context_of, links) if found is not None]
        made = self._tracer.start_span(
            name, around, _KINDS[kind], dict(attributes), linked, at, set_status_on_exception=False
        )
        return Span(made)

    def close(self) -> None:
        # A collector that is away would hold the process for as long as it is tried.
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(_CLOSE_SECONDS)


class Span:
    """A span of OpenTelemetry, as the kit uses it."""

    __slots__ = ("_span", "trace")

    def __init__(self, span: OtelSpan) -> None:
        context = span.get_span_context()
        self._span = span
        self.trace = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"

    def note(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, why: str) -> None:
        self._span.set_attribute("error.type", why)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self._span.end()
