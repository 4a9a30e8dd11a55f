"""Drafting a parameter set in a form: nothing is lost, what is wrong is told at its field, twice is once."""

from __future__ import annotations

import html
import re

import pytest
from grpc import StatusCode

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as content
from pharmaloop.rnd.v1 import service_pb2 as api
from services.portal.backend import Refused
from tests.unit.portal.fakes import HOSTILE, Browser, FakeBackend, hidden, refused
from tests.unit.rnd.penicillin import says

_AT = "/drafts/set"


def _backend(newest: int = 0, said: content.ParameterSetContent | None = None) -> FakeBackend:
    def one(set: str, version: int = 0) -> api.GetParameterSetResponse:
        if set != "s/1" or not newest:
            raise refused("UNKNOWN_SET")
        held = api.ParameterSetVersion(set=set, version=version or newest, drafter=HOSTILE)
        return api.GetParameterSetResponse(version=held, content=said)

    product = events.ProductRegistered(product="maker-1/item/penicillin", name=HOSTILE)
    return FakeBackend(
        answers={
            ("rnd", "GetParameterSet"): one,
            ("rnd", "ListProducts"): api.ListProductsResponse(products=[product]),
            ("rnd", "DraftParameterSet"): api.DraftParameterSetResponse(version=newest + 1),
        }
    )


def form_of(text: str) -> dict[str, list[str]]:
    """What a browser would send of a page's form, without any button."""
    body = text[text.index('class="draft"') :]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', body):
        found.setdefault(name, []).append(html.unescape(value))
    for tag in re.findall(r"<input [^>]*>", body):
        name, value = re.search(r' name="([^"]*)"', tag), re.search(r' value="([^"]*)"', tag)
        ticked = 'type="checkbox"' not in tag or " checked" in tag
        if name and value and ticked and 'type="hidden"' not in tag:
            found.setdefault(html.unescape(name[1]), []).append(html.unescape(value[1]))
    for name, value in re.findall(r'<textarea[^>]* name="([^"]*)"[^>]*>\n?([^<]*)</textarea>', body):
        found.setdefault(name, []).append(html.unescape(value))
    for name, options in re.findall(r'<select[^>]* name="([^"]*)"[^>]*>(.*?)</select>', body, re.DOTALL):
        picked = re.search(r'value="([^"]*)" selected', options)
        found.setdefault(name, []).append(html.unescape(picked[1]) if picked else "")
    return found


def _told(backend: FakeBackend) -> content.ParameterSetContent:
    return content.ParameterSetContent(**backend.told[-1][3]["content"])


def test_the_next_version_begins_as_what_the_chosen_one_says_and_loses_nothing() -> None:
    said = says(trial="trial-1", statement="0.1 + 0.2 is not 0.3\n" + HOSTILE)
    said.parameters[0].set_point = 0.1 + 0.2
    said.parameters[1].normal.ClearField("low")
    backend = _backend(3, said)
    browser = Browser(backend, actor="ada")
    page = browser.get(f"{_AT}?of=s%2F1&version=2")
    assert page.status == 200
    assert "<script>alert" not in page.text
    answer = browser.post(_AT, form_of(page.text))
    assert (answer.status, answer.headers["location"]) == (303, "/sets/s%2F1/4")
    assert _told(backend) == said
    assert backend.told[0][:3] == ("rnd", "DraftParameterSet", "ada")
    assert backend.told[0][3]["set"] == "s/1"


def test_the_form_has_every_field_of_the_contract() -> None:
    """A field that the form does not know would be dropped from the next version without a word."""
    text = Browser(_backend(), actor="ada").get(_AT).text
    names = {re.sub(r"\.\d+\.", ".", name) for name in form_of(text)}

    def paths(message: type, before: str = "") -> set[str]:
        found: set[str] = set()
        for one in message.DESCRIPTOR.fields:  # type: ignore[attr-defined]
            inner = one.message_type
            if inner is None or inner.GetOptions().map_entry:
                found.add(before + one.name)
            else:
                found |= paths(inner._concrete_class, f"{before}{one.name}.")
        return found

    assert paths(content.ParameterSetContent) - names == {"salt"}  # which the service adds


def test_more_rows_come_without_a_script_and_what_was_typed_stays() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get(_AT).text) | {"set": ["new"], "parameters.2.parameter": ["feed <rate>"]}
    rows = len([name for name in form if name.endswith(".set_point")])
    text = browser.post(_AT, form | {"more": ["parameters"]}).text
    again = form_of(text)
    assert len([name for name in again if name.endswith(".set_point")]) > rows
    assert again["parameters.2.parameter"] == ["feed <rate>"]
    assert (again["set"], again["request_id"]) == (["new"], form["request_id"])
    assert backend.told == []


def _complete(browser: Browser, **more: str) -> dict[str, list[str]]:
    form = form_of(browser.get(_AT).text)
    typed = {
        "set": "new",
        "product": "maker-1/item/penicillin",
        "statement": HOSTILE,
        "parameters.1.parameter": "feed_rate",
        "parameters.1.set_point": "1.5",
    }
    return form | {name: [value] for name, value in (typed | more).items()}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("parameters.1.set_point", "1,5", "“1,5” is no number"),
        ("parameters.1.set_point", "nan", "“nan” is no number"),
        ("parameters.1.set_point", "", "Fill this in."),
        ("process.vessel.impellers", "2.5", "“2.5” is no whole number"),
        ("process.vessel.impellers", "99999999999", "is no whole number"),
        ("process.criterion", "99", "Fill this in."),
        ("design_space.bounds.0.coefficients", "feed_rate", "is no list of factors"),
        ("statement", " ", "Fill this in."),
        ("process.duration_h", "<b>x</b>", "&lt;b&gt;x&lt;/b&gt;”"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_field_and_nothing_is_sent(
    name: str, value: str, told: str
) -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = _complete(browser, **{name: value})
    answer = browser.post(_AT, form)
    assert answer.status == 422
    assert told in answer.text
    assert f'href="#field-{name}"' in answer.text
    assert f'aria-describedby="wrong-{name}"' in answer.text
    assert "<script>alert" not in answer.text
    again = form_of(answer.text)
    kept = {key for key in form if key != "process.criterion"}  # a choice that is none is not offered
    assert {key: again[key] for key in kept} == {key: form[key] for key in kept}
    assert backend.told == []


def test_every_reason_of_a_refusal_stands_at_its_row_though_rows_above_are_empty() -> None:
    backend = _backend()
    violations = (
        ("content.parameters[0].normal", "give the normal operating range", "REQUIRED"),
        ("content.parameters[0].set_point", HOSTILE, "OUTSIDE_PAR"),
        ("content.design_space.bounds[0].coefficients[feed_rate]", "name one of them", "UNKNOWN_PARAMETER"),
        ("content.targets", "give the quality target product profile", "REQUIRED"),
        ("content.unheard_of", "something new", "UNHEARD_OF"),
    )
    error = Refused("rnd", StatusCode.INVALID_ARGUMENT, "REQUIRED", violations[0][0], "many", violations)
    backend.answers["rnd", "DraftParameterSet"] = error
    browser = Browser(backend, language="zh", actor="ada")
    bound = {"design_space.bounds.1.coefficients": "feed_rate = 2", "design_space.bounds.1.most": "3"}
    form = _complete(browser, **bound)
    answer = browser.post(_AT, form)
    assert answer.status == 409
    for key in (
        "parameters.1.normal.low",
        "parameters.1.set_point",
        "design_space.bounds.1.coefficients",
        "targets.0.attribute",
    ):
        assert f'href="#field-{key}"' in answer.text
        assert f'id="wrong-{key}"' in answer.text
    assert "<code>content.unheard_of</code>" in answer.text
    assert 'lang="en">give the normal' in answer.text
    assert "该字段必须填写" in answer.text, "the kind of refusal is told in Chinese"
    assert "<script>alert" not in answer.text
    assert form_of(answer.text)["statement"] == form["statement"]


def test_sent_twice_it_is_told_under_one_id_and_leads_to_the_same_place() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = _complete(browser)
    places = []
    for _ in range(2):
        places.append(browser.post(_AT, form).headers["location"])
        backend.answers["rnd", "GetParameterSet"] = _backend(1).answers["rnd", "GetParameterSet"]
    assert places == ["/sets/new/1", "/sets/new/1"]
    assert len({fields["request_id"] for _, _, _, fields in backend.told}) == 1


def test_who_drafts_over_a_version_that_came_meanwhile_is_told_of_it_first() -> None:
    backend = _backend(1, says())
    browser = Browser(backend, actor="ada")
    form = form_of(browser.get(f"{_AT}?of=s%2F1&version=1").text)
    backend.answers.update(_backend(2, says()).answers)
    answer = browser.post(_AT, form)
    assert answer.status == 409
    assert backend.told == []
    assert "s/1 is at version 2" in answer.text
    assert 'href="/sets/s%2F1/2"' in answer.text
    assert browser.post(_AT, form_of(answer.text)).headers["location"] == "/sets/s%2F1/3"


def test_a_new_name_that_is_on_record_is_told_before_it_becomes_a_version_of_another_set() -> None:
    backend = _backend(4, says())
    browser = Browser(backend, actor="ada")
    answer = browser.post(_AT, _complete(browser, set="s/1"))
    assert answer.status == 409
    assert "s/1 is at version 4" in answer.text
    assert backend.told == []


def test_where_research_is_away_what_was_typed_stays_and_may_be_sent_again_as_it_is() -> None:
    backend = _backend()
    browser = Browser(backend, actor="ada")
    form = _complete(browser)
    backend.answers = {}
    answer = browser.post(_AT, form)
    assert answer.status == 503
    again = form_of(answer.text)
    assert {name: again[name] for name in form} == form


def test_a_form_of_somebody_whose_name_is_gone_is_kept() -> None:
    backend = _backend()
    form = _complete(Browser(backend, actor="ada"))
    answer = Browser(backend).post(_AT, form)
    assert answer.status == 422
    assert form_of(answer.text)["statement"] == form["statement"]
    assert backend.told == []
    assert 'href="#field-actor"' in answer.text
    assert 'aria-invalid="true" aria-describedby="wrong-actor"' in answer.text


def test_the_form_asks_for_the_name_itself_and_keeps_it() -> None:
    backend = _backend()
    browser = Browser(backend)
    assert '<input id="field-actor" name="actor" value=""' in browser.get(_AT).text
    form = _complete(Browser(backend, actor="ada"))
    answer = browser.post(_AT, form | {"actor": "  Ada   Li "})
    assert answer.status == 303
    assert [actor for _, _, actor, _ in backend.told] == ["Ada Li"]
    assert "actor=Ada%20Li" in answer.headers["set-cookie"]
    assert 'name="actor"' not in Browser(backend, actor="ada").get(_AT).text


def test_a_name_stands_where_it_was_typed_while_the_form_is_mended() -> None:
    form = _complete(Browser(_backend(), actor="ada"))
    answer = Browser(_backend()).post(_AT, form | {"statement": "", "actor": HOSTILE})
    assert answer.status == 422
    assert form_of(answer.text)["actor"] == [HOSTILE]
    assert 'id="wrong-actor"' not in answer.text


def test_an_unknown_version_is_no_form() -> None:
    assert Browser(_backend(), actor="ada").get(f"{_AT}?of=nope").status == 404


def test_the_form_is_reached_from_sets_and_from_a_version() -> None:
    backend = _backend(2, says())
    assert 'href="/drafts/set"' in Browser(backend).get("/sets").text
    text = Browser(backend).get("/sets/s%2F1/2").text
    assert "/drafts/set?of=s/1&amp;version=2" in text
    assert hidden(Browser(backend, actor="ada").get(f"{_AT}?of=s/1&version=2").text, "seen") == "s/1|2"
