"""Spans: who is whose child across a hop, what is told and what is not, and that off is off."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit import log, tracing
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, headers_of
from services.kit.errors import Invalid, Rejected, Retryable
from services.kit.facts import Fact, FactLog
from services.kit.metrics import BATCH_SECONDS
from services.kit.rpc.context import Caller, bind
from services.kit.runners.loop import MemoryLoop
from services.kit.runners.loop_driver import LoopDriver
from services.kit.runners.reactor import Row, projector
from services.kit.runners.step import Again, StepRunner
from services.kit.settings import PlatformSettings, read_settings
from services.kit.tracing.otel import context_of
from services.kit.work import STEPS, Work
from tests.traced import CAME, OTHER, SPAN, TRACE, Book, exposed, traced
from tests.unit.kit.support import (
    INSIGHT_TOPIC,
    LOT,
    LOT_TOPIC,
    NOTE,
    Bench,
    Note,
    lot_event,
    note_lot,
    started,
)
from tests.unit.kit.test_loop_driver import LOOP, P, Worker, cased
from tests.unit.kit.test_loop_driver import Log as LoopLog

GARBAGE = (
    "",
    "00-aa-bb-01",
    "nonsense",
    CAME[:-1],
    CAME.upper(),
    f"ff{CAME[2:]}",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"{CAME}-more",
    f"{CAME} ",
    "00-" + "é" * 32 + f"-{SPAN}-01",
)


@pytest.fixture
def book() -> Iterator[Book]:
    with traced() as told:
        yield told


@pytest.fixture
def bench() -> Bench:
    return Bench()


def trace_of(event: Event) -> tuple[str, str]:
    """Trace and span of an event's header."""
    return event.trace[3:35], event.trace[36:52]


# -- the header ---------------------------------------------------------------


def test_a_traceparent_says_the_same_behind_a_record() -> None:
    event = lot_event("lot-1", 1, trace=CAME)
    record = Record(LOT_TOPIC, 0, 0, b"lot-1", event.message.SerializeToString(), headers_of(event), 0)
    found = context_of(from_record(contract(), record).trace)
    assert found is not None
    assert (f"{found.trace_id:032x}", f"{found.span_id:016x}") == (TRACE, SPAN)
    assert found.is_remote
    assert found.trace_flags.sampled


def test_a_later_version_is_read_as_this_one() -> None:
    assert context_of(f"cc{CAME[2:]}-what-the-future-will-say") is not None


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_traceparent_begins_a_trace(garbage: str, bench: Bench, book: Book) -> None:
    assert context_of(garbage) is None
    record = bench.send(lot_event("lot-1", 1, trace=garbage or "x"))
    bench.turner({type(started("")): note_lot}).turn()
    span = book.one(f"process {LOT_TOPIC}")
    assert record
    assert span.parent == ""
    assert len(span.trace) == 32


# -- reactors and projectors ---------------------------------------------------


async def publish(bench: Bench) -> None:
    while await bench.relay().publish_once():
        pass


async def test_what_a_handler_emits_is_the_child_of_its_span(bench: Bench, book: Book) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME, run="run-1"))
    bench.turner({type(started("")): note_lot}).turn()
    await publish(bench)
    span = book.one(f"process {LOT_TOPIC}")
    assert (span.trace, span.parent, span.kind) == (TRACE, SPAN, "CONSUMER")
    assert span.said["messaging.message.id"] == "lot-1-1"
    assert span.said["messaging.consumer.group.name"] == "rnd.test"
    assert span.said["pharmaloop.run"] == "run-1"
    (event,) = bench.read(INSIGHT_TOPIC)
    assert trace_of(event) == (TRACE, span.id)
    # The relay's own span stands beside whoever hears of the event, and says where it stands.
    sent = book.one(f"send {INSIGHT_TOPIC}")
    assert (sent.trace, sent.parent, sent.kind) == (TRACE, span.id, "PRODUCER")
    assert sent.said["messaging.message.id"] == event.id
    assert sent.said["messaging.kafka.offset"] == event.offset


async def test_every_runner_that_hears_an_event_has_a_child_of_its_own(bench: Bench, book: Book) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME))
    for name in ("one", "two"):
        bench.turner({type(started("")): lambda work, event: None}, name=name).turn()
    spans = book.named(f"process {LOT_TOPIC}")
    assert {span.said["messaging.consumer.group.name"] for span in spans} == {"rnd.one", "rnd.two"}
    assert {span.parent for span in spans} == {SPAN}


def test_alike_events_of_one_span_share_one(bench: Bench, book: Book) -> None:
    bench.send(*(lot_event(f"lot-{n}", 1, trace=CAME) for n in range(20)), lot_event("x", 1, trace=OTHER))
    bench.turner({type(started("")): lambda work, event: None}).turn()
    assert sorted(span.parent for span in book.spans) == ["2" * 16, SPAN]


async def test_many_events_of_one_span_begin_traces_that_link_back(bench: Bench, book: Book) -> None:
    many = tracing.FAN_OUT + 1

    def recall(work: Work, event: Event) -> None:
        for n in range(many):
            work.apply(LOT, f"lot-{n}", rnd.InsightRecorded(insight=f"lot-{n}"))

    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): recall}).turn()
    await publish(bench)
    handler = book.one(f"process {LOT_TOPIC}")
    created = book.named(f"create {INSIGHT_TOPIC}")
    assert len({span.trace for span in created} - {TRACE}) == many
    assert {(span.parent, span.links) for span in created} == {("", (handler.id,))}
    emitted = {trace_of(event) for event in bench.read(INSIGHT_TOPIC)}
    assert emitted == {(span.trace, span.id) for span in created}


async def test_few_events_of_many_spans_are_children(bench: Bench, book: Book) -> None:
    many = tracing.FAN_OUT + 1
    bench.send(*(lot_event(f"lot-{n}", 1, trace=f"00-{n + 1:032x}-{n + 1:016x}-01") for n in range(many)))
    bench.turner({type(started("")): note_lot}).turn()
    await publish(bench)
    assert not book.named(f"create {INSIGHT_TOPIC}")
    traces = {event.trace[3:35] for event in bench.read(INSIGHT_TOPIC)}
    assert traces == {f"{n + 1:032x}" for n in range(many)}


def _rows() -> Any:
    row = Row(NOTE, lambda event: event.subject, lambda state, event: Note(event.id))
    return projector("rows", {type(started("")): row})


def test_a_projector_of_rows_links_to_all_of_whom_its_batch_comes(bench: Bench, book: Book) -> None:
    bench.send(lot_event("a", 1, trace=CAME), lot_event("b", 1, trace=OTHER), lot_event("c", 1, trace=CAME))
    bench.making(_rows()).turn()
    span = book.one(f"process {LOT_TOPIC}")
    assert (span.parent, set(span.links)) == ("", {SPAN, "2" * 16})
    assert span.said["messaging.batch.message_count"] == 3


def test_a_projector_of_rows_is_a_child_where_its_batch_comes_from_one(bench: Bench, book: Book) -> None:
    bench.send(lot_event("a", 1, trace=CAME))
    bench.making(_rows()).turn()
    span = book.one(f"process {LOT_TOPIC}")
    assert (span.trace, span.parent, span.links) == (TRACE, SPAN, ())


def test_what_was_not_committed_is_not_told(bench: Bench, book: Book) -> None:
    failing = [Retryable("the database is away"), None]

    def handler(work: Work, event: Event) -> None:
        error = failing.pop(0)
        if error is not None:
            raise error

    bench.send(lot_event("lot-1", 1, trace=CAME))
    turner = bench.turner({type(started("")): handler})
    with pytest.raises(Retryable):
        turner.runner.process(
            list(bench.bus.records[next(p for p in bench.bus.records if bench.bus.records[p])])
        )
    assert not book.spans
    turner.turn()
    assert book.one(f"process {LOT_TOPIC}").parent == SPAN


def test_a_dead_letter_is_an_error_and_says_its_reason(bench: Bench, book: Book) -> None:
    def refuse(work: Work, event: Event) -> None:
        raise Rejected("HELD", "release it first")

    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): refuse}).turn()
    span = book.one(f"process {LOT_TOPIC}")
    assert (span.error, span.said["error.type"]) == (True, "HELD")


def test_a_making_of_views_anew_is_not_told(bench: Bench, book: Book) -> None:
    bench.send(lot_event("a", 1, trace=CAME))
    bench.making(_rows()).turn()
    assert len(book.spans) == 1
    bench.making(_rows(), 2, follows=1).turn()
    assert len(book.spans) == 1


def test_a_batch_passed_over_makes_no_span(bench: Bench, book: Book) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({rnd.InsightRecorded: note_lot}).turn()
    assert not book.spans


# -- what is kept ---------------------------------------------------------------


async def test_a_trace_that_is_not_kept_goes_on_and_is_told_nowhere(bench: Bench) -> None:
    with traced(ratio=0.0) as book:
        bench.send(lot_event("lot-1", 1, trace=CAME))
        bench.turner({type(started("")): note_lot}).turn()
        await publish(bench)
    assert not book.spans
    (event,) = bench.read(INSIGHT_TOPIC)
    assert event.trace.startswith(f"00-{TRACE}-")
    assert event.trace.endswith("-00")


async def test_without_spans_a_trace_goes_through_as_it_came(bench: Bench) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): note_lot}).turn()
    await publish(bench)
    (event,) = bench.read(INSIGHT_TOPIC)
    assert event.trace == CAME


# -- loops ----------------------------------------------------------------------


async def test_a_loops_effects_are_children_of_its_hop(book: Book) -> None:
    log = LoopLog()
    table: dict[bytes, bytes] = {}
    driver = LoopDriver(LOOP, "loops.test", Worker(log, table))
    driver.assigned([P])
    record = log.add(cased("a", 1))
    carried = tuple(pair for pair in record.headers if pair[0] != "traceparent")
    log.records[0] = record._replace(headers=(*carried, ("traceparent", CAME.encode())))
    await driver.take(log.records[0])
    span = book.one(f"process {record.topic}")
    assert (span.trace, span.parent) == (TRACE, SPAN)
    sent = [dict(effect.headers)["traceparent"].decode() for effect in log.effects()]
    assert set(sent) == {span.traceparent}
    # A restart says the same again: the span in doubt is the one that is known.
    again = LoopDriver(LOOP, "loops.test", Worker(log, table))
    again.assigned([P])
    await again.settle(P)
    await again.take(log.records[0])
    assert len(book.named(f"process {record.topic}")) == 1
    sent = [dict(effect.headers)["traceparent"].decode() for effect in log.effects()]
    assert set(sent) == {span.traceparent}


def test_a_loop_in_memory_does_alike(book: Book) -> None:
    effects = MemoryLoop(LOOP).take(cased("a", 1, trace=CAME))
    (span,) = book.spans
    assert span.parent == SPAN
    assert {effect.trace for effect in effects} == {span.traceparent}


# -- steps ----------------------------------------------------------------------


async def _stepped(bench: Bench, handler: Any, wait: timedelta = timedelta(0)) -> list[str]:
    """A handler makes a step due; it runs once its time has come. Answers what ran as current in it."""
    found: list[str] = []

    async def step(row: Any) -> Again | None:
        found.append(tracing.current())
        return None

    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): handler}).turn()
    bench.clock.advance(wait.total_seconds())
    assert await StepRunner(bench.waiting, bench.clock, bench.metrics, {"remind": step}).run_due() == 1
    return found


async def test_a_step_due_at_once_is_a_child(bench: Bench, book: Book) -> None:
    (inside,) = await _stepped(bench, lambda work, event: work.due("remind", "lot-1", work.now))
    step, handler = book.one("step remind"), book.one(f"process {LOT_TOPIC}")
    assert (step.trace, step.parent, step.links) == (TRACE, handler.id, ())
    assert inside == step.traceparent
    assert tracing.current() == ""


async def test_a_step_due_later_links_back(bench: Bench, book: Book) -> None:
    day = timedelta(days=1)
    await _stepped(bench, lambda work, event: work.due_in("remind", "lot-1", day), day)
    step, handler = book.one("step remind"), book.one(f"process {LOT_TOPIC}")
    assert (step.parent, step.links) == ("", (handler.id,))
    assert step.trace != TRACE


def test_without_spans_a_steps_row_says_no_trace(bench: Bench) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): lambda work, event: work.due("remind", "lot-1", work.now)}).turn()
    (row,) = bench.states(STEPS).values()
    assert (row.trace, row.after) == ("", "")


async def test_a_command_of_a_step_is_its_child(bench: Bench, book: Book) -> None:
    def decide(work: Work, request: Any) -> Any:
        work.apply(LOT, "lot-1", rnd.InsightRecorded(insight="lot-1"))
        return alerting.AcknowledgeAlertResponse()

    async with bench.deciding({"Do": decide}) as decider:
        with tracing.inside(tracing.step("remind", "", "")):
            span = tracing.current()
            await decider.submit("Do", rnd.InsightRecorded(), request_id="r", actor="platform")
    (event,) = bench.read(INSIGHT_TOPIC)
    assert event.trace == span
    assert tracing.is_traceparent(span)


# -- facts ------------------------------------------------------------------------


async def test_facts_of_a_call_say_its_span_and_are_sent_in_one(bench: Bench, book: Book) -> None:
    span = tracing.serve("/pharmaloop.production.v1.ProductionService/RecordReadings", CAME)
    bind(Caller("gateway", "c", span.trace))
    facts = FactLog("production", bench.bus.producer(), contract(), bench.clock)
    lots = [started("lot-1"), started("lot-2")]
    await facts.record(
        lots,
        lambda n, lot: Fact(lot, f"fact-{n}", bench.clock.now(), lot.lot),
        all_or_nothing=True,
        actor="gateway",
        field="lots",
    )
    assert {event.trace for event in bench.read(LOT_TOPIC)} == {span.trace}
    sent = book.one(f"send {LOT_TOPIC}")
    assert sent.parent == span.trace[36:52]
    assert sent.said["messaging.batch.message_count"] == 2


# -- exemplars and the log -----------------------------------------------------------


def test_a_slow_batch_can_be_found_by_its_exemplar(bench: Bench, book: Book) -> None:
    bench.send(lot_event("lot-1", 1, trace=CAME))
    bench.turner({type(started("")): note_lot}).turn()
    lines = exposed(bench.metrics)
    assert any(line.startswith(f"{BATCH_SECONDS.name}_bucket") and TRACE in line for line in lines)


def test_lines_of_the_log_say_of_which_span_they_are(book: Book, capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        log.configure("test")
        logger = structlog.get_logger()
        span = tracing.serve("/outer", CAME)
        logger.info("inside")
        with tracing.inside(tracing.OFF):
            logger.info("outside")
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    inside, outside = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (inside["trace_id"], inside["span_id"]) == (TRACE, span.trace[36:52])
    assert "trace_id" not in outside


# -- on and off ---------------------------------------------------------------------


def test_nothing_of_opentelemetry_is_imported_before_spans_are_wanted() -> None:
    code = (
        "import sys, services.kit.app, services.kit.rpc.client, services.production.main;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_an_endpoint_no_spans_are_made() -> None:
    tracing.begin("test", "0", "", PlatformSettings())
    assert not tracing.on()


def test_spans_reach_a_collector_and_say_whose_they_are() -> None:
    got: list[ExportTraceServiceRequest] = []

    class Collector(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
            got.append(request)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Collector(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        settings = PlatformSettings(otlp_endpoint=f"http://127.0.0.1:{port}")
        tracing.begin("clinical", "0", "hospital-a", settings)
        tracing.step("remind", CAME, "").end()
    finally:
        tracing.close()
        server.stop(None)
    (spans,) = got[0].resource_spans
    told = {pair.key: pair.value.string_value for pair in spans.resource.attributes}
    assert (told["service.name"], told["pharmaloop.site"]) == ("clinical", "hospital-a")
    (span,) = spans.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("step remind", TRACE, SPAN)


def test_a_collector_that_is_away_holds_nothing_up() -> None:
    tracing.begin("test", "0", "", PlatformSettings(otlp_endpoint="http://127.0.0.1:9"))
    began = time.monotonic()
    for _ in range(1000):
        tracing.step("remind", "", "").end()
    assert time.monotonic() - began < 5
    tracing.close()
    assert time.monotonic() - began < 30
    assert not tracing.on()


def test_an_endpoint_without_the_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.kit.tracing.otel", None)
    with pytest.raises(Invalid, match=r"pharmaloop\[tracing\]"):
        tracing.begin("test", "0", "", PlatformSettings(otlp_endpoint="http://127.0.0.1:4317"))
    assert not tracing.on()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PHARMALOOP_OTLP_ENDPOINT", "collector:4317"),
        ("PHARMALOOP_OTLP_ENDPOINT", "http://collector"),
        ("PHARMALOOP_OTLP_ENDPOINT", "http://collector:4317/v1/traces"),
        ("PHARMALOOP_TRACE_RATIO", "2"),
        ("PHARMALOOP_TRACE_RATIO", "-0.1"),
        ("PHARMALOOP_TRACE_RATIO", "all"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Invalid, match=name):
        read_settings(PlatformSettings)
