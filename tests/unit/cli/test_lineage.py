"""`lineage`: the hops of a thing for people, and the contract's answer for programs."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.traceability.v1 import service_pb2 as traceability
from tests.unit.cli.support import ROOT, Bench


def answer(request: traceability.GetLineageRequest) -> traceability.GetLineageResponse:
    lot = traceability.LineageThing(kind="lot", id=request.id)
    transfer = traceability.LineageThing(kind="transfer", id="transfer:set-1/plant-1")
    return traceability.GetLineageResponse(
        of=[lot],
        hops=[
            traceability.LineageHop(
                event="e-1",
                type="pharmaloop.production.v1.LotStarted",
                service="production",
                at=Timestamp(seconds=1_767_600_000),
                comes_from=[transfer],
                leads_to=[lot],
            )
        ],
        truncated=True,
    )


def test_people_read_the_hops_and_that_there_are_more(bench: Bench) -> None:
    bench.fake.answers["GetLineage"] = answer
    said = bench.run("lineage", "show", ROOT, "--most", "1")
    assert said.exit_code == 0
    assert "LotStarted" in said.output
    assert "there are more than 1" in said.output
    assert bench.fake.of("GetLineage")[0].most == 1


def test_programs_read_the_contract(bench: Bench) -> None:
    bench.fake.answers["GetLineage"] = answer
    document = bench.json("lineage", "show", ROOT)
    assert document["hops"][0]["comes_from"] == [{"kind": "transfer", "id": "transfer:set-1/plant-1"}]
    assert document["truncated"] is True
