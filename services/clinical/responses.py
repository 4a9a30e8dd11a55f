"""What patients answered, opened for the people of their own hospital.

Answers lie sealed under each patient's key, and stay so: they are opened for one page of a list, and nothing
of them is kept. The patient's own words may name people, so they are opened for one patient at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain import moments
from services.clinical.domain.plans import ROLES, Plan
from services.kit.errors import Integrity, Invalid, Unknown
from services.kit.sealing import Sealer


class Answered(NamedTuple):
    """A plan with an answer, and what it asks."""

    plan: Plan
    template: clinical.FollowUpTemplate


def check_asked(request: api.ListResponsesRequest) -> None:
    """Invalid where words of more than one patient are asked for."""
    if request.words and not request.pseudonym:
        said = "name the patient whose words you ask for; lists of several patients are without words"
        raise Invalid("REQUIRED", said, "pseudonym")


def opened(sealer: Sealer, found: Sequence[Answered], words: bool) -> list[api.PatientResponse]:
    """The answers as their hospital reads them. Opens keys: call it beside the event loop."""
    return [_response(sealer, one, words) for one in found]


def _response(sealer: Sealer, found: Answered, words: bool) -> api.PatientResponse:
    plan, answer = found.plan, found.plan.answer
    assert answer is not None
    told = api.PatientResponse(
        plan=plan.plan,
        run=plan.run,
        pseudonym=plan.pseudonym,
        role=ROLES[plan.role],
        lots=plan.lots,
        at=moments.stamp_of(answer.at),
        affected=answer.affected,
    )
    text = clinical.ResponseText()
    if answer.text:
        try:
            text = sealer.open(common.Sealed.FromString(answer.text), clinical.ResponseText)
        except (Unknown, Integrity):
            told.erased = True
    given = {one.question: one for one in text.answers}
    for question in found.template.questions:
        asked = told.answers.add(question=question)
        if (one := given.get(question.id)) is not None:
            asked.answer.CopyFrom(one)
            if one.WhichOneof("value") == "words" and not words:
                asked.answer.ClearField("words")
                told.words_withheld = True
    if words:
        told.words = text.words
    elif text.words:
        told.words_withheld = True
    return told
