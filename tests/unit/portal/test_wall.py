"""The quality wall and the chart of a tag: grey unless abnormal, what needs somebody first, data as text."""

from __future__ import annotations

import json
import re

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.portal.backend import Missing
from services.portal.drawing.wall import bar, sparkline
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused

_LOT = "maker-1/item/granulate/G-0071"
_CHART = "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071/chart/Torque"


def _row(equipment: str, state: int, ratio: float | None) -> api.WallRow:
    row = api.WallRow(equipment=equipment, lot=_LOT, running=True, state=state)  # type: ignore[arg-type]
    if ratio is not None:
        row.worst.tag, row.worst.ratio = "Torque", ratio
        row.line.seconds.extend([0, 60, 120])
        row.line.ratios.extend([0.2, ratio, ratio])
        row.judging = api.RUN_JUDGING_JUDGED
    else:
        row.judging = api.RUN_JUDGING_NO_MODEL
    if state == api.WALL_STATE_ABNORMAL:
        row.deviations.add(deviation="d-1", tag=HOSTILE, state=api.DEVIATION_STATE_OPEN)
    return row


def _chart() -> api.GetChartResponse:
    answer = api.GetChartResponse(
        lot=_LOT,
        tag="Torque",
        unit="</script><script>alert(1)</script>",
        monitored=True,
        running=True,
        limit=3,
        limit_changed=True,
        model_version="m-7",
        judging=api.RUN_JUDGING_JUDGED,
        tags=["Torque", "Speed"],
        samples=400,
    )
    answer.start.FromSeconds(1_000_000)
    for n in range(400):
        point = answer.points.add(seconds=60.0 * n, mean=10, band_low=7, band_high=13, ratio=n / 300)
        if n != 5:
            point.value = 10.0 + n / 100
    detected = events.DeviationDetected(deviation="d-1", tag="Torque", rule="three of three")
    detected.detected.FromSeconds(1_007_200)
    detected.first_out.FromSeconds(1_003_600)
    answer.deviations.add(detected=detected, state=api.DEVIATION_STATE_OPEN)
    answer.false_alarms.alarmed, answer.false_alarms.runs = 2, 60
    answer.false_alarms.rate_low, answer.false_alarms.rate_high = 0.004, 0.115
    answer.standings.add(tag="Torque", ratio=1.33, worst_ratio=1.4)
    return answer


def _backend(*rows: api.WallRow) -> FakeBackend:
    return FakeBackend(
        answers={
            ("production", "ListWall"): api.ListWallResponse(rows=rows),
            ("production", "GetChart"): _chart(),
        }
    )


_ROWS = (
    _row("dryer-1", api.WALL_STATE_NORMAL, 0.3),
    _row("dryer-2", api.WALL_STATE_ABNORMAL, 2.4),
    _row("dryer-3", api.WALL_STATE_WATCH, 0.9),
    _row("dryer-4", api.WALL_STATE_UNSPECIFIED, None),
)


def test_what_needs_somebody_stands_first_and_the_rest_is_grey() -> None:
    text = Browser(_backend(*_ROWS)).get("/wall?plant=plant-1").text
    assert re.findall(r'<th scope="row"><bdi>([\w-]+)</bdi>', text) == [
        "dryer-2",
        "dryer-3",
        "dryer-1",
        "dryer-4",
    ]
    assert "Need somebody: 1" in text
    assert re.findall(r'<tr class="(\w+)">', text) == ["abnormal", "watch", "normal", "normal"]
    assert "Not judged: no model of the product" in text
    assert f'href="{_CHART}"' in text
    assert "<script>alert" not in text
    assert 'data-every="2"' in text


@pytest.mark.parametrize(
    ("language", "word", "why"),
    [("en", "Silent", "no reading for more than 10 minutes"), ("zh", "无读数", "超过10分钟没有读数")],
)
def test_a_run_whose_readings_stopped_calls_somebody_and_is_not_grey(
    language: str, word: str, why: str
) -> None:
    quiet = _row("dryer-9", api.WALL_STATE_SILENT, 0.3)
    quiet.silent, quiet.silent_after = True, 600
    quiet.latest_reading.FromSeconds(1_007_200)
    text = Browser(_backend(_ROWS[0], quiet), language=language).get("/wall").text
    assert re.findall(r'<th scope="row"><bdi>([\w-]+)</bdi>', text) == ["dryer-9", "dryer-1"]
    assert re.findall(r'<tr class="(\w+)">', text) == ["abnormal", "normal"]
    assert f"</span>{word}</span>" in text, "a shape and a word"
    assert why in text
    assert "1" in re.findall(r'class="calling".*?</p>', text)[0]


def test_a_run_that_is_abnormal_says_that_it_is_silent_as_well() -> None:
    both = _row("dryer-9", api.WALL_STATE_ABNORMAL, 1.3)
    both.silent, both.silent_after = True, 600
    text = Browser(_backend(both)).get("/wall").text
    assert "Abnormal" in text
    assert "</span>Silent</span> no reading for more than 10 minutes" in text


def test_a_bar_says_what_it_shows_and_only_what_is_abnormal_has_colour() -> None:
    assert 'class="ratio normal"' in bar(0.5, "x")
    assert 'class="ratio watch"' in bar(0.8, "x")
    assert 'class="ratio watch"' in bar(1.0, "x")
    assert 'class="ratio abnormal"' in bar(1.01, "x")
    assert 'class="beyond"' in bar(9.0, "x")
    assert 'aria-label="&lt;b&gt;"' in bar(0.5, "<b>")
    assert bar(float("nan"), "x") == ""


def test_a_sparkline_marks_what_was_beyond_the_limit() -> None:
    assert sparkline([0, 1, 2], [0.1, 1.5, 0.2], "x").count('class="beyond"') == 1
    assert sparkline([], [], "x") == ""
    assert "nan" not in sparkline([0, 1], [float("nan"), 0.5], "x")


def test_the_wall_without_its_service_and_without_rows() -> None:
    backend = _backend()
    assert "A row appears here when" in Browser(backend).get("/wall").text
    backend.answers["production", "ListWall"] = Missing("production", "away")
    assert 'data-service="production"' in Browser(backend).get("/wall").text


def test_a_chart_says_rule_model_and_false_alarm_rate() -> None:
    backend = _backend()
    text = Browser(backend).get(_CHART).text
    assert backend.asked[0][2]["tag"] == "Torque"
    for said in (
        "three of three",
        "m-7",
        "2 of 60 good runs (95 % interval 0.4% to 11.5%)",
        "changed by signature",
    ):
        assert said in text
    assert "133% of its limit now, at most 140%" in text
    assert "echarts" in text
    assert "echarts" not in Browser(backend).get("/wall").text


def test_what_the_script_draws_cannot_leave_its_block() -> None:
    text = Browser(_backend()).get(_CHART).text
    block = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', text, re.DOTALL)
    assert block
    drawn = json.loads(block[1])
    assert drawn["unit"] == "</script><script>alert(1)</script>"
    assert drawn["lines"]["value"][5][1] is None
    assert drawn["lines"]["value"][60] == [1.0, 10.6]
    assert drawn["marks"] == [{"from": 1.0, "at": 2.0}]
    assert "<script>alert" not in text


def test_the_table_has_what_was_beyond_the_limit() -> None:
    text = Browser(_backend()).get(_CHART).text
    assert 58 <= text.count('<td class="number">10 </td>') + text.count('<td class="number">10</td>') <= 130


def test_a_lot_that_nobody_knows_has_no_chart() -> None:
    backend = _backend()
    backend.answers["production", "GetChart"] = refused()
    assert Browser(backend).get(_CHART).status == 404


@pytest.mark.parametrize("address", ["/wall", _CHART])
def test_a_page_has_one_heading_in_chinese(address: str) -> None:
    text = Browser(_backend(*_ROWS), language="zh").get(address).text
    assert len(re.findall(r"<h1[ >]", text)) == 1
    assert "黄金批次" in text or "质量监控墙" in text
