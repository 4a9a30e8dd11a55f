"""The genealogy of a lot on a terminal, step by step."""

from __future__ import annotations

from typing import Any

from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.cli.support import Bench

LOT = "maker-1/item/granulate/G-0041"


def test_kinds_are_told_first_and_the_lots_of_one_page_by_page(bench: Bench) -> None:
    def answer(request: Any) -> Any:
        if not request.kind:
            kinds = [trace.NeighbourKind(kind="maker-1/item/tablet", lots=2)]
            return trace.ListNeighboursResponse(kinds=kinds)
        number = request.page_token or "T-1"
        lot = trace.Neighbour(lot=f"maker-1/item/tablet/{number}", known=number == "T-1", outputs=3)
        return trace.ListNeighboursResponse(lots=[lot], next_page_token="T-2" if number == "T-1" else "")

    bench.fake.answers["ListNeighbours"] = answer
    assert bench.json("lot", "next", LOT)["kinds"] == [{"kind": "maker-1/item/tablet", "lots": 2}]
    shown = bench.run("lot", "next", LOT, "--kind", "maker-1/item/tablet").stdout
    assert "maker-1/item/tablet/T-1" in shown
    assert "only referred to" in shown.split("T-2")[1]
    assert {request.step for _, request in bench.fake.requests} == {trace.MATERIAL_STEP_OUTPUTS}
    bench.run("lot", "next", LOT, "--way", "inputs")
    assert bench.fake.requests[-1][1].step == trace.MATERIAL_STEP_INPUTS


def test_a_lot_within_a_genealogy_is_shown_with_the_way_to_it(bench: Bench) -> None:
    way = ["maker-1/item/tablet/T-1", "maker-1/item/pack/P-7"]
    found = trace.FoundLot(lot=way[-1], step=trace.MATERIAL_STEP_OUTPUTS, way=way)
    bench.fake.answers["FindInGenealogy"] = lambda request: trace.FindInGenealogyResponse(lots=[found])
    shown = bench.run("lot", "within", LOT, "p-7").stdout
    assert " > ".join(way) in shown
    assert "larger than what was looked through" in shown
    assert bench.json("lot", "within", LOT, "p-7")["lots"][0]["way"] == way
    assert bench.fake.requests[0][1].text == "p-7"
