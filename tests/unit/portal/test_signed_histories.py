"""Every history says what each signature means, as text, and is whole where nobody wrote a meaning."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from tests.unit.portal import (
    test_alerts_page,
    test_capas,
    test_deviations,
    test_hypotheses,
    test_runs,
    test_sets,
    test_studies,
    test_transfers,
)
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend

Made = tuple[FakeBackend, str]


def _deviation(meaning: str) -> Made:
    found = test_deviations._deviation(production.DEVIATION_STATE_CONFIRMED)
    found.history.add(event="DeviationConfirmed", actor="signer", statement="why", meaning=meaning)
    return test_deviations._backend(found), test_deviations._AT


def _capa(meaning: str) -> Made:
    found = test_capas._capa(production.CAPA_STATE_APPROVED)
    found.history.add(event="ChangeValidated", actor="signer", statement="why", meaning=meaning)
    return test_capas._backend(found), "/capas/c-1"


def _transfer(meaning: str) -> Made:
    backend = test_transfers._backend(test_transfers._transfer())
    answer = backend.answers["production", "GetTransfer"]
    answer.history.add(event="RecipeValidated", actor="signer", statement="why", meaning=meaning)
    return backend, test_transfers._AT


def _set(meaning: str) -> Made:
    backend = test_sets._backend(rnd.PARAMETER_SET_STATE_WITHDRAWN, withdrawn_by="signer")
    ask = backend.answers["rnd", "GetParameterSet"]

    def told(**fields: Any) -> Any:
        answer = ask(**fields)
        answer.version.withdrawal_meaning = meaning
        return answer

    backend.answers["rnd", "GetParameterSet"] = told
    return backend, test_sets._AT


def _study(meaning: str) -> Made:
    ended = test_studies._study(exchange.STUDY_STATE_STOPPED)
    ended.ended_by, ended.ended_meaning = "signer", meaning
    return test_studies._backend(ended), test_studies._AT


def _run(meaning: str) -> Made:
    run = test_runs.closed()
    run.closed.CopyFrom(
        loops_events.LoopClosed(
            outcome="RUN_OUTCOME_CANCELLED", reason="why", actor="signer", meaning=meaning
        )
    )
    return test_runs.backend(run), f"/runs/{test_runs.RUN}"


def _alert(meaning: str) -> Made:
    one = test_alerts_page.alert(actor="signer", note="why", meaning=meaning)
    assert isinstance(one, alerting.Alert)
    return test_alerts_page.backend(one), "/alerts"


def _finding(meaning: str) -> Made:
    backend = test_hypotheses._backend(rnd.FINDING_STATE_DECLINED)
    answer = backend.answers["rnd", "ListFindings"]

    def told(**fields: Any) -> Any:
        found = answer(**fields) if callable(answer) else answer
        for one in found.findings:
            one.actor, one.meaning = "signer", meaning
        return found

    backend.answers["rnd", "ListFindings"] = told
    return backend, "/hypotheses"


_ALL = [_deviation, _capa, _transfer, _set, _study, _run, _alert, _finding]


@pytest.mark.parametrize("made", _ALL, ids=lambda one: one.__name__)
def test_a_signature_is_shown_with_its_meaning(made: Callable[[str], Made]) -> None:
    backend, address = made(HOSTILE)
    answer = Browser(backend).get(address)
    assert answer.status == 200
    assert "signer" in answer.text
    assert f"<small>(<bdi>{html.escape(HOSTILE)}</bdi>)</small>".replace("&quot;", "&#34;") in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("made", _ALL, ids=lambda one: one.__name__)
def test_what_was_signed_before_there_were_meanings_is_shown_without_one(made: Callable[[str], Made]) -> None:
    backend, address = made("")
    answer = Browser(backend).get(address)
    assert answer.status == 200
    assert "signer" in answer.text
    assert "<small>(<bdi></bdi>)</small>" not in answer.text
