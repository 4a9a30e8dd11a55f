"""`run list` and `run show`: which stage a run is in, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.kit.errors import Retryable
from tests.unit.cli import golden
from tests.unit.cli.support import Bench


def listed(bench: Bench) -> list[dict[str, Any]]:
    result = bench.run("run", "list", "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["runs"]
    return found


def test_a_stalled_run_tells_how_long_it_has_been_in_its_stage_and_an_ended_one_nothing(bench: Bench) -> None:
    golden.answer_from_file(bench.fake)
    stalled, ended = listed(bench)
    assert (stalled["stage"], stalled["in_stage_seconds"]) == ("hold", pytest.approx(411.158))
    # What it took so far is that of the stages behind it.
    assert stalled["seconds"] == pytest.approx(1.442)
    assert (ended["stage"], ended["in_stage_seconds"]) == ("", None)


def test_runs_are_listed_though_the_loops_do_not_tell_the_time(bench: Bench) -> None:
    golden.answer_from_file(bench.fake)

    def away(_: Any) -> Any:
        raise Retryable("in a moment")

    bench.fake.answers["GetStatus"] = away
    assert [run["in_stage_seconds"] for run in listed(bench)] == [None, None]
    assert "hold" in bench.run("run", "list").output


def test_the_time_is_asked_only_where_a_run_goes_on(bench: Bench) -> None:
    golden.answer_from_file(bench.fake)
    recorded = bench.fake.answers["ListRuns"]

    def ended(request: Any) -> Any:
        answer = recorded(request)
        del answer.runs[0]
        return answer

    bench.fake.answers["ListRuns"] = ended
    assert len(listed(bench)) == 1
    assert not bench.fake.of("GetStatus")
