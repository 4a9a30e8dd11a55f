"""The page of services: what is not well stands first, and nothing is told that is for operators alone."""

from __future__ import annotations

import pytest

from pharmaloop.common.v1 import service_pb2 as common
from services.portal.backend import Missing
from tests.unit.portal.fakes import Browser, FakeBackend

SECRET = "mongodb://root:hunter2@db"


def process(health: str = "serving", **runner: object) -> common.GetStatusResponse:
    one = common.RunnerStatus(name="x.lists", state="running")
    for name, value in runner.items():
        setattr(one, name, value)
    return common.GetStatusResponse(
        service="x",
        health=health,
        runners=[one],
        contract="c1",
        not_ready=[SECRET] if health != "serving" else [],
    )


def backend(**told: object) -> FakeBackend:
    answers = {(name, "GetStatus"): answer for name, answer in told.items()}
    return FakeBackend(answers, processes=list(told))


def test_what_does_not_answer_stands_first_and_the_rest_is_there() -> None:
    text = Browser(backend(alpha=process(), zeta=Missing("zeta", SECRET))).get("/status").text
    assert text.index('row">zeta') < text.index('row">alpha')
    assert "Does not answer" in text
    assert "Not well: 1 of 2 processes" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (process(), "Serving"),
        (process(health="not serving"), "Not serving"),
        (process(state="failed", detail=SECRET), "A runner failed"),
        (process(parked_keys=1), "Records wait for an operator"),
        (process(dead_letters=2), "Records wait for an operator"),
        (process(lag=5000), "Behind"),
    ],
)
def test_a_process_in_a_word_without_secrets(answer: common.GetStatusResponse, said: str) -> None:
    text = Browser(backend(x=answer)).get("/status").text
    assert f"</span>{said}</span>" in text
    assert SECRET not in text


def test_all_is_well_is_said_and_different_contracts_too() -> None:
    other = process()
    other.contract = "c2"
    text = Browser(backend(a=process(), b=other)).get("/status").text
    assert "All 2 processes are well" in text
    assert "2 different contracts" in text


def test_numbers_are_summed_over_runners_and_told_in_chinese() -> None:
    one = process(lag=3000)
    one.runners.add(name="x.other", state="starting", lag=1234, records=9)
    text = Browser(backend(x=one), language="zh").get("/status").text
    assert "4,234" in text
    assert "积压记录" in text


def test_a_portal_without_services_says_what_is_missing() -> None:
    assert "PHARMALOOP_ENDPOINTS" in Browser(FakeBackend()).get("/status").text
