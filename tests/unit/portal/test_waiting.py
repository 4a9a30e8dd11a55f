"""The list of what waits: its rows, who may take them, and what stands when a service is away."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.kit import waiting
from services.portal.backend import Missing
from services.portal.pages.waiting import KINDS
from services.portal.render import BELONGS, PLACES, place_of
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend

LOT, RUN = "maker-1/item/granulate/G-0071", "7fae9767-c366-54d7-a85b-1de86b1a906c"
NOW = 1_795_000_000
SITES = {"hospital-a": "clinical", "hospital-b": "clinical.hospital-b"}


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=NOW + seconds)


def deviation(id: str, seconds: int = 0, *history: tuple[str, int], **other: Any) -> api.Deviation:
    detected = events.DeviationDetected(
        deviation=id, lot=LOT, tag="Temp", phase="drying", detected=at(seconds)
    )
    told = [api.RecordMoment(event=event, at=at(when)) for event, when in history]
    return api.Deviation(detected=detected, history=told, **other)


def capa(id: str, *history: tuple[str, int], **other: Any) -> api.Capa:
    proposed = events.CapaProposed(capa=id, lot=LOT, tag="Temp")
    told = [api.RecordMoment(event=event, at=at(when)) for event, when in history]
    return api.Capa(proposed=proposed, history=told, **other)


def deviations(**asked: Any) -> api.ListDeviationsResponse:
    rows = {
        "DEVIATION_STATE_OPEN": [deviation("d-young", 50), deviation("d-open", 10)],
        "DEVIATION_STATE_UNDER_INVESTIGATION": [deviation("d-looked", 20)],
        "DEVIATION_STATE_CONFIRMED": [
            deviation("d-real", 1, ("DeviationConfirmed", 7)),
            deviation(
                "d-class", 1, ("DeviationConfirmed", 7), ("DeviationClassified", 9), severity="SEVERITY_MINOR"
            ),
        ],
        "DEVIATION_STATE_CAPA_REQUIRED": [
            deviation("d-capa", 1, ("DeviationConfirmed", 3), capa="c-1"),
            deviation("d-done", 1, ("DeviationConfirmed", 3), capa="c-1", severity="SEVERITY_MAJOR"),
        ],
    }[asked["state"]]
    return api.ListDeviationsResponse(deviations=rows)


def capas(**asked: Any) -> api.ListCapasResponse:
    approved = ("CapaApproved", 5)
    rows = {
        "CAPA_STATE_PROPOSED": [capa("c-new", ("CapaProposed", 4))],
        "CAPA_STATE_APPROVED": [
            capa("c-both", approved),
            capa("c-file", approved, validated=events.ChangeValidated(capa="c-file")),
        ],
        "CAPA_STATE_EFFECTIVE": [capa("c-check", ("ProcessLimitChanged", 6))],
    }[asked["state"]]
    return api.ListCapasResponse(capas=rows)


def transfers(**asked: Any) -> api.ListTransfersResponse:
    of: dict[str, Any] = {"set": "set-x", "version": 2, "plant": "plant-3", "at": at(8)}
    row = {
        "TRANSFER_STATE_PROPOSED": api.Transfer(transfer="transfer:p", **of),
        "TRANSFER_STATE_IN_CHANGE_CONTROL": api.Transfer(
            transfer="transfer:c", filing=events.RecipeFilingAssessed(transfer="transfer:c"), **of
        ),
    }[asked["state"]]
    return api.ListTransfersResponse(transfers=[row])


def sets(**asked: Any) -> rnd.ListParameterSetsResponse:
    drafted = asked["state"] == "PARAMETER_SET_STATE_DRAFT"
    row = rnd.ParameterSetVersion(set="set-x", version=3 if drafted else 2, product="m/item/x")
    row.drafted.CopyFrom(at(11))
    if not drafted:
        row.reviewed.CopyFrom(at(12))
    return rnd.ListParameterSetsResponse(versions=[row])


def board(**counts: Any) -> clinical.GetSiteBoardResponse:
    return clinical.GetSiteBoardResponse(runs=[clinical.RunBoard(run=RUN, **counts)])


def full(**answers: Any) -> FakeBackend:
    """Services where something of every kind waits."""
    run = loops.Run(run=RUN, loop="safety", case=LOT, stage="evaluate", stage_since=at(15))
    other = loops.Run(run="other", loop="safety", case=LOT, stage="plan", stage_since=at(15))
    study = exchange.Study(
        requested=exchange_events.StudyRequested(
            study="study-1", sites=["hospital-a", "hospital-b"], question="Does it harm?"
        ),
        approvals=[exchange_events.StudyApproved(site="hospital-a")],
        at=at(13),
    )
    known: dict[tuple[str, str], Any] = {
        ("production", "ListDeviations"): deviations,
        ("production", "ListCapas"): capas,
        ("production", "ListLots"): api.ListLotsResponse(
            lots=[api.Lot(lot=LOT, product="maker-1/item/granulate", reason="a smell", since=at(14))]
        ),
        ("production", "ListTransfers"): transfers,
        ("rnd", "ListParameterSets"): sets,
        ("rnd", "ListFindings"): rnd.ListFindingsResponse(
            findings=[rnd.Finding(insight="insight-1", product="m/item/x", statement="It harms.", at=at(16))]
        ),
        ("exchange", "ListStudies"): exchange.ListStudiesResponse(studies=[study]),
        ("loops", "ListRuns"): lambda **asked: loops.ListRunsResponse(
            runs=[run, other] if asked["state"] == "RUN_STATE_STALLED" else []
        ),
        ("clinical", "GetSiteBoard"): board(overdue=30, awaited=60),
        ("clinical.hospital-b", "GetSiteBoard"): board(),
    }
    known |= {tuple(name.split(".")): answer for name, answer in answers.items()}  # type: ignore[misc]
    return FakeBackend(known, sites=SITES)


def rows(text: str) -> list[tuple[str, str]]:
    """Each row: the kind's heading id, and the address of the button."""
    found = []
    for part in re.split(r'<h2 id="', text)[1:]:
        kind = part.partition('"')[0]
        found += [(kind, one) for one in re.findall(r'class="button" href="([^"]+)"', part)]
    return found


DEVIATION = f"/deviations/{LOT.replace('/', '%2F')}"
EVERYTHING = [
    ("judge-deviation", f"{DEVIATION}/d-open"),
    ("judge-deviation", f"{DEVIATION}/d-looked"),
    ("judge-deviation", f"{DEVIATION}/d-young"),
    ("classify-deviation", f"{DEVIATION}/d-capa/classify"),
    ("classify-deviation", f"{DEVIATION}/d-real/classify"),
    ("close-deviation", f"{DEVIATION}/d-class/close"),
    ("decide-lot", f"/lots/{LOT.replace('/', '%2F')}"),
    ("evaluate-hazard", f"/runs/{RUN}/hazard"),
    ("approve-capa", "/capas/c-new/approve"),
    ("validate-capa", "/capas/c-both/validate"),
    ("file-capa", "/capas/c-both/file"),
    ("file-capa", "/capas/c-file/file"),
    ("check-capa", "/capas/c-check/check"),
    ("decide-transfer", "/transfers/transfer%3Ap"),
    ("finish-change", "/transfers/transfer%3Ac/validate"),
    ("review-set", "/sets/set-x/3/review"),
    ("release-set", "/sets/set-x/2/release"),
    ("take-up-finding", "/hypotheses"),
    ("approve-study", "/studies/study-1"),
    ("overdue-plans", "/sites/hospital-a?shown=overdue"),
]


def test_everything_that_waits_stands_under_its_kind_the_oldest_first() -> None:
    assert set(KINDS) == set(waiting.KINDS) == {kind for kind, _ in EVERYTHING}
    text = Browser(full()).get("/waiting").text
    assert rows(text) == EVERYTHING
    assert f"{len(EVERYTHING)} wait." in text
    assert 'href="/waiting" aria-current="page"' in text


def test_since_when_is_when_it_came_to_wait_not_when_it_began() -> None:
    text = Browser(full()).get("/waiting?kind=close-deviation").text
    assert at(9).ToJsonString() in text, "it was classified then"
    assert at(1).ToJsonString() not in text
    text = Browser(full()).get("/waiting?kind=decide-lot").text
    assert at(14).ToJsonString() in text
    assert "a smell" in text


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        ("plant", {"decide-transfer", "finish-change"}),
        ("research", {"review-set", "release-set", "take-up-finding"}),
        ("site", {"approve-study", "overdue-plans"}),
        ("site hospital-a", {"overdue-plans"}),
        ("site hospital-b", {"approve-study"}),
    ],
)
def test_a_role_sees_its_own_and_no_other_service_is_asked(role: str, kinds: set[str]) -> None:
    services = full()
    text = Browser(services).get(f"/waiting?role={role.replace(' ', '+')}").text
    assert {kind for kind, _ in rows(text)} == kinds
    assert f'value="{role}" selected' in text
    asked = {service.partition(".")[0] for service, _, _ in services.asked}
    assert asked == {"plant": {"production"}, "research": {"rnd"}}.get(role, {"exchange", "clinical"})


def test_every_list_is_asked_once_bounded_and_the_oldest_first() -> None:
    services = full()
    Browser(services).get("/waiting")
    lists = [fields for _, method, fields in services.asked if method.startswith("List")]
    assert len(lists) == len(waiting.LISTS)
    assert all(0 < fields["page_size"] <= 200 for fields in lists)
    assert all(fields.get("oldest_first") or fields.get("order") for fields in lists)


def test_there_being_more_is_said() -> None:
    answer = api.ListLotsResponse(lots=[api.Lot(lot=LOT)], next_page_token="more")
    text = Browser(full(**{"production.ListLots": answer})).get("/waiting?kind=decide-lot").text
    assert "At least 1 wait." in text
    assert "Not all of this list was read: more may wait here." in text


def test_a_list_that_was_not_read_to_its_end_is_never_silent() -> None:
    other = loops.Run(run="other", loop="safety", case=LOT, stage="plan")
    answer = loops.ListRunsResponse(runs=[other], next_page_token="more")
    text = Browser(full(**{"loops.ListRuns": answer})).get("/waiting?kind=evaluate-hazard").text
    assert "Nothing of this choice waits." not in text
    assert "Not all of this list was read: more may wait here." in text


def test_a_small_group_of_patients_is_no_number_at_any_site() -> None:
    services = full()
    services.answers["clinical.hospital-b", "GetSiteBoard"] = board(overdue=3, awaited=40)
    text = Browser(services).get("/waiting?kind=overdue-plans").text
    assert text.count("withheld (protects a small group)") == 2
    live = text.partition('id="live"')[2].partition("</main>")[0]
    assert "<small>30 overdue</small>" not in live
    assert "<small>3 overdue</small>" not in live
    assert "<small>30 overdue</small>" in Browser(full()).get("/waiting?kind=overdue-plans").text


@pytest.mark.parametrize("away", ["production", "rnd", "exchange", "loops", "clinical.hospital-b"])
def test_a_service_that_is_away_is_named_and_the_rest_is_shown(away: str) -> None:
    services = full()
    for service, method in list(services.answers):
        if service == away:
            services.answers[service, method] = Missing(away, "nobody answers")
    page = Browser(services).get("/waiting")
    assert page.status == 200
    assert f'data-service="{away}"' in page.text
    assert 0 < len(rows(page.text)) <= len(EVERYTHING)


def nothing() -> FakeBackend:
    empty = {
        ("production", "ListDeviations"): api.ListDeviationsResponse(),
        ("production", "ListCapas"): api.ListCapasResponse(),
        ("production", "ListLots"): api.ListLotsResponse(),
        ("production", "ListTransfers"): api.ListTransfersResponse(),
        ("rnd", "ListParameterSets"): rnd.ListParameterSetsResponse(),
        ("rnd", "ListFindings"): rnd.ListFindingsResponse(),
        ("exchange", "ListStudies"): exchange.ListStudiesResponse(),
        ("loops", "ListRuns"): loops.ListRunsResponse(),
        ("clinical", "GetSiteBoard"): board(),
        ("clinical.hospital-b", "GetSiteBoard"): board(),
    }
    return FakeBackend(empty, sites=SITES)


def test_an_empty_list_says_what_would_fill_it_and_an_unanswered_one_does_not_say_nothing_waits() -> None:
    assert "Nothing waits for anybody." in Browser(nothing()).get("/waiting").text
    assert "Nothing of this choice waits." in Browser(nothing()).get("/waiting?role=plant").text
    text = Browser(FakeBackend(sites=SITES)).get("/waiting").text
    assert "Nothing waits with the services that answer." in text
    assert "Nothing waits for anybody." not in text


def test_the_list_is_the_same_for_everybody() -> None:
    def live(actor: str) -> str:
        return (
            Browser(full(), actor=actor)
            .get("/waiting")
            .text.partition('id="live"')[2]
            .partition("</main>")[0]
        )

    assert live("qa") == live("")


def test_what_others_wrote_is_text_and_an_unknown_filter_is_none() -> None:
    lot = api.Lot(lot=LOT, product=HOSTILE, reason=HOSTILE)
    services = full(**{"production.ListLots": api.ListLotsResponse(lots=[lot])})
    text = Browser(services).get("/waiting?kind=%3Cscript%3E&role=site+nowhere").text
    assert "<script>alert" not in text
    assert len(rows(text)) == len(EVERYTHING)


def test_in_chinese_no_english_is_left() -> None:
    text = Browser(full(), language="zh").get("/waiting").text
    assert ">待办<" in text
    for kind in KINDS.values():
        for english in (kind.title, kind.deed, kind.who):
            assert english not in text


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/waiting", "/waiting"),
        ("/runs/r-7", "/runs"),
        ("/results", "/lots"),
        ("/results/close", "/lots"),
        ("/catalogue", "/hypotheses"),
        ("/catalogue/product/new", "/hypotheses"),
        ("/trials/t-1", "/hypotheses"),
        ("/drafts/trial", "/hypotheses"),
        ("/sets/set-1/2", "/transfers"),
        ("/drafts/set", "/transfers"),
        ("/drafts/study", "/studies"),
        ("/search", ""),
        ("/lotsomething", ""),
    ],
)
def test_every_page_marks_the_place_that_it_stands_in(path: str, place: str) -> None:
    assert place_of(path) == place
    assert place in {"", *(known for known, _ in PLACES)}


@pytest.mark.parametrize("path", ["/catalogue", "/trials", "/results", "/drafts/study"])
def test_pages_that_the_head_does_not_lead_to_mark_their_place(path: str) -> None:
    text = Browser(FakeBackend(), actor="dr-li").get(path).text
    assert f'href="{BELONGS[path]}" aria-current="page"' in text


def test_the_gravest_stands_first_and_says_why() -> None:
    detected = events.DeviationDetected(
        deviation="d-far", lot=LOT, tag="Temp", magnitude=34.7, limit=3.0, detected=at(90)
    )
    detected.proposed_severity = events.SEVERITY_MAJOR
    far = api.Deviation(detected=detected)
    near = deviation("d-near", 10)
    near.detected.magnitude, near.detected.limit = 3.1, 3.0
    near.detected.lot = "m/item/x/other"
    told = {
        "DEVIATION_STATE_OPEN": [near, far],
        "DEVIATION_STATE_UNDER_INVESTIGATION": [],
        "DEVIATION_STATE_CONFIRMED": [],
        "DEVIATION_STATE_CAPA_REQUIRED": [],
    }
    services = full(
        **{
            "production.ListDeviations": lambda **asked: api.ListDeviationsResponse(
                deviations=told[asked["state"]]
            ),
            "loops.ListRuns": loops.ListRunsResponse(
                runs=[loops.Run(run=RUN, case=LOT, stage="plan", sites=["hospital-a", "hospital-b"])]
            ),
        }
    )
    text = Browser(services).get("/waiting?kind=judge-deviation").text
    assert [one.rpartition("/")[2] for _, one in rows(text)] == ["d-far", "d-near"]
    assert "Hospitals with exposed patients: 2" in text
    assert "Major · 34.7 spreads, limit 3" in text
    assert "In each kind the gravest stands first" in text


def test_suspicions_of_one_lot_are_one_row_that_leads_to_each() -> None:
    text = Browser(full()).get("/waiting?kind=judge-deviation").text
    (opened,) = re.findall(r'<details id="[^" ]+">.*?</details>', text, re.DOTALL)
    assert "3 suspicions of one lot" in opened
    for one in ("d-open", "d-looked", "d-young"):
        assert f'class="button" href="{DEVIATION}/{one}"' in opened
    assert "3 wait." in text
    assert "What belongs together stands in one row" in text


def test_many_lots_held_for_one_reason_are_one_row_and_another_reason_is_another() -> None:
    lots = [api.Lot(lot=f"m/item/x/{n}", product="m/item/x", reason="recall", runs=[RUN]) for n in range(61)]
    lots.append(api.Lot(lot="m/item/x/alone", product="m/item/x", reason=HOSTILE))
    services = full(**{"production.ListLots": api.ListLotsResponse(lots=lots)})
    text = Browser(services).get("/waiting?kind=decide-lot").text
    assert "61 lots of one product, held for one reason" in text
    assert text.count("<details") == 1
    assert len(rows(text)) == 62
    assert "<script>alert" not in text
    assert "同一产品因同一原因暂控的 61 个批次" in Browser(services, language="zh").get("/waiting").text
