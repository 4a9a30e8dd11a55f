"""Asking a study in a form: every field of the contract, a specification to begin with, refusals."""

from __future__ import annotations

import json

import pytest
from grpc import StatusCode

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import definitions, models
from services.exchange.domain.stats.models import MODELS as KNOWN
from services.portal.backend import Refused
from services.portal.specifications import MODELS, Asked, proposed
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend
from tests.unit.portal.test_drafts import form_of

_AT = "/drafts/study"


def _asked() -> events.StudyRequested:
    definition = cohort.CohortDefinition(
        definition="warm",
        version=2,
        product="maker-1/item/w",
        exposure=cohort.CohortExposure(
            kind=cohort.EXPOSURE_KIND_PARAMETER_BAND, tag="temperature", low=298.5, unit="K"
        ),
        outcome=cohort.CohortOutcome(
            kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=["nose, bleed", "rash"], days=28
        ),
        covariates=[cohort.COVARIATE_AGE_BAND, cohort.COVARIATE_SEX],
        age_bands=[18, 65],
    )
    getattr(definition, "from").FromJsonString("2026-01-01T08:30:15Z")
    definition.until.FromJsonString("2026-06-01T00:00:00Z")
    asked = events.StudyRequested(
        study="s-1",
        question=HOSTILE,
        purpose="to narrow the band",
        datasets=[f"hospital-{one}/routine" for one in "abc"],
        definition=definition,
        model="logistic",
        specification='{"terms":[{"column":"exposed","high":1.0,"low":0.0}]}',
        most_rounds=40,
        ethics=events.EthicsApproval(board="board", reference="2026-1"),
        profile=events.DISCLOSURE_PROFILE_PROTECTED,
        valued=True,
    )
    asked.ethics.until.FromJsonString("2026-12-01T00:00:00Z")
    asked.expires.FromJsonString("2026-07-01T00:00:00Z")
    return asked


def _backend() -> FakeBackend:
    datasets = [
        api.Dataset(
            registered=events.DatasetRegistered(
                dataset=f"hospital-{one}/routine", products=[HOSTILE], covariates=[cohort.COVARIATE_SEX]
            ),
            connected=one == "a",
        )
        for one in "abc"
    ]
    return FakeBackend(
        answers={
            ("exchange", "GetStudy"): api.GetStudyResponse(study=api.Study(requested=_asked())),
            ("exchange", "ListDatasets"): api.ListDatasetsResponse(datasets=datasets),
            ("exchange", "RequestStudy"): api.RequestStudyResponse(study="s/2"),
        }
    )


def _filled(browser: Browser) -> dict[str, list[str]]:
    """A study that is asked anew, with what a person must say of it again."""
    form = form_of(browser.get(f"{_AT}?of=s-1").text)
    return form | {"ethics.until": ["2027-01-01"]}


def test_a_study_that_is_asked_anew_asks_the_same_but_for_its_id_and_its_times() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ana")
    page = browser.get(f"{_AT}?of=s-1")
    assert "<script>alert" not in page.text
    assert form_of(page.text)["ethics.until"] == [""]
    answer = browser.post(_AT, _filled(browser))
    assert (answer.status, answer.headers["location"]) == (303, "/studies/s%2F2")
    (_, method, actor, fields) = backend.told[0]
    assert (method, actor) == ("RequestStudy", "ana")
    told = api.RequestStudyRequest(**fields)
    before = _asked()
    assert told.definition == before.definition
    definitions.check(told.definition)
    assert list(told.datasets) == list(before.datasets)
    assert json.loads(told.specification) == json.loads(before.specification)
    same = ("question", "purpose", "model", "most_rounds", "profile", "valued", "epsilon")
    assert [getattr(told, one) for one in same] == [getattr(before, one) for one in same]
    assert told.study == ""
    assert not told.HasField("expires")
    assert told.ethics.until.ToJsonString() == "2027-01-01T00:00:00Z"


def test_the_form_has_every_field_of_the_contract() -> None:
    names = set(form_of(Browser(_backend(), actor="ana").get(_AT).text)) | {
        "datasets",
        "definition.covariates",
        "valued",
    }
    text = Browser(_backend(), actor="ana").get(_AT).text
    assert all(f'name="{name}"' in text for name in names)

    def paths(descriptor: object, before: str = "") -> set[str]:
        found: set[str] = set()
        for one in descriptor.fields:  # type: ignore[attr-defined]
            if one.message_type is None or one.message_type.name == "Timestamp":
                found.add(before + one.name)
            else:
                found |= paths(one.message_type, f"{before}{one.name}.")
        return found

    assert paths(api.RequestStudyRequest.DESCRIPTOR) <= names


def test_a_follow_up_names_the_study_that_it_follows() -> None:
    browser = Browser(_backend(), actor="ana")
    assert form_of(browser.get(f"{_AT}?follows=s-1").text)["follows"] == ["s-1"]


def test_a_day_and_a_moment_are_those_of_the_reader() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ana")
    form = _filled(browser) | {"expires": ["2026-07-01 14:30"]}
    assert browser.post(_AT, form).status == 303
    assert api.RequestStudyRequest(**backend.told[0][3]).expires.ToJsonString() == "2026-07-01T14:30:00Z"
    assert browser.post(_AT, form | {"expires": ["tomorrow"]}).status == 422
    assert len(backend.told) == 1


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("datasets", "datasets"),
        ("datasets[1]", "datasets"),
        ("definition.exposure", "definition.exposure.kind"),
        ("definition.exposure.low", "definition.exposure.low"),
        ("specification.noise", "specification"),
        ("ethics", "ethics.board"),
        ("age_bands", ""),
    ],
)
def test_a_refusal_stands_at_its_field(field: str, key: str) -> None:
    backend = _backend()
    error = Refused("exchange", StatusCode.INVALID_ARGUMENT, "RULE", field, "mend " + HOSTILE)
    backend.answers["exchange", "RequestStudy"] = error
    browser = Browser(backend, language="zh", actor="ana")
    form = _filled(browser)
    answer = browser.post(_AT, form)
    assert answer.status == 409
    assert "<script>alert" not in answer.text
    if key:
        assert f'id="wrong-{key}"' in answer.text
        assert f'href="#field-{key}"' in answer.text
        assert f'id="field-{key}"' in answer.text
    else:
        assert f"<code>{field}</code>" in answer.text
    again = form_of(answer.text)
    assert {name: again[name] for name in form if name != "request_id"} == {
        name: form[name] for name in form if name != "request_id"
    }


def test_sent_twice_it_is_told_under_one_id() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ana")
    form = _filled(browser)
    assert [browser.post(_AT, form).status for _ in range(2)] == [303, 303]
    assert len({fields["request_id"] for _, _, _, fields in backend.told}) == 1


def test_the_second_button_writes_a_specification_and_sends_nothing() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ana")
    text = browser.post(_AT, _filled(browser) | {"help": ["specification"]}).text
    columns = [one["column"] for one in json.loads(form_of(text)["specification"][0])["terms"]]
    assert columns == ["exposed", "age_65", "female"]
    assert backend.told == []


@pytest.mark.parametrize("model", KNOWN)
@pytest.mark.parametrize("change", [False, True])
def test_exchange_takes_the_specification_that_is_proposed(model: str, change: bool) -> None:
    made = proposed(model, Asked(change, 30, ["age_65", "female"]))
    found, _ = models.specification(model, json.dumps(made), public=False)
    assert found["model"] == model


def test_the_form_offers_the_models_that_exchange_has() -> None:
    assert set(MODELS) == set(KNOWN)


def test_the_form_is_reached_from_studies_and_lost_datasets_are_said() -> None:
    backend = _backend()
    backend.answers["exchange", "ListStudies"] = api.ListStudiesResponse()
    assert 'href="/drafts/study"' in Browser(backend).get("/studies").text
    assert "/drafts/study?of=s-1" in Browser(backend).get("/studies/s-1").text
    del backend.answers["exchange", "ListDatasets"]
    assert "Nothing is on record to choose from." in Browser(backend, actor="ana").get(_AT).text
