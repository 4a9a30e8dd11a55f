"""Findings, hypotheses and candidates: what waits for a person, and what a rank rests on."""

from __future__ import annotations

import pytest

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, hidden

_AT = "/hypotheses/findings/i-1"


def _backend(state: int = api.FINDING_STATE_WAITING) -> FakeBackend:
    finding = api.Finding(insight="i-1", study="s-1", statement=HOSTILE, reason="RIDGE")
    finding.state = state  # type: ignore[assignment]

    def findings(state: int = 0, **_: object) -> api.ListFindingsResponse:
        return api.ListFindingsResponse(findings=[finding] if state in (0, finding.state) else [])

    held = events.HypothesisUpdated(
        hypothesis="h-1", claim="warm lots", state=events.HYPOTHESIS_STATE_CONTRADICTED, study="s-1"
    )
    piece = events.CandidateEvidence(source="virtual-trial", score=0.848, weight=1, adds=-0.0785)
    ranked = events.CandidatesRanked(
        indication="thrombosis",
        candidates=[
            events.Candidate(molecule="dicoumarol", rank=1, score=0.0199, evidence=[piece]),
            events.Candidate(molecule="warfarin", rank=2),
        ],
    )
    return FakeBackend(
        answers={
            ("rnd", "ListFindings"): findings,
            ("rnd", "ListHypotheses"): api.ListHypothesesResponse(
                hypotheses=[api.Hypothesis(latest=held, insights=["i-1"])], next_page_token="more"
            ),
            ("rnd", "ListCandidates"): api.ListCandidatesResponse(
                rankings=[api.CandidateRanking(ranked=ranked)], caution="no measure of confidence"
            ),
            ("rnd", "ListInsights"): api.ListInsightsResponse(
                insights=[
                    api.Insight(
                        insight="i-9",
                        product="m/i/1",
                        parameter="feed",
                        statement=HOSTILE,
                        lot="m/i/1/L",
                        run="r-1",
                    )
                ],
                next_page_token="i/2",
            ),
            ("rnd", "TakeUpInsight"): api.TakeUpInsightResponse(),
            ("rnd", "DeclineInsight"): api.DeclineInsightResponse(),
        }
    )


def test_what_waits_leads_to_both_decisions_and_what_does_not_to_none() -> None:
    text = Browser(_backend()).get("/hypotheses").text
    assert f"{_AT}/take-up" in text
    assert f"{_AT}/decline" in text
    assert "<script>alert" not in text
    over = Browser(_backend(api.FINDING_STATE_TAKEN_UP)).get("/hypotheses").text
    assert "/take-up" not in over
    assert "Taken up" in over


def test_a_rank_is_shown_with_its_evidence_and_its_caution() -> None:
    text = Browser(_backend()).get("/hypotheses").text
    for told in ("0.0199", "-0.0785", "virtual-trial", "no measure of confidence", "No evidence yet"):
        assert told in text
    assert "Contradicted" in text
    assert "token=more" in text


def test_what_production_taught_leads_to_its_lot_and_its_run() -> None:
    text = Browser(_backend()).get("/hypotheses?product=m%2Fi%2F1").text
    for told in ("/lots/m%2Fi%2F1%2FL", "/runs/r-1", "insights=i%2F2#insights", "product=m%2Fi%2F1"):
        assert told in text


def test_filters_are_asked_for() -> None:
    backend = _backend()
    Browser(backend).get("/hypotheses?product=p%2F1&state=needs-data")
    asked = {method: fields for _, method, fields in backend.asked}
    assert asked["ListHypotheses"]["state"] == events.HYPOTHESIS_STATE_NEEDS_DATA
    assert asked["ListFindings"]["product"] == "p/1"


@pytest.mark.parametrize(
    ("place", "method", "written"),
    [("take-up", "TakeUpInsight", {}), ("decline", "DeclineInsight", {"reason": "confounded"})],
)
def test_a_decision_is_told_once(place: str, method: str, written: dict[str, str]) -> None:
    backend = _backend()
    browser = Browser(backend, actor="scientist")
    text = browser.get(f"{_AT}/{place}").text
    form = form_of(text, **written)
    answer = browser.post(f"{_AT}/{place}", form)
    assert (answer.status, answer.headers["location"]) == (303, "/hypotheses")
    told = {"request_id": form["request_id"], "insight": "i-1", "meaning": form["meaning"], **written}
    assert backend.told == [("rnd", method, "scientist", told)]


def test_the_second_is_told_how_it_stands() -> None:
    seen = hidden(Browser(_backend(), actor="me").get(f"{_AT}/take-up").text, "seen")
    later = _backend(api.FINDING_STATE_DECLINED)
    page = Browser(later, actor="me").post(f"{_AT}/take-up", {"seen": seen, "request_id": "r"})
    assert page.status == 409
    assert "It stands at: Declined." in page.text
    assert later.told == []
    assert Browser(later, actor="me").get("/hypotheses/findings/other/decline").status == 404


def test_research_being_away_or_empty_is_said() -> None:
    away = Browser(FakeBackend(), language="zh").get("/hypotheses").text
    assert away.count('data-service="rnd"') == 1
    assert away.count('class="empty"') == 5
