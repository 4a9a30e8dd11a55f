"""One search box: a thing is found by the beginning of what people call it, or by any whole name of it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Invalid
from services.kit.ids import lot_key
from services.kit.runners.reactor import projector
from services.kit.store.memory import AsyncMemoryStore
from services.traceability.api import TraceabilityApi
from services.traceability.domain.dispense import Dispense
from services.traceability.finder import THING_ROWS
from services.traceability.views import DISPENSES, THINGS
from tests.unit.memory_service import MemoryService, Said

GTIN = "06901234567892"
FIRST = lot_key("maker", "gtin", GTIN, "AB-001")
SECOND = lot_key("maker", "gtin", GTIN, "ab-0010")
OTHER = lot_key("other", "gtin", "06900000000007", "AB-001")
RAW = lot_key("maker", "item", "API 1", "Größe/7")
RUN, DEVIATION = "3af617c5-63d2-5f57-9a39-29524a7f9ab4", "9b0e8f6e-0000-5f57-9a39-29524a7f9ab4"
CAPA = "c0ffee00-2222-5f57-9a39-29524a7f9ab4"
#: A lot whose string is as long as a GTIN-8.
NUMBER = lot_key("maker", "item", "tablets", "00012345")
DISPENSE = "5d1b6f86-1111-5f57-9a39-29524a7f9ab4"


def _said(*messages: Message) -> list[Said]:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    return [Said(m, f"source-{n}", 1, f"event-{n}", at) for n, m in enumerate(messages)]


@pytest.fixture
def service() -> MemoryService:
    made = MemoryService("traceability", projector("things", THING_ROWS), {})
    made.deliver(
        *_said(
            production.LotStarted(lot=FIRST, product="maker/gtin/" + GTIN),
            traceability.MaterialRecorded(lot=FIRST),
            traceability.MaterialRecorded(lot=SECOND),
            traceability.MaterialRecorded(lot=OTHER),
            production.LotStarted(lot=RAW),
            production.DeviationDetected(deviation=DEVIATION, lot=FIRST, tag="DryerTemp"),
            loops.SafetyRunOpened(run=RUN, case=FIRST, lot=FIRST, deviation=DEVIATION),
            loops.EvidenceRunOpened(run="run-e", case="study:s", study="bleeding"),
            loops.TransferRunOpened(run="run-t", case="c", set="s-1", version=2, plant="plant-b"),
            traceability.MaterialRecorded(lot=NUMBER),
            production.CapaProposed(capa=CAPA, run=RUN, lot=FIRST, tag="DryerTemp"),
            production.TwinAdapted(transfer="transfer:s-1/plant-b", set="s-1", version=2, plant="plant-b"),
            production.TransferRefused(transfer="transfer:s-1/plant-b", set="s-1", version=2),
            exchange.StudyRequested(study="study-bleeding", question="Does it bleed more?"),
        )
    )
    doc = DISPENSES.to_doc(DISPENSE, 1, Dispense(DISPENSE, (FIRST,)))
    made.database.docs[DISPENSES.name][DISPENSE] = doc
    return made


async def _find(service: MemoryService, text: str, most: int = 0) -> list[api.FoundThing]:
    found = TraceabilityApi(cast(Any, SimpleNamespace(store=AsyncMemoryStore(service.database))))
    return list((await found.FindThings(api.FindThingsRequest(text=text, most=most), None)).things)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("AB-001", [FIRST, OTHER, SECOND]),
        ("ab-00", [FIRST, OTHER, SECOND]),
        (" ab-0010 ", [SECOND]),
        (FIRST, [FIRST]),
        (FIRST.upper(), [FIRST]),
        ("größe", [RAW]),
        ("GRÖSSE/7", [RAW]),
        (RUN, [RUN]),
        (RUN[:8], [RUN]),
        (RUN[:20], [RUN]),
        (RUN[:20] + "x", []),
        (DEVIATION.upper(), [DEVIATION]),
        (DISPENSE, [DISPENSE]),
        (CAPA[:8], [CAPA]),
        ("s-1/plant-b", ["transfer:s-1/plant-b"]),
        ("TRANSFER:s-1/plant-b", ["transfer:s-1/plant-b"]),
        ("study-bl", ["study-bleeding"]),
        ("00012345", [NUMBER]),
        ("0001234", [NUMBER]),
        ("12345", []),
        ("nothing", []),
        ("<script>", []),
        (".*", []),
    ],
)
async def test_a_thing_is_found_by_its_beginning_or_by_a_whole_name(
    service: MemoryService, text: str, ids: list[str]
) -> None:
    assert [thing.id for thing in await _find(service, text)] == ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (f"(01){GTIN}(10)AB-001(21)S1", [FIRST]),
        (f"(01){GTIN}(21)S1(17)270101(10)ab-001", [FIRST]),
        (f"https://id.gs1.org/01/{GTIN}/10/AB-001/21/S1?17=270101", [FIRST]),
        (f"https://maker.example/x/01/{GTIN}/21/S1", [FIRST, SECOND]),
        (GTIN, [FIRST, SECOND]),
        (GTIN[1:], [FIRST, SECOND]),
        (f"(01){GTIN}(10)AB-00", []),
        ("urn:epc:id:sgtin:6901234.056789.S1", [FIRST, SECOND]),
        ("urn:epc:id:sgtin:6901234.05678.S1", []),
        ("81234567890123456789", []),
    ],
    ids=[
        "elements",
        "another order",
        "link",
        "link without lot",
        "gtin-14",
        "gtin-13",
        "lot in part",
        "urn",
        "urn of too few digits",
        "code",
    ],
)
async def test_of_a_pack_its_product_and_lot_are_found(
    service: MemoryService, text: str, ids: list[str]
) -> None:
    assert [thing.id for thing in await _find(service, text)] == ids


async def test_a_label_says_what_it_is_for_people(service: MemoryService) -> None:
    found = {
        thing.id: thing
        for text in ("ab-001", RUN, DEVIATION, "run-", DISPENSE)
        for thing in await _find(service, text)
    }
    assert found[FIRST].label == f"AB-001 (maker / gtin / {GTIN})"
    assert found[RUN].label == f"{RUN} (safety, AB-001)"
    assert found["run-e"].label == "run-e (evidence, bleeding)"
    assert found["run-t"].label == "run-t (transfer, s-1 2, plant-b)"
    assert found[DEVIATION].label == f"{DEVIATION} (DryerTemp, AB-001)"
    assert (found[DISPENSE].kind, found[DISPENSE].label) == ("dispense", f"{DISPENSE} (AB-001)")


async def test_a_lot_called_like_a_product_stands_before_the_products_lots(service: MemoryService) -> None:
    named = lot_key("other", "item", "tablets", GTIN)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    service.deliver(Said(traceability.MaterialRecorded(lot=named), named, None, named, at))
    assert [thing.id for thing in await _find(service, GTIN)] == [named, FIRST, SECOND]


async def test_what_a_thing_is_about_is_told(service: MemoryService) -> None:
    asked = [await _find(service, text) for text in (DEVIATION, CAPA, DISPENSE)]
    found = {thing.kind: thing for things in asked for thing in things}
    assert {thing.lot for thing in found.values()} == {FIRST}
    assert found["capa"].label == f"{CAPA} (DryerTemp, AB-001)"


async def test_exact_matches_say_so_and_come_first(service: MemoryService) -> None:
    assert [thing.exact for thing in await _find(service, "AB-001")] == [True, True, False]


async def test_no_more_are_answered_than_twenty(service: MemoryService) -> None:
    lots = [lot_key("maker", "gtin", GTIN, f"many-{n:03}") for n in range(30)]
    at = datetime(2026, 3, 1, tzinfo=UTC)
    many = [Said(traceability.MaterialRecorded(lot=lot), lot, None, lot, at) for lot in lots]
    service.deliver(*many)
    assert [thing.id for thing in await _find(service, "many")] == lots[:20]
    assert len(await _find(service, "many", 3)) == 3


def test_a_thing_that_several_tell_of_is_kept_once(service: MemoryService) -> None:
    assert sorted(service.states(THINGS)) == sorted(
        [f"lot:{lot}" for lot in (FIRST, SECOND, OTHER, RAW, NUMBER)]
        + [f"run:{run}" for run in (RUN, "run-e", "run-t")]
        + [f"deviation:{DEVIATION}", f"capa:{CAPA}", "transfer:transfer:s-1/plant-b", "study:study-bleeding"]
    )


@pytest.mark.parametrize(
    ("text", "most", "field"), [("", 0, "text"), ("  ", 0, "text"), ("x" * 401, 0, "text"), ("x", 21, "most")]
)
async def test_what_cannot_be_asked_is_named(
    service: MemoryService, text: str, most: int, field: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        await _find(service, text, most)
    assert refusal.value.field == field
