"""A patient's answers, judged by the template of their plan.

Every question is answered once, with an answer of its kind; only words may be
left out. The rule for a complaint: the patient is *affected* when they say so,
or when any answer is one that its question counts as a complaint: a yes where
the question says so, an option that is marked, a number from the stated one on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.refusals import Malformed

LONGEST_WORDS = 4000
_FIELDS = {
    clinical.ANSWER_KIND_YES_NO: "yes",
    clinical.ANSWER_KIND_NUMBER: "number",
    clinical.ANSWER_KIND_CHOICE: "choice",
    clinical.ANSWER_KIND_WORDS: "words",
}


@dataclass(frozen=True)
class Judged:
    """Whether the patient has a complaint, and which answers tell of a coded one."""

    affected: bool
    complaints: tuple[tuple[str, clinical.QuestionAnswer], ...]


def judged(
    template: clinical.FollowUpTemplate, answers: Sequence[clinical.QuestionAnswer], said: bool
) -> Judged:
    """What the answers come to; `said`: the patient reports a complaint. Malformed with the field."""
    questions = {question.id: question for question in template.questions}
    answered: set[str] = set()
    for n, answer in enumerate(answers):
        question = questions.get(answer.question)
        if question is None:
            known = ", ".join(questions)
            told = f"the plan does not ask {answer.question!r}; its questions are {known}"
            raise Malformed("UNKNOWN_QUESTION", told, f"answers[{n}].question")
        if answer.question in answered:
            told = f"{answer.question!r} is answered twice; send one answer"
            raise Malformed("DUPLICATE", told, f"answers[{n}].question")
        answered.add(answer.question)
        _check(question, answer, f"answers[{n}]")
    _check_all(template, answered)
    complaints = [(questions[a.question].term, a) for a in answers if _complains(questions[a.question], a)]
    coded = tuple((term, answer) for term, answer in complaints if term)
    return Judged(said or bool(complaints), coded)


def tells(template: clinical.FollowUpTemplate) -> bool:
    """May an answer to the template be a complaint by itself, without that the patient says so apart?"""
    return any(
        question.yes_is_complaint
        or question.HasField("complaint_from")
        or any(option.complaint for option in question.options)
        for question in template.questions
    )


def _check_all(template: clinical.FollowUpTemplate, answered: set[str]) -> None:
    left = [
        question.id
        for question in template.questions
        if question.id not in answered and question.answer != clinical.ANSWER_KIND_WORDS
    ]
    if left:
        told = f"the plan also asks {', '.join(left)}; answer them too, ListPlans shows the questions"
        raise Malformed("MISSING_ANSWER", told, "answers")


def _check(question: clinical.FollowUpQuestion, answer: clinical.QuestionAnswer, field: str) -> None:
    wanted, given = _FIELDS[question.answer], answer.WhichOneof("value")
    if given != wanted:
        told = f"{question.id!r} takes an answer of the kind {wanted!r}; send that"
        raise Malformed("WRONG_KIND", told, f"{field}.{given or wanted}")
    if given == "number" and not math.isfinite(answer.number):
        raise Malformed("NOT_FINITE", "an answer is a finite number", f"{field}.number")
    if given == "words" and len(answer.words) > LONGEST_WORDS:
        raise Malformed("TOO_LONG", f"an answer has at most {LONGEST_WORDS} characters", f"{field}.words")
    options = [option.id for option in question.options]
    if given == "choice" and answer.choice not in options:
        told = f"choose one of {', '.join(options)}"
        raise Malformed("UNKNOWN_OPTION", told, f"{field}.choice")


def _complains(question: clinical.FollowUpQuestion, answer: clinical.QuestionAnswer) -> bool:
    if question.answer == clinical.ANSWER_KIND_YES_NO:
        return question.yes_is_complaint and answer.yes
    if question.answer == clinical.ANSWER_KIND_NUMBER:
        return question.HasField("complaint_from") and answer.number >= question.complaint_from
    return any(option.complaint for option in question.options if option.id == answer.choice)
