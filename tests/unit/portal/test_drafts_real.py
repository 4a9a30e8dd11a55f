"""The form of a parameter set before the real research: what it refuses has a place, and twice is once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Rejected
from services.kit.rpc.errors import code_of
from services.portal.backend import Refused
from tests.unit.portal.fakes import Browser, FakeBackend
from tests.unit.portal.test_drafts import form_of
from tests.unit.rnd.memory import Research
from tests.unit.rnd.penicillin import PRODUCT, SET, draft, known, says

_AT = "/drafts/set"


@pytest.fixture
def research(tmp_path: Path) -> Research:
    made = Research(tmp_path)
    known(made)
    return made


def _backend(research: Research) -> FakeBackend:
    """Research behind the portal; its refusals as the portal's backend reads them."""

    def asks(method: str) -> Callable[..., Any]:
        def answer(**fields: Any) -> Any:
            request = getattr(api, f"{method}Request")(**fields)
            with ThreadPoolExecutor(1) as beside:
                try:
                    return beside.submit(research.call, method, request).result()
                except Rejected as error:
                    every = tuple((one.field, one.description, one.reason) for one in (error, *error.others))
                    code = code_of(error)
                    assert isinstance(code, StatusCode)
                    raise Refused("rnd", code, error.reason, error.field, error.description, every) from None

        return answer

    methods = ("DraftParameterSet", "GetParameterSet", "ListProducts", "ListTrials", "RegisterProduct")
    return FakeBackend(answers={("rnd", method): asks(method) for method in methods})


def test_a_draft_that_says_nearly_nothing_is_told_every_reason_at_a_field_of_the_form(
    research: Research,
) -> None:
    browser = Browser(_backend(research), actor="ada")
    form = form_of(browser.get(_AT).text)
    typed = {
        "set": "new",
        "product": PRODUCT,
        "statement": "first",
        "parameters.1.parameter": "feed_rate",
        "parameters.1.set_point": "1",
        "design_space.bounds.1.coefficients": "heat = 1",
        "design_space.bounds.1.most": "2",
    }
    answer = browser.post(_AT, form | typed)
    assert answer.status == 409
    for key in (
        "targets.0.attribute",
        "attributes.0.attribute",
        "parameters.1.normal.low",
        "parameters.1.proven.low",
        "design_space.bounds.1.coefficients",
        "process.model",
    ):
        assert f'id="wrong-{key}"' in answer.text
    assert "<code>content." not in answer.text, "each reason has its field"


def test_a_draft_from_a_version_is_its_next_one_and_sent_twice_it_is_one(research: Research) -> None:
    draft(research, says(), actor="ada")
    browser = Browser(_backend(research), actor="ada")
    form = form_of(browser.get(f"{_AT}?of={SET}&version=1").text)
    form |= {"parameters.0.set_point": ["0.043"]}
    places = [browser.post(_AT, form).headers["location"] for _ in range(2)]
    assert places == [f"/sets/{SET}/2"] * 2
    newest = research.call("GetParameterSet", api.GetParameterSetRequest(set=SET))
    assert newest.version.version == 2
    assert list(newest.version.changes) == ["parameters[feed_rate].set_point"]


def test_a_product_that_is_not_registered_is_told_at_the_product(research: Research) -> None:
    draft(research, says(), actor="ada")
    browser = Browser(_backend(research), actor="ada")
    form = form_of(browser.get(f"{_AT}?of={SET}").text) | {"set": ["other"], "product": ["a/b/none"]}
    answer = browser.post(_AT, form)
    assert answer.status == 409
    assert 'id="wrong-product"' in answer.text


def test_the_catalogue_refuses_what_is_registered_otherwise_at_its_field(research: Research) -> None:
    browser = Browser(_backend(research), actor="ada")
    form = form_of(browser.get("/catalogue/product/new").text)
    typed = {"product": PRODUCT, "name": "Penicillin V", "indication": "infection"}
    answer = browser.post("/catalogue/product/new", form | typed)
    assert answer.status == 409
    assert 'id="wrong-name"' in answer.text
