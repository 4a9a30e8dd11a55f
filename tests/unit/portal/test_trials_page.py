"""Virtual trials: run in a form, read with what they rest on, and the sets that they support."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.portal.backend import Refused
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, refused
from tests.unit.portal.test_drafts import form_of

_NEW = "/drafts/trial"


def _backend() -> FakeBackend:
    completed = events.TrialCompleted(
        trial="t/1",
        product="m/item/w",
        context_of_use=HOSTILE,
        statement="go: probability of success 0.91",
        design="no JSON " + HOSTILE,
        seed=2**53 - 1,
        effect=common.Estimate(value=7.25, lower=6.5, upper=8),
        power=0.604,
        probability_of_success=0.9125,
        verdict=events.TRIAL_VERDICT_GO,
        actor=HOSTILE,
    )
    trial = api.VirtualTrial(completed=completed)

    def one(trial: str) -> api.GetTrialResponse:
        if trial != "t/1":
            raise refused()
        return api.GetTrialResponse(trial=api.VirtualTrial(completed=completed))

    versions = [
        api.ParameterSetVersion(set="s", version=2, trial="t/1"),
        api.ParameterSetVersion(set="s", version=1),
    ]
    return FakeBackend(
        answers={
            ("rnd", "ListTrials"): api.ListTrialsResponse(trials=[trial], next_page_token="n/2"),
            ("rnd", "GetTrial"): one,
            ("rnd", "ListParameterSets"): api.ListParameterSetsResponse(versions=versions),
            ("rnd", "RunTrial"): api.RunTrialResponse(trial=completed),
        }
    )


def test_a_trial_says_its_verdict_its_numbers_and_what_it_supports() -> None:
    text = Browser(_backend(), language="zh").get("/trials/t%2F1").text
    for told in ("通过", "7.25", "6.5", "0.604", "9007199254740991", 'href="/sets/s/2"'):
        assert told in text
    assert 'href="/sets/s/1"' not in text
    assert "<script>alert" not in text
    assert Browser(_backend()).get("/trials/other").status == 404


def test_trials_are_listed_and_lead_to_one() -> None:
    backend = _backend()
    text = Browser(backend).get("/trials?product=m/item/w").text
    assert backend.asked[0][2]["product"] == "m/item/w"
    assert "/trials/t%2F1" in text
    assert "token=n%2F2" in text
    assert "/drafts/trial?product=m/item/w" in text
    assert "<script>alert" not in text
    assert Browser(FakeBackend()).get("/trials").text.count('data-service="rnd"') == 1


def test_a_trial_is_run_as_it_was_typed_and_leads_to_what_it_says() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get(f"{_NEW}?product=m/item/w").text)
    typed = {
        "context_of_use": HOSTILE,
        "seed": str(2**53 - 1),
        "design.visits": "6, 9，13",
        "design.least_difference": "0",
        "design.lots.1.lot": "l-1",
        "design.lots.1.potency": "0.98",
    }
    answer = browser.post(_NEW, form | typed)
    assert (answer.status, answer.headers["location"]) == (303, "/trials/t%2F1")
    told = api.RunTrialRequest(**backend.told[0][3])
    assert (told.product, told.seed, list(told.design.visits)) == ("m/item/w", 2**53 - 1, [6, 9, 13])
    assert told.design.HasField("least_difference")
    assert told.design.least_difference == 0
    assert list(told.design.lots) == [api.LotPotency(lot="l-1", potency=0.98)]


def test_the_form_has_every_field_of_the_design() -> None:
    names = set(form_of(Browser(_backend(), actor="ada").get(_NEW).text))
    fields = {f"design.{one.name}" for one in api.VirtualTrialDesign.DESCRIPTOR.fields if one.name != "lots"}
    fields |= {f"design.lots.0.{one.name}" for one in api.LotPotency.DESCRIPTOR.fields}
    assert fields <= names


@pytest.mark.parametrize(
    ("field", "key"), [("design.lots[0].share", "design.lots.2.share"), ("design.alpha", "design.alpha")]
)
def test_a_refusal_stands_at_its_field(field: str, key: str) -> None:
    backend = _backend()
    error = Refused("rnd", StatusCode.INVALID_ARGUMENT, "OUT_OF_RANGE", field, "mend it")
    backend.answers["rnd", "RunTrial"] = error
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get(f"{_NEW}?product=m/item/w").text)
    typed = {"context_of_use": "q", "design.lots.2.lot": "l", "design.lots.2.potency": "1"}
    answer = browser.post(_NEW, form | typed)
    assert answer.status == 409
    assert f'id="wrong-{key}"' in answer.text
