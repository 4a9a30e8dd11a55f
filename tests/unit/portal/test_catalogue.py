"""The catalogue: what is registered, and the forms that register it."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.portal.backend import Refused
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend
from tests.unit.portal.test_drafts import form_of


def _backend() -> FakeBackend:
    target = events.TargetRegistered(target="VKORC1", name=HOSTILE, provenance=HOSTILE)
    molecule = events.MoleculeRegistered(molecule="warfarin", name="Warfarin", target="VKORC1")
    product = events.ProductRegistered(product="m/item/w", name=HOSTILE, indication="thrombosis")
    return FakeBackend(
        answers={
            ("rnd", "ListTargets"): api.ListTargetsResponse(targets=[target], next_page_token="t/1"),
            ("rnd", "ListMolecules"): api.ListMoleculesResponse(molecules=[molecule]),
            ("rnd", "ListProducts"): api.ListProductsResponse(products=[product]),
            ("rnd", "RegisterTarget"): api.RegisterTargetResponse(),
            ("rnd", "RegisterMolecule"): api.RegisterMoleculeResponse(),
            ("rnd", "RegisterProduct"): api.RegisterProductResponse(),
        }
    )


def test_everything_registered_is_listed_with_what_comes_next() -> None:
    text = Browser(_backend()).get("/catalogue").text
    for told in ("/lineage/VKORC1", "/lineage/warfarin", "/sets?product=m/item/w", "targets=t%2F1#targets"):
        assert told in text.replace("&amp;", "&")
    assert "<script>alert" not in text
    assert [f"/catalogue/{kind}/new" in text for kind in ("target", "molecule", "product")] == [True] * 3


@pytest.mark.parametrize(
    ("kind", "method", "typed"),
    [
        ("target", "RegisterTarget", {"target": "T1", "name": HOSTILE, "provenance": "a paper"}),
        (
            "molecule",
            "RegisterMolecule",
            {"molecule": "m", "name": "M", "smiles": "CC(=O)O", "provenance": "a paper", "target": "VKORC1"},
        ),
        (
            "product",
            "RegisterProduct",
            {"product": "a/b/c", "name": "P", "indication": "pain", "molecule": "m", "target": "T1"},
        ),
    ],
)
def test_an_entry_is_registered_as_it_was_typed(kind: str, method: str, typed: dict[str, str]) -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get(f"/catalogue/{kind}/new").text)
    answer = browser.post(f"/catalogue/{kind}/new", form | typed)
    assert (answer.status, answer.headers["location"]) == (303, f"/catalogue#{kind}s")
    assert backend.told == [("rnd", method, "ada", {"request_id": form["request_id"][0], **typed})]


def test_a_refusal_keeps_what_was_typed_and_names_the_field() -> None:
    backend = _backend()
    backend.answers["rnd", "RegisterMolecule"] = Refused(
        "rnd", StatusCode.FAILED_PRECONDITION, "KNOWN_STRUCTURE", "smiles", "it is registered as 'warfarin'"
    )
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get("/catalogue/molecule/new").text)
    typed = {"molecule": HOSTILE, "name": "M", "smiles": "CC", "provenance": "p"}
    answer = browser.post("/catalogue/molecule/new", form | typed)
    assert answer.status == 409
    assert 'href="#field-smiles"' in answer.text
    assert form_of(answer.text)["molecule"] == [HOSTILE.strip()]
    assert "<script>alert" not in answer.text


def test_what_is_left_out_is_told_at_once_and_another_kind_is_no_form() -> None:
    backend = _backend()
    browser = Browser(backend, language="zh", actor="ada")
    answer = browser.post("/catalogue/target/new", form_of(browser.get("/catalogue/target/new").text))
    assert answer.status == 422
    assert answer.text.count("请填写此项。") == 6  # three fields, each in the list and beside it
    assert backend.told == []
    assert browser.get("/catalogue/device/new").status == 404


def test_research_being_away_or_empty_is_said() -> None:
    assert Browser(FakeBackend(), language="zh").get("/catalogue").text.count('data-service="rnd"') == 1
