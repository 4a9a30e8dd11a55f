"""What the hospitals ask the patients who took a product, and how a patient answers. About a product that
nothing is said of they ask the platform's one open question."""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.clinical.v1 import events_pb2 as events
from services.world.entities import FollowUp

#: By term of the platform's vocabulary: the question, and what would make somebody come.
_SYMPTOMS = {
    "PL0101": (
        events.Wording(en="Has your skin itched since you took it?", zh="用药后皮肤发痒吗？"),
        events.Wording(en="Come and see us if your skin itches.", zh="如皮肤发痒请来院复诊。"),
    ),
    "PL0601": (
        events.Wording(en="Have you had a fever since you took it?", zh="用药后发烧吗？"),
        events.Wording(en="Come and see us if you have a fever.", zh="如发烧请来院复诊。"),
    ),
}
#: By LOINC code.
_LABS = {
    "1742-6": events.Wording(en="Alanine aminotransferase in serum", zh="血清丙氨酸氨基转移酶"),
    "14682-9": events.Wording(en="Creatinine in serum", zh="血清肌酐"),
    "1988-5": events.Wording(en="C-reactive protein in serum", zh="血清C反应蛋白"),
}
_VISIT_AFTER_HOURS = 8


def template_for(follow_up: FollowUp) -> events.FollowUpTemplate:
    template = events.FollowUpTemplate(product=follow_up.product, duration_hours=follow_up.hours)
    question, visit = _SYMPTOMS[follow_up.symptom]
    template.questions.add(
        id="symptom",
        text=question,
        answer=events.ANSWER_KIND_YES_NO,
        yes_is_complaint=True,
        term=follow_up.symptom,
    )
    template.questions.add(
        id="else",
        text=events.Wording(en="Is there anything else?", zh="还有其他不适吗？"),
        answer=events.ANSWER_KIND_WORDS,
    )
    for code in follow_up.labs:
        template.labs.add(code=code, text=_LABS[code])
    template.visits.add(id="look", text=visit, offset_hours=_VISIT_AFTER_HOURS)
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
