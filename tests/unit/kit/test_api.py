"""What all servicers do alike: pages within bounds, waits for places, receipts for decisions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.kit.contracts import contract
from services.kit.errors import Invalid, Poison, Retryable
from services.kit.facts import vector
from services.kit.positions import Positions
from services.kit.rpc.api import Api
from services.kit.rpc.context import Caller, bind
from services.kit.work import Work
from tests.unit.kit.support import LOT, LOT_TOPIC, NOTE, Bench, Note, lot_event, note_lot, started

A = "m/item/G/a"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def api_of(bench: Bench, **parts: Any) -> Api:
    positions = Positions(bench.waiting, {"rnd.test": (LOT_TOPIC,)})
    app: Any = SimpleNamespace(store=bench.waiting, positions=positions, **parts)
    return Api(app)


def keep(bench: Bench, count: int) -> None:
    for n in range(count):
        bench.database.docs["note"][f"{n:04}"] = NOTE.to_doc(f"{n:04}", 1, Note("a" if n % 2 else "b"))


@pytest.mark.parametrize(("asked", "given"), [(0, 100), (1, 1), (1000, 1000)])
async def test_a_page_has_the_size_asked_for(bench: Bench, asked: int, given: int) -> None:
    keep(bench, 1200)
    page = await api_of(bench).page(rnd.ListInsightsRequest(page_size=asked), NOTE, {})
    assert len(page.items) == given
    assert page.token


@pytest.mark.parametrize("asked", [-1, 1001, 2**31 - 1])
async def test_a_page_out_of_bounds_is_refused(bench: Bench, asked: int) -> None:
    with pytest.raises(Invalid) as caught:
        await api_of(bench).page(rnd.ListInsightsRequest(page_size=asked), NOTE, {})
    assert (caught.value.reason, caught.value.field) == ("OUT_OF_RANGE", "page_size")


async def test_an_empty_filter_is_none(bench: Bench) -> None:
    keep(bench, 10)
    request = rnd.ListInsightsRequest(page_size=100)
    assert len((await api_of(bench).page(request, NOTE, {"text": ""})).items) == 10
    assert len((await api_of(bench).page(request, NOTE, {"text": "a"})).items) == 5


async def test_a_query_that_names_a_place_waits_for_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.positions._WAIT_SECONDS", 0.02)
    api, stands = api_of(bench), bench.send(lot_event(A, 1))
    await api.reach(rnd.ListInsightsRequest())
    with pytest.raises(Retryable, match="not folded yet"):
        await api.reach(rnd.ListInsightsRequest(min_position=vector(stands)))
    bench.turner({production.LotStarted: note_lot}).turn()
    await api.reach(rnd.ListInsightsRequest(min_position=vector(stands)))


async def test_a_decision_comes_with_its_receipt(bench: Bench) -> None:
    def acknowledge(work: Work, request: alerting.AcknowledgeAlertRequest) -> Message:
        work.apply(LOT, request.alert, started(request.alert))
        return alerting.AcknowledgeAlertResponse()

    bind(Caller("person:ann", "call-1", "00-aa-bb-01"))
    async with bench.deciding({"AcknowledgeAlert": acknowledge}) as decider:
        api = api_of(bench, decider=decider)
        request = alerting.AcknowledgeAlertRequest(request_id="r-1", alert=A)
        answer = await api.decide("AcknowledgeAlert", request, alerting.AcknowledgeAlertResponse)
    (event,) = bench.read(LOT_TOPIC)
    assert (event.actor, event.trace) == ("person:ann", "00-aa-bb-01")
    receipt = answer.receipt
    assert (receipt.request_id, list(receipt.event_ids), receipt.pending) == ("r-1", [event.id], False)
    (at,) = receipt.positions.positions
    assert (at.topic, at.partition, at.offset) == (event.topic, event.partition, event.offset)


def test_events_are_routed_by_the_contract() -> None:
    read = contract()
    assert read.route(started(A)) == (LOT_TOPIC, A)
    response = clinical.ResponseRecorded(plan="p", site="hospital-b", pseudonym="P-1")
    assert read.route(response, "hospital-b") == ("pharmaloop.clinical.hospital-b.record.v1", "P-1")
    with pytest.raises(Poison, match="NO_SITE"):
        read.route(response)
    with pytest.raises(Poison, match="UNKNOWN_TYPE"):
        read.route(rnd.Insight())
    names = [name for name, _ in read.names(("a", "b"))]
    assert len(names) == len(set(names))
    assert {"pharmaloop.clinical.a.plan.v1", "pharmaloop.clinical.b.plan.v1"} <= set(names)
    assert not [name for name in names if "{" in name]
