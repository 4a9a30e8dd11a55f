"""Traceability on real engines: facts in by gRPC, a run's journal out on the topics."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import RpcError, aio

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.app import App
from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.facts import vector
from services.kit.ids import dispense_id, lot_key
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.service import running_service
from services.traceability.domain import digest
from services.traceability.main import make_spec

SITE = "hospital-a"
START = datetime(2026, 3, 1, tzinfo=UTC)
TOPICS = ("pharmaloop.traceability.exposure.v1", f"pharmaloop.traceability.{SITE}.exposure.v1")


def moment(hours: float) -> common.Moment:
    made = common.Moment()
    made.at.FromDatetime(START + timedelta(hours=hours))
    return made


class Trace:
    """Talks to the service as pharmacies and makers do, and listens as the sites do."""

    def __init__(self, app: App, channel: aio.Channel, product: str) -> None:
        self.app = app
        self.stub = api_grpc.TraceabilityServiceStub(channel)
        self.product = product

    def lot(self, name: str) -> str:
        return lot_key("maker", "gtin", self.product, name)

    def material(self, name: str, *inputs: str, at: float = 0) -> events.MaterialRecorded:
        used = [events.MaterialInput(lot=self.lot(other)) for other in inputs]
        return events.MaterialRecorded(lot=self.lot(name), inputs=used, at=moment(at), record=name)

    def dispense(
        self, order: str, name: str, site: str = SITE, at: float = 10, **fields: Any
    ) -> events.DispenseRecorded:
        pseudonym = f"P-{order}" if site else ""
        return events.DispenseRecorded(
            lot=self.lot(name), site=site, pseudonym=pseudonym, order=order, at=moment(at), **fields
        )

    async def record(self, *records: Message, all_or_nothing: bool = False) -> common.FactReceipt:
        """Record facts of one kind."""
        request = {"request_id": str(uuid.uuid4()), "all_or_nothing": all_or_nothing}
        options: Any = {"timeout": 20, "metadata": metadata("pharmacy-1")}
        if isinstance(records[0], events.MaterialRecorded):
            asked: Any = api.RecordMaterialRequest(materials=records, **request)  # type: ignore[arg-type]
            return (await self.stub.RecordMaterial(asked, **options)).receipt
        asked = api.RecordDispenseRequest(dispenses=records, **request)  # type: ignore[arg-type]
        return (await self.stub.RecordDispense(asked, **options)).receipt

    async def say(
        self, message: Message, seq: int = 1, case: str = "", run: str = ""
    ) -> common.PositionVector:
        """Publish an event of another service."""
        topic, key = contract().route(message)
        event = Event(
            id=str(uuid.uuid4()),
            source="/svc/test",
            subject=f"{run or uuid.uuid4()}",
            time=START,
            message=message,
            key=key,
            seq=seq,
            case=case,
            run=run,
        )
        published = asyncio.wrap_future(self.app.producer.publish([to_record(event, topic)]))
        return vector(await published)

    async def open(self, run: str, name: str) -> None:
        lot = self.lot(name)
        await self.say(loops.SafetyRunOpened(run=run, case=lot, lot=lot), case=lot, run=run)

    async def phase(self, run: str) -> str:
        try:
            answer = await self.stub.GetExposure(api.GetExposureRequest(run=run), timeout=5)
        except RpcError:
            return "unknown"
        return str(answer.phase)

    async def until_phase(self, run: str, phase: str) -> None:
        async def there() -> bool:
            return await self.phase(run) == phase

        await until(there)

    async def trace(self, name: str, after: common.PositionVector) -> list[api.TraceLotResponse]:
        request = api.TraceLotRequest(lot=self.lot(name), min_position=after)
        return [item async for item in self.stub.TraceLot(request, timeout=10)]

    async def told(self, run: str, until_type: type[Message]) -> list[Event]:
        """What the topics say of a run, up to the first event of a type and all before it."""
        return await asyncio.to_thread(self._told, run, until_type)

    def _told(self, run: str, until_type: type[Message]) -> list[Event]:
        consumer = self.app.bus.consumer(f"reader-{uuid.uuid4()}", "0")
        consumer.subscribe(TOPICS, lambda partitions: dict.fromkeys(partitions, 0), _nothing)
        found: list[Event] = []
        try:
            deadline = time.monotonic() + 60
            while not _is_whole(found, until_type):
                assert time.monotonic() < deadline, [event.type for event in found]
                mine = (r for r in consumer.take(500, 0.2) if ("pl_run", run.encode()) in r.headers)
                found += [from_record(contract(), record) for record in mine]
        finally:
            consumer.close()
        return sorted(found, key=lambda event: event.seq or 0)


def _is_whole(found: list[Event], until_type: type[Message]) -> bool:
    """Is there an event of the type, and every version of the run before it? Topics are read in any order."""
    own = {event.seq for event in found if event.source.endswith("/exposure")}
    ends = [event.seq or 0 for event in found if isinstance(event.message, until_type)]
    return bool(ends) and set(range(1, min(ends) + 1)) <= own


def _nothing(partitions: Any) -> None:
    pass


async def until(ask: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):
            await asyncio.sleep(0.02)
        return answer


async def refusal(call: Awaitable[Any]) -> tuple[str, str, str]:
    """(code, reason, field) of a call that must fail."""
    with pytest.raises(RpcError) as failed:
        await call
    error: Any = failed.value
    return (error.code().name, *reason_of(error))


@asynccontextmanager
async def running(
    kafka: str, mongo: str, state: Path, product: str, database: str = ""
) -> AsyncIterator[Trace]:
    async with running_service(make_spec(), kafka, mongo, state, database=database) as (app, channel):
        yield Trace(app, channel, product)


@pytest.fixture
async def trace(backbone: str, mongo: str, tmp_path: Path) -> AsyncIterator[Trace]:
    async with running(backbone, mongo, tmp_path, uuid.uuid4().hex) as made:
        await register(made)
        yield made


async def register(made: Trace) -> None:
    at = await made.say(clinical.SiteRegistered(site=SITE, name="Hospital A"))
    await made.stub.ListSuspects(api.ListSuspectsRequest(min_position=at), timeout=10)


def digest_by_the_site(app: App, told: list[Event]) -> bytes:
    """The site opens its sealed key and sums what it was told."""
    opened = next(e.message for e in told if isinstance(e.message, events.ExposureOpened))
    key = app.sealer.open_bytes(opened.digest_key, "exposure-digest")
    bulks = {e.id: e.message for e in told if isinstance(e.message, events.ExposureEntriesJoined)}
    terms = [
        digest.term(key, bulk.site, m.pseudonym, m.lot, m.dispense, "MEMBER")
        for bulk in bulks.values()
        for m in bulk.entries
    ]
    return bytes.fromhex(digest.added(digest.ZERO, terms))


async def test_from_facts_to_a_sealed_journal(trace: Trace) -> None:
    made = await trace.record(
        trace.material("bulk", "raw"), trace.material("pack1", "bulk"), trace.material("pack2", "bulk")
    )
    given = await trace.record(
        *(trace.dispense(f"o{n}", "pack1") for n in range(20)), trace.dispense("x", "pack2")
    )
    assert (made.accepted, given.accepted) == (3, 21)
    after = common.PositionVector(positions=[*made.positions.positions, *given.positions.positions])
    await assert_traced(trace, after)
    one = dispense_id(SITE, "x", trace.lot("pack2"))
    told_of = await trace.stub.GetDispense(
        api.GetDispenseRequest(dispense=one, min_position=after), timeout=10
    )
    assert (told_of.lot, list(told_of.sites), told_of.disposition) == (trace.lot("pack2"), [SITE], "")

    run = str(uuid.uuid4())
    begun = time.perf_counter()
    await trace.open(run, "raw")
    await trace.until_phase(run, "open")
    print(f"opened to firm: {(time.perf_counter() - begun) * 1000:.0f} ms")
    shown = await trace.stub.GetExposure(api.GetExposureRequest(run=run), timeout=5)
    assert [(at.site, at.people.dispenses.withheld) for at in shown.sites] == [(SITE, False)]
    head = shown.announced
    assert set(head.lots) == {trace.lot(name) for name in ("raw", "bulk", "pack1", "pack2")}
    assert (head.version, head.unattributed, head.sites[SITE].n) == (1, 0, 21)

    late = await trace.record(trace.dispense("late", "pack2"))
    node = await trace.stub.GetLotNode(
        api.GetLotNodeRequest(lot=trace.lot("pack2"), min_position=late.positions), timeout=5
    )
    assert (node.dispenses, list(node.runs), node.key.lot) == (2, [run], "pack2")
    await trace.say(loops.SealRequested(run=run, version=1), seq=2, case=trace.lot("raw"), run=run)
    await trace.told(run, events.ExposureExtended)
    await trace.say(loops.SealRequested(run=run, version=2), seq=3, case=trace.lot("raw"), run=run)
    told = await trace.told(run, events.ExposureSealed)
    assert {event.case for event in told if SITE not in event.topic} == {trace.lot("raw")}
    assert {event.case for event in told if SITE in event.topic} == {""}, "a site's own topic says no case"
    announced = [e.message for e in told if isinstance(e.message, events.ExposureAnnounced)]
    assert [(a.version, a.sites[SITE].n) for a in announced] == [(1, 21), (2, 22)]
    assert announced[-1].sites[SITE].digest == digest_by_the_site(trace.app, told)
    sealed = told[-1].message
    assert isinstance(sealed, events.ExposureSealed)
    assert (sealed.version, sealed.members) == (2, 22)
    await trace.until_phase(run, "sealed")

    await assert_dossier(trace, run)

    await trace.record(trace.material("pack3", "bulk"))
    after_seal = (await trace.told(run, events.ExposureAfterSeal))[-1]
    assert after_seal.message.root == trace.lot("raw")  # type: ignore[attr-defined]


async def assert_dossier(trace: Trace, run: str) -> None:
    """Fold, journal and what others tell, on one page: read what was written last."""
    said = clinical.ExposureReceived(run=run, site=SITE, epoch=2, n=22, patients=22)
    at = await trace.say(said, case=trace.lot("raw"), run=run)
    request = api.GetLotDossierRequest(lot=trace.lot("pack1"), min_position=at)
    found = (await trace.stub.GetLotDossier(request, timeout=10)).dossier
    (shown,) = found.exposed.runs
    assert (shown.run, shown.root, shown.depth, len(shown.lots)) == (run, trace.lot("raw"), 2, 4)
    assert [(at.site, at.told, at.people.patients.value) for at in shown.sites] == [(SITE, True, 22)]
    assert (shown.people.dispenses.value, found.distribution.dispensed) == (22, True)
    unknown = trace.stub.GetLotDossier(api.GetLotDossierRequest(lot=trace.lot("nobody")), timeout=5)
    assert (await refusal(unknown))[:2] == ("NOT_FOUND", "UNKNOWN_LOT")


async def assert_traced(trace: Trace, after: common.PositionVector) -> None:
    *parts, last = await trace.trace("raw", after)
    lots = [lot for part in parts for lot in part.lots]
    assert [(lot.lot, lot.depth) for lot in lots] == [
        (trace.lot("raw"), 0),
        (trace.lot("bulk"), 1),
        (trace.lot("pack1"), 2),
        (trace.lot("pack2"), 2),
    ]
    assert [lot.known for lot in lots] == [False, True, True, True]
    told = [given.dispense for part in parts for given in part.dispenses]
    given = set(told)
    assert len(told) == len(given) == 21
    assert dispense_id(SITE, "o3", trace.lot("pack1")) in given
    assert (last.end.lots, last.end.dispenses) == (4, 21)
    claimed = {Partition(p.topic, p.partition): p.offset for p in last.end.positions.positions}
    assert all(claimed[Partition(p.topic, p.partition)] >= p.offset for p in after.positions)


async def test_a_run_goes_on_where_the_killed_process_left_it(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    product, database, run = uuid.uuid4().hex, f"t{uuid.uuid4().hex[:12]}", str(uuid.uuid4())
    async with running(backbone, mongo, tmp_path, product, database) as first:
        await register(first)
        await first.record(first.material("pack", "raw"))
        await first.record(first.dispense("o1", "pack"))
        await first.open(run, "raw")  # leaves at once: watched, walked or not even folded
    async with running(backbone, mongo, tmp_path, product, database) as second:
        await second.until_phase(run, "open")
        told = await second.told(run, events.ExposureAnnounced)
        announced = [e.message for e in told if isinstance(e.message, events.ExposureAnnounced)]
        assert announced[-1].sites[SITE].n == 1
        assert announced[-1].sites[SITE].digest == digest_by_the_site(second.app, told)


async def test_the_malformed_is_refused_and_the_implausible_shown(trace: Trace) -> None:
    bad = [
        (trace.dispense("o1", "p", site="hospital-x"), "UNKNOWN_SITE", "dispenses[0].site"),
        (trace.dispense("", "p"), "REQUIRED", "dispenses[0].order"),
        (trace.dispense("o1", "p", dispense="mine"), "DISPENSE_MISMATCH", "dispenses[0].dispense"),
        (
            trace.dispense("o1", "p", quantity=common.Quantity(value=1)),
            "BAD_UNIT",
            "dispenses[0].quantity.unit",
        ),
    ]
    for record, reason, field in bad:
        refused = await refusal(trace.record(record, all_or_nothing=True))
        assert refused == ("INVALID_ARGUMENT", reason, field)
    good = trace.dispense("o1", "p", at=-5)
    receipt = await trace.record(bad[0][0], good)
    assert (receipt.accepted, [(r.index, r.reason) for r in receipt.refused]) == (1, [(0, "UNKNOWN_SITE")])
    cycle = await trace.record(trace.material("p", "q"), trace.material("q", "p"))

    request = api.ListSuspectsRequest(page_size=1000, min_position=cycle.positions)
    shown = (await trace.stub.ListSuspects(request, timeout=10)).suspects
    mine = {(s.reason, s.lot) for s in shown if trace.product in s.lot}
    assert mine == {
        ("OLDER_THAN_LOT", trace.lot("p")),
        ("CYCLE", trace.lot("p")),
        ("CYCLE", trace.lot("q")),
    }
    *parts, last = await trace.trace("p", cycle.positions)
    assert [lot.lot for part in parts for lot in part.lots] == [trace.lot("p"), trace.lot("q")]
    assert (sum(len(part.dispenses) for part in parts), last.end.lots, last.end.dispenses) == (1, 2, 1)


async def test_questions_that_cannot_be_answered_are_refused(trace: Trace) -> None:
    stub = trace.stub
    unknown = api.GetLotNodeRequest(lot=trace.lot("nobody"))
    assert (await refusal(stub.GetLotNode(unknown, timeout=5)))[:2] == ("NOT_FOUND", "UNKNOWN_LOT")
    crooked = api.GetLotNodeRequest(lot="a/b")
    assert await refusal(stub.GetLotNode(crooked, timeout=5)) == ("INVALID_ARGUMENT", "NOT_CANONICAL", "lot")
    never = api.GetDispenseRequest(dispense="nobody")
    assert (await refusal(stub.GetDispense(never, timeout=5)))[:2] == ("NOT_FOUND", "UNKNOWN_DISPENSE")
    nobody = api.GetExposureRequest(run="nobody")
    assert (await refusal(stub.GetExposure(nobody, timeout=5)))[:2] == ("NOT_FOUND", "UNKNOWN_RUN")
    elsewhere = common.PositionVector(positions=[common.LogPosition(topic="else", offset=1)])
    wrong = api.GetExposureRequest(run="nobody", min_position=elsewhere)
    assert (await refusal(stub.GetExposure(wrong, timeout=5)))[1] == "WRONG_TOPIC"
