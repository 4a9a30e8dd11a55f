"""`thing find`: the trace, and whoever knows what it does not keep; who is away is named."""

from __future__ import annotations

from typing import Any

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.errors import Unknown
from tests.unit.cli.support import Bench
from tests.unit.cli.test_judged import on_80

ID = "7b0c7a52-52c0-4d0e-9c73-0e8d1b5b9f10"


def unknown(_: Any) -> Any:
    raise Unknown("UNKNOWN_THING", "there is no such thing", "id")


def answers(bench: Bench, **more: Any) -> None:
    """A platform that knows nothing but what is given."""
    bench.fake.answers = {
        "FindThings": lambda request: trace.FindThingsResponse(),
        "GetParameterSet": unknown,
        "GetLineage": unknown,
        "GetAlert": unknown,
        "ListAlerts": lambda request: alerting.ListAlertsResponse(),
        **more,
    }


def alert(id: str) -> alerting.Alert:
    found = alerting.Alert(latest_text="the run is late")
    found.raised.alert = id
    return found


def test_an_alert_is_found_by_its_beginning_and_by_its_id(bench: Bench) -> None:
    both = [alert(ID), alert("8" + ID[1:])]
    answers(
        bench,
        ListAlerts=lambda request: alerting.ListAlertsResponse(alerts=both),
        GetAlert=lambda request: alerting.GetAlertResponse(alert=alert(request.alert)),
    )
    assert [one["id"] for one in bench.json("thing", "find", ID[:8].upper())["things"]] == [ID]
    (whole,) = bench.json("thing", "find", ID)["things"]
    assert (whole["kind"], whole["label"], whole["exact"]) == ("alert", "the run is late", True)
    shown = on_80(bench, "thing", "find", ID[:8])
    assert "the run is late" in shown
    bench.fake.requests.clear()
    bench.json("thing", "find", "set-1")  # no id of an alert begins so
    assert not bench.fake.of("ListAlerts")


def test_a_set_and_a_molecule_are_found_by_their_whole_id_each_once(bench: Bench) -> None:
    def lineage(request: Any) -> Any:
        of = [trace.LineageThing(kind=kind, id=request.id) for kind in ("molecule", "lot", "target")]
        return trace.GetLineageResponse(of=of)

    def versions(request: Any) -> Any:
        found = rnd.GetParameterSetResponse()
        found.version.set, found.version.version, found.version.product = request.set, 3, "product-1"
        return found

    known = [
        trace.FoundThing(kind="target", id="x-1", label="begun"),
        trace.FoundThing(kind="lot", id="x-10"),
    ]
    answers(
        bench,
        FindThings=lambda request: trace.FindThingsResponse(things=known),
        GetLineage=lineage,
        GetParameterSet=versions,
    )
    found = bench.json("thing", "find", "x-1")["things"]
    assert sorted((one["kind"], one["id"]) for one in found) == [
        ("lot", "x-10"),
        ("molecule", "x-1"),
        ("set", "x-1"),
        ("target", "x-1"),
    ]
    assert {one["kind"] for one in found[:2]} == {"set", "molecule"}  # what is so named comes first
    assert "version 3 (product-1)" in bench.run("thing", "find", "x-1").output
    assert len(bench.json("thing", "find", "x-1", "--most", "2")["things"]) == 2


def test_nothing_is_found_where_nobody_knows_it_and_who_is_away_is_named(bench: Bench) -> None:
    answers(bench)
    assert bench.json("thing", "find", "zz-9") == {"things": [], "away": []}
    bench.services = tuple(name for name in bench.services if name != "rnd")
    assert bench.json("thing", "find", "zz-9")["away"] == ["rnd"]
    assert "not asked, for it does not answer now: rnd" in bench.run("thing", "find", "zz-9").output
