"""Facts: only the malformed is refused, record by record, and what is sent twice is one fact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.bus.memory import MemoryProducer
from services.kit.bus.protocol import Outgoing, Position, Producer
from services.kit.contracts import contract
from services.kit.envelope import Event, FactStamp, to_record
from services.kit.errors import Invalid, Retryable
from services.kit.facts import Fact, FactLog
from services.kit.ids import dispense_id
from services.kit.rpc.context import Caller, bind
from services.kit.work import Work
from tests.unit.kit.support import NOON, NOTE, Bench, Note, headers

TOPIC = "pharmaloop.traceability.dispense.v1"


def to_fact(index: int, record: traceability.DispenseRecorded) -> Fact:
    if not record.lot:
        raise Invalid("REQUIRED", "name the lot", "lot")
    if record.quantity.value < 0:
        raise Invalid("NEGATIVE", "a record that is wrong as a whole", "")
    id = dispense_id(record.site, record.order, record.lot)
    stored = traceability.DispenseRecorded()
    stored.CopyFrom(record)
    stored.dispense = id
    return Fact(stored, id, NOON, id)


def dispense(order: str, lot: str = "m/gtin/1/7", value: float = 1) -> traceability.DispenseRecorded:
    quantity = common.Quantity(value=value, unit="{tablet}")
    return traceability.DispenseRecorded(order=order, site="hospital-a", lot=lot, quantity=quantity)


@pytest.fixture
def bench() -> Bench:
    return Bench("traceability")


def log_of(bench: Bench, producer: Producer | None = None) -> FactLog:
    return FactLog(
        "traceability", producer or bench.bus.producer(), contract(), bench.clock, site="hospital-a"
    )


async def record(
    facts: FactLog, records: Sequence[traceability.DispenseRecorded], whole: bool = False
) -> common.FactReceipt:
    return await facts.record(records, to_fact, all_or_nothing=whole, actor="pharmacy", field="dispenses")


async def test_facts_stand_where_the_receipt_says(bench: Bench) -> None:
    receipt = await record(log_of(bench), [dispense("o-1"), dispense("o-2", "m/gtin/1/8")])
    assert (receipt.accepted, len(receipt.refused)) == (2, 0)
    events = bench.read(TOPIC)
    assert {(e.topic, e.partition, e.offset) for e in events} >= {
        (p.topic, p.partition, p.offset) for p in receipt.positions.positions
    }
    assert {(e.key, e.seq, e.actor, e.source) for e in events} == {
        (lot, None, "pharmacy", "/svc/traceability/fact") for lot in ("m/gtin/1/7", "m/gtin/1/8")
    }
    for one in bench.bus.all(TOPIC):
        told = headers(one)
        assert all(told[f"ce_{name}"] for name in ("id", "type", "source", "time", "subject", "specversion"))
        assert told["traceparent"]


async def test_the_malformed_are_refused_one_by_one_with_their_place(bench: Bench) -> None:
    bad = [dispense("o-1"), dispense("o-2", lot=""), dispense("o-3"), dispense("o-4", value=-1)]
    receipt = await record(log_of(bench), bad)
    assert receipt.accepted == 2
    refused = [(r.index, r.reason, r.field, r.description) for r in receipt.refused]
    assert refused == [
        (1, "REQUIRED", "dispenses[1].lot", "name the lot"),
        (3, "NEGATIVE", "dispenses[3]", "a record that is wrong as a whole"),
    ]
    assert len(bench.bus.all(TOPIC)) == 2


async def test_all_or_nothing_records_nothing(bench: Bench) -> None:
    with pytest.raises(Invalid) as caught:
        await record(log_of(bench), [dispense("o-1"), dispense("o-2", lot="")], whole=True)
    assert (caught.value.reason, caught.value.field) == ("REQUIRED", "dispenses[1].lot")
    assert bench.bus.all(TOPIC) == []


async def test_a_fact_has_the_same_id_whenever_and_by_whomever_it_is_sent(bench: Bench) -> None:
    facts = log_of(bench)
    await record(facts, [dispense("o-1")])
    await facts.record([dispense("o-1")], to_fact, all_or_nothing=False, actor="hospital", field="x")
    first, second = bench.read(TOPIC)
    assert first.id == second.id == dispense_id("hospital-a", "o-1", "m/gtin/1/7")


async def test_nothing_recorded_is_an_empty_receipt(bench: Bench) -> None:
    assert await record(log_of(bench), []) == common.FactReceipt(positions=common.PositionVector())
    receipt = await record(log_of(bench), [dispense("o", lot="")])
    assert (receipt.accepted, len(receipt.refused), len(receipt.positions.positions)) == (0, 1, 0)


async def test_a_fact_that_no_topic_takes_is_refused_with_its_place_and_the_others_are_taken(
    bench: Bench,
) -> None:
    large = dispense("o-2")
    large.source = "x" * 9_000_000
    receipt = await record(log_of(bench), [dispense("o-1"), large, dispense("o-3")])
    assert receipt.accepted == 2
    (refused,) = receipt.refused
    assert (refused.index, refused.reason, refused.field) == (1, "TOO_LARGE", "dispenses[1]")
    assert "DispenseRecorded" in refused.description
    with pytest.raises(Invalid) as caught:
        await record(log_of(bench), [dispense("o-4"), large], whole=True)
    assert (caught.value.reason, caught.value.field) == ("TOO_LARGE", "dispenses[1]")
    assert len(bench.bus.all(TOPIC)) == 2


async def test_the_facts_of_a_call_carry_its_trace(bench: Bench) -> None:
    facts, trace = log_of(bench), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def call() -> None:
        bind(Caller("pharmacy", "call-1", trace))
        await record(facts, [dispense("o-1"), dispense("o-2")])

    await asyncio.create_task(call())
    await asyncio.create_task(record(facts, [dispense("o-3"), dispense("o-4")]))
    first, second, third, fourth = (
        event.trace
        for event in sorted(bench.read(TOPIC), key=lambda event: event.message.order)  # type: ignore[attr-defined]
    )
    assert first == second == trace
    assert third == fourth != trace


@pytest.mark.parametrize("actor", ["pharmacy", ""])
@pytest.mark.parametrize("time", [NOON, NOON.replace(tzinfo=None)])
def test_the_headers_of_facts_are_those_of_every_event(actor: str, time: datetime) -> None:
    message, trace = dispense("o-1"), "00-aa-bb-01"
    event = Event("id-1", "/svc/x/fact", "subject", time, message, "k", actor=actor, trace=trace)
    stamp = FactStamp("/svc/x/fact", actor, trace)
    made = [stamp.record(message, TOPIC, "k", "id-1", time, "subject") for _ in range(2)]
    assert made == [to_record(event, TOPIC)] * 2


class Late(MemoryProducer):
    """A log that takes everything, and answers the first call too late."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.bus)
        self.calls = 0

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        future = super().publish(records)
        self.calls += 1
        return Future() if self.calls == 1 else future


async def test_a_call_that_is_repeated_because_no_answer_came_has_one_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.facts._PUBLISH_SECONDS", 0.02)
    facts, sent = log_of(bench, Late(bench)), [dispense("o-1"), dispense("o-2", "m/gtin/1/8")]
    with pytest.raises(Retryable):
        await record(facts, sent)
    receipt = await record(facts, sent)
    events = bench.read(TOPIC)
    assert len(events) == 4
    assert len({event.id for event in events}) == 2
    stands = {(e.partition, e.offset): e.id for e in events}
    told = {(p.partition, p.offset) for p in receipt.positions.positions}
    newest: dict[str, tuple[int, int]] = {id: at for at, id in sorted(stands.items())}
    assert told <= set(newest.values()), "places of the call that nobody answered"

    def dispensed(work: Work, event: Event) -> None:
        before = work.get(NOTE, event.id)
        work.put(NOTE, event.id, Note((before.text if before else "") + "+"))

    reader = bench.turner({traceability.DispenseRecorded: dispensed}, emits=False)
    while reader.turn():
        pass
    assert set(bench.states(NOTE)) == {event.id for event in events}, "rows go by the fact's id"


class Silent(MemoryProducer):
    """A log that never answers."""

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        return Future()


async def test_a_log_that_does_not_answer_in_time_may_be_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.facts._PUBLISH_SECONDS", 0.02)
    with pytest.raises(Retryable, match="same call"):
        await record(log_of(bench, Silent(bench.bus)), [dispense("o-1")])
