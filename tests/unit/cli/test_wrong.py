"""What goes wrong, as it is told: the nearest word, whom was asked, and a next step always."""

from __future__ import annotations

import json
from typing import Any

import click
import grpc
import pytest

from services.cli.main import cli
from services.cli.session import Failure, Missing, Refused, Unreachable
from services.cli.wrong import document, next_step
from services.kit.errors import Rejected, Retryable
from tests.unit.cli.support import ROOT, Bench


def error_of(result: Any) -> dict[str, Any]:
    """The one document on stderr."""
    assert result.stdout == ""
    return dict(json.loads(result.stderr)["error"])


@pytest.mark.parametrize(
    ("words", "near", "step"),
    [
        (("runn", "list"), "run", "-h"),
        (("deviaton", "list"), "deviation", "-h"),
        (("run", "lst"), "list", "run -h"),
        (("feed", "dispense", "x.csv"), "dispenses", "feed -h"),
        (("world", "mak"), "make", "world -h"),
        (("run", "list", "--stat", "open"), "--state", "run list -h"),
        (("--endpoint", "{}", "run", "list"), "--endpoints", "-h"),
    ],
)
def test_a_mistyped_word_names_the_nearest(
    bench: Bench, words: tuple[str, ...], near: str, step: str
) -> None:
    result = bench.run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Did you mean" in result.stderr
    assert near in result.stderr.partition("Did you mean")[2].partition("\n")[0]
    assert f"pharmaloop {step}" in result.stderr.partition("next: ")[2]
    told = error_of(bench.run(*words, "--json"))
    assert told["did_you_mean"] == [near]
    assert told["exit_status"] == 2
    assert f"pharmaloop {step}" in told["next"]
    assert bench.fake.requests == []


def test_a_word_that_nothing_is_near_to_offers_none(bench: Bench) -> None:
    result = bench.run("xyzzy")
    assert result.exit_code == 2
    assert "No such command 'xyzzy'" in result.stderr
    assert "Did you mean" not in result.stderr
    assert error_of(bench.run("xyzzy", "--json"))["did_you_mean"] == []
    assert error_of(bench.run("run", "list", "--bogus", "--json"))["did_you_mean"] == []


def test_an_option_of_the_whole_command_is_sent_before_the_noun(bench: Bench) -> None:
    result = bench.run("run", "list", "--endpoints", "{}")
    assert result.exit_code == 2
    assert "before the noun" in result.stderr


@pytest.mark.parametrize("named", ["option", "variable", "file", "state"])
def test_a_dead_address_is_told_with_its_service_and_what_gave_it(
    bench: Bench, tmp_path: Any, named: str
) -> None:
    text = json.dumps({"production": "127.0.0.1:1"})
    file = tmp_path / "endpoints.json"
    file.write_text(text)
    before: tuple[str, ...] = ()
    source = "PHARMALOOP_ENDPOINTS"
    bench.environment["PHARMALOOP_ENDPOINTS"] = text
    if named == "option":
        before, source = ("--endpoints", text), "--endpoints"
    elif named == "file":
        bench.environment["PHARMALOOP_ENDPOINTS"] = str(file)
        source = f"{file}, named by PHARMALOOP_ENDPOINTS"
    elif named == "state":
        bench.environment |= {"PHARMALOOP_ENDPOINTS": "", "PHARMALOOP_STATE_DIR": str(tmp_path)}
        source = str(file)
    result = bench.run(*before, "deviation", "list")
    assert result.exit_code == 3
    assert f"production at 127.0.0.1:1 (from {source}) does not answer" in result.stderr
    assert "nobody listens there (UNAVAILABLE)" in result.stderr
    assert f"mend it in {source}" in result.stderr.partition("next: ")[2]
    told = error_of(bench.run(*before, "deviation", "list", "--json"))
    assert "127.0.0.1:1" in told["message"]
    followed = bench.run(*before, "lot", "follow")
    assert (followed.exit_code, "production at 127.0.0.1:1" in followed.stderr) == (3, True)


def test_a_host_that_is_not_known_is_told_so(bench: Bench) -> None:
    bench.environment["PHARMALOOP_ENDPOINTS"] = json.dumps({"loops": "no-such-host.invalid:80"})
    result = bench.run("run", "list")
    assert result.exit_code == 3
    told = "loops at no-such-host.invalid:80 (from PHARMALOOP_ENDPOINTS) does not answer"
    assert told in result.stderr


def test_who_cannot_answer_yet_and_who_has_no_such_call_is_named(bench: Bench) -> None:
    def later(_: Any) -> Any:
        raise Retryable("the position is not reached yet")

    bench.fake.answers["ListRuns"] = later
    assert f"loops at {bench.address} (from PHARMALOOP_ENDPOINTS)" in bench.run("run", "list").stderr
    missing = bench.run("alert", "list")
    assert f"alerting at {bench.address} (from PHARMALOOP_ENDPOINTS)" in missing.stderr
    assert "whether the address is this service's" in missing.stderr.partition("next: ")[2]


def test_a_refusal_is_a_document_for_programs(bench: Bench) -> None:
    def refuse(_: Any) -> Any:
        raise Rejected("ALREADY_JUDGED", "the deviation was confirmed by qa", "deviation")

    bench.fake.answers["ConfirmDeviation"] = refuse
    told = error_of(bench.run("deviation", "confirm", ROOT, "d-1", "--reason", "out", "--json"))
    assert (told["status"], told["reason"], told["field"]) == (
        "FAILED_PRECONDITION",
        "ALREADY_JUDGED",
        "deviation",
    )
    assert told["exit_status"] == 1
    assert told["next"] == "'pharmaloop deviation list' or 'pharmaloop deviation show' tells where it stands"


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_has_a_next_step(code: grpc.StatusCode) -> None:
    assert next_step(Refused(code, "SOME_REASON", "field", "it is so")).strip()


@pytest.mark.parametrize(
    "error",
    [
        Failure("no"),
        Missing("no"),
        Unreachable("no"),
        click.UsageError("no"),
        click.BadParameter("no"),
        click.MissingParameter("no", param=click.Argument(["lot"])),
        click.ClickException("no"),
        click.FileError("a.json", "it is not there"),
    ],
)
def test_every_kind_of_error_has_a_next_step(error: click.ClickException) -> None:
    assert next_step(error).strip()
    assert document(error)["message"].strip()


def test_help_is_no_error(bench: Bench) -> None:
    for words in (("--help",), ("run", "--help"), ("run", "list", "--help", "--json")):
        result = bench.run(*words)
        assert (result.exit_code, result.stderr) == (0, "")
    assert cli.name == "pharmaloop"
