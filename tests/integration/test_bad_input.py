"""What bad input gets, over all services: refused with reason and field, dead-lettered, pending or suspect.

After the whole table the services are up, and nothing of what was refused is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.production.v1 import events_pb2 as production_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import events_pb2 as traceability_events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.clinical.domain.holdings import Holding
from services.clinical.main import SPEC as CLINICAL
from services.clinical.views import HOLDINGS
from services.kit.app import App
from services.kit.bus.protocol import Outgoing, Partition
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import lot_key, product_of
from services.kit.rpc.errors import reason_of
from services.kit.testing.service import running_service
from services.production.main import SPEC as PRODUCTION
from services.traceability.main import SPEC as TRACEABILITY

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE = "hospital-a"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def fresh_lot() -> str:
    return lot_key("maker", "item", "granulate", uuid.uuid4().hex)


def rid() -> str:
    return str(uuid.uuid4())


def moment(at: datetime = NOW) -> common.Moment:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return common.Moment(at=stamp, offset_minutes=480)


def readings(**changes: Any) -> production_events.ReadingsRecorded:
    """A good batch of two samples of one tag, with changes."""
    tag = production_events.TagReadings(
        tag=changes.pop("tag", "temperature"),
        unit=changes.pop("unit", "Cel"),
        values=changes.pop("values", [20.0, 21.0]),
    )
    fields: dict[str, Any] = {
        "equipment": "plant/dryer",
        "lot": fresh_lot(),
        "start": moment(),
        "offsets_ms": [0, 1000],
        "tags": [tag],
        **changes,
    }
    return production_events.ReadingsRecorded(**fields)


def dispense(**changes: Any) -> traceability_events.DispenseRecorded:
    fields: dict[str, Any] = {
        "lot": fresh_lot(),
        "site": SITE,
        "pseudonym": "P1",
        "order": rid(),
        "at": moment(),
        "source": "pharmacy",
        **changes,
    }
    return traceability_events.DispenseRecorded(**fields)


@dataclass
class Services:
    """The three services that take input from outside."""

    apps: dict[str, App]
    production: production_grpc.ProductionServiceAsyncStub
    traceability: traceability_grpc.TraceabilityServiceAsyncStub
    clinical: clinical_grpc.ClinicalServiceAsyncStub


@pytest.fixture
async def services(backbone: str, mongo: str, tmp_path: Path) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        started = {
            spec.name: await stack.enter_async_context(running_service(spec, backbone, mongo, tmp_path))
            for spec in (
                PRODUCTION,
                TRACEABILITY,
                CLINICAL,
            )
        }
        running = Services(
            {name: app for name, (app, _) in started.items()},
            production_grpc.ProductionServiceStub(started["production"][1]),
            traceability_grpc.TraceabilityServiceStub(started["traceability"][1]),
            clinical_grpc.ClinicalServiceStub(started["clinical"][1]),
        )
        tags = [production_events.Tag(name="temperature", unit="Cel")]
        await running.production.RegisterEquipment(
            production.RegisterEquipmentRequest(
                request_id=rid(), equipment="plant/dryer", plant="plant", tags=tags
            ),
            timeout=10,
        )
        async with asyncio.timeout(60):
            while not await _knows_site(running):
                await asyncio.sleep(0.05)
        yield running


async def _knows_site(services: Services) -> bool:
    answer = await services.traceability.RecordDispense(
        traceability.RecordDispenseRequest(request_id=rid(), dispenses=[dispense()]), timeout=10
    )
    return bool(answer.receipt.accepted)


def record_readings(batch: production_events.ReadingsRecorded) -> production.RecordReadingsRequest:
    return production.RecordReadingsRequest(request_id=rid(), batches=[batch], all_or_nothing=True)


def record_dispense(
    fact: traceability_events.DispenseRecorded,
) -> traceability.RecordDispenseRequest:
    return traceability.RecordDispenseRequest(request_id=rid(), dispenses=[fact], all_or_nothing=True)


@dataclass(frozen=True)
class Refused:
    """A call that is refused: with which status, reason and field."""

    service: str
    method: str
    request: Callable[[], Message]
    code: grpc.StatusCode
    reason: str
    field: str
    timeout: float | None = 10.0


TABLE = {
    "a reading with NaN": Refused(
        "production", "RecordReadings", lambda: record_readings(readings(values=[1.0, math.nan])),
        INVALID, "NOT_FINITE", "batches[0].tags[0].values[1]",
    ),
    "a unit that does not fit": Refused(
        "production", "RecordReadings", lambda: record_readings(readings(unit="kg")),
        INVALID, "WRONG_UNIT", "batches[0].tags[0].unit",
    ),
    "times that run backwards": Refused(
        "production", "RecordReadings", lambda: record_readings(readings(offsets_ms=[1000, 0])),
        INVALID, "NOT_INCREASING", "batches[0].offsets_ms[1]",
    ),
    "unknown equipment": Refused(
        "production", "RecordReadings", lambda: record_readings(readings(equipment="plant/other")),
        INVALID, "UNKNOWN_EQUIPMENT", "batches[0].equipment",
    ),
    "a lot that is not canonical": Refused(
        "production", "RecordReadings", lambda: record_readings(readings(lot="LOT-1")),
        INVALID, "NOT_CANONICAL", "batches[0].lot",
    ),
    "an unknown site": Refused(
        "traceability", "RecordDispense", lambda: record_dispense(dispense(site="hospital-z")),
        INVALID, "UNKNOWN_SITE", "dispenses[0].site",
    ),
    "a dispense without a time": Refused(
        "traceability", "RecordDispense", lambda: record_dispense(dispense(at=None)),
        INVALID, "REQUIRED", "dispenses[0].at",
    ),
    "another site's patients": Refused(
        "clinical", "RecordMedications",
        lambda: clinical.RecordMedicationsRequest(
            request_id=rid(),
            site="hospital-z",
            medications=[clinical_events.MedicationRecorded(lot=fresh_lot())],
        ),
        grpc.StatusCode.NOT_FOUND, "UNKNOWN_SITE", "site",
    ),
    "an unknown lot": Refused(
        "production", "GetLot", lambda: production.GetLotRequest(lot=fresh_lot()),
        grpc.StatusCode.NOT_FOUND, "UNKNOWN_LOT", "lot",
    ),
    "a call without a deadline": Refused(
        "production", "GetLot", lambda: production.GetLotRequest(lot=fresh_lot()),
        INVALID, "DEADLINE_REQUIRED", "deadline", None,
    ),
    "a command without a request id": Refused(
        "production", "HoldLot", lambda: production.HoldLotRequest(lot=fresh_lot(), reason="x"),
        INVALID, "REQUIRED", "request_id",
    ),
    "a request over the size limit": Refused(
        "production", "HoldLot",
        lambda: production.HoldLotRequest(request_id=rid(), lot=fresh_lot(), reason="x" * 5_000_000),
        INVALID, "REQUEST_TOO_LARGE", "",
    ),
    "a page size out of range": Refused(
        "production", "ListDeviations", lambda: production.ListDeviationsRequest(page_size=-1),
        INVALID, "OUT_OF_RANGE", "page_size",
    ),
    "a page token that nobody gave": Refused(
        "production", "ListDeviations", lambda: production.ListDeviationsRequest(page_token="nonsense"),
        INVALID, "BAD_PAGE_TOKEN", "page_token",
    ),
}  # fmt: skip


async def test_bad_input_is_refused_with_reason_and_field(services: Services) -> None:
    for name, case in TABLE.items():
        call = getattr(getattr(services, case.service), case.method)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(case.request(), timeout=case.timeout)
        told = (refused.value.code(), *reason_of(refused.value))
        assert told == (case.code, case.reason, case.field), name
        assert "Traceback" not in str(refused.value.details()), name
    assert all(app.ready for app in services.apps.values())


async def test_an_illegal_transition_is_refused_and_changes_nothing(services: Services) -> None:
    lot = fresh_lot()
    start = production.StartLotRequest(
        request_id=rid(), lot=lot, product=product_of(lot), equipment="plant/dryer"
    )
    await services.production.StartLot(start, timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await services.production.ReleaseLot(
            production.ReleaseLotRequest(request_id=rid(), lot=lot), timeout=10
        )
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    reason, _ = reason_of(refused.value)
    assert reason == "ILLEGAL_TRANSITION"
    answer = await services.production.GetLot(production.GetLotRequest(lot=lot), timeout=10)
    assert answer.lot.state == production.LOT_STATE_STARTED


async def test_a_mixed_batch_records_the_good_and_names_the_bad(services: Services) -> None:
    batches = [readings(), readings(values=[1.0, math.inf]), readings()]
    request = production.RecordReadingsRequest(request_id=rid(), batches=batches)
    receipt = (await services.production.RecordReadings(request, timeout=10)).receipt
    assert receipt.accepted == 2
    assert [(bad.index, bad.reason) for bad in receipt.refused] == [(1, "NOT_FINITE")]


async def test_garbage_on_a_topic_is_dead_lettered_with_its_bytes_and_the_reason(services: Services) -> None:
    # Not on a topic of the trace: there it would hold the seals of every test that shares the backbone.
    app, topic, mark = services.apps["production"], "pharmaloop.production.readings.v1", uuid.uuid4().bytes
    unknown = (("ce_id", rid().encode()), ("ce_source", b"/x"), ("ce_time", NOW.isoformat().encode()))
    records = [
        Outgoing(
            topic,
            b"k1",
            b"\xff\xff" + mark,
            (*unknown, ("ce_type", b"pharmaloop.production.v1.ReadingsRecorded")),
        ),
        Outgoing(topic, b"k2", mark, (*unknown, ("ce_type", b"pharmaloop.nobody.v1.Knows"))),
    ]
    await asyncio.wrap_future(app.producer.publish(records))
    found: dict[bytes, str] = {}
    consumer = app.bus.consumer(f"look-{rid()}", "0")
    consumer.subscribe([f"{topic}.dlq"], _from_the_start, _ignore)
    async with asyncio.timeout(60):
        while len(found) < 2:
            for record in await asyncio.to_thread(consumer.take, 100, 0.2):
                if record.value and mark in record.value:
                    found[record.value] = dict(record.headers)["dlq_reason"].decode()
    consumer.close()
    assert found == {records[0].value: "UNDECODABLE", mark: "UNKNOWN_TYPE"}
    assert app.ready


def _from_the_start(partitions: Any) -> dict[Partition, int]:
    return dict.fromkeys(partitions, 0)


def _ignore(partitions: Any) -> None:
    pass


async def test_a_fact_about_an_unknown_lot_is_pending_and_taken_up(services: Services) -> None:
    fact = dispense()
    await services.traceability.RecordDispense(record_dispense(fact), timeout=10)
    node = await _node(services, fact.lot, lambda node: node.dispenses == 1)
    assert not node.known
    made = traceability_events.MaterialRecorded(
        lot=fact.lot, at=moment(NOW - timedelta(days=9)), record=rid(), source="mes"
    )
    made.inputs.add(lot=fresh_lot())
    request = traceability.RecordMaterialRequest(request_id=rid(), materials=[made], all_or_nothing=True)
    await services.traceability.RecordMaterial(request, timeout=10)
    assert (await _node(services, fact.lot, lambda node: node.known)).dispenses == 1


async def test_the_implausible_is_stored_and_shown_as_suspect(services: Services) -> None:
    first, second, third = fresh_lot(), fresh_lot(), fresh_lot()
    edges = []
    for lot, source in ((first, second), (second, third), (third, first)):
        edge = traceability_events.MaterialRecorded(lot=lot, at=moment(), record=rid(), source="mes")
        edge.inputs.add(lot=source)
        edges.append(edge)
    old = dispense(lot=first, at=moment(NOW - timedelta(days=400)))
    materials = traceability.RecordMaterialRequest(request_id=rid(), materials=edges, all_or_nothing=True)
    await services.traceability.RecordMaterial(materials, timeout=10)
    await services.traceability.RecordDispense(record_dispense(old), timeout=10)
    wanted = {(first, "OLDER_THAN_LOT")}
    async with asyncio.timeout(60):
        while True:
            request = traceability.ListSuspectsRequest(page_size=1000)
            answer = await services.traceability.ListSuspects(request, timeout=10)
            shown = {(suspect.lot, suspect.reason) for suspect in answer.suspects}
            cycle = {lot for lot, reason in shown if reason == "CYCLE"} & {first, second, third}
            if wanted <= shown and cycle == {first, second, third}:
                break
            await asyncio.sleep(0.05)
    stream = services.traceability.TraceLot(traceability.TraceLotRequest(lot=first), timeout=10)
    walked = [lot.lot async for part in stream for lot in part.lots]
    assert sorted(walked) == sorted([first, second, third]), "the way down ends, each lot once"


# -- patients -------------------------------------------------------------------------


async def test_a_dispense_to_somebody_unknown_waits_and_a_closed_plan_takes_no_answer(
    services: Services,
) -> None:
    """The pharmacy names a pseudonym that the hospital does not know, until it does; then that
    patient withdraws, and answers all the same."""
    stranger, run = f"P-{uuid.uuid4().hex}", rid()
    given = dispense(pseudonym=stranger)
    await services.traceability.RecordDispense(record_dispense(given), timeout=10)
    await _open_run(services, run, given.lot)
    pending = await _holding(services, run, lambda held: held.at("pending").patients == 1)
    assert (pending.plans, pending.only_in_trace) == (0, 1), "nobody is followed up, and it is a difference"

    await _consent(services, stranger, True, NOW)
    await _holding(services, run, lambda held: held.plans == 1)
    plans = clinical.ListPlansRequest(site=SITE, run=run)
    (view,) = (await services.clinical.ListPlans(plans, timeout=10)).plans
    assert view.plan.pseudonym == stranger
    await _consent(services, stranger, False, NOW + timedelta(hours=1))
    await _holding(services, run, lambda held: held.plans == 0)
    answer = clinical.RecordResponseRequest(
        request_id=rid(), site=SITE, plan=view.plan.plan, pseudonym=stranger, affected=True, at=moment()
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await services.clinical.RecordResponse(answer, timeout=10)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused.value) == ("PLAN_CLOSED", "plan")
    assert "adverse event" in str(refused.value.details()), "what to do instead"


async def _open_run(services: Services, run: str, lot: str) -> None:
    """A run of the safety loop opens, as loops says it."""
    opened = loops_events.SafetyRunOpened(run=run, case=lot, lot=lot, deviation=rid())
    topic, key = contract().route(opened)
    event = Event(rid(), "/svc/loops/test", run, datetime.now(UTC), opened, key=key, seq=1, case=lot, run=run)
    producer = services.apps["traceability"].producer
    await asyncio.wrap_future(producer.publish([to_record(event, topic)]))


async def _consent(services: Services, pseudonym: str, consent: bool, at: datetime) -> None:
    subject = clinical.Subject(pseudonym=pseudonym, consent=consent, at=moment(at))
    request = clinical.RecordSubjectsRequest(
        request_id=rid(), site=SITE, subjects=[subject], all_or_nothing=True
    )
    await services.clinical.RecordSubjects(request, timeout=10)


async def _holding(services: Services, run: str, test: Callable[[Holding], bool]) -> Holding:
    """What the site holds of the run, once it is as wanted."""
    async with asyncio.timeout(60):
        while True:
            found = await services.apps["clinical"].store.get(HOLDINGS, f"{run}|{SITE}")
            if found is not None and test(found.state):
                return found.state
            await asyncio.sleep(0.05)


async def _node(
    services: Services, lot: str, test: Callable[[traceability.GetLotNodeResponse], bool]
) -> traceability.GetLotNodeResponse:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):  # not known yet
                node = await services.traceability.GetLotNode(
                    traceability.GetLotNodeRequest(lot=lot), timeout=10
                )
                if test(node):
                    return node
            await asyncio.sleep(0.05)
