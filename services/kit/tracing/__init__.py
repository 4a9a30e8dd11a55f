"""Spans of what the platform does, where somebody wants them; else nothing, at next to no cost.

A trace travels as a W3C traceparent: in the metadata of calls, in the headers
of records, in the rows of the outbox, in a loop's table and in the rows of due
steps. It does so whether spans are made or not. With spans, whoever works
hands on the traceparent of its own span, so that what follows is its child.

Which span is whose child (OpenTelemetry's conventions for messaging leave the
choice between parent and link to the application):

- A handler works on one event for itself, so its span is a *child* of the span
  that emitted the event. Where several runners hear one event, each has a
  child. Events of one batch that are alike and come from one span share one.
- A projector of rows works on a batch as a whole: its span *links* to all of
  whom the batch comes, and is a child where that is one.
- A handler that emits more than `FAN_OUT` events begins a trace for each of
  them, which *links* back: a recall of thousands of patients is thousands of
  small traces and not one that no page can draw.
- A step that was due at once is a child of the work that made it due. One that
  was due later, a reminder or a deadline, begins a trace and links back.

Nothing here imports OpenTelemetry; `otel` does, and is imported by `begin`.
Spans carry ids of events, runs, topics and runners, and never who it is about:
they are kept by whoever may not know them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Literal, Protocol

from services.kit.bus.protocol import Position
from services.kit.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.kit.bus.protocol import Outcome, Record
    from services.kit.envelope import Event
    from services.kit.settings import PlatformSettings
    from services.kit.store.kinds import OutboxRow

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int]
#: One span that emits more events than this begins a trace for each of them.
FAN_OUT = 32
#: A span has no more links than this; the trace of a batch is found from its first events.
MOST_LINKS = 128
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
#: What a server did wrong; every other code is its caller's to see.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


def is_traceparent(text: str) -> bool:
    """Is it a traceparent of version 00, or of a later one that can be read as 00 (W3C, section 4)?"""
    found = _TRACEPARENT.match(text)
    if found is None or text[:2] == "ff" or not (found[1].strip("0") and found[2].strip("0")):
        return False
    return len(text) == found.end() or (text[:2] != "00" and text[found.end()] == "-")


class Span(Protocol):
    """A piece of work that is told when it ends, and is never told if it does not."""

    @property
    def trace(self) -> str:
        """Its traceparent, to be handed on; empty where no spans are made."""

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def fail(self, why: str) -> None:
        """It failed; `why` is a word of the code."""

    def end(self) -> None:
        """It is over, now."""


class _Off:
    """The span of whoever makes none."""

    __slots__ = ()
    trace = ""

    def note(self, name: str, value: str | int) -> None:
        pass

    def fail(self, why: str) -> None:
        pass

    def end(self) -> None:
        pass


OFF: Span = _Off()


class Tracer(Protocol):
    """What makes spans."""

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parent: str = "",
        links: Sequence[str] = (),
        at: int | None = None,
    ) -> Span:
        """Begin a span, now or at `at` (nanoseconds since 1970). What is no traceparent is passed over."""

    def close(self) -> None:
        """Send what is not sent yet, within some seconds."""


_tracer: Tracer | None = None
_current: ContextVar[Span] = ContextVar("span", default=OFF)


def begin(service: str, instance: str, site: str, settings: PlatformSettings) -> None:
    """Make spans of this process from now on, if the settings say where to send them.

    Invalid where OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return
    try:
        from services.kit.tracing.otel import connected  # noqa: PLC0415 -- costs time and memory
    except ImportError as error:
        raise Invalid(
            "BAD_SETTING",
            f"PHARMALOOP_OTLP_ENDPOINT: spans need the extra `tracing` ({error.name} is missing): "
            "install pharmaloop[tracing], or leave the setting out",
            "PHARMALOOP_OTLP_ENDPOINT",
        ) from error
    use(connected(service, instance, site, settings))


def use(tracer: Tracer | None) -> None:
    """Make spans by this tracer; none by none."""
    global _tracer
    _tracer = tracer


def close() -> None:
    """The process ends: send what is not sent yet."""
    if _tracer is not None:
        _tracer.close()
        use(None)


def on() -> bool:
    """Are spans made?"""
    return _tracer is not None


# -- the span that runs ------------------------------------------------------


def current() -> str:
    """Traceparent of the span that runs here; empty where there is none."""
    return _current.get().trace


def enter(span: Span) -> Token[Span]:
    """From now on the span is the one that runs here."""
    return _current.set(span)


@contextmanager
def inside(span: Span) -> Iterator[None]:
    """The span is the one that runs here, for a while. It does not end with it."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


def add_ids(_logger: Any, _method: str, line: Any) -> Any:
    """A processor of the log: lines say of which span they are."""
    trace = _current.get().trace
    if trace:
        line["trace_id"], line["span_id"] = trace[3:35], trace[36:52]
    return line


def exemplar(trace: str) -> dict[str, str] | None:
    """What a histogram keeps beside a value: the span, if it is one that is told."""
    if not trace.endswith("-01"):
        return None
    return {"trace_id": trace[3:35], "span_id": trace[36:52]}


# -- calls -------------------------------------------------------------------


def serve(method: str, trace: str) -> Span:
    """The span of a call that is answered here, `/package.Service/Method`; it is the one that runs."""
    if _tracer is None:
        return OFF
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    span = _tracer.start(name, "server", attributes, parent=trace)
    enter(span)
    return span


def call(method: str) -> Span:
    """The span of a call that is made here."""
    if _tracer is None:
        return OFF
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    return _tracer.start(name, "client", attributes, parent=current())


def end_call(span: Span, code: str, *, served: bool) -> None:
    """The call was answered with the status code."""
    if span is OFF:
        return
    span.note("rpc.response.status_code", code)
    if code in _FAULTS or (code != "OK" and not served):
        span.fail(code)
    span.end()


# -- records -----------------------------------------------------------------


def publish(topic: str, records: int) -> Span:
    """The span of handing facts to the log."""
    if _tracer is None:
        return OFF
    attributes = _messaging("send", topic)
    if records != 1:
        attributes["messaging.batch.message_count"] = records
    return _tracer.start(f"send {topic}", "producer", attributes, parent=current())


def sent(rows: Sequence[OutboxRow], outcomes: Sequence[Outcome], began: int) -> None:
    """Rows of the outbox were handed to the log: each is told beside whoever hears of it.

    `began` is when, in nanoseconds. Of a row that the log refused it is told that it did.
    """
    if _tracer is None:
        return
    for row, outcome in zip(rows, outcomes, strict=True):
        trace = _trace_in(row.headers)
        if not trace.endswith("-01"):
            continue
        attributes = _messaging("send", row.topic, row.id)
        stands = isinstance(outcome, Position)
        if isinstance(outcome, Position):
            attributes |= _place(outcome.partition, outcome.offset)
        span = _tracer.start(f"send {row.topic}", "producer", attributes, parent=trace, at=began)
        if not stands:
            span.fail(type(outcome).__name__)
        span.end()


def process(runner: str, event: Event) -> Span:
    """The span of a handler's work on an event."""
    if _tracer is None:
        return OFF
    attributes = _messaging("process", event.topic, event.id) | _place(event.partition, event.offset)
    told = {"pharmaloop.event": event.type, "pharmaloop.run": event.run}
    attributes |= {"messaging.consumer.group.name": runner} | {k: v for k, v in told.items() if v}
    return _tracer.start(f"process {event.topic}", "consumer", attributes, parent=event.trace)


def process_record(runner: str, record: Record) -> Span:
    """The same, of a record that is not read yet, and may be none of ours."""
    if _tracer is None:
        return OFF
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    attributes = _messaging("process", record.topic, headers.get("ce_id", ""))
    attributes |= _place(record.partition, record.offset)
    told = {"pharmaloop.event": headers.get("ce_type", ""), "pharmaloop.run": headers.get("pl_run", "")}
    attributes |= {"messaging.consumer.group.name": runner} | {k: v for k, v in told.items() if v}
    parent = headers.get("traceparent", "")
    return _tracer.start(f"process {record.topic}", "consumer", attributes, parent=parent)


def spread(rows: list[OutboxRow]) -> Sequence[OutboxRow]:
    """The rows of a transaction; where one span emits many, each begins a trace that links to it."""
    if _tracer is None or len(rows) <= FAN_OUT:
        return rows
    counts: dict[str, int] = {}
    traces = [_trace_in(row.headers) for row in rows]
    for trace in traces:
        counts[trace] = counts.get(trace, 0) + 1
    return [
        _begun(_tracer, row, trace) if counts[trace] > FAN_OUT else row
        for row, trace in zip(rows, traces, strict=True)
    ]


def _begun(tracer: Tracer, row: OutboxRow, trace: str) -> OutboxRow:
    span = tracer.start(
        f"create {row.topic}", "producer", _messaging("create", row.topic, row.id), links=[trace]
    )
    span.end()
    mine = ("traceparent", span.trace.encode())
    return row._replace(headers=tuple(mine if pair[0] == "traceparent" else pair for pair in row.headers))


def _trace_in(headers: Iterable[tuple[str, bytes]]) -> str:
    return next((value.decode(errors="replace") for name, value in headers if name == "traceparent"), "")


def _messaging(operation: str, topic: str, id: str = "") -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }
    if id:
        attributes["messaging.message.id"] = id
    return attributes


def _place(partition: int, offset: int) -> dict[str, str | int]:
    return {"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset}


class Spans:
    """The spans of what a batch runner has in hand.

    They are told when the transaction is committed. What a transaction did
    that was not counts for nothing: its spans are forgotten, and made anew
    with the next attempt. One thread's.
    """

    def __init__(self, runner: str) -> None:
        self._runner = runner
        self._open: dict[tuple[str, ...], Span] = {}
        self._quiet = False

    def begin(self, *, quiet: bool = False) -> None:
        """A transaction begins, perhaps not for the first time. `quiet`: it is nothing that anybody hears
        of, as views are made anew from what happened long ago."""
        self._quiet = quiet
        if self._open:
            self._open = {}

    def of(self, event: Event) -> Span:
        """The span of the handler's work on the event: its own, or shared with others from the same span."""
        if _tracer is None or self._quiet:
            return OFF
        key = (event.topic, event.type, event.trace)
        span = self._open.get(key)
        if span is None:
            span = self._open[key] = process(self._runner, event)
        return span

    def whole(self, events: Iterable[Event]) -> None:
        """The span of a batch that is worked on as a whole."""
        if _tracer is None or self._quiet:
            return
        found: dict[str, Event] = {}
        many = 0
        for event in events:
            many += 1
            found.setdefault(event.trace, event)
        if not found:
            return
        if len(found) == 1:
            (event,) = found.values()
            span = process(self._runner, event)
        else:
            attributes: dict[str, str | int] = {"messaging.consumer.group.name": self._runner}
            topics = {event.topic for event in found.values()}
            topic = topics.pop() if len(topics) == 1 else ""
            attributes |= _messaging("process", topic) if topic else {"messaging.system": "kafka"}
            links = list(found)[:MOST_LINKS]
            span = _tracer.start(f"process {topic or self._runner}", "consumer", attributes, links=links)
        if many > 1:
            span.note("messaging.batch.message_count", many)
        self._open[()] = span

    def fail(self, why: str) -> None:
        """What is in hand became a dead letter."""
        for span in self._open.values():
            span.fail(why)

    def done(self) -> str:
        """The transaction is committed; answers the traceparent of one of its spans, if there are any."""
        if not self._open:
            return ""
        spans, self._open = list(self._open.values()), {}
        for span in spans:
            span.end()
        return spans[0].trace


# -- steps -------------------------------------------------------------------


def step(name: str, trace: str, after: str) -> Span:
    """The span of a step's run: a child of `trace`, or one that links to `after`."""
    if _tracer is None:
        return OFF
    links = [after] if after else ()
    return _tracer.start(f"step {name}", "internal", {"pharmaloop.step": name}, parent=trace, links=links)


def now() -> int:
    """Nanoseconds since 1970, where spans are made; else 0."""
    return time.time_ns() if _tracer is not None else 0
