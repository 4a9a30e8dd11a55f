"""What waits for a person is ordered by gravity, and what belongs together is one group."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit import waiting
from services.kit.waiting import Waiting


def row(id: str, **other: Any) -> Waiting:
    return Waiting("judge-deviation", id, "lot", waiting.QUALITY, since=Timestamp(seconds=9), **other)


def of(method: str, kind: str, message: Any) -> list[Waiting]:
    listed = next(one for one in waiting.LISTS if one.method == method and kind in one.kinds)
    return list(listed.rows(message))


def ids(rows: list[Waiting]) -> list[str]:
    return [one.id for one in rows]


def test_exposed_patients_go_before_the_class_that_before_the_distance_and_that_before_age() -> None:
    rows = [
        row("young"),
        Waiting("judge-deviation", "old", "lot", waiting.QUALITY, since=Timestamp(seconds=1)),
        row("near", magnitude=3.1, limit=3.0),
        row("far", magnitude=34.7, limit=3.0),
        row("minor", severity=1, magnitude=99.0, limit=3.0),
        row("critical", severity=3),
        row("two hospitals", severity=1, sites=2),
        row("one hospital", severity=3, sites=1),
    ]
    assert ids(waiting.in_order(rows)) == [
        *("two hospitals", "one hospital", "critical", "far", "near", "old", "young", "minor")
    ]


def test_the_distance_is_beside_the_own_limit() -> None:
    wide, narrow = row("wide", magnitude=12.0, limit=6.0), row("narrow", magnitude=9.0, limit=3.0)
    assert ids(waiting.in_order([wide, narrow])) == ["narrow", "wide"]


def test_a_deviation_is_as_far_as_it_went_and_as_grave_as_a_person_said() -> None:
    detected = events.DeviationDetected(
        deviation="d", lot="l", magnitude=3.1, limit=3.0, proposed_severity=events.SEVERITY_MINOR
    )
    updated = events.DeviationUpdated(magnitude=34.7, proposed_severity=events.SEVERITY_MAJOR)
    shown = api.Deviation(detected=detected, updated=updated)
    (one,) = of("ListDeviations", "judge-deviation", shown)
    assert (one.severity, one.magnitude, one.limit) == (2, 34.7, 3.0)
    shown.severity = events.SEVERITY_MINOR
    (one,) = of("ListDeviations", "judge-deviation", shown)
    assert one.severity == 1


def test_a_held_lot_is_as_grave_as_its_worst_deviation_that_is_no_false_alarm() -> None:
    def deviation(state: str, severity: str, magnitude: float) -> api.Deviation:
        detected = events.DeviationDetected(magnitude=magnitude, limit=3.0)
        return api.Deviation(detected=detected, state=state, severity=severity)

    lot = api.Lot(
        lot="l",
        deviations=[
            deviation("DEVIATION_STATE_REJECTED", "SEVERITY_CRITICAL", 50.0),
            deviation("DEVIATION_STATE_CONFIRMED", "SEVERITY_MINOR", 40.0),
            deviation("DEVIATION_STATE_CONFIRMED", "SEVERITY_MAJOR", 8.0),
        ],
    )
    (one,) = of("ListLots", "decide-lot", lot)
    assert (one.severity, one.magnitude) == (2, 8.0)


def test_runs_that_go_on_tell_at_how_many_hospitals_patients_were_exposed() -> None:
    runs = [loops.Run(run="r-1", case="root", sites=["a", "b"]), loops.Run(run="r-2", case="other")]
    rows = [row("root", lot="root"), row("child", lot="x", runs=("r-1",)), row("apart", lot="y")]
    assert [one.sites for one in waiting.exposed(rows, runs)] == [2, 2, 0]


def test_what_belongs_together_is_one_group_where_its_gravest_stands() -> None:
    rows = [
        row("a-near", belongs="a", magnitude=3.1, limit=3.0),
        row("b", belongs="b", magnitude=9.0, limit=3.0),
        row("a-far", belongs="a", magnitude=34.7, limit=3.0),
        row("alone"),
        row("alone too"),
    ]
    groups = [ids(list(group)) for group in waiting.groups(waiting.in_order(rows))]
    assert groups == [["a-far", "a-near"], ["b"], ["alone"], ["alone too"]]


def test_lots_of_one_run_belong_together_and_others_by_their_reason() -> None:
    def held(product: str, reason: str, *runs: str) -> str:
        lot = api.Lot(lot="l", product=product, reason=reason, runs=runs)
        return of("ListLots", "decide-lot", lot)[0].belongs

    assert held("p", "implicated", "r-1") == held("p", "implicated otherwise", "r-1")
    assert held("p", "implicated", "r-1") != held("p", "implicated", "r-2")
    assert held("p", "a smell") == held("p", "a smell")
    assert held("p", "a smell") != held("q", "a smell")


def test_who_asks_for_lots_alone_asks_for_what_tells_their_order() -> None:
    methods = {one.method for one in waiting.chosen("decide-lot")}
    assert methods == {"ListLots", "ListRuns"}
    assert {one.method for one in waiting.chosen(role="plant")} == {"ListTransfers"}


def test_of_overdue_plans_the_most_stand_first_where_that_is_told() -> None:
    def late(site: str, people: int | None) -> Waiting:
        return Waiting(waiting.OVERDUE, site, site, f"site {site}", people=people, withheld=people is None)

    assert ids(waiting.in_order([late("a", 11), late("b", 30)])) == ["b", "a"]
    assert ids(waiting.in_order([late("b", None), late("a", None)])) == ["a", "b"]
