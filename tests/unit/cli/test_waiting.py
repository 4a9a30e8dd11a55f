"""`waiting list`: the rows with the command that does each, roles, and services that are away."""

from __future__ import annotations

from typing import Any

import click
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.cli.main import cli
from services.cli.waiting import next_step
from services.kit import waiting
from services.kit.waiting import Waiting
from tests.unit.cli.support import Bench

LOT = "maker-1/item/granulate/G-0041"


def deviations(request: Any) -> production.ListDeviationsResponse:
    if request.state != production.DEVIATION_STATE_OPEN:
        return production.ListDeviationsResponse()
    rows = [
        production.Deviation(
            detected=events.DeviationDetected(
                deviation=name, lot=LOT, tag="Temp", detected=Timestamp(seconds=seconds)
            )
        )
        for name, seconds in (("d-2", 1_795_000_060), ("d-1", 1_795_000_000))
    ]
    return production.ListDeviationsResponse(deviations=rows, next_page_token="more")


@pytest.fixture
def busy(bench: Bench) -> Bench:
    study = exchange.Study(requested=exchange_events.StudyRequested(study="s-1", sites=["hospital-a"]))
    board = clinical.RunBoard(run="r-7", overdue=4, awaited=40)
    bench.fake.answers = {
        "ListDeviations": deviations,
        "ListCapas": lambda request: production.ListCapasResponse(),
        "ListLots": lambda request: production.ListLotsResponse(),
        "ListTransfers": lambda request: production.ListTransfersResponse(),
        "ListRuns": lambda request: loops.ListRunsResponse(),
        "ListParameterSets": lambda request: rnd.ListParameterSetsResponse(),
        "ListFindings": lambda request: rnd.ListFindingsResponse(),
        "ListStudies": lambda request: exchange.ListStudiesResponse(studies=[study]),
        "GetSiteBoard": lambda request: clinical.GetSiteBoardResponse(runs=[board]),
    }
    return bench


def test_what_waits_is_told_the_oldest_first_with_the_command_that_does_it(busy: Bench) -> None:
    document = busy.json("waiting", "list")
    told = [(one["kind"], one["id"], one["role"]) for one in document["waiting"]]
    assert told == [
        ("judge-deviation", "d-1", "quality"),
        ("judge-deviation", "d-2", "quality"),
        ("approve-study", "s-1", "site hospital-a"),
        ("overdue-plans", "hospital-a", "site hospital-a"),
    ]
    first = document["waiting"][0]
    assert first["since"] == "2026-11-18T11:06:40.000+00:00"
    assert first["next"] == f"pharmaloop deviation confirm {LOT} d-1 --reason WHY"
    assert document["more"] == ["judge-deviation"]
    assert document["away"] == []
    assert all(request.page_size == waiting.MOST for request in busy.fake.of("ListDeviations"))
    assert all(request.oldest_first for request in busy.fake.of("ListDeviations"))


def test_a_small_group_has_no_number(busy: Bench) -> None:
    (row,) = busy.json("waiting", "list", "--kind", "overdue-plans")["waiting"]
    assert (row["people"], row["withheld"]) == (None, True)
    told = busy.run("waiting", "list", "--kind", "overdue-plans").output
    assert "withheld (protects a small group)" in told


def test_a_role_asks_its_own_services_alone(busy: Bench) -> None:
    told = busy.json("waiting", "list", "--role", "site hospital-b")["waiting"]
    assert told == []
    assert {name for name, _ in busy.fake.requests} == {"ListStudies", "GetSiteBoard"}
    refused = busy.run("waiting", "list", "--role", "boss")
    assert refused.exit_code == 2
    assert "quality, plant, research, site" in refused.output


def test_a_service_that_is_away_is_named_the_rest_is_shown_and_the_status_says_so(busy: Bench) -> None:
    busy.services = ("clinical", "exchange", "loops", "production")
    result = busy.run("waiting", "list")
    assert result.exit_code == 3
    assert "d-1" in result.output
    assert "not here now: rnd" in result.output
    away = [one["service"] for one in busy.json("waiting", "list")["away"]]
    assert away == ["rnd"]


@pytest.mark.parametrize("kind", waiting.KINDS)
def test_every_kind_has_a_command_that_there_is(kind: str) -> None:
    for lacks in ((), ("validation",), ("filing",)) if kind == "finish-change" else ((),):
        words = next_step(Waiting(kind, "id", "of", "quality", version=1, lacks=lacks)).split()
        noun = cli.commands[words[1]]
        assert isinstance(noun, click.Group)
        verb = noun.commands[words[2]]
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
        required = {
            parameter.opts[0]
            for parameter in verb.params
            if isinstance(parameter, click.Option) and parameter.required
        }
        assert required <= set(words), "it would be refused for want of an option"


def test_suspicions_of_one_lot_are_one_row_of_the_table_and_each_in_json(busy: Bench) -> None:
    busy.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse(
        runs=[loops.Run(run="r-1", case=LOT, stage="plan", sites=["hospital-a"])]
    )
    told = busy.run("waiting", "list", "--kind", "judge-deviation").output
    assert "2, the gravest d-1" in told
    assert f"pharmaloop lot show {LOT}" in told
    rows = busy.json("waiting", "list", "--kind", "judge-deviation")["waiting"]
    assert [(one["id"], one["group"], one["sites"]) for one in rows] == [("d-1", LOT, 1), ("d-2", LOT, 1)]


def test_the_gravest_stands_first(busy: Bench) -> None:
    def told(request: Any) -> production.ListDeviationsResponse:
        answer = deviations(request)
        for one in answer.deviations:
            one.detected.limit = 3.0
            one.detected.magnitude = 34.7 if one.detected.deviation == "d-2" else 3.1
        return answer

    busy.fake.answers["ListDeviations"] = told
    rows = busy.json("waiting", "list", "--kind", "judge-deviation")["waiting"]
    assert [(one["id"], one["magnitude"], one["limit"]) for one in rows] == [
        ("d-2", 34.7, 3.0),
        ("d-1", 3.1, 3.0),
    ]
    assert "34.7 SD (limit 3)" in busy.run("waiting", "list", "--kind", "judge-deviation").output
