"""What the hospitals ask their patients about the first of the products that they hand out, and how a
patient answers. About the others they ask the platform's one open question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pharmaloop.clinical.v1 import events_pb2 as events
from services.kit.ids import product_of
from services.world.entities import Dispense

_HOURS = 8
#: Itching, in the platform's vocabulary.
_ITCHING = "PL0101"


def template_for(dispenses: Iterable[Dispense]) -> events.FollowUpTemplate:
    """Of the product that comes first by its key."""
    template = events.FollowUpTemplate(
        product=min(product_of(dispense.lot) for dispense in dispenses), duration_hours=_HOURS
    )
    template.questions.add(
        id="itching",
        text=events.Wording(en="Has your skin itched since you took it?", zh="用药后皮肤发痒吗？"),
        answer=events.ANSWER_KIND_YES_NO,
        yes_is_complaint=True,
        term=_ITCHING,
    )
    template.questions.add(
        id="else",
        text=events.Wording(en="Is there anything else?", zh="还有其他不适吗？"),
        answer=events.ANSWER_KIND_WORDS,
    )
    text = events.Wording(en="Come and see us if your skin itches.", zh="如皮肤发痒请来院复诊。")
    template.visits.add(id="look", text=text, offset_hours=_HOURS)
    return template


def answers_to(
    questions: Sequence[events.FollowUpQuestion], complaint: bool, words: str
) -> list[events.QuestionAnswer]:
    """What a patient with, or without, a complaint says to questions of yes or no, and of words."""
    return [
        events.QuestionAnswer(question=question.id, yes=complaint)
        if question.answer == events.ANSWER_KIND_YES_NO
        else events.QuestionAnswer(question=question.id, words=words)
        for question in questions
    ]
