"""A study's page: who is missing, the forest of its estimates, decisions for one site each."""

from __future__ import annotations

import json
import re

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden, refused

_AT = "/studies/s-1"


def _study(state: int, *signed: str, **more: object) -> api.Study:
    sites = ["hospital-a", "hospital-b", "hospital-c"]
    asked = events.StudyRequested(
        study="s-1",
        question=HOSTILE,
        datasets=[f"{site}/routine" for site in sites],
        sites=sites,
        valued=True,
        specification='{"model": "logistic"}',
    )
    approvals = [events.StudyApproved(study="s-1", site=site, actor=f"owner of {site}") for site in signed]
    found = api.Study(requested=asked, approvals=approvals)
    found.state = state  # type: ignore[assignment]
    return found


def _answered() -> api.Study:
    found = _study(api.STUDY_STATE_ANSWERED, "hospital-a", "hospital-b", "hospital-c")
    effects = [
        events.Effect(
            term="exposed",
            scale="log-odds",
            estimate=common.Estimate(value=0.75, lower=0.25, upper=1.25),
            p_value=0.003,
        ),
        events.Effect(term="female", scale="log-odds", estimate=common.Estimate(reason="NO_CASES")),
    ]
    tables = {"bins": [{"from": 0, "count": None}, {"from": 1, "count": 12}]}
    found.insight.CopyFrom(
        events.InsightPublished(
            insight="i-1", job="j-1", effects=effects, members=549, flags=["RIDGE"], tables=json.dumps(tables)
        )
    )
    job = found.jobs.add()
    job.opened.job, job.opened.number = "j-1", 1
    job.rounds.add(round=1, attempt=2, participants=["hospital-a"], numbers=7, seconds=0.25)
    found.contributions.add(site="hospital-a", valued=True, share=0.42, compute_seconds=1.5)
    found.contributions.add(site="hospital-b", not_valued="NOT_ALL_CONSENT")
    return found


def _backend(study: api.Study) -> FakeBackend:
    datasets = [
        api.Dataset(
            registered=events.DatasetRegistered(dataset=f"hospital-{one}/routine"), connected=one == "a"
        )
        for one in "abc"
    ]
    return FakeBackend(
        answers={
            ("exchange", "GetStudy"): api.GetStudyResponse(study=study),
            ("exchange", "ListStudies"): api.ListStudiesResponse(studies=[study]),
            ("exchange", "ListDatasets"): api.ListDatasetsResponse(datasets=datasets),
            ("exchange", "ApproveStudy"): api.ApproveStudyResponse(),
            ("exchange", "RefuseStudy"): api.RefuseStudyResponse(),
            ("exchange", "StopStudy"): api.StopStudyResponse(),
        }
    )


def test_who_has_not_signed_can_sign_and_the_others_cannot_again() -> None:
    text = Browser(_backend(_study(api.STUDY_STATE_REQUESTED, "hospital-a"))).get(_AT).text
    assert f"{_AT}/approve?site=hospital-b" in text
    assert f"{_AT}/refuse?site=hospital-c" in text
    assert f"{_AT}/approve?site=hospital-a" not in text
    assert "owner of hospital-a" in text
    assert text.count("Not connected") == 2


def test_an_answer_is_drawn_and_stands_in_tables() -> None:
    text = Browser(_backend(_answered())).get(_AT).text
    assert 'aria-label="Estimates on the scale log-odds, with their 95 % intervals"' in text
    assert text.count('class="point"') == 1
    assert "2.12" in text  # e^0.75
    assert "NO_CASES" in text
    assert "RIDGE" in text
    assert "42%" in text
    assert "NOT_ALL_CONSENT" in text
    assert "withheld" in text
    assert "0.25 s" in text


def test_a_refused_study_says_why_and_offers_nothing() -> None:
    study = _study(api.STUDY_STATE_REFUSED)
    study.statement = "not for marketing"
    text = Browser(_backend(study)).get(_AT).text
    assert "not for marketing" in text
    assert "/approve" not in text
    assert "/stop" not in text


def test_text_is_text_and_chinese_is_chinese() -> None:
    for address in ("/studies", _AT, f"{_AT}/approve?site=hospital-b"):
        study = _study(api.STUDY_STATE_REQUESTED)
        text = Browser(_backend(study), language="zh", actor="me").get(address).text
        assert "<script>alert" not in text
        assert text.count("<h1>") == 1
        assert "研究" in text


def test_lists_filter_and_an_empty_one_says_what_fills_it() -> None:
    backend = _backend(_answered())
    assert "3 of 3" in Browser(backend).get("/studies?state=answered&site=hospital-a").text
    assert backend.asked[0][2]["state"] == api.STUDY_STATE_ANSWERED
    backend.answers["exchange", "ListStudies"] = api.ListStudiesResponse()
    assert "study request" in Browser(backend).get("/studies").text
    backend.answers["exchange", "GetStudy"] = refused()
    assert Browser(backend).get("/studies/nope").status == 404


@pytest.mark.parametrize(
    ("place", "method", "written", "told"),
    [
        (
            "approve?site=hospital-b",
            "ApproveStudy",
            {"meaning": "m", "valuation": "yes"},
            {"study": "s-1", "site": "hospital-b", "meaning": "m", "valuation": True},
        ),
        (
            "approve?site=hospital-b",
            "ApproveStudy",
            {"meaning": "m"},
            {"study": "s-1", "site": "hospital-b", "meaning": "m", "valuation": False},
        ),
        (
            "refuse?site=hospital-b",
            "RefuseStudy",
            {"reason": "no", "meaning": "m"},
            {"study": "s-1", "site": "hospital-b", "reason": "no", "meaning": "m"},
        ),
        (
            "stop",
            "StopStudy",
            {"reason": "no", "meaning": "m"},
            {"study": "s-1", "reason": "no", "meaning": "m"},
        ),
    ],
)
def test_a_decision_is_told_once(
    place: str, method: str, written: dict[str, str], told: dict[str, object]
) -> None:
    backend = _backend(_study(api.STUDY_STATE_REQUESTED, "hospital-a"))
    browser = Browser(backend, actor="owner")
    text = browser.get(f"{_AT}/{place}").text
    form = written | {name: hidden(text, name) for name in ("request_id", "seen")}
    answer = browser.post(f"{_AT}/{place}", form)
    assert (answer.status, answer.headers["location"]) == (303, _AT)
    assert backend.told == [("exchange", method, "owner", {"request_id": form["request_id"], **told})]


def test_the_second_reads_who_was_first() -> None:
    at = f"{_AT}/approve?site=hospital-b"
    seen = hidden(Browser(_backend(_study(api.STUDY_STATE_REQUESTED)), actor="me").get(at).text, "seen")
    later = _backend(_study(api.STUDY_STATE_REQUESTED, "hospital-b"))
    page = Browser(later, actor="me").post(at, {"seen": seen, "request_id": "r", "meaning": "m"})
    assert page.status == 409
    assert "owner of hospital-b approved for hospital-b." in page.text
    assert later.told == []


def test_a_study_that_is_over_cannot_be_stopped() -> None:
    at = f"{_AT}/stop"
    going = Browser(_backend(_study(api.STUDY_STATE_COMPUTING)), actor="me").get(at).text
    later = _backend(_answered())
    page = Browser(later, actor="me").post(
        at, {"seen": hidden(going, "seen"), "request_id": "r", "reason": "x"}
    )
    assert page.status == 409
    assert "It stands at: Answered." in page.text
    assert later.told == []


@pytest.mark.parametrize(
    ("now", "told", "not_told"),
    [
        (api.JobProgress(frozen=["hospital-a"]), "The sites freeze their cohorts.", "at most"),
        (
            api.JobProgress(rounds=4, round=5, attempt=2, answered=["hospital-a"], awaited=["hospital-b"]),
            "Round 5, attempt 2; a job has 60 rounds at most.",
            "freeze",
        ),
        (api.JobProgress(rounds=9), "The rounds are done", "freeze"),
    ],
)
def test_rounds_are_seen_while_they_are_computed(now: api.JobProgress, told: str, not_told: str) -> None:
    study = _study(api.STUDY_STATE_COMPUTING, "hospital-a", "hospital-b", "hospital-c")
    study.requested.most_rounds = 60
    opened = events.JobOpened(job="j-1", number=1, participants=["hospital-a", "hospital-b", HOSTILE])
    study.jobs.add(opened=opened, progress=now)
    text = Browser(_backend(study)).get(_AT).text
    assert told in text
    assert not_told not in text
    assert 'data-every="2"' in text
    assert "<script>alert" not in text
    assert "data-every" not in Browser(_backend(_answered())).get(_AT).text


def test_a_site_shows_what_it_does_in_the_round() -> None:
    study = _study(api.STUDY_STATE_COMPUTING)
    opened = events.JobOpened(job="j-1", number=1, participants=["a", "b", "c"])
    now = api.JobProgress(round=2, rounds=1, attempt=2, answered=["a"], awaited=["b"])
    study.jobs.add(opened=opened, progress=now)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", Browser(_backend(study)).get(_AT).text))
    for told in ("a has answered", "b computes", "c is no longer part of it"):
        assert told in text
