"""Facts: only the malformed is refused, record by record, and what is sent twice is one fact."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.bus.memory import MemoryProducer
from services.kit.bus.protocol import Outgoing, Position, Producer
from services.kit.contracts import contract
from services.kit.errors import Invalid, Retryable
from services.kit.facts import Fact, FactLog
from services.kit.ids import dispense_id
from tests.unit.kit.support import NOON, Bench, headers

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
