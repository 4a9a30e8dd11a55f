"""`rebuild`: it follows to the end, says what it was, and never takes a stop for an end."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.common.v1 import operations_pb2 as api
from services.kit.errors import Rejected
from tests.unit.cli.support import Bench

NAME = "rnd.insights"


def view(live: int = 1, building: int = 0, done: int = 400, **fields: Any) -> api.View:
    return api.View(view=NAME, live=live, building=building, done=done, total=400, **fields)


@pytest.fixture
def rnd(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A service that begins the making 2 of its view."""
    monkeypatch.setattr("services.cli.rebuild._POLL_SECONDS", 0.001)
    bench.services = ("rnd",)
    begun = view(building=2, done=0, phase="building")
    bench.fake.answers["RebuildView"] = lambda request: api.RebuildViewResponse(view=begun)
    bench.fake.answers["CancelRebuild"] = lambda request: api.CancelRebuildResponse(view=view())
    says(bench, view())
    return bench


def says(bench: Bench, *views: api.View) -> None:
    """What the service says, each time it is asked; the last for ever."""
    told = list(views)

    def answer(request: Any) -> api.ListViewsResponse:
        return api.ListViewsResponse(views=[told.pop(0) if len(told) > 1 else told[0]])

    bench.fake.answers["ListViews"] = answer


BUILDING = view(building=2, done=100, phase="building", state="running")


def test_a_rebuild_is_followed_to_its_end(rnd: Bench) -> None:
    says(rnd, BUILDING, BUILDING, view(live=2))
    result = rnd.run("rebuild", "start", NAME)
    assert result.exit_code == 0
    assert result.stdout.startswith("done, 400 records in ")
    assert result.stdout.rstrip().endswith("records/s")
    says(rnd, BUILDING, view(live=2))
    document = rnd.json("rebuild", "start", NAME)
    assert (document["records"], document["view"]["live"]) == (400, 2)
    assert document["records_per_second"] > 0


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (view(building=2, done=7, state="failed", detail="lot.v1/0/7 cannot be folded"), "lot.v1/0/7"),
        (view(), "was given up"),
    ],
    ids=["failed", "cancelled by somebody"],
)
def test_a_stop_is_no_end(rnd: Bench, last: api.View, told: str) -> None:
    says(rnd, BUILDING, last)
    result = rnd.run("rebuild", "start", NAME)
    assert result.exit_code == 1
    assert told in result.stderr
    assert "is untouched" in result.stderr
    assert result.stdout == ""


def test_who_does_not_wait_hears_that_it_has_begun(rnd: Bench) -> None:
    result = rnd.run("rebuild", "start", NAME, "--no-wait")
    assert result.exit_code == 0
    assert f"begun: {NAME}" in result.output
    assert rnd.fake.of("ListViews") == []


def test_a_restart_of_the_service_does_not_end_the_wait(rnd: Bench) -> None:
    def gone(request: Any) -> Any:
        says(rnd, BUILDING, view(live=2))
        raise Rejected("GOING", "the service is being restarted")

    rnd.fake.answers["ListViews"] = gone
    assert rnd.run("rebuild", "start", NAME).exit_code == 0


def test_status_shows_how_far_it_is_and_fails_when_it_has_stopped(rnd: Bench) -> None:
    says(rnd, BUILDING)
    result = rnd.run("rebuild", "show", NAME)
    assert result.exit_code == 0
    assert "25%" in result.output
    assert rnd.json("rebuild", "show", NAME)["view"]["done"] == 100
    says(rnd, view(building=2, done=100, state="failed", detail="no room"))
    stopped = rnd.run("rebuild", "show", NAME)
    assert stopped.exit_code == 1
    assert "no room" in stopped.stderr
    assert f"pharmaloop rebuild cancel {NAME}" in stopped.stderr


def test_cancel_gives_it_up(rnd: Bench) -> None:
    result = rnd.run("rebuild", "cancel", NAME)
    assert result.exit_code == 0
    assert f"given up: {NAME}" in result.output
    assert rnd.fake.of("CancelRebuild")[0].view == NAME
    assert rnd.fake.of("RebuildView") == []


def test_without_a_name_all_views_are_listed(rnd: Bench) -> None:
    says(rnd, BUILDING)
    assert [one["view"] for one in rnd.json("rebuild", "list")["views"]] == [NAME]
    assert NAME in rnd.run("rebuild", "list").output


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["start", "insights"], 2, "names no service"),
        (["show", "rnd.nothing"], 1, f"those of rnd are: {NAME}"),
        (["cancel"], 2, "Missing argument 'VIEW'"),
        (["start", "production.lists"], 3, "does not say where production listens"),
    ],
)
def test_what_cannot_be_meant_is_refused_plainly(
    rnd: Bench, arguments: list[str], status: int, told: str
) -> None:
    result = rnd.run("rebuild", *arguments)
    assert result.exit_code == status
    assert told in result.stderr
    assert rnd.fake.of("RebuildView") == []


def test_a_refusal_of_the_service_is_passed_on(rnd: Bench) -> None:
    def refuse(request: Any) -> Any:
        raise Rejected("REBUILD_RUNS", f"{NAME} is being rebuilt")

    rnd.fake.answers["RebuildView"] = refuse
    result = rnd.run("rebuild", "start", NAME)
    assert result.exit_code == 1
    assert "REBUILD_RUNS" in result.stderr
