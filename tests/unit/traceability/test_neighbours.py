"""The genealogy step by step: kinds with their numbers, lots page by page, and where in it others are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Invalid
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.traceability import neighbours
from services.traceability.domain.graph import Node, linked
from services.traceability.views import NODES

RAW, BULK, KIT = "m/item/lactose/R-1", "m/item/granulate/G-1", "m/kit/S-1/K-1"
INPUTS, OUTPUTS = api.MATERIAL_STEP_INPUTS, api.MATERIAL_STEP_OUTPUTS


class Genealogy:
    """Lots that were made from lots, in memory."""

    def __init__(self, made: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self.nodes: dict[str, Node] = {}
        for lot, inputs in made:
            known = {name: self.nodes.get(name, Node(name)) for name in (lot, *inputs)}
            self.nodes |= known | linked(known, lot, inputs, "2026-03-01")
        database = MemoryDatabase()
        for lot, node in self.nodes.items():
            database.of(NODES)[lot] = NODES.to_doc(lot, 1, node)
        self._store = AsyncMemoryStore(database)

    def listed(self, lot: str, step: api.MaterialStep, **fields: object) -> api.ListNeighboursResponse:
        request = api.ListNeighboursRequest(lot=lot, step=step, **fields)  # type: ignore[arg-type]
        return asyncio.run(neighbours.listed(self._store, self.nodes[lot], request))

    def searched(self, lot: str, text: str, most: int = 0) -> api.FindInGenealogyResponse:
        request = api.FindInGenealogyRequest(lot=lot, text=text, most=most)
        return asyncio.run(neighbours.searched(self._store, self.nodes[lot], request))


def packs(number: int) -> list[tuple[str, tuple[str, ...]]]:
    return [(f"m/gtin/A/P-{n:06}", (BULK,)) for n in range(number)]


def test_kinds_are_counted_and_lots_come_where_a_kind_is_named() -> None:
    made = Genealogy([(BULK, (RAW, "m/item/lactose/R-2", "m/item/water/W-1")), *packs(5), (KIT, (BULK,))])
    answer = made.listed(BULK, INPUTS)
    assert [(one.kind, one.lots) for one in answer.kinds] == [("m/item/lactose", 2), ("m/item/water", 1)]
    assert not answer.lots
    assert (answer.lot.inputs, answer.lot.outputs, answer.lot.known) == (3, 6, True)
    lots = made.listed(BULK, INPUTS, kind="m/item/lactose").lots
    assert [(one.lot, one.known, one.outputs) for one in lots] == [
        (RAW, False, 1),
        ("m/item/lactose/R-2", False, 1),
    ]


def test_kinds_whose_names_begin_alike_are_told_apart() -> None:
    lots = ["m/gtin/A/1", "m/gtin/A-1/1", "m/gtin/A-1/2", "m/gtin/A.x/1", "m/gtin/A0/1", "m/gtin/AB/1"]
    made = Genealogy([(lot, (BULK,)) for lot in lots])
    counts = {one.kind: one.lots for one in made.listed(BULK, OUTPUTS).kinds}
    assert counts == {"m/gtin/A": 1, "m/gtin/A-1": 2, "m/gtin/A.x": 1, "m/gtin/A0": 1, "m/gtin/AB": 1}
    assert [one.lot for one in made.listed(BULK, OUTPUTS, kind="m/gtin/A").lots] == ["m/gtin/A/1"]


def test_a_hundred_thousand_lots_come_page_by_page_each_once() -> None:
    made = Genealogy([])
    names = tuple(lot for lot, _ in packs(100_000))
    made.nodes[BULK] = Node(BULK, True, outputs=names)
    assert [(one.kind, one.lots) for one in made.listed(BULK, OUTPUTS).kinds] == [("m/gtin/A", 100_000)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        answer = made.listed(BULK, OUTPUTS, kind="m/gtin/A", page_size=1000, page_token=token)
        seen += [one.lot for one in answer.lots]
        token = answer.next_page_token
    assert seen == list(names[:3000])
    last = made.listed(BULK, OUTPUTS, kind="m/gtin/A", page_token=names[-1])
    assert ([one.lot for one in last.lots], last.before, last.next_page_token) == ([names[-1]], 99_999, "")
    assert not made.listed(BULK, OUTPUTS, kind="m/gtin/other").lots


def test_what_a_kit_was_made_from_is_not_shown() -> None:
    made = Genealogy([(BULK, (RAW,)), (KIT, (BULK,))])
    answer = made.listed(KIT, INPUTS)
    assert answer.lot.inputs_withheld
    assert (answer.lot.inputs, len(answer.kinds)) == (0, 0)
    (kit,) = made.listed(BULK, OUTPUTS, kind="m/kit/S-1").lots
    assert (kit.inputs, kit.inputs_withheld) == (0, True)
    assert not made.searched(KIT, "lactose").lots
    assert [list(one.way) for one in made.searched(RAW, "k-1").lots] == [[RAW, BULK, KIT]]


def test_a_search_says_the_shortest_way_up_and_down_and_ends_in_a_cycle() -> None:
    made = Genealogy(
        [(BULK, (RAW,)), *packs(3), ("m/box/B/X-1", ("m/gtin/A/P-000001", BULK)), (RAW, ("m/box/B/X-1",))]
    )
    answer = made.searched(BULK, "x-1")
    assert [(one.step, list(one.way)) for one in answer.lots] == [
        (INPUTS, [BULK, RAW, "m/box/B/X-1"]),
        (OUTPUTS, [BULK, "m/box/B/X-1"]),
    ]
    assert answer.complete
    assert [one.lot for one in made.searched(BULK, "GRANULATE").lots] == [BULK]
    assert [one.lot for one in made.searched("m/gtin/A/P-000002", "r-1").lots] == [RAW]


def test_a_search_finds_what_is_written_percent_encoded() -> None:
    made = Genealogy([("m/gtin/A/%E6%89%B9%2F1", (BULK,))])
    assert [one.lot for one in made.searched(BULK, "批/1").lots] == ["m/gtin/A/%E6%89%B9%2F1"]


def test_a_search_is_bounded_and_says_so() -> None:
    made = Genealogy([*packs(300)])
    few = made.searched(BULK, "p-", most=7)
    assert ([one.lot for one in few.lots], few.complete) == ([lot for lot, _ in packs(7)], False)
    assert made.searched(BULK, "p-000123").complete
    made.nodes[BULK] = Node(BULK, True, outputs=tuple(lot for lot, _ in packs(30_000)))
    many = made.searched(BULK, "p-029999")
    assert ([one.lot for one in many.lots], many.complete) == (["m/gtin/A/P-029999"], False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"step": 0}, "step"),
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"kind": "m/item/lactose", "page_token": "x"}, "page_token"),
    ],
)
def test_what_nobody_can_answer_is_refused(fields: dict[str, object], field: str) -> None:
    made = Genealogy([(BULK, (RAW,))])
    with pytest.raises(Invalid) as refused:
        made.listed(BULK, **({"step": INPUTS} | fields))  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize(("text", "most"), [("", 1), ("  ", 1), ("x" * 201, 1), ("x", -1), ("x", 101)])
def test_a_search_for_nothing_or_too_much_is_refused(text: str, most: int) -> None:
    with pytest.raises(Invalid):
        Genealogy([(BULK, (RAW,))]).searched(BULK, text, most)
