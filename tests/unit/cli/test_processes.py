"""A service that runs as a process for each hospital: every name leads to the right process, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import operations_pb2 as api
from services.cli.processes import known_as, own, process_of, service_of
from tests.unit.cli.support import Bench
from tests.unit.cli.test_dlq import Service, letter

OWN = "clinical.exposure"
HERE = "clinical.hospital-b.exposure"


@pytest.mark.parametrize(
    ("here", "process", "own_name"),
    [
        ("rnd.insights", "rnd", "rnd.insights"),
        (OWN, "clinical", OWN),
        (HERE, "clinical.hospital-b", OWN),
        (f"{HERE}|a.b.v1|0|7", "clinical.hospital-b", f"{OWN}|a.b.v1|0|7"),
        ("rnd.insights|pharmaloop.rnd.v1|0|7", "rnd", "rnd.insights|pharmaloop.rnd.v1|0|7"),
    ],
)
def test_a_name_and_its_process(here: str, process: str, own_name: str) -> None:
    assert process_of(here) == process
    assert own(here) == own_name
    assert known_as(process, own_name) == here
    assert service_of(process) == here.partition(".")[0]


def with_hospitals(bench: Bench) -> Bench:
    bench.services = ("clinical", "clinical.hospital-b", "rnd")
    return bench


def test_letters_are_listed_by_process(bench: Bench) -> None:
    Service(with_hospitals(bench), letter(7, OWN))
    found = bench.json("dlq", "list", "--service", "clinical")["letters"]
    assert [one["runner"] for one in found] == [OWN, HERE]
    assert [one["runner"] for one in bench.json("dlq", "list", "--runner", HERE)["letters"]] == [HERE]
    assert {request.filter.runner for request in bench.fake.of("ListDeadLetters")} == {"", OWN}


def test_a_letter_is_redriven_at_its_process_under_the_name_that_it_has_there(bench: Bench) -> None:
    Service(with_hospitals(bench), letter(7, OWN))
    (listed,) = bench.json("dlq", "list", "--runner", HERE)["letters"]
    document = bench.json("dlq", "redrive", listed["letter"], "--yes")
    assert document["done"] == 1
    assert document["letters"][0]["letter"] == listed["letter"]
    (request,) = bench.fake.of("RedriveDeadLetters")
    assert list(request.filter.letters) == [letter(7, OWN).letter]
    assert bench.json("dlq", "show", listed["letter"])["letter"]["runner"] == HERE


def test_a_view_is_made_anew_at_its_process(bench: Bench) -> None:
    with_hospitals(bench)
    view = api.View(view=OWN, live=1)
    bench.fake.answers["ListViews"] = lambda request: api.ListViewsResponse(views=[view])
    bench.fake.answers["RebuildView"] = lambda request: api.RebuildViewResponse(view=view)
    names = [one["view"] for one in bench.json("rebuild", "list")["views"]]
    assert names[:2] == [OWN, HERE]
    assert bench.json("rebuild", "start", HERE, "--no-wait")["view"]["view"] == HERE
    assert [request.view for request in bench.fake.of("RebuildView")] == [OWN]


def test_each_hospital_is_asked_at_its_own_process(bench: Bench) -> None:
    """What is asked of a site goes to the site's address; the first's is the one called clinical alone."""
    from services.cli.session import Session

    session = Session('{"clinical": "127.0.0.1:1", "clinical.hospital-b": "127.0.0.1:2"}')
    session.clinical_at("hospital-a")
    assert set(session._channels) == {"clinical"}
    session.clinical_at("hospital-b")
    assert set(session._channels) == {"clinical", "clinical.hospital-b"}
    session.close()


def test_a_hospital_that_nobody_knows_is_refused_with_those_that_are_known(bench: Bench) -> None:
    result = with_hospitals(bench).run("plan", "list", "hospital-x")
    assert result.exit_code == 1
    said = result.stderr
    assert "there is no hospital 'hospital-x' here; known: hospital-a, hospital-b" in said
    assert "give clinical.hospital-x its address in PHARMALOOP_ENDPOINTS" in said
    assert bench.fake.of("ListPlans") == []  # no other hospital was asked for it


def test_what_is_recorded_for_a_hospital_that_nobody_knows_goes_to_no_other(
    bench: Bench, tmp_path: Path
) -> None:
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"site": "hospital-x", "template": {"template": "t-1"}}))
    result = with_hospitals(bench).run("template", "register", str(file))
    assert result.exit_code == 1
    assert "no hospital 'hospital-x' here" in result.stderr
    assert bench.fake.of("RegisterFollowUpTemplate") == []


def test_the_first_of_the_installations_sites_is_the_one_called_clinical_alone(bench: Bench) -> None:
    bench.environment["PHARMALOOP_SITES"] = '["st-mary", "hospital-b"]'
    bench.fake.answers["ListPlans"] = lambda request: clinical.ListPlansResponse()
    assert with_hospitals(bench).run("plan", "list", "st-mary").exit_code == 0
    assert [request.site for request in bench.fake.of("ListPlans")] == ["st-mary"]
    assert "known: hospital-b, st-mary" in bench.run("plan", "list", "hospital-a").stderr


@pytest.mark.parametrize("sites", ["st-mary", "[]", "[3]", "3"])
def test_a_list_of_sites_that_is_none_is_refused_plainly(bench: Bench, sites: str) -> None:
    bench.environment["PHARMALOOP_SITES"] = sites
    result = bench.run("plan", "list", "hospital-a")
    assert result.exit_code == 3
    assert "PHARMALOOP_SITES is not a JSON list of sites" in result.stderr
