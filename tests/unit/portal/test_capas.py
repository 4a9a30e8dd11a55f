"""A corrective action's pages: evidence as it was released, change control, decisions told once."""

from __future__ import annotations

import re

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, form_of, refused

_LOT = "maker-1/item/granulate/G-0071"


def _capa(state: int = api.CAPA_STATE_PROPOSED, **more: object) -> api.Capa:
    made = api.Capa(
        proposed=events.CapaProposed(
            capa="c-1", run="r-1", deviation="d-1", lot=_LOT, tag="Torque", limit_before=3.0, limit_after=2.5
        ),
        state=state,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )
    made.proposed.reason = HOSTILE
    made.history.add(event="CapaApproved", actor="li", statement=HOSTILE)
    made.proposed.evidence.sites.add(
        site="hospital-a",
        exposed=events.CapaEvidenceRow(patients=40, cases=12),
        comparators=events.CapaEvidenceRow(withheld=True),
        pooled=True,
    )
    estimate = made.proposed.evidence.risk_ratio
    estimate.value, estimate.lower, estimate.upper = 2.4, 1.3, 4.1
    return made


def _backend(*capas: api.Capa, **answers: object) -> FakeBackend:
    dossier = trace.GetLotDossierResponse()
    return FakeBackend(
        answers={
            ("production", "ListCapas"): api.ListCapasResponse(capas=capas),
            ("traceability", "GetLotDossier"): dossier,
        }
        | {("production", method): answer for method, answer in answers.items()}
    )


def test_the_list_leads_to_lot_run_and_action() -> None:
    text = Browser(_backend(_capa())).get("/capas?state=proposed").text
    for address in ("/capas/c-1", "/runs/r-1", "/lots/maker-1%2Fitem%2Fgranulate%2FG-0071"):
        assert f'href="{address}"' in text


def test_small_groups_stay_withheld_and_estimates_come_with_their_interval() -> None:
    text = Browser(_backend(_capa())).get("/capas/c-1").text
    assert "2.4 (95 % interval 1.3 to 4.1)" in text
    assert text.count("withheld (protects a small group)") == 2
    assert "CAPA approved" in text
    assert "<script>alert" not in text


def test_whoever_approves_is_told_where_the_evidence_is_thin() -> None:
    def told(capa: api.Capa) -> str:
        return Browser(_backend(capa), actor="han").get("/capas/c-1/approve").text

    assert "The numbers are of one site alone." in told(_capa())
    assert "No comparison" not in told(_capa())
    alone = _capa()
    alone.proposed.evidence.ClearField("risk_ratio")
    assert "No comparison" in told(alone)
    without = _capa()
    without.proposed.evidence.Clear()
    assert "No site has released numbers" in told(without)
    enough = _capa()
    enough.proposed.evidence.sites.add(site="hospital-c", pooled=True)
    assert "Thin evidence" not in told(enough)


_VALIDATED = events.ChangeValidated(capa="c-1", record="VAL-1", statement="shown", actor="li")
_FILED = events.ChangeFilingAssessed(capa="c-1", category=events.FILING_CATEGORY_NOTIFICATION, actor="han")
_REFUSED = events.CapaRefused(capa="c-1", actor="李雷", reason=HOSTILE, meaning="I refuse")
_CHECKED = events.CapaEffectivenessChecked(outcome=events.EFFECTIVENESS_OUTCOME_EFFECTIVE, actor="han")


@pytest.mark.parametrize(
    ("capa", "deeds"),
    [
        (_capa(), ["approve", "refuse"]),
        (_capa(api.CAPA_STATE_APPROVED), ["validate", "file"]),
        (_capa(api.CAPA_STATE_APPROVED, validated=_VALIDATED), ["file"]),
        (_capa(api.CAPA_STATE_APPROVED, filing=_FILED), ["validate"]),
        (_capa(api.CAPA_STATE_EFFECTIVE, validated=_VALIDATED, filing=_FILED), ["check"]),
        (_capa(api.CAPA_STATE_CLOSED, validated=_VALIDATED, filing=_FILED, check=_CHECKED), []),
        (_capa(api.CAPA_STATE_REFUSED, refused=_REFUSED), []),
    ],
)
def test_only_the_next_steps_are_offered(capa: api.Capa, deeds: list[str]) -> None:
    text = Browser(_backend(capa)).get("/capas/c-1").text
    assert re.findall(r'id="deed-(\w+)"', text) == deeds


@pytest.mark.parametrize(
    ("deed", "capa", "method", "written", "fields"),
    [
        ("approve", _capa(), "ApproveCapa", {"meaning": "I approve"}, {"meaning": "I approve"}),
        (
            "refuse",
            _capa(),
            "RefuseCapa",
            {"meaning": "I refuse", "reason": "one site alone"},
            {"meaning": "I refuse", "reason": "one site alone"},
        ),
        (
            "validate",
            _capa(api.CAPA_STATE_APPROVED),
            "RecordValidation",
            {"record": "VAL-2", "statement": "all runs judged again"},
            {"record": "VAL-2", "statement": "all runs judged again"},
        ),
        (
            "file",
            _capa(api.CAPA_STATE_APPROVED),
            "RecordFilingAssessment",
            {"category": "2", "reference": "", "statement": "small"},
            {"category": events.FILING_CATEGORY_NOTIFICATION, "reference": "", "statement": "small"},
        ),
        (
            "check",
            _capa(api.CAPA_STATE_EFFECTIVE),
            "RecordEffectivenessCheck",
            {"outcome": "1", "statement": "no deviation since"},
            {"outcome": events.EFFECTIVENESS_OUTCOME_EFFECTIVE, "statement": "no deviation since"},
        ),
    ],
)
def test_each_decision_is_told_once_under_the_name(
    deed: str, capa: api.Capa, method: str, written: dict[str, str], fields: dict[str, object]
) -> None:
    backend = _backend(capa, **{method: getattr(api, f"{method}Response")()})
    browser = Browser(backend, actor="韩梅梅")
    form = form_of(browser.get(f"/capas/c-1/{deed}").text, **written)
    answer = browser.post(f"/capas/c-1/{deed}", form)
    assert (answer.status, answer.headers["location"]) == (303, "/capas/c-1")
    told = {"request_id": form["request_id"], "capa": "c-1", "meaning": form["meaning"], **fields}
    assert backend.told == [("production", method, "韩梅梅", told)]


def test_who_is_second_sees_who_was_first() -> None:
    form = form_of(Browser(_backend(_capa()), actor="b").get("/capas/c-1/approve").text, meaning="I approve")
    later = _backend(_capa(api.CAPA_STATE_APPROVED, actor="李雷"))
    answer = Browser(later, actor="b").post("/capas/c-1/approve", form)
    assert answer.status == 409
    assert "It is now: Approved; the last to decide was 李雷" in answer.text
    assert later.told == []


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ("Refused", "The limit stays as it is, and research is not told")),
        ("zh", ("已拒绝", "限度维持不变，也不通知研发")),
    ],
)
def test_a_refused_action_shows_by_whom_and_why_and_waits_for_nothing(
    language: str, said: tuple[str, ...]
) -> None:
    backend = _backend(_capa(api.CAPA_STATE_REFUSED, refused=_REFUSED))
    text = Browser(backend, language=language).get("/capas/c-1").text
    for one in ("李雷", *said):
        assert one in text
    assert "<script>alert" not in text
    assert "not on record yet" not in text
    assert "Taking effect" not in text


def test_whoever_refuses_is_told_what_follows_and_must_say_why() -> None:
    backend = _backend(_capa(), RefuseCapa=api.RefuseCapaResponse())
    text = Browser(backend, actor="han").get("/capas/c-1/refuse").text
    assert "the run ends as refused" in text
    assert "The numbers are of one site alone." in text
    assert re.search(r'<textarea[^>]*name="reason"[^>]*required', text)


def test_who_approves_what_was_refused_meanwhile_sees_who_refused_it() -> None:
    form = form_of(Browser(_backend(_capa()), actor="b").get("/capas/c-1/approve").text, meaning="I approve")
    later = _backend(_capa(api.CAPA_STATE_REFUSED, refused=_REFUSED))
    answer = Browser(later, actor="b").post("/capas/c-1/approve", form)
    assert answer.status == 409
    assert "It is now: Refused; the last to decide was 李雷" in answer.text
    assert later.told == []


def test_what_the_service_refuses_is_said() -> None:
    backend = _backend(_capa(), ApproveCapa=refused("NOT_YOURS", text="the proposer cannot approve"))
    browser = Browser(backend, actor="b")
    form = form_of(browser.get("/capas/c-1/approve").text, meaning="I approve")
    answer = browser.post("/capas/c-1/approve", form)
    assert answer.status == 409
    assert "the proposer cannot approve" in answer.text


def test_what_is_not_there_is_no_page_and_an_empty_list_says_why() -> None:
    assert Browser(_backend()).get("/capas/c-9").status == 404
    assert Browser(_backend(_capa())).get("/capas/c-1/burn").status == 404
    assert "One is proposed when" in Browser(_backend()).get("/capas").text
    assert Browser(_backend(), language="zh").get("/capas").text.count("<h1>") == 1


def _stays(kept: events.LimitKept) -> api.Capa:
    made = _capa()
    made.proposed.limit_before = made.proposed.limit_after = 2.7
    made.proposed.kept = kept
    made.proposed.evidence.risk_ratio.CopyFrom(common.Estimate(reason="NO_CASES"))
    made.proposed.evidence.rate_difference.CopyFrom(common.Estimate(reason="NO_PERSON_TIME"))
    return made


@pytest.mark.parametrize("address", ["/capas", "/capas/c-1", "/capas/c-1/approve"])
@pytest.mark.parametrize(
    ("language", "stays", "why"),
    [
        (
            "en",
            "stays at 2.7 spreads of the golden run",
            "no complaint is among the answers that were released",
        ),
        ("zh", "维持黄金批次残差标准差的 2.7 倍不变", "已公布的应答中没有不适主诉"),
    ],
)
def test_a_limit_that_stays_is_said_to_stay_and_why(
    address: str, language: str, stays: str, why: str
) -> None:
    backend = _backend(_stays(events.LIMIT_KEPT_NO_COMPLAINTS))
    text = Browser(backend, language=language, actor="li").get(address).text
    assert stays in text
    assert why in text
    assert "2.7 / 2.7" not in text


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ("no cases", "no follow-up time of both groups to compare")),
        ("zh", ("无病例", "没有两组均有的随访时间可供比较")),
    ],
)
def test_why_an_estimate_is_left_out_is_said_in_words(language: str, said: tuple[str, ...]) -> None:
    backend = _backend(_stays(events.LIMIT_KEPT_WITHHELD))
    text = Browser(backend, language=language).get("/capas/c-1").text
    for one in said:
        assert one in text
    assert "NO_" not in text


def test_a_reason_that_is_not_known_here_leaves_the_sentence_whole() -> None:
    text = Browser(_backend(_stays(99))).get("/capas/c-1").text  # type: ignore[arg-type]
    assert "<dd>stays at 2.7 spreads of the golden run</dd>" in text


def test_limits_that_differ_by_little_do_not_read_alike() -> None:
    capa = _capa()
    capa.proposed.limit_before, capa.proposed.limit_after = 2.703, 2.7
    assert "from 2.703 to 2.7 spreads" in Browser(_backend(capa)).get("/capas/c-1").text
