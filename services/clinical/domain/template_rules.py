"""What a follow-up template has to be: a person is told the field and the rule before it is registered."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain.vocabulary import coded
from services.refusals import Malformed

#: Ten years: who is followed up for longer takes part in a study.
LONGEST_HOURS = 10 * 365 * 24
_MOST = 100
_LONGEST_TEXT = 1000
_LONGEST_KIND = 128
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
#: Digits, a hyphen and a check digit.
_LOINC = re.compile(r"[0-9]{1,7}-[0-9]")


def check(template: clinical.FollowUpTemplate) -> None:
    """Malformed with the field at fault and its rule. The product's key is checked by the caller."""
    if len(template.deviation_kind) > _LONGEST_KIND:
        raise Malformed("TOO_LONG", f"at most {_LONGEST_KIND} characters", "deviation_kind")
    _check_duration(template.duration_hours)
    if not template.questions:
        raise Malformed("REQUIRED", "a follow-up asks at least one question; add one", "questions")
    _check_ids("questions", "id", [question.id for question in template.questions], _ID)
    _check_ids("labs", "code", [lab.code for lab in template.labs], _LOINC)
    _check_ids("visits", "id", [visit.id for visit in template.visits], _ID)
    for n, question in enumerate(template.questions):
        _check_question(question, f"questions[{n}]")
    for n, lab in enumerate(template.labs):
        _check_text(lab.text, f"labs[{n}].text")
    for n, visit in enumerate(template.visits):
        _check_text(visit.text, f"visits[{n}].text")
        _check_offset(visit.offset_hours, template.duration_hours, f"visits[{n}].offset_hours")


def _check_duration(hours: int) -> None:
    if not hours:
        said = "a follow-up has an end; say after how many hours"
        raise Malformed("REQUIRED", said, "duration_hours")
    if not 0 < hours <= LONGEST_HOURS:
        said = f"a follow-up lasts 1 to {LONGEST_HOURS} hours; correct the number"
        raise Malformed("OUT_OF_RANGE", said, "duration_hours")


def _check_offset(offset: int, duration: int, field: str) -> None:
    if not 0 <= offset <= duration:
        said = f"a visit lies within the follow-up, 0 to {duration} hours; move it, or prolong that"
        raise Malformed("OUT_OF_RANGE", said, field)


def _check_ids(list_: str, name: str, ids: Iterable[str], form: re.Pattern[str]) -> None:
    seen: set[str] = set()
    for n, id in enumerate(ids):
        field = f"{list_}[{n}].{name}"
        if not form.fullmatch(id):
            raise Malformed("MALFORMED", f"{id!r} is not of the form {form.pattern}; write it so", field)
        if id in seen:
            raise Malformed("DUPLICATE", f"{id!r} stands there twice; give each one of its own", field)
        seen.add(id)
    if len(seen) > _MOST:
        raise Malformed("TOO_MANY", f"at most {_MOST}; leave some out", list_)


def _check_text(text: clinical.Wording, field: str) -> None:
    for language in ("en", "zh"):
        words = getattr(text, language)
        if not words.strip():
            raise Malformed("REQUIRED", "write it in English and in Chinese", f"{field}.{language}")
        if len(words) > _LONGEST_TEXT:
            raise Malformed("TOO_LONG", f"at most {_LONGEST_TEXT} characters", f"{field}.{language}")


def _check_question(question: clinical.FollowUpQuestion, field: str) -> None:
    _check_text(question.text, f"{field}.text")
    if question.answer not in clinical.AnswerKind.values()[1:]:
        raise Malformed("REQUIRED", "say what it takes for an answer", f"{field}.answer")
    for name, kind, has in _only(question):
        if has and question.answer != kind:
            said = f"only a question of the kind {clinical.AnswerKind.Name(kind)} has it; leave it out"
            raise Malformed("CONTRADICTS", said, f"{field}.{name}")
    if question.answer == clinical.ANSWER_KIND_CHOICE:
        _check_options(question, f"{field}.options")
    if question.answer == clinical.ANSWER_KIND_NUMBER:
        _check_number(question, field)
    if question.term:
        _check_term(question, f"{field}.term")


def _only(question: clinical.FollowUpQuestion) -> list[tuple[str, clinical.AnswerKind, bool]]:
    """Fields that belong to one kind of question, and whether they are there."""
    return [
        ("options", clinical.ANSWER_KIND_CHOICE, bool(question.options)),
        ("yes_is_complaint", clinical.ANSWER_KIND_YES_NO, question.yes_is_complaint),
        ("complaint_from", clinical.ANSWER_KIND_NUMBER, question.HasField("complaint_from")),
        ("unit", clinical.ANSWER_KIND_NUMBER, bool(question.unit)),
    ]


def _check_options(question: clinical.FollowUpQuestion, field: str) -> None:
    if len(question.options) < 2:
        raise Malformed("REQUIRED", "a choice has two options at least; add them", field)
    _check_ids(field, "id", [option.id for option in question.options], _ID)
    for n, option in enumerate(question.options):
        _check_text(option.text, f"{field}[{n}].text")


def _check_number(question: clinical.FollowUpQuestion, field: str) -> None:
    if not question.unit:
        raise Malformed("REQUIRED", "give the unit's UCUM code, '1' where there is none", f"{field}.unit")
    if not math.isfinite(question.complaint_from):
        raise Malformed("NOT_FINITE", "write a finite number", f"{field}.complaint_from")


def _check_term(question: clinical.FollowUpQuestion, field: str) -> None:
    if coded(question.term, field) != question.term:
        raise Malformed("UNKNOWN_TERM", "write the term's code; GetVocabulary shows them", field)
    options = any(option.complaint for option in question.options)
    if not (question.yes_is_complaint or question.HasField("complaint_from") or options):
        said = "no answer to it is a complaint; say which is, or leave the term out"
        raise Malformed("CONTRADICTS", said, field)
