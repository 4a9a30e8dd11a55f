"""Decisions on the command line are signed: with what one writes, or with the verb's own words."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.kit.words import meaning_of
from tests.unit.cli.support import ROOT, Bench
from tests.unit.cli.test_grammar import ALL

#: Each decision: what one types, and the call that it makes.
_DECISIONS: list[tuple[str, Any, str]] = [
    (f"lot hold {ROOT} --reason r", production, "HoldLot"),
    (f"lot release {ROOT}", production, "ReleaseLot"),
    (f"lot reject {ROOT} --reason r", production, "RejectLot"),
    (f"deviation confirm {ROOT} d --reason r", production, "ConfirmDeviation"),
    (f"deviation reject {ROOT} d --reason r", production, "RejectDeviation"),
    (f"deviation investigate {ROOT} d --reason r", production, "StartInvestigation"),
    (f"deviation classify {ROOT} d --severity minor --impact i", production, "ClassifyDeviation"),
    (f"deviation close {ROOT} d --reason r", production, "CloseDeviation"),
    (f"result close {ROOT} n --outcome confirmed --reason r", production, "CloseInvestigation"),
    ("capa validate c --record V --statement s", production, "RecordValidation"),
    ("capa file c --category not-reported --statement s", production, "RecordFilingAssessment"),
    ("capa check c --outcome effective --statement s", production, "RecordEffectivenessCheck"),
    ("transfer validate t --version 1 --record V --statement s", production, "RecordRecipeValidation"),
    ("transfer file t --version 1 --category not-reported --statement s", production, "RecordRecipeFiling"),
    ("set withdraw s --version 1 --reason r", rnd, "WithdrawParameterSet"),
    ("finding take-up i", rnd, "TakeUpInsight"),
    ("finding decline i --reason r", rnd, "DeclineInsight"),
    ("study refuse s --site hospital-a --reason r", exchange, "RefuseStudy"),
    ("study stop s --reason r", exchange, "StopStudy"),
    ("run cancel r --reason r", loops, "CancelRun"),
    ("alert ack a", alerting, "AcknowledgeAlert"),
]


@pytest.mark.parametrize(("typed", "module", "method"), _DECISIONS, ids=[one[2] for one in _DECISIONS])
def test_a_decision_carries_what_the_signature_means(
    bench: Bench, typed: str, module: Any, method: str
) -> None:
    bench.fake.answers[method] = lambda request: getattr(module, f"{method}Response")()
    for more in ((), ("--meaning", "my own words")):
        result = bench.run(*shlex.split(typed), *more)
        assert result.exit_code == 0, result.stderr
    by_verb, own = (request.meaning for request in bench.fake.of(method))
    assert re.fullmatch(r"[A-Z].{20,}\.", by_verb)
    assert own == "my own words"


def test_every_verb_that_makes_such_a_call_has_the_option() -> None:
    signed = {name for name, command in ALL.items() if any(one.name == "meaning" for one in command.params)}
    assert signed >= {" ".join(typed.split()[:2]) for typed, _, _ in _DECISIONS}


def test_a_meaning_that_is_too_long_is_refused_with_its_field(bench: Bench) -> None:
    def refuse(request: Any) -> Any:
        raise AssertionError(f"it was taken: {meaning_of(request)}")  # which refuses it

    bench.fake.answers["HoldLot"] = refuse
    result = bench.run("lot", "hold", ROOT, "--reason", "r", "--meaning", "x" * 2001)
    assert result.exit_code == 1
    assert "at most 2000 characters; these are 2001 (TOO_LONG, field meaning)" in result.stderr
