"""Answers by question and as FHIR R4 resources: what they come to, what is refused, what stays sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain.answers import judged
from services.clinical.views import PLANS
from services.kit.errors import Invalid, Rejected
from services.kit.ids import plan_id
from services.refusals import Malformed
from tests.unit.clinical.door import Door
from tests.unit.clinical.memory_site import START, moment, stamp
from tests.unit.clinical.patches import ALT, answers, template
from tests.unit.clinical.teller import RUN, Teller

PLAN = plan_id(RUN, "P-1")
WORDS = "planted words of the patient"
Json = dict[str, Any]


# -- the rule -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said", "affected", "terms"),
    [
        (answers(), False, False, []),
        (answers(), True, True, []),
        (answers(itch=True), False, True, ["PL0101"]),
        (answers(fever=37.9), False, False, []),
        (answers(fever=38.0), False, True, ["PL0601"]),
        (answers(dizzy="very"), False, True, ["PL0201"]),
        (answers(itch=True, fever=40, dizzy="very"), False, True, ["PL0101", "PL0601", "PL0201"]),
    ],
)
def test_a_complaint_follows_from_the_answers_by_the_stated_rule(
    given: list[clinical.QuestionAnswer], said: bool, affected: bool, terms: list[str]
) -> None:
    found = judged(template(), given, said)
    assert (found.affected, [term for term, _ in found.complaints]) == (affected, terms)


def answer(question: str, **value: Any) -> clinical.QuestionAnswer:
    return clinical.QuestionAnswer(question=question, **value)


@pytest.mark.parametrize(
    ("given", "reason", "field"),
    [
        ([answer("nobody", yes=True)], "UNKNOWN_QUESTION", "answers[0].question"),
        ([*answers(), answer("itch", yes=True)], "DUPLICATE", "answers[3].question"),
        ([answer("itch", words="yes")], "WRONG_KIND", "answers[0].words"),
        ([answer("itch")], "WRONG_KIND", "answers[0].yes"),
        ([answer("fever", number=float("inf"))], "NOT_FINITE", "answers[0].number"),
        ([answer("dizzy", choice="somewhat")], "UNKNOWN_OPTION", "answers[0].choice"),
        ([answer("else", words="x" * 4001)], "TOO_LONG", "answers[0].words"),
        (answers()[:2], "MISSING_ANSWER", "answers"),
        ([], "MISSING_ANSWER", "answers"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_named(
    given: list[clinical.QuestionAnswer], reason: str, field: str
) -> None:
    with pytest.raises(Malformed) as refused:
        judged(template(), given, False)
    assert (refused.value.reason, refused.value.field) == (reason, field)


# -- at the door ----------------------------------------------------------------------------


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """A site with a patient whose plan asks by the template."""
    told = Teller()
    told.register(template())
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    return Door(told, tmp_path / "keys")


def response(*given: clinical.QuestionAnswer, **other: Any) -> api.RecordResponseRequest:
    request = api.RecordResponseRequest(
        request_id="r-1", plan=PLAN, pseudonym="P-1", at=moment(-1), answers=given
    )
    request.MergeFrom(api.RecordResponseRequest(**other))
    return request


async def test_answers_are_counted_coded_and_sealed(door: Door) -> None:
    given = answers(itch=True)
    given[0].onset.CopyFrom(moment(2))
    await door.call("RecordResponse", response(*given, answer("else", words=WORDS)))
    assert (door.told.summary.answered, door.told.affected) == (1, 1)
    recorded = door.last(clinical.ResponseRecorded)
    assert [(c.term, c.onset) for c in recorded.complaints] == [("PL0101", moment(2))]
    assert WORDS.encode() not in recorded.SerializeToString()
    opened = door.sealer.open(recorded.text, clinical.ResponseText)
    assert [one.question for one in opened.answers] == ["itch", "fever", "dizzy", "else"]
    assert opened.answers[3].words == WORDS


async def test_nothing_is_recorded_of_answers_that_break_a_rule(door: Door) -> None:
    with pytest.raises(Invalid) as refused:
        await door.call("RecordResponse", response(*answers()[:1]))
    assert (refused.value.reason, refused.value.field) == ("MISSING_ANSWER", "answers")
    assert not door.facts()


async def test_a_plan_is_shown_with_its_questions_and_dates(door: Door) -> None:
    shown = await door.call("ListPlans", api.ListPlansRequest(run=RUN))
    (view,) = shown.plans
    assert view.plan.question == "Does your skin itch?"
    assert [question.id for question in view.template.questions] == ["itch", "fever", "dizzy", "else"]
    assert view.template.questions[0].text.zh.startswith("中文")
    hours = [(due.seconds - stamp(START).seconds) / 3600 for due in (*view.visits_due, view.ends)]
    assert hours == [24, 120, 120]


async def test_a_plan_that_closed_is_refused_in_every_form(door: Door) -> None:
    door.told.subject("P-1", days=1, status="DECEASED")
    with pytest.raises(Rejected) as refused:
        await door.call("RecordResponse", response(*answers()))
    assert (refused.value.reason, refused.value.field) == ("PLAN_CLOSED", "plan")
    for resource in (questionnaire(), observation()):
        assert await refusal(door, resource) == ("PLAN_CLOSED", "resources[0].basedOn[0].reference")
    assert not door.facts()


async def test_the_template_for_everybody_takes_what_it_took_before(tmp_path: Path) -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    door = Door(told, tmp_path / "keys")
    await door.call("RecordResponse", response(affected=True, words=WORDS))
    assert (told.summary.answered, told.affected) == (1, 1)
    # Words alone tell no complaint: a form that does not ask for it apart would hide one.
    only_words = questionnaire(items=[{"linkId": "complaint", "answer": [{"valueString": WORDS}]}])
    assert await refusal(door, only_words) == ("NO_RULE", "resources[0].basedOn[0].reference")


# -- FHIR -------------------------------------------------------------------------------------


def questionnaire(items: list[Json] | None = None) -> Json:
    """As https://hl7.org/fhir/R4/questionnaireresponse-example-f201-lifelines.json.html is built: groups
    of items, and answers of several types."""
    return {
        "resourceType": "QuestionnaireResponse",
        "id": "qr-1",
        "status": "completed",
        "basedOn": [{"reference": f"CarePlan/{PLAN}"}],
        "subject": {"reference": "Patient/P-1"},
        "authored": "2026-03-01T08:30:00+08:00",
        "item": items
        if items is not None
        else [
            {
                "linkId": "group",
                "item": [
                    {"linkId": "itch", "answer": [{"valueBoolean": True}]},
                    {"linkId": "dizzy", "answer": [{"valueCoding": {"code": "not"}}]},
                ],
            },
            {"linkId": "fever", "answer": [{"valueQuantity": celsius(36.6)}]},
            {"linkId": "else", "answer": [{"valueString": WORDS}]},
        ],
    }


def celsius(value: float) -> Json:
    return {"value": value, "unit": "°C", "system": "http://unitsofmeasure.org", "code": "Cel"}


def observation() -> Json:
    return {
        "resourceType": "Observation",
        "id": "obs-1",
        "status": "final",
        "basedOn": [{"reference": f"CarePlan/{PLAN}"}],
        "subject": {"reference": "Patient/P-1"},
        "effectiveDateTime": "2026-03-01T09:00:00Z",
        "code": {"coding": [{"system": "http://loinc.org", "code": ALT}]},
        "valueQuantity": {"value": 43.5, "system": "http://unitsofmeasure.org", "code": "U/L"},
    }


async def send(door: Door, *resources: Json, whole: bool = False) -> Any:
    texts = [json.dumps(resource) for resource in resources]
    request = api.RecordFhirResourcesRequest(request_id="f-1", resources=texts, all_or_nothing=whole)
    return (await door.call("RecordFhirResources", request)).receipt


async def refusal(door: Door, resource: Json) -> tuple[str, str]:
    before = len(door.facts())
    with pytest.raises(Invalid) as refused:
        await send(door, resource, whole=True)
    assert len(door.facts()) == before
    return refused.value.reason, refused.value.field


async def test_a_questionnaire_response_is_an_answer(door: Door) -> None:
    assert (await send(door, questionnaire())).accepted == 1
    recorded = door.last(clinical.ResponseRecorded)
    assert (recorded.plan, recorded.pseudonym, recorded.affected) == (PLAN, "P-1", True)
    assert (recorded.at.at.ToJsonString(), recorded.at.offset_minutes) == ("2026-03-01T00:30:00Z", 480)
    opened = door.sealer.open(recorded.text, clinical.ResponseText).answers
    values = [(one.question, getattr(one, one.WhichOneof("value") or "")) for one in opened]
    assert values == [("itch", True), ("dizzy", "not"), ("fever", 36.6), ("else", WORDS)]
    assert (door.told.summary.answered, door.told.affected) == (1, 1)
    await send(door, questionnaire())  # sent again
    assert len({event.id for event in door.facts()}) == 1


async def test_an_observation_is_a_laboratory_result_of_the_plan(door: Door) -> None:
    assert (await send(door, observation())).accepted == 1
    recorded = door.last(clinical.LabRecorded)
    value = door.sealer.open(recorded.result, clinical.LabResult).value
    assert (recorded.code, value.value, value.unit) == (ALT, 43.5, "U/L")
    assert door.told.site.states(PLANS)[PLAN].labs == (ALT,)
    (view,) = (await door.call("ListPlans", api.ListPlansRequest(run=RUN))).plans
    assert (view.labs, view.answered) == ([ALT], False)


def without(name: str) -> Callable[[Json], object]:
    return lambda resource: resource.pop(name)


def put(name: str, value: Any) -> Callable[[Json], object]:
    return lambda resource: resource.__setitem__(name, value)


BAD: list[tuple[Callable[[], Json], Callable[[Json], object], str, str]] = [
    (questionnaire, put("resourceType", "Patient"), "UNKNOWN_RESOURCE", "resourceType"),
    (questionnaire, put("status", "in-progress"), "NOT_FINAL", "status"),
    (questionnaire, without("id"), "REQUIRED", "id"),
    (questionnaire, without("basedOn"), "REQUIRED", "basedOn[0].reference"),
    (questionnaire, put("basedOn", [{"reference": "CarePlan/none"}]), "UNKNOWN_PLAN", "basedOn[0].reference"),
    (questionnaire, put("subject", {"reference": "Group/P-1"}), "REQUIRED", "subject.reference"),
    (questionnaire, put("subject", {"reference": "Patient/P-2"}), "OTHER_PATIENT", "subject.reference"),
    (questionnaire, put("authored", "2026-03-01"), "MALFORMED", "authored"),
    (questionnaire, put("authored", "yesterday"), "MALFORMED", "authored"),
    (questionnaire, put("item", {}), "MALFORMED", "item"),
    (questionnaire, put("item", []), "MISSING_ANSWER", "item"),
    (
        questionnaire,
        lambda r: r["item"][0]["item"][0]["answer"].append({}),
        "MALFORMED",
        "item[0].item[0].answer",
    ),
    (
        questionnaire,
        lambda r: r["item"][0]["item"][0].update(answer=[{"valueDate": "2026-03-01"}]),
        "WRONG_KIND",
        "item[0].item[0].answer[0].valueDate",
    ),
    (
        questionnaire,
        lambda r: r["item"][0]["item"][0].update(answer=[{"valueInteger": 1}]),
        "WRONG_KIND",
        "item[0].item[0].answer[0]",
    ),
    (
        questionnaire,
        lambda r: r["item"][1]["answer"][0]["valueQuantity"].update(code="[degF]", value=98),
        "WRONG_UNIT",
        "item[1].answer[0].valueQuantity.code",
    ),
    (
        questionnaire,
        lambda r: r["item"][1]["answer"][0]["valueQuantity"].update(value="36.6"),
        "MALFORMED",
        "item[1].answer[0].valueQuantity.value",
    ),
    (observation, put("status", "preliminary"), "NOT_FINAL", "status"),
    (observation, put("code", {"text": "ALT"}), "REQUIRED", "code.coding"),
    (
        observation,
        put("code", {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}),
        "UNKNOWN_LAB",
        "code.coding",
    ),
    (observation, without("valueQuantity"), "REQUIRED", "valueQuantity"),
    (observation, lambda r: r["valueQuantity"].pop("system"), "UNKNOWN_SYSTEM", "valueQuantity.system"),
    (
        observation,
        lambda r: r["valueQuantity"].update(comparator="<"),
        "UNSUPPORTED",
        "valueQuantity.comparator",
    ),
    (observation, without("effectiveDateTime"), "REQUIRED", "effectiveDateTime"),
]


@pytest.mark.parametrize(("make", "spoil", "reason", "field"), BAD)
async def test_a_resource_that_breaks_a_rule_is_refused_by_element_and_nothing_is_stored(
    door: Door, make: Callable[[], Json], spoil: Callable[[Json], object], reason: str, field: str
) -> None:
    resource = make()
    spoil(resource)
    assert await refusal(door, resource) == (reason, f"resources[0].{field}")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"resourceType": 1}'])
async def test_what_is_no_resource_is_refused(door: Door, text: str) -> None:
    request = api.RecordFhirResourcesRequest(request_id="f", resources=[text], all_or_nothing=True)
    with pytest.raises(Invalid, match="send"):
        await door.call("RecordFhirResources", request)
    assert not door.facts()


async def test_of_several_resources_the_good_ones_are_recorded_where_the_caller_says_so(door: Door) -> None:
    bad = questionnaire()
    bad["status"] = "in-progress"
    receipt = await send(door, bad, observation())
    assert receipt.accepted == 1
    (told,) = receipt.refused
    assert (told.index, told.reason, told.field) == (0, "NOT_FINAL", "resources[0].status")


# -- adverse events ---------------------------------------------------------------------------


def report(**other: Any) -> api.AdverseEventReport:
    made = api.AdverseEventReport(
        report="AE-7", pseudonym="P-1", term="瘙痒", onset=moment(1), at=moment(0), words=WORDS, serious=True
    )
    for name, value in other.items():
        setattr(made, name, value)
    return made


async def test_what_was_asked_and_what_was_reported_is_listed_once(door: Door) -> None:
    await door.call("RecordResponse", response(*answers(itch=True, dizzy="very")))
    await door.call("RecordAdverseEvents", api.RecordAdverseEventsRequest(reports=[report()]))
    listed = await door.call("ListAdverseEvents", api.ListAdverseEventsRequest(pseudonym="P-1"))
    found = [(e.term, e.text.en, e.solicited, e.spontaneous, e.serious) for e in listed.events]
    assert found == [("PL0101", "itching", 1, 1, True), ("PL0201", "dizziness", 1, 0, False)]
    assert WORDS.encode() not in door.last(clinical.AdverseEventRecorded).SerializeToString()
    # What a patient answered is not used any more once they withdraw; what the hospital reported is.
    door.told.subject("P-1", consent=False, days=-2)
    listed = await door.call("ListAdverseEvents", api.ListAdverseEventsRequest())
    assert [(e.term, e.solicited, e.spontaneous) for e in listed.events] == [("PL0101", 0, 1)]


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        ({"report": ""}, "REQUIRED", "report"),
        ({"pseudonym": ""}, "REQUIRED", "pseudonym"),
        ({"term": ""}, "REQUIRED", "term"),
        ({"term": "hiccups"}, "UNKNOWN_TERM", "term"),
        ({"words": "x" * 4001}, "TOO_LONG", "words"),
    ],
)
async def test_a_report_that_breaks_a_rule_is_refused_by_field(
    door: Door, wrong: Json, reason: str, field: str
) -> None:
    request = api.RecordAdverseEventsRequest(reports=[report(**wrong)], all_or_nothing=True)
    with pytest.raises(Invalid) as refused:
        await door.call("RecordAdverseEvents", request)
    assert (refused.value.reason, refused.value.field) == (reason, f"reports[0].{field}")
    assert not door.facts()


async def test_the_vocabulary_and_the_templates_are_shown(door: Door) -> None:
    terms = (await door.call("GetVocabulary", api.GetVocabularyRequest())).terms
    assert next(term.text.zh for term in terms if term.code == "PL0201") == "头晕"
    shown = (await door.call("ListFollowUpTemplates", api.ListFollowUpTemplatesRequest())).templates
    assert [(one.template, one.version, one.duration_hours) for one in shown] == [
        ("any:any", 1, 8),
        ("maker/gtin/A:any", 1, 120),
    ]
