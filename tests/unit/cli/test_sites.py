"""What a site says of its patients' answers, and one dispense without the person."""

from __future__ import annotations

from typing import Any

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.cli.support import PACKED, SITE, Bench


def _response(words: str = "") -> clinical.PatientResponse:
    told = clinical.PatientResponse(plan="p-1", run="r-7", pseudonym="P-9", affected=True, words=words)
    given: dict[str, dict[str, Any]] = {
        "itch": {"yes": False},
        "fever": {"number": 38.5},
        "dizzy": {"choice": "very"},
    }
    for question, value in given.items():
        answer = events.QuestionAnswer(question=question, **value)
        told.answers.add(question=events.FollowUpQuestion(id=question), answer=answer)
    told.answers.add(question=events.FollowUpQuestion(id="else"))
    return told


def test_answers_are_listed_question_by_question(bench: Bench) -> None:
    answer = clinical.ListResponsesResponse(responses=[_response()])
    bench.fake.answers["ListResponses"] = lambda request: answer
    found = bench.json("site", "answers", SITE, "--run", "r-7")
    assert found["answers"][0]["pseudonym"] == "P-9"
    (request,) = bench.fake.of("ListResponses")
    assert (request.site, request.run, request.words) == (SITE, "r-7", False)
    shown = bench.run("site", "answers", SITE).output
    for line in ("itch: no", "fever: 38.5", "dizzy: very", "else: -"):
        assert line in shown


def test_words_are_asked_of_one_patient_alone(bench: Bench) -> None:
    answer = clinical.ListResponsesResponse(responses=[_response("Call me.")])
    bench.fake.answers["ListResponses"] = lambda request: answer
    assert "Call me." in bench.run("site", "answers", SITE, "--patient", "P-9", "--words").output
    refused = bench.run("site", "answers", SITE, "--words")
    assert refused.exit_code == 2
    assert "--patient" in refused.output
    (request,) = bench.fake.of("ListResponses")
    assert (request.pseudonym, request.words) == ("P-9", True)


def test_an_erased_patients_answers_are_said_to_be_gone(bench: Bench) -> None:
    gone = clinical.PatientResponse(pseudonym="P-9", erased=True)
    bench.fake.answers["ListResponses"] = lambda request: clinical.ListResponsesResponse(responses=[gone])
    assert "erased" in bench.run("site", "answers", SITE).output


def test_one_dispense_is_shown_without_the_person(bench: Bench) -> None:
    answer = trace.GetDispenseResponse(
        dispense="d-31", lot=PACKED, sites=[SITE], sources=["pharmacy-1"], disposition="RETURNED_UNOPENED"
    )
    bench.fake.answers["GetDispense"] = lambda request: answer
    assert bench.json("exposure", "dispense", "d-31")["sites"] == [SITE]
    shown = bench.run("exposure", "dispense", "d-31").output
    assert "returned unopened" in shown
    assert PACKED in shown
