"""An id by its beginning: of one thing it is taken, of several it is refused with their names."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.beginnings import is_beginning
from services.kit.errors import Unknown
from tests.unit.cli import support
from tests.unit.cli.support import PACKED, ROOT, Bench

ONE = "7b0c7a52-52c0-4d0e-9c73-0e8d1b5b9f10"
OTHER = "7b0c7a5f-0000-4d0e-9c73-0e8d1b5b9f10"


def things(*found: tuple[str, str, str]) -> Any:
    """Things by kind, id and lot, as a search for their beginning names them."""
    named = [trace.FoundThing(kind=kind, id=id, lot=lot) for kind, id, lot in found]
    return lambda request: trace.FindThingsResponse(
        things=[one for one in named if one.id.startswith(request.text)]
    )


@pytest.mark.parametrize("text", ["7b0c7a", "7b0c7a52", "7b0c7a52-52c0", ONE[:-1], "7B0C7A"])
def test_a_beginning_is_six_characters_or_more(text: str) -> None:
    assert is_beginning(text)


@pytest.mark.parametrize("text", ["7b0c7", ONE, "r-7", "run-1", "", "7b0c7a52x", "7b0c7a-52", "transfer:s/p"])
def test_what_is_whole_or_of_another_form_is_taken_as_it_stands(bench: Bench, text: str) -> None:
    assert not is_beginning(text)
    bench.fake.answers["GetRun"] = lambda request: loops.GetRunResponse(run=support.run(request.run))
    if text:
        assert bench.json("run", "show", text)["run"]["run"] == text
        assert not bench.fake.of("FindThings")


def test_the_beginning_of_one_run_is_that_run(bench: Bench) -> None:
    bench.fake.answers["FindThings"] = things(("run", ONE, ""), ("run", OTHER, ""), ("capa", ONE, ROOT))
    bench.fake.answers["GetRun"] = lambda request: loops.GetRunResponse(run=support.run(request.run))
    bench.fake.answers["CancelRun"] = lambda request: loops.CancelRunResponse()
    assert bench.json("run", "show", ONE[:8])["run"]["run"] == ONE
    bench.json("run", "cancel", ONE[:8].upper(), "--reason", "x", "--superseded-by", OTHER[:8])
    (asked,) = bench.fake.of("CancelRun")
    assert (asked.run, asked.superseded_by) == (ONE, OTHER)


def test_the_beginning_of_several_is_refused_with_their_names(bench: Bench) -> None:
    bench.fake.answers["FindThings"] = things(("run", ONE, ""), ("run", OTHER, ""))
    result = bench.run("run", "show", ONE[:6])
    assert result.exit_code == 2
    assert ONE in result.stderr
    assert OTHER in result.stderr
    assert "give more of the id" in result.stderr
    assert not bench.fake.of("GetRun")


def test_one_among_as_many_as_are_told_may_not_be_the_only_one(bench: Bench) -> None:
    many = [("lot", f"7b0c7a52-{number:04d}", "") for number in range(19)]
    bench.fake.answers["FindThings"] = things(("run", ONE, ""), *many)
    result = bench.run("run", "show", ONE[:8])
    assert result.exit_code == 2
    assert "there may be more" in result.stderr


def test_the_beginning_of_nothing_is_left_to_the_service_that_is_asked(bench: Bench) -> None:
    def unknown(_: Any) -> Any:
        raise Unknown("UNKNOWN_RUN", "there is no such run", "run")

    bench.fake.answers["FindThings"] = things()
    bench.fake.answers["GetRun"] = unknown
    result = bench.run("run", "show", "abcdef")
    assert result.exit_code == 1
    assert "UNKNOWN_RUN" in result.stderr


def test_a_deviation_is_sought_in_its_lot_and_a_capa_everywhere(bench: Bench) -> None:
    bench.fake.answers = {
        "FindThings": things(
            ("deviation", ONE, ROOT), ("deviation", OTHER, PACKED), ("capa", ONE, ROOT), ("run", ONE, "")
        ),
        "ConfirmDeviation": lambda request: production.ConfirmDeviationResponse(),
        "ApproveCapa": lambda request: production.ApproveCapaResponse(),
    }
    assert bench.run("deviation", "confirm", ROOT, ONE[:6], "--reason", "out").exit_code == 0
    assert bench.fake.of("ConfirmDeviation")[0].deviation == ONE
    assert bench.run("capa", "approve", ONE[:6], "--meaning", "yes").exit_code == 0
    assert bench.fake.of("ApproveCapa")[0].capa == ONE
