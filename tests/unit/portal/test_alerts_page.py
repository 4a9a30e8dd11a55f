"""The page of alerts: who is asked and until when; one is taken in two steps, once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.common.v1 import service_pb2 as common
from services.portal.backend import Missing
from services.portal.clock import PlatformClock
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, refused

NOW = 1_795_000_000


def alert(actor: str = "", text: str = "the pressure is high", **other: Any) -> api.Alert:
    return api.Alert(
        raised=events.AlertRaised(
            alert="a-1", kind=events.ALERT_KIND_DEVIATION, lot="m/item/x/1", run="run-12345", text=text
        ),
        severity=events.ALERT_SEVERITY_CRITICAL,
        count=3,
        actor=actor,
        level=2,
        asked="quality-head",
        escalations=[events.AlertEscalated(alert="a-1", level=2, to="quality-head")],
        **other,
    )


def backend(one: api.Alert) -> FakeBackend:
    return FakeBackend(
        {
            ("alerting", "ListAlerts"): api.ListAlertsResponse(alerts=[one], next_page_token="more&"),
            ("alerting", "GetAlert"): api.GetAlertResponse(alert=one),
            ("alerting", "AcknowledgeAlert"): api.AcknowledgeAlertResponse(),
            ("alerting", "GetStatus"): common.GetStatusResponse(platform_time=Timestamp(seconds=NOW)),
        }
    )


def test_an_alert_that_nobody_took_says_who_is_asked_and_until_when() -> None:
    told = backend(alert(next_escalation=Timestamp(seconds=NOW + 240)))
    text = Browser(told).get("/alerts").text
    assert "Critical" in text
    assert "× 3" in text
    assert "Quality head" in text
    assert re.search(r'class="clock" data-until="[^"]+">4 minutes<', text)
    assert 'href="/lots/m%2Fitem%2Fx%2F1"' in text
    assert 'href="/runs/run-12345"' in text
    assert 'href="/alerts/a-1"' in text
    asked = next(fields for _, method, fields in told.asked if method == "ListAlerts")
    assert asked["state"] == api.ALERT_STATE_OPEN


def test_at_the_top_nobody_else_is_asked() -> None:
    assert "No further role is asked" in Browser(backend(alert())).get("/alerts").text


def test_one_that_is_taken_has_no_button_and_no_clock() -> None:
    text = Browser(backend(alert(actor=HOSTILE, note=HOSTILE))).get("/alerts?state=all").text
    assert "Taken by" in text
    assert 'href="/alerts/a-1"' not in text
    assert 'class="clock"' not in text
    assert "<script>alert" not in text


def resolved(actor: str = "", reason: str = "probe") -> api.Alert:
    ended = events.AlertResolved(
        alert="a-1", end=events.ALERT_END_DEVIATION_REJECTED, actor="qa-2", reason=reason
    )
    return alert(actor=actor, state=api.ALERT_STATE_RESOLVED, resolved=ended)


def test_one_that_is_over_says_what_ended_it_and_calls_nobody() -> None:
    told = backend(resolved(reason=HOSTILE))
    text = Browser(told).get("/alerts?state=resolved").text
    asked = next(fields for _, method, fields in told.asked if method == "ListAlerts")
    assert (asked["state"], asked["only_open"]) == (api.ALERT_STATE_RESOLVED, False)
    for said in ("What ended it", "The deviation was a false alarm", "qa-2", "card over"):
        assert said in text
    for said in ("data-open", 'class="clock"', "Escalates", 'href="/alerts/a-1"', "<script>alert"):
        assert said not in text


@pytest.mark.parametrize(("language", "said"), [("en", "The deviation was confirmed"), ("zh", "偏差已确认")])
def test_one_whose_deviation_was_confirmed_is_over(language: str, said: str) -> None:
    ended = events.AlertResolved(end=events.ALERT_END_DEVIATION_CONFIRMED, actor="qa-3", reason="drift")
    over = alert(state=api.ALERT_STATE_RESOLVED, resolved=ended)
    text = Browser(backend(over), language=language).get("/alerts?state=resolved").text
    assert said in text
    assert "data-open" not in text


def test_an_alert_that_a_run_ended_leads_to_the_run() -> None:
    ended = events.AlertResolved(end=events.ALERT_END_RUN_OPENED, reason="run-77777-long")
    text = Browser(backend(alert(resolved=ended))).get("/alerts?state=all").text
    assert 'href="/runs/run-77777-long"' in text


def test_who_would_take_what_ended_meanwhile_is_told_so() -> None:
    told = backend(alert())
    browser = Browser(told, actor="Night shift")
    sent = form_of(browser.get("/alerts/a-1").text)
    told.answers["alerting", "GetAlert"] = api.GetAlertResponse(alert=resolved())
    answer = browser.post("/alerts/a-1", sent)
    assert answer.status == 409
    assert "It is over: The deviation was a false alarm, by qa-2" in answer.text
    assert told.told == []


def test_filters_go_to_the_service_and_into_the_next_page() -> None:
    told = backend(alert())
    text = Browser(told).get("/alerts?state=taken&kind=stalled&run=r-1&lot=l-1").text
    asked = next(fields for _, method, fields in told.asked if method == "ListAlerts")
    assert (asked["run"], asked["lot"]) == ("r-1", "l-1")
    assert (asked["state"], asked["kind"]) == (api.ALERT_STATE_TAKEN, events.ALERT_KIND_LOOP_STALLED)
    assert "?state=taken&amp;kind=stalled&amp;run=r-1&amp;lot=l-1&amp;after=more%26" in text


def test_sound_is_off_until_it_is_switched_on() -> None:
    text = Browser(backend(alert())).get("/alerts").text
    assert 'id="sound" aria-pressed="false"' in text
    assert "autoplay" not in text


@pytest.mark.parametrize(
    ("language", "said"), [("en", "What somebody has to look at"), ("zh", "需要有人处理的事项")]
)
def test_alerts_in_both_languages(language: str, said: str) -> None:
    assert said in Browser(backend(alert(text=HOSTILE)), language=language).get("/alerts").text


def test_no_alert_is_said_so_and_a_service_that_is_away_is_not_no_alert() -> None:
    told = backend(alert())
    told.answers["alerting", "ListAlerts"] = api.ListAlertsResponse()
    assert "No alert matches" in Browser(told).get("/alerts").text
    told.answers["alerting", "ListAlerts"] = Missing("alerting", "away")
    text = Browser(told).get("/alerts").text
    assert "No alert matches" not in text
    assert 'data-service="alerting"' in text


def test_taking_is_two_taps_and_one_command() -> None:
    told = backend(alert())
    browser = Browser(told, actor="Night shift")
    sent = form_of(browser.get("/alerts/a-1").text)
    done = browser.post("/alerts/a-1", sent)
    assert (done.status, done.headers["location"]) == (303, "/alerts?took=a-1")
    assert [(method, actor) for _, method, actor, _ in told.told] == [("AcknowledgeAlert", "Night shift")]
    assert told.told[0][3] == {
        "request_id": sent["request_id"],
        "alert": "a-1",
        "note": "",
        "meaning": sent["meaning"],
    }
    assert sent["meaning"] == "I look after this alert from now on."


def test_who_takes_it_second_sees_who_was_first() -> None:
    told = backend(alert())
    browser = Browser(told, actor="Second")
    sent = form_of(browser.get("/alerts/a-1").text)
    told.answers["alerting", "GetAlert"] = api.GetAlertResponse(alert=alert(actor="First", note="on my way"))
    answer = browser.post("/alerts/a-1", sent)
    assert answer.status == 409
    assert "First took it: on my way" in answer.text
    assert told.told == []


def test_an_alert_that_nobody_knows_is_no_page() -> None:
    told = backend(alert())
    told.answers["alerting", "GetAlert"] = refused()
    assert Browser(told, actor="A").get("/alerts/nothing").status == 404


def test_the_pace_of_the_clock_is_made_of_two_looks() -> None:
    clock, start = PlatformClock(), datetime(2026, 1, 1, tzinfo=UTC)
    clock.heard(start, 0.0)
    clock.heard(start + timedelta(seconds=100), 1.0)
    assert clock.pace == 1.0
    clock.heard(start + timedelta(seconds=600), 10.0)
    assert clock.pace == pytest.approx(60)
    clock.heard(start - timedelta(days=1), 11.0)
    clock.heard(start, 11.0 + 86400)
    assert clock.pace == pytest.approx(1)


def test_who_took_one_is_told_so_at_the_top_and_nobody_else_is() -> None:
    told = backend(alert(actor="Night shift"))
    text = Browser(told, actor="Night shift").get("/alerts?took=a-1").text
    said = re.search(r'<p class="done" role="status">.*?</p>', text, re.DOTALL)
    assert said
    assert "You took this alert" in said[0]
    assert 'href="/lots/m%2Fitem%2Fx%2F1"' in said[0]
    assert text.index('class="done"') < text.index('class="alerts"')
    for actor in ("Somebody else", ""):
        assert "You took this alert" not in Browser(told, actor=actor).get("/alerts?took=a-1").text
    told.answers["alerting", "GetAlert"] = refused()
    assert Browser(told, actor="Night shift").get("/alerts?took=nothing").status == 200
    assert "您已接手此警报" in Browser(backend(alert(actor="A")), "zh", "A").get("/alerts?took=a-1").text


def test_filters_are_folded_until_one_is_set() -> None:
    told = backend(alert())
    assert '<details class="fold" id="filters"><summary>' in Browser(told).get("/alerts").text
    for asked in ("state=all", "kind=stalled", "run=r-1", "lot=l-1"):
        text = Browser(told).get(f"/alerts?{asked}").text
        assert '<details class="fold" id="filters" open>' in text


def test_the_gravest_stands_first_and_one_that_grew_says_what_it_was() -> None:
    def one(name: str, severity: Any, raised: Any) -> api.Alert:
        of = events.AlertRaised(alert=name, kind=events.ALERT_KIND_DEVIATION, severity=raised)
        return api.Alert(raised=of, severity=severity, count=1, level=1)

    low, middle, high = (
        events.ALERT_SEVERITY_MINOR,
        events.ALERT_SEVERITY_MAJOR,
        events.ALERT_SEVERITY_CRITICAL,
    )
    told = backend(alert())
    rows = [one("new", middle, middle), one("near", low, low), one("grew", high, low)]
    told.answers["alerting", "ListAlerts"] = api.ListAlertsResponse(alerts=rows)
    text = Browser(told).get("/alerts").text
    assert re.findall(r'data-alert="([^"]+)"', text) == ["grew", "new", "near"]
    assert text.count("when it was raised") == 1
    assert "Critical; when it was raised: Minor" in text
