"""The lineage of a thing: one id gives every hop from the target to the next hypothesis, nothing else's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Invalid, Unknown
from services.kit.runners.reactor import projector
from services.kit.store.memory import AsyncMemoryStore
from services.traceability import lineages
from services.traceability.domain.lineage import links
from services.traceability.views import HOPS
from tests.unit.memory_service import MemoryService, Said

START = datetime(2026, 3, 1, tzinfo=UTC)
PRODUCT, OTHER = "maker/gtin/A", "maker/gtin/B"
RAW, LOT, KIT = f"{PRODUCT}/RAW", f"{PRODUCT}/L1", "maker/kit/S/K1"
TRANSFER = "transfer:set-1/plant-1"


def story() -> list[Message]:
    """One product from its target to the next hypothesis, and another product beside it."""
    return [
        rnd.TargetRegistered(target="VKORC1"),
        rnd.MoleculeRegistered(molecule="M-1", target="VKORC1"),
        rnd.ProductRegistered(product=PRODUCT, molecule="M-1", target="VKORC1"),
        rnd.TrialCompleted(trial="T-1", product=PRODUCT, molecule="M-1"),
        rnd.ParameterSetDrafted(set="set-1", product=PRODUCT, trial="T-1"),
        loops.TransferRunOpened(run="tr-1", case=TRANSFER, set="set-1"),
        production.TwinAdapted(transfer=TRANSFER),
        production.RecipeEffective(transfer=TRANSFER),
        production.LotStarted(lot=RAW, product=PRODUCT, transfer=TRANSFER),
        events.MaterialRecorded(lot=LOT, inputs=[events.MaterialInput(lot=RAW)]),
        events.MaterialRecorded(lot=KIT, inputs=[events.MaterialInput(lot=LOT)]),
        production.TransferOutcomeRecorded(transfer=TRANSFER, lot=RAW),
        production.DeviationConfirmed(deviation="D-1", lot=RAW),
        loops.SafetyRunOpened(run="run-1", lot=RAW, deviation="D-1"),
        clinical.EvidenceReleased(run="run-1", lot=RAW),
        production.CapaProposed(capa="C-1", run="run-1"),
        exchange.StudyRequested(study="S-1", product=PRODUCT),
        exchange.InsightPublished(insight="I-1", study="S-1", product=PRODUCT),
        rnd.HypothesisUpdated(hypothesis="H-1", insight="I-1", product=PRODUCT),
        rnd.CandidatesRanked(indication="thrombosis", hypothesis="H-1"),
        # Another product's.
        rnd.ProductRegistered(product=OTHER, molecule="M-2", target="F10"),
        production.LotStarted(lot=f"{OTHER}/L1", product=OTHER),
        exchange.StudyRequested(study="S-2", product=OTHER),
    ]


class Trace:
    """The lineage's projector in memory."""

    def __init__(self, messages: list[Message]) -> None:
        self._service = MemoryService("traceability", projector("lineage", lineages.HOP_ROWS), {})
        for number, message in enumerate(messages):
            at = START + timedelta(minutes=number)
            id = f"{type(message).__name__}-{number}"
            self._service.deliver(Said(message, f"/svc/test/{number}", 1, id, at, recorded=1_000 * number))

    def rows(self) -> list[dict[str, Any]]:
        return [doc["s"] for doc in self._service.database.of(HOPS).values()]

    def read(self, id: str, kind: str = "", most: int = 0) -> api.GetLineageResponse:
        return asyncio.run(lineages.read(AsyncMemoryStore(self._service.database), id, kind, most))


def types(answer: api.GetLineageResponse) -> list[str]:
    return [hop.type.rsplit(".", 1)[-1] for hop in answer.hops]


OF_PRODUCT = 20 - 1  # all of the story's, but for the kit's


@pytest.mark.parametrize("id", ["VKORC1", "M-1", PRODUCT])
def test_from_its_beginnings_everything_of_the_product_is_found(id: str) -> None:
    answer = Trace(story()).read(id)
    assert len(answer.hops) == OF_PRODUCT
    assert len(set(types(answer))) >= 9
    assert len({hop.service for hop in answer.hops}) >= 5
    assert not answer.truncated


@pytest.mark.parametrize("id", [LOT, RAW, TRANSFER, "set-1"])
def test_from_a_lot_target_trial_signal_and_hypothesis_are_found(id: str) -> None:
    found = types(Trace(story()).read(id))
    assert {"TargetRegistered", "TrialCompleted", "HypothesisUpdated", "CandidatesRanked"} <= set(found)
    if id != LOT:  # nothing was found out about what the packed lot went into
        assert "EvidenceReleased" in found


def test_another_products_events_are_not_in_it() -> None:
    answer = Trace(story()).read("M-2")
    assert types(answer) == ["ProductRegistered", "LotStarted", "StudyRequested"]


def test_a_hypothesis_leads_up_to_its_study_and_molecule() -> None:
    found = set(types(Trace(story()).read("H-1")))
    assert {"MoleculeRegistered", "StudyRequested", "InsightPublished", "CandidatesRanked"} <= found
    assert "LotStarted" not in found


def test_kits_are_not_in_any_lineage() -> None:
    trace = Trace(story())
    named = {thing.id for hop in trace.read(PRODUCT).hops for thing in (*hop.comes_from, *hop.leads_to)}
    assert KIT not in named
    with pytest.raises(Unknown):
        trace.read(KIT)


def test_order_and_repeats_change_nothing() -> None:
    whole = Trace(story()).read(PRODUCT)
    shuffled = list(enumerate(story()))
    Random(3).shuffle(shuffled)
    service = MemoryService("traceability", projector("lineage", lineages.HOP_ROWS), {})
    for number, message in [*shuffled, *shuffled[:7]]:
        id, at = f"{type(message).__name__}-{number}", START + timedelta(minutes=number)
        service.deliver(Said(message, f"/svc/test/{number}", 1, id, at, recorded=1_000 * number))
    again = asyncio.run(lineages.read(AsyncMemoryStore(service.database), PRODUCT, "", 0))
    assert again == whole


def test_more_than_was_asked_for_is_said() -> None:
    answer = Trace(story()).read(PRODUCT, most=5)
    assert (len(answer.hops), answer.truncated) == (5, True)


@pytest.mark.parametrize("id", [PRODUCT, LOT])
def test_of_a_product_of_many_lots_the_thread_to_the_hypothesis_is_found_first(id: str) -> None:
    lots = [production.LotStarted(lot=f"{PRODUCT}/M{number}", product=PRODUCT) for number in range(300)]
    answer = Trace([*lots, *story()]).read(id, most=100)
    assert {"TargetRegistered", "StudyRequested", "HypothesisUpdated"} <= set(types(answer))
    assert answer.truncated == (id == PRODUCT)


def test_a_walk_reads_no_more_than_it_may_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    lots = [production.LotStarted(lot=f"{PRODUCT}/M{number}", product=PRODUCT) for number in range(300)]
    read: list[int] = []
    among = AsyncMemoryStore.among

    async def counted(self: AsyncMemoryStore, *args: Any, **named: Any) -> list[Any]:
        found = await among(self, *args, **named)
        read.append(len(found))
        return found

    trace = Trace([*lots, *story()])
    monkeypatch.setattr(lineages, "_MOST", 50)
    monkeypatch.setattr(AsyncMemoryStore, "among", counted)
    assert trace.read(PRODUCT, most=20).truncated
    assert max(read) <= 50


@pytest.mark.parametrize(
    ("given", "error", "field"),
    [
        ({"id": ""}, Invalid, "id"),
        ({"id": "nobody"}, Unknown, "id"),
        ({"id": "M-1", "kind": "lot"}, Unknown, "id"),
        ({"id": "M-1", "kind": "planet"}, Invalid, "kind"),
        ({"id": "M-1", "most": 9999}, Invalid, "most"),
    ],
)
def test_what_cannot_be_answered_says_why(given: dict[str, Any], error: type[Invalid], field: str) -> None:
    with pytest.raises(error) as refusal:
        Trace(story()).read(**given)
    assert refusal.value.field == field


def test_a_hop_tells_when_it_happened_and_when_it_was_recorded() -> None:
    trace = Trace(story())
    hop = trace.read("VKORC1").hops[1]
    assert hop.at.ToDatetime(UTC) == START + timedelta(minutes=1)
    assert hop.recorded_at.seconds == 1
    for kept in trace.rows():  # as a view has them that was made before this was kept
        del kept["recorded"]
    assert not trace.read("VKORC1").hops[1].HasField("recorded_at")


def test_a_started_lot_tells_when_its_plant_says_that_it_was_and_when_the_platform_heard_of_it() -> None:
    by_plant = datetime(2024, 3, 26, 6, 59, tzinfo=UTC)
    started = production.LotStarted(lot=LOT, product=PRODUCT)
    started.at.FromDatetime(by_plant)
    trace = Trace([started, production.LotReleased(lot=LOT)])
    told, released = trace.read(LOT).hops
    assert told.plant_at.ToDatetime(UTC) == by_plant
    assert told.at.ToDatetime(UTC) == START
    assert not released.HasField("plant_at")
    assert links.plant_time(production.LotStarted(lot=LOT)) == ""


def test_a_hop_of_plans_or_of_evidence_keeps_its_hospital_and_no_other_hop_does() -> None:
    for message in (clinical.PlansOpened(site="hospital-a"), clinical.EvidenceReleased(site="hospital-a")):
        assert links.site_of(message) == "hospital-a"
    for other in (production.HazardEvaluated(run="r-1"), events.ExposureSealed(run="r-1")):
        assert links.site_of(other) == ""
