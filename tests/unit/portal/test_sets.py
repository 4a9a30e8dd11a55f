"""Parameter sets: what a version says and changes, and its signatures in their order."""

from __future__ import annotations

import pytest

from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from pharmaloop.rnd.v1 import service_pb2 as api
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden, refused

_AT = "/sets/anti%2Fcoagulant/2"


def _backend(state: int, *plants: str, reviewer: str = "", withdrawn_by: str = "") -> FakeBackend:
    version = api.ParameterSetVersion(
        set="anti/coagulant",
        version=2,
        product="maker-3/gtin/1",
        drafter=HOSTILE,
        reviewer=reviewer,
        withdrawn_by=withdrawn_by,
        withdrawal_reason="impure" if withdrawn_by else "",
        releases=[api.PlantRelease(plant=plant, actor="head") for plant in plants],
        reviews=[api.RequestedReview(reason="a limit moved", capa="c-1")],
    )
    version.state = state  # type: ignore[assignment]
    says = content.ParameterSetContent(statement=HOSTILE)
    normal = content.Range(low=1.1, high=1.4, unit="L/h")
    proven = content.Range(low=900, high=1500, unit="mL/h")
    says.parameters.add(parameter="feed", set_point=1.2625, normal=normal, proven=proven)
    says.process.vessel.blade_width_m = 0.0375
    difference = api.ParameterSetDifference(path="parameters[feed].set_point", before="1.25", after="1.2625")
    lines = [production.Line(plant=plant, line="l-1") for plant in ("plant-2", "plant-3")]

    def one(set: str, version: int = 0) -> api.GetParameterSetResponse:
        if set != "anti/coagulant" or version not in (0, 2):
            raise refused()
        return api.GetParameterSetResponse(version=found, content=says)

    found = version
    return FakeBackend(
        answers={
            ("rnd", "GetParameterSet"): one,
            ("rnd", "ListParameterSets"): api.ListParameterSetsResponse(
                versions=[found, api.ParameterSetVersion(set="anti/coagulant", version=1)]
            ),
            ("rnd", "GetParameterSetDiff"): api.GetParameterSetDiffResponse(
                from_version=1, to_version=2, differences=[difference]
            ),
            ("production", "ListLines"): production.ListLinesResponse(lines=lines),
            ("rnd", "ReviewParameterSet"): api.ReviewParameterSetResponse(),
            ("rnd", "ReleaseParameterSet"): api.ReleaseParameterSetResponse(),
            ("rnd", "WithdrawParameterSet"): api.WithdrawParameterSetResponse(),
        }
    )


_DRAFT, _REVIEWED = api.PARAMETER_SET_STATE_DRAFT, api.PARAMETER_SET_STATE_REVIEWED


def test_a_version_says_what_it_holds_and_what_it_changes() -> None:
    text = Browser(_backend(_DRAFT)).get(_AT).text
    for told in ("1.2625", "1.1…1.4", "parameters[feed].set_point", "<del>", "a limit moved", "/capas/c-1"):
        assert told in text
    assert "<script>alert" not in text
    assert text.count("<h1>") == 1
    assert "900…1,500 <strong>mL/h</strong>" in text, "a range in another unit says so"
    assert "0.0375 m" in text, "who signs for the geometry sees it whole"


@pytest.mark.parametrize(
    ("state", "places"),
    [
        (_DRAFT, {"review", "withdraw"}),
        (_REVIEWED, {"release", "withdraw"}),
        (api.PARAMETER_SET_STATE_RELEASED, {"release", "withdraw"}),
        (api.PARAMETER_SET_STATE_WITHDRAWN, set()),
    ],
)
def test_each_state_offers_its_next_steps_alone(state: int, places: set[str]) -> None:
    text = Browser(_backend(state)).get(_AT).text
    assert {place for place in ("review", "release", "withdraw") if f"{_AT}/{place}" in text} == places


def test_a_set_leads_to_its_newest_version_and_an_unknown_one_nowhere() -> None:
    browser = Browser(_backend(_DRAFT))
    assert browser.get("/sets/anti%2Fcoagulant").headers["location"] == _AT
    assert browser.get("/sets/nope/2").status == 404
    assert browser.get("/sets/anti%2Fcoagulant/9").status == 404


@pytest.mark.parametrize(
    ("state", "place", "method", "written", "told"),
    [
        (_DRAFT, "review", "ReviewParameterSet", {"meaning": "m"}, {"meaning": "m"}),
        (
            _REVIEWED,
            "release",
            "ReleaseParameterSet",
            {"plants": ["plant-3", "plant-2"], "meaning": "m"},
            {"plants": ["plant-3", "plant-2"], "meaning": "m", "purpose": ""},
        ),
        (
            _REVIEWED,
            "withdraw",
            "WithdrawParameterSet",
            {"reason": "r", "meaning": "m"},
            {"reason": "r", "meaning": "m"},
        ),
    ],
)
def test_a_signature_is_told_once(
    state: int, place: str, method: str, written: dict[str, object], told: dict[str, object]
) -> None:
    backend = _backend(state)
    browser = Browser(backend, actor="scientist")
    text = browser.get(f"{_AT}/{place}").text
    form = {name: hidden(text, name) for name in ("request_id", "seen")}
    answer = browser.post(f"{_AT}/{place}", form | written)
    assert (answer.status, answer.headers["location"]) == (303, _AT)
    fields = {"request_id": form["request_id"], "set": "anti/coagulant", "version": 2, **told}
    assert backend.told == [("rnd", method, "scientist", fields)]


def test_a_release_offers_plants_that_do_not_have_it_and_needs_one() -> None:
    backend = _backend(api.PARAMETER_SET_STATE_RELEASED, "plant-3")
    browser = Browser(backend, actor="scientist")
    text = browser.get(f"{_AT}/release").text
    assert 'value="plant-2"' in text
    assert 'value="plant-3"' not in text
    form = {"seen": hidden(text, "seen"), "request_id": "r", "meaning": "m"}
    assert browser.post(f"{_AT}/release", form).status == 422
    assert backend.told == []


def test_plants_can_be_written_where_production_is_away() -> None:
    backend = _backend(_REVIEWED)
    del backend.answers["production", "ListLines"]
    browser = Browser(backend, actor="scientist")
    form = {"seen": hidden(browser.get(f"{_AT}/release").text, "seen"), "request_id": "r", "meaning": "m"}
    assert browser.post(f"{_AT}/release", form | {"plants": " plant-7 ,plant-8,"}).status == 303
    assert backend.told[0][3]["plants"] == ["plant-7", "plant-8"]


def test_the_second_reads_who_was_first() -> None:
    seen = hidden(Browser(_backend(_DRAFT), actor="me").get(f"{_AT}/review").text, "seen")
    later = _backend(_REVIEWED, reviewer="李雷")
    page = Browser(later, actor="me").post(f"{_AT}/review", {"seen": seen, "request_id": "r", "meaning": "m"})
    assert page.status == 409
    assert "李雷 reviewed it." in page.text
    assert later.told == []


def test_the_list_filters_and_says_what_fills_it_when_empty() -> None:
    backend = _backend(_DRAFT)
    text = Browser(backend, language="zh").get("/sets?state=draft&of=anti%2Fcoagulant").text
    assert backend.asked[0][2]["state"] == _DRAFT
    assert backend.asked[0][2]["set"] == "anti/coagulant"
    assert "草稿" in text
    backend.answers["rnd", "ListParameterSets"] = api.ListParameterSetsResponse()
    assert "set draft" in Browser(backend).get("/sets").text


def test_who_signs_reads_what_the_version_changes_with_both_values() -> None:
    for state, place in ((_DRAFT, "review"), (_REVIEWED, "release")):
        text = Browser(_backend(state), actor="me").get(f"{_AT}/{place}").text
        assert "parameters[feed].set_point" in text
        assert "from 1.25 to 1.2625" in text


def test_of_very_many_changes_the_first_are_read_and_the_rest_are_counted() -> None:
    backend = _backend(_DRAFT)
    many = [api.ParameterSetDifference(path=f"parameters[{n}]", after=HOSTILE) for n in range(50)]
    backend.answers["rnd", "GetParameterSetDiff"] = api.GetParameterSetDiffResponse(differences=many)
    text = Browser(backend, actor="me").get(f"{_AT}/review").text
    assert "parameters[39]" in text
    assert "parameters[40]" not in text
    assert "10 more" in text
    assert "<script>alert" not in text


def test_where_the_difference_is_not_to_be_had_its_paths_are_read() -> None:
    backend = _backend(_DRAFT)
    del backend.answers["rnd", "GetParameterSetDiff"]
    assert "Differs from the version before in" in Browser(backend, actor="me").get(f"{_AT}/review").text
