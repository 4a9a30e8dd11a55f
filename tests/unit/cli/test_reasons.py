"""Every refusal that partners are told of, as a person in a terminal reads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.cli.calls import COMMANDS, as_typed
from services.cli.session import Failure, Refused
from services.kit.errors import Rejected
from tests.unit.cli.support import Bench
from tests.unit.cli.test_grammar import ALL, CALLS

ERRORS = Path(__file__).parents[3] / "docs" / "partners" / "errors.md"
NAMES = {
    method.name
    for module in CALLS
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def reasons() -> list[tuple[str, str, str]]:
    """Reason, status and meaning of each row of the page."""
    listed = ERRORS.read_text().partition("<!-- reasons -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+ \| (.*) \| [^|]+ \|$", listed, re.M)
    return [(reason, status, meaning) for reason, status, meaning in rows]


def test_the_page_is_read_whole() -> None:
    assert len(reasons()) > 300
    assert {status for _, status, _ in reasons()} <= {code.name for code in grpc.StatusCode}


def test_every_reason_has_a_next_step_and_names_no_call() -> None:
    for reason, status, meaning in reasons():
        refused = Refused(grpc.StatusCode[status], reason, "field", as_typed(meaning))
        assert refused.next_step.strip(), reason
        assert "{" not in refused.next_step, reason
        called = NAMES & set(re.findall(r"\b[A-Z]\w+", refused.message))
        assert not called, f"{reason} names {called}: give services/cli/calls.py the command that makes it"


@pytest.mark.parametrize("call", COMMANDS)
def test_a_call_is_told_as_a_command_that_exists(call: str) -> None:
    assert call in NAMES
    assert COMMANDS[call] in ALL


def kinds(of: type[Failure] = Failure) -> set[type[Failure]]:
    return {of, *(below for kind in of.__subclasses__() for below in kinds(kind))}


@pytest.mark.parametrize("kind", sorted(kinds() - {Refused}, key=repr))
def test_every_kind_of_failure_has_a_next_step(kind: type[Failure]) -> None:
    told = kind("it cannot be")
    assert told.next_step.strip()
    assert "{" not in told.next_step
    assert told.also("; so far").next_step == told.next_step


def test_what_a_service_says_of_its_calls_is_said_of_commands(bench: Bench) -> None:
    def refuse(_: Any) -> Any:
        raise Rejected("UNKNOWN_LINE", "the plant has no such line; list its lines with ListLines", "line")

    bench.fake.answers["ListTransfers"] = refuse
    result = bench.run("transfer", "list")
    assert "list its lines with 'pharmaloop line list' (UNKNOWN_LINE" in result.stderr
    assert "ListLines" not in result.stderr
