"""What the platform says by itself is said in the reader's language: alerts, and rules that fired."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2 as alerts
from pharmaloop.common.v1 import service_pb2 as operations
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as plant
from pharmaloop.traceability.v1 import dossier_pb2 as trace
from pharmaloop.traceability.v1 import service_pb2 as trace_api
from services import sayings
from services.alerting.domain import texts
from services.kit.ids import LotParts, study_case, transfer_case
from services.portal.languages import CHINESE, ENGLISH, Language
from services.portal.running import WAITS
from services.portal.sayings import SAYINGS, plain, rule
from services.production import answers
from services.production.domain import deviation, laboratory, lists, record, trend
from services.production.domain import lot as lots
from services.production.domain.charting import Charts, read
from services.production.domain.residuals import CHARTS
from services.production.domain.spc.charts import Cusum, Ewma
from services.production.domain.spc.rules import RULES
from services.traceability.domain.dossier import lots as dossiers
from services.traceability.domain.dossier import page_lot
from tests.unit.portal.english import sentences
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend

LOT = "m/item/x/1"
ZH, EN = Language(CHINESE), Language(ENGLISH)


def detected(phase: str = "growth", evidence: bool = True, **other: Any) -> production.DeviationDetected:
    points = [production.EvidencePoint(value=7.25, low=6.9, high=7.125)] if evidence else []
    return production.DeviationDetected(
        deviation="d-1",
        lot=LOT,
        tag="ph",
        equipment="reactor-2",
        phase=phase,
        magnitude=3.4567,
        limit=2.7,
        unit="[pH]",
        evidence=points,
        **other,
    )


def all_told() -> Iterator[texts.Told]:
    """Everything that an alert may say."""
    for phase in ("", "growth"):
        for evidence in (False, True):
            yield texts.of_deviation(detected(phase, evidence))
    for (loop, stage), (waits, _) in WAITS.items():
        case = {"safety": LOT, "transfer": transfer_case("s", "p"), "evidence": study_case("q")}[loop]
        yield texts.of_stall(loops.LoopStalled(run="r-1", case=case, stage=stage, waiting_for=waits))
    yield texts.of_missing_run(LOT, "d-1")
    yield texts.of_missing_successor(LOT, "r-1", "r-2")
    yield texts.of_unanswered("version 3 was released", "transfer", transfer_case("s", "p"))
    yield texts.of_unanswered("study q was requested", "evidence", study_case("q"))


def page(told: texts.Told, language: str) -> str:
    one = alerts.Alert(
        raised=alerting.AlertRaised(
            alert="a-1",
            kind=alerting.ALERT_KIND_DEVIATION,
            lot=LOT,
            to="quality-head",
            text=told.text,
            sayings=told.sayings,
        ),
        latest_text=told.text,
        latest_sayings=told.sayings,
        level=1,
        asked="quality-head",
        count=1,
    )
    backend = FakeBackend(
        {
            ("alerting", "ListAlerts"): alerts.ListAlertsResponse(alerts=[one]),
            ("alerting", "GetAlert"): alerts.GetAlertResponse(alert=one),
            ("alerting", "GetStatus"): operations.GetStatusResponse(),
        }
    )
    browser = Browser(backend, language, actor="王芳")
    return browser.get("/alerts").text + browser.get("/alerts/a-1").text


@pytest.mark.parametrize("told", list(all_told()), ids=lambda told: told.text[:60])
def test_the_chinese_page_of_an_alert_has_no_english_sentence(told: texts.Told) -> None:
    text = page(told, "zh")
    assert sentences(text) == []
    assert told.text not in text


def test_an_alert_says_the_same_numbers_in_both_languages() -> None:
    told = texts.of_deviation(detected())
    for language in (ZH, EN):
        said = plain(language, told.sayings, told.text)
        for part in ("ph", "reactor-2", "growth", "3.5", "2.7", "7.25", "6.9", "7.125", "d-1", LOT):
            assert part in said, (language.code, part)


def test_what_has_no_parts_is_shown_as_it_was_written_and_marked_as_english() -> None:
    text = page(texts.Told("the pressure is high"), "zh")
    assert '<bdi lang="en">the pressure is high</bdi>' in text
    assert "the pressure is high" in sentences(text)


@pytest.mark.parametrize(
    "sayings",
    [
        (common.Saying(code="OF_TOMORROW"),),
        (sayings.saying("LAST_POINT", value=1.0),),
        (sayings.saying("CHECK_LOOPS"), common.Saying(code="OF_TOMORROW")),
    ],
)
def test_a_part_of_a_newer_service_is_no_error(sayings: tuple[common.Saying, ...]) -> None:
    assert plain(ZH, sayings, "as it was written") == "as it was written"


def test_names_in_what_an_alert_says_are_escaped() -> None:
    told = texts.of_missing_run(HOSTILE, HOSTILE)
    text = page(told, "zh")
    assert "<script>alert" not in text
    assert "偏差 <bdi>&lt;script&gt;" in text


def test_every_rule_of_the_detector_has_its_sentence() -> None:
    codes = {f"TWO_OF_THREE_{chart.upper()}" for chart in CHARTS} | set(RULES)
    z = np.zeros((20, 1))
    for in_spreads in (False, True):
        charts = Charts(tuple(RULES), Cusum(0.5, 5.0), Ewma(0.2, 2.86), in_spreads=in_spreads)
        for signal in read(charts, z):
            codes.add(signal.code)
            saying = common.Saying(
                code=signal.code,
                arguments=[common.SayingValue(name=name, number=value) for name, value in signal.values],
            )
            assert plain(EN, (saying,), "").lower().startswith("control chart: ")
            assert plain(EN, (saying,), "").lower() == f"control chart: {signal.words}".lower()
    assert codes <= set(SAYINGS)


def test_a_rule_that_fired_is_chinese_on_the_page_of_its_deviation() -> None:
    saying = sayings.saying("TWO_OF_THREE_LEVEL", limit=2.7)
    english = "two of three samples left the golden run by more than 2.7 spreads (level chart)"
    one = detected(rule=english, rule_saying=saying)
    told = plant.ListDeviationsResponse(deviations=[plant.Deviation(detected=one)])
    backend = FakeBackend({("production", "ListDeviations"): told})
    text = Browser(backend, "zh").get("/deviations/m%2Fitem%2Fx%2F1/d-1").text
    assert "三个样本中有两个偏离黄金批次超过" in text
    assert sentences(text) == []
    assert rule(EN, one).lower() == english
    one.ClearField("rule_saying")
    assert rule(ZH, one) == english


RUN = "0b7a6c1e-run"


def held() -> Iterator[record.Lot]:
    """A lot by everything that a rule holds it for, with a person's words where there are some."""
    started = lots.evolve(None, production.LotStarted(lot=LOT, product="m/item/x", equipment="reactor-2"))
    found = lots.evolve(started, detected())
    *_, event = lots.decide_confirm(found, "d-1", "看过曲线，属实", "王芳")
    yield lots.evolve(found, event)
    event, _ = lots.decide_implicate(started, LOT, RUN, "m/item/y/7")
    yield lots.evolve(started, event)
    (event,) = lots.decide_implicate(None, LOT, RUN, "m/item/y/7")
    yield lots.evolve(None, event)


@pytest.mark.parametrize("lot", list(held()), ids=lambda lot: lot.reason)
def test_the_chinese_page_of_a_lot_says_in_chinese_why_a_rule_holds_it(lot: record.Lot) -> None:
    parts = LotParts("m", "item", "x", "1")
    backend = FakeBackend({("production", "GetLot"): plant.GetLotResponse(lot=answers.lot(lot, parts))})
    text = Browser(backend, "zh").get("/lots/m%2Fitem%2Fx%2F1").text
    assert lot.reason not in text
    assert sentences(text) == []
    assert ("看过曲线，属实" in text) == ("看过曲线，属实" in lot.reason)
    english = Browser(backend, "en").get("/lots/m%2Fitem%2Fx%2F1").text
    assert lot.reason.lower() in re.sub(r"</?bdi>", "", english).lower()


def test_words_that_a_person_wrote_stay_as_they_are() -> None:
    lot = plant.Lot(lot=LOT, state=plant.LOT_STATE_HELD, reason="the label is torn", actor="王芳")
    backend = FakeBackend({("production", "GetLot"): plant.GetLotResponse(lot=lot)})
    assert "<bdi>the label is torn</bdi>" in Browser(backend, "zh").get("/lots/m%2Fitem%2Fx%2F1").text


def test_the_chinese_dossier_says_in_chinese_why_a_rule_held_the_lot() -> None:
    lot = next(held())
    before = lots.decide_implicate(lot, LOT, RUN, "m/item/y/7")
    hold = production.LotHeld(lot=LOT, reason=lot.reason, reason_sayings=sayings.told(lot.sayings))
    entry = dossiers.LotRecord(LOT)
    for number, event in enumerate((hold, *before)):
        entry = dossiers.after(entry, event, f"2026-01-01T00:00:0{number}+00:00", f"e-{number}")
    told = trace.LotDossier(lot=LOT, process=page_lot.process(entry))
    backend = FakeBackend({("traceability", "GetLotDossier"): trace_api.GetLotDossierResponse(dossier=told)})
    text = Browser(backend, "zh").get("/lots/m%2Fitem%2Fx%2F1/dossier").text
    assert "的偏差已确认" in text
    assert sentences(text) == []


def _tested(value: float) -> production.TestResultRecorded:
    return production.TestResultRecorded(lot=LOT, test="assay", value=value, unit="%", low=95.0, high=105.0)


def _results() -> Iterator[lists.ResultRow]:
    """A result by everything that it may break."""
    lot = record.Lot(LOT, "started")
    for number, value in enumerate((94.2, 105.8)):
        told = _tested(value)
        (opened,) = laboratory.investigate(lot, told, f"r-{number}", f"i-{number}", "2026-01-01", "")
        assert isinstance(opened, production.LaboratoryInvestigationOpened)
        yield lists.investigated(lists.tested(None, told, f"r-{number}"), opened)
    days = range(1, 31)
    known = [trend.Measured(f"2026-01-{day:02}", f"e-{day}", 100 + day % 3 / 10, LOT) for day in days]
    one = trend.Measured("2026-02-01", "r-9", 103.5, LOT)
    (review,) = trend.review(trend.Trend("t", results=tuple(known)), one, _tested(103.5))
    yield lists.reviewed(lists.tested(None, _tested(103.5), "r-9"), review)


@pytest.mark.parametrize("row", list(_results()), ids=lambda row: row.rule)
def test_the_chinese_list_of_results_says_in_chinese_what_a_result_broke(row: lists.ResultRow) -> None:
    told = plant.ListResultsResponse(results=[answers.result(row)])
    backend = FakeBackend({("production", "ListResults"): told})
    text = Browser(backend, "zh").get("/results?state=all").text
    assert row.rule not in text
    assert sentences(text) == []
    assert re.sub(r"<[^>]+>", "", rule(EN, told.results[0])) == row.rule


def test_the_chinese_history_of_a_deviation_says_in_chinese_what_the_platform_did() -> None:
    lot = record.Lot(
        LOT, "held", deviations=(record.Deviation("d-1", b"", state="capa_required", capa="c-1"),)
    )
    row = lists.detected(
        None, detected(rule_saying=sayings.saying("WE2"), rule="a rule in English"), "2026-01-01"
    )
    happened: list[Any] = [
        production.DeviationClassified(
            lot=LOT, deviation="d-1", severity=production.SEVERITY_MAJOR, impact="影响有限", actor="王芳"
        ),
        production.DeviationCapaRequired(lot=LOT, deviation="d-1", capa="c-0"),
        production.DeviationCapaRefused(lot=LOT, deviation="d-1", capa="c-0"),
        production.DeviationCapaRequired(lot=LOT, deviation="d-1", capa="c-1"),
        *deviation.decide_close_with(lot, "c-1", "王芳"),
    ]
    for event in happened:
        row = lists.changed(row, event, "2026-01-02")
    told = plant.ListDeviationsResponse(deviations=[answers.deviation_row(row)])
    backend = FakeBackend({("production", "ListDeviations"): told})
    text = Browser(backend, "zh").get("/deviations/m%2Fitem%2Fx%2F1/d-1").text
    assert sentences(text) == []
    for english in ("a rule in English", "corrective action", "major: "):
        assert english not in text
    assert "影响有限" in text
    assert "<bdi>c-0</bdi> 已被拒绝" in text
    assert text.count("<bdi>c-1</bdi> 已关闭") == 2  # above, and in the history
