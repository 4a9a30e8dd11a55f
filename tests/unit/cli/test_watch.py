"""`--watch`: what changes is shown, a service that is away is waited for, a refusal ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.loops.v1 import service_pb2 as loops
from services.kit.errors import Forbidden, Retryable
from tests.unit.cli.support import Bench, run


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Somebody watches four times, then presses Ctrl-C; the pauses."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("services.cli.watch.time.sleep", sleep)
    return pauses


def says(bench: Bench, looks: list[float], *answers: Any) -> None:
    """What the loops service answers at each look, however often the call is tried again."""

    def answer(request: Any) -> loops.ListRunsResponse:
        found = answers[len(looks)]
        if isinstance(found, Exception):
            raise found
        return loops.ListRunsResponse(runs=[run(name) for name in found])

    bench.fake.answers["ListRuns"] = answer


def test_json_is_a_line_for_each_change(bench: Bench, looks: list[float]) -> None:
    says(bench, looks, ["a"], ["a"], ["a", "b"], [])
    result = bench.run("run", "list", "--watch", "--every", "5", "--json")
    assert result.exit_code == 0
    shown = [[one["run"] for one in json.loads(line)["runs"]] for line in result.stdout.splitlines()]
    assert shown == [["a"], ["a", "b"], []]
    assert looks == [5] * 4


def test_a_terminal_is_drawn_anew_only_when_something_changed(bench: Bench, looks: list[float]) -> None:
    bench.environment |= {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": "100"}
    says(bench, looks, ["a"], ["a"], ["b"], ["b"])
    shown = bench.run("run", "list", "--watch").output
    assert shown.count("Ctrl-C ends it") == 2
    assert len(looks) == 4


def test_a_service_that_is_away_is_waited_for(bench: Bench, looks: list[float]) -> None:
    says(bench, looks, ["a"], Retryable("later"), Retryable("later"), ["b"])
    result = bench.run("run", "list", "--watch")
    assert result.exit_code == 0
    assert "b\t" in result.stdout
    assert result.stderr.count("later (UNAVAILABLE)") == 1


def test_a_refusal_ends_it(bench: Bench, looks: list[float]) -> None:
    says(bench, looks, ["a"], Forbidden("you may not"))
    assert bench.run("run", "list", "--watch").exit_code == 1
    assert len(looks) == 1


def test_a_check_that_fails_goes_on_being_watched(bench: Bench, looks: list[float]) -> None:
    health = iter(["starting", "serving", "serving", "serving"] * 7)
    bench.services = ("production",)
    bench.fake.answers["GetStatus"] = lambda request: common.GetStatusResponse(health=next(health))
    result = bench.run("status", "--watch", "--json")
    states = [json.loads(line)["services"]["production"]["health"] for line in result.stdout.splitlines()]
    assert (result.exit_code, states) == (0, ["starting", "serving"])
