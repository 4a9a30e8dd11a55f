"""A deviation's pages: what waits for a judgement, what it rests on, and decisions that are told once."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.portal.backend import Missing
from services.portal.drawing.times import round_times
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, refused

_LOT = "maker-1/item/granulate/G-0071"
_AT = "/deviations/maker-1%2Fitem%2Fgranulate%2FG-0071/d-1"


def _deviation(state: int = api.DEVIATION_STATE_OPEN, **more: object) -> api.Deviation:
    made = api.Deviation(
        detected=events.DeviationDetected(
            deviation="d-1",
            lot=_LOT,
            tag="JacketTemperature",
            rule=HOSTILE,
            magnitude=3.7,
            limit=3.0,
            model_version="m-1",
            unit="Cel",
        ),
        state=state,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )
    for n, value in enumerate((20.0, 21.0, 35.0)):
        point = made.detected.evidence.add(value=value, expected=20.0, low=10.0, high=30.0)
        point.at.FromSeconds(1_000_000 + 60 * n)
    made.history.add(event="DeviationInvestigationStarted", actor=HOSTILE, statement="looked at")
    made.detected.detected.FromSeconds(1_000_120)
    return made


def _backend(*deviations: api.Deviation, **answers: object) -> FakeBackend:
    dossier = trace.GetLotDossierResponse()
    dossier.dossier.exposed.runs.add(run="run-of-it", deviation="d-1")
    return FakeBackend(
        answers={
            ("production", "ListDeviations"): api.ListDeviationsResponse(deviations=deviations),
            ("production", "GetLot"): api.GetLotResponse(lot=api.Lot(lot=_LOT, state=api.LOT_STATE_HELD)),
            ("traceability", "GetLotDossier"): dossier,
        }
        | {("production", method): answer for method, answer in answers.items()}
    )


def test_the_list_filters_by_state_and_keeps_the_filter_on_the_next_part() -> None:
    backend = _backend(_deviation())
    backend.answers["production", "ListDeviations"].next_page_token = "t&2"
    text = Browser(backend).get("/deviations?state=capa-required").text
    assert backend.asked[0][2]["state"] == api.DEVIATION_STATE_CAPA_REQUIRED
    assert "state=capa-required&amp;lot=&amp;token=t%262" in text
    assert _AT in text
    assert 'href="/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"' in text


@pytest.mark.parametrize("address", [_AT, f"{_AT}/confirm"])
@pytest.mark.parametrize(
    ("language", "then", "now"),
    [
        ("en", "Distance at its detection", "Largest distance"),
        ("zh", "检出时的偏离", "最大偏离"),
    ],
)
def test_the_distance_that_was_judged_by_stands_beside_the_largest(
    address: str, language: str, then: str, now: str
) -> None:
    """A reason cites the distance at the detection; what it came to later is another number."""
    grown = _deviation()
    grown.updated.magnitude = 9.125
    text = Browser(_backend(grown), language=language, actor="li").get(address).text
    assert re.search(rf"{then}</dt>\s*<dd>(<bdi>)?[^<]*3\.7", text)
    assert re.search(rf"{now}</dt>\s*<dd>(<bdi>)?[^<]*9\.12", text)
    assert then not in Browser(_backend(_deviation()), language=language, actor="li").get(address).text


def test_a_deviation_shows_its_evidence_its_history_and_what_may_be_decided() -> None:
    answer = Browser(_backend(_deviation())).get(_AT)
    assert answer.status == 200
    assert "JacketTemperature: 3 samples, 1 of them outside the limits" in answer.text
    assert answer.text.count('class="out"') == 1
    assert "Investigation started" in answer.text
    assert "/runs/run-of-it" in answer.text
    assert [
        name
        for name in ("confirm", "reject", "investigate", "classify", "close")
        if f'id="deed-{name}"' in answer.text
    ] == [
        "confirm",
        "reject",
        "investigate",
        "classify",
    ]


@pytest.mark.parametrize(
    ("state", "severity", "deeds"),
    [
        (api.DEVIATION_STATE_UNDER_INVESTIGATION, 0, ["confirm", "reject", "classify"]),
        (api.DEVIATION_STATE_CONFIRMED, 0, ["classify"]),
        (api.DEVIATION_STATE_CONFIRMED, events.SEVERITY_MAJOR, ["classify", "close"]),
        (api.DEVIATION_STATE_REJECTED, 0, []),
        (api.DEVIATION_STATE_CLOSED, events.SEVERITY_MAJOR, []),
    ],
)
def test_only_what_may_follow_is_offered(state: int, severity: int, deeds: list[str]) -> None:
    text = Browser(_backend(_deviation(state, severity=severity))).get(_AT).text
    assert re.findall(r'id="deed-(\w+)"', text) == deeds


def test_what_people_and_sources_wrote_is_shown_as_text() -> None:
    for address in ("/deviations", _AT, f"{_AT}/confirm"):
        text = Browser(_backend(_deviation(actor=HOSTILE, reason=HOSTILE)), actor=HOSTILE).get(address).text
        assert "<script>alert" not in text


def test_without_the_trace_the_rest_is_there() -> None:
    backend = _backend(_deviation())
    backend.answers["traceability", "GetLotDossier"] = Missing("traceability", "away")
    text = Browser(backend).get(_AT).text
    assert 'data-service="traceability"' in text
    assert 'id="deed-confirm"' in text


def test_where_the_plant_kept_no_history_the_dossier_tells_it() -> None:
    old = _deviation()
    del old.history[:]
    backend = _backend(old)
    told = backend.answers["traceability", "GetLotDossier"].dossier.decisions.decisions
    told.add(what="DEVIATION_CONFIRMED", who="李雷", subject="d-1")
    told.add(what="RELEASED", who="another", subject="d-2")
    text = Browser(backend).get(_AT).text
    assert "李雷" in text
    assert "another" not in text


def test_a_deviation_that_is_not_there_is_no_page() -> None:
    assert Browser(_backend()).get(_AT).status == 404
    assert Browser(_backend()).get(f"{_AT}/confirm").status == 404


def test_an_empty_list_says_what_would_fill_it() -> None:
    assert "One appears here when" in Browser(_backend()).get("/deviations").text
    assert "黄金批次" in Browser(_backend(), language="zh").get("/deviations").text


def test_who_has_no_name_sees_what_is_decided_and_gives_the_name_with_it() -> None:
    backend = _backend(_deviation(), ConfirmDeviation=api.ConfirmDeviationResponse())
    browser = Browser(backend)
    text = browser.get(f"{_AT}/confirm").text
    assert text.index("Largest distance") < text.index('name="reason"') < text.index('name="actor"')
    assert "You sign as" not in text
    form = form_of(text, reason="the jacket failed")
    for name in ("", "   ", "x" * 201):
        answer = browser.post(f"{_AT}/confirm", form | {"actor": name})
        assert answer.status == 422
        assert "Name: write 1 to 200 characters." in answer.text
        assert "the jacket failed" in answer.text
        assert backend.told == []
    answer = browser.post(f"{_AT}/confirm", form | {"actor": " 王  芳 "})
    assert answer.status == 303
    assert [actor for _, _, actor, _ in backend.told] == ["王 芳"]
    assert answer.headers["set-cookie"].startswith("actor=%E7%8E%8B%20%E8%8A%B3;")


def test_a_form_does_not_take_another_name_than_the_one_that_is_known() -> None:
    backend = _backend(_deviation(), ConfirmDeviation=api.ConfirmDeviationResponse())
    browser = Browser(backend, actor="李雷")
    text = browser.get(f"{_AT}/confirm").text
    assert 'name="actor"' not in text
    browser.post(f"{_AT}/confirm", form_of(text, reason="it failed") | {"actor": "somebody else"})
    assert [actor for _, _, actor, _ in backend.told] == ["李雷"]


def test_a_confirmation_is_told_once_with_its_reason() -> None:
    backend = _backend(_deviation(), ConfirmDeviation=api.ConfirmDeviationResponse())
    browser = Browser(backend, actor="王芳")
    shown = browser.get(f"{_AT}/confirm").text
    assert "I have judged the evidence: the deviation is real." in shown
    form = form_of(shown, reason="the jacket failed")
    answer = browser.post(f"{_AT}/confirm", form)
    assert (answer.status, answer.headers["location"]) == (303, _AT)
    assert backend.told == [
        (
            "production",
            "ConfirmDeviation",
            "王芳",
            {
                "request_id": form["request_id"],
                "lot": _LOT,
                "deviation": "d-1",
                "reason": "the jacket failed",
                "meaning": "I have judged the evidence: the deviation is real. "
                "The lot is held, and a run may begin.",
            },
        )
    ]


def test_a_classification_takes_a_class_and_an_impact() -> None:
    backend = _backend(
        _deviation(api.DEVIATION_STATE_CONFIRMED), ClassifyDeviation=api.ClassifyDeviationResponse()
    )
    browser = Browser(backend, actor="me")
    form = form_of(browser.get(f"{_AT}/classify").text, severity="2", reason="none on patients")
    assert browser.post(f"{_AT}/classify", form).status == 303
    assert backend.told[0][3]["severity"] == events.SEVERITY_MAJOR
    assert backend.told[0][3]["impact"] == "none on patients"
    for wrong in ("", "9"):
        answer = browser.post(f"{_AT}/classify", form | {"severity": wrong})
        assert answer.status in (303, 422)
    assert all(fields["severity"] in (0, 2) for _, _, _, fields in backend.told)


def test_without_a_reason_nothing_is_told() -> None:
    backend = _backend(_deviation())
    browser = Browser(backend, actor="me")
    form = form_of(browser.get(f"{_AT}/reject").text, reason="  ")
    answer = browser.post(f"{_AT}/reject", form)
    assert answer.status == 422
    assert "Why it is a false alarm: fill this in before you sign." in answer.text
    assert backend.told == []


def test_who_is_second_sees_who_was_first_and_nothing_is_sent() -> None:
    first = _backend(_deviation())
    form = form_of(Browser(first, actor="second").get(f"{_AT}/confirm").text, reason="x")
    later = _backend(_deviation(api.DEVIATION_STATE_REJECTED, actor="李雷", reason="a false alarm"))
    answer = Browser(later, actor="second").post(f"{_AT}/confirm", form)
    assert answer.status == 409
    assert "It is now: False alarm, by 李雷: a false alarm" in answer.text
    assert later.told == []


def test_what_the_service_refuses_is_said_and_what_was_written_stays() -> None:
    backend = _backend(_deviation(), ConfirmDeviation=refused("ALREADY_JUDGED", text="it is <b>judged</b>"))
    browser = Browser(backend, actor="me")
    form = form_of(browser.get(f"{_AT}/confirm").text, reason="my own words")
    answer = browser.post(f"{_AT}/confirm", form)
    assert answer.status == 409
    assert "it is &lt;b&gt;judged&lt;/b&gt;" in answer.text
    assert ">my own words</textarea>" in answer.text


def _chart(limit: float = 3.0) -> api.GetChartResponse:
    """The run's first sample is an hour before the first of the evidence; one a minute."""
    chart = api.GetChartResponse(lot=_LOT, tag="JacketTemperature", limit=limit)
    chart.start.FromSeconds(1_000_000 - 3600)
    for minute in range(70):
        chart.points.add(seconds=60 * minute, value=20.5, mean=20.0, limit_low=10.0, limit_high=30.0)
    chart.points[5].ClearField("value")
    return chart


def test_the_drawing_begins_before_the_limit_is_crossed_and_has_the_time() -> None:
    text = Browser(_backend(_deviation(), GetChart=_chart())).get(_AT).text
    drawing = text[text.index('<svg class="course"') : text.index("</svg>", text.index('class="course"'))]
    assert drawing.count('class="out"') == 1
    assert drawing.count('class="in"') == 2 + 12  # those of the evidence, and twelve from before it
    assert 'r="1.5"' in drawing
    assert "1:40\u202fPM" in drawing or "1:40 PM" in drawing
    assert "Jan 12" in drawing
    assert text.count("<tr><td><time") >= 15
    asked = Browser(_backend(_deviation(), GetChart=_chart()), "zh").get(_AT).text
    assert ">13:40</text>" in asked
    assert "1月12日" in asked


def test_a_long_deviation_is_drawn_from_before_its_first_sample_outside() -> None:
    """The evidence is its newest samples; when it left the limit is what a judge looks for."""
    found = _deviation()
    found.detected.first_out.FromSeconds(1_000_000 - 1800)
    text = Browser(_backend(found, GetChart=_chart())).get(_AT).text
    drawing = text[text.index('<svg class="course"') : text.index("</svg>", text.index('class="course"'))]
    assert drawing.count('class="in"') >= 2 + 31


def test_another_limit_in_force_now_is_not_drawn_as_that_of_then() -> None:
    changed = _chart(limit=2.0)
    for point in changed.points:
        point.limit_low, point.limit_high = 19.9, 20.1
    text = Browser(_backend(_deviation(), GetChart=changed)).get(_AT).text
    assert text.count('class="out"') == 1
    assert ("20.1" in text, "– –" in text) == (False, True)


@pytest.mark.parametrize("seconds", [0, 1, 59, 600, 7_200, 90_000, 3_000_000, 90_000_000])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Europe/Berlin", "Asia/Kathmandu"])
def test_an_axis_of_time_has_a_few_round_moments_within_its_ends(seconds: int, zone: str) -> None:
    begin = datetime(2026, 10, 24, 22, 58, 31, tzinfo=ZoneInfo(zone))
    end = begin + timedelta(seconds=seconds)
    found, step = round_times(begin, end)
    assert len(found) <= 7
    assert len(found) >= (2 if seconds >= 59 else 0)
    assert all(begin <= one <= end for one in found)
    if 60 <= step <= 3600:
        assert all((one.minute * 60 + one.second) % step == 0 for one in found)
