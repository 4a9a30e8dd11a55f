"""Follow-up as its people read it: what a plan asks and what a patient answered, in their language."""

from __future__ import annotations

from typing import Any

from services.portal.languages import CHINESE, Language


def wording(language: Language, text: Any) -> str:
    """A text of both languages; the other one where the reader's is not written."""
    chinese, english = str(text.zh), str(text.en)
    return (chinese or english) if language.code == CHINESE else (english or chinese)


def asked_text(language: Language, question: Any) -> str:
    """What a question asks; its id where it has no text."""
    return wording(language, question.text) or str(question.id)


def answer_text(language: Language, asked: Any) -> str:
    """What was answered; empty where nothing was, or where it is not shown."""
    if not asked.HasField("answer"):
        return ""
    given, question = asked.answer, asked.question
    kind = given.WhichOneof("value")
    if kind == "yes":
        return language.say("Yes") if given.yes else language.say("No")
    if kind == "number":
        unit = "" if question.unit in ("", "1") else f" {question.unit}"
        return f"{language.number(given.number, 6)}{unit}"
    if kind == "choice":
        texts = {one.id: wording(language, one.text) for one in question.options}
        return texts.get(given.choice) or str(given.choice)
    return str(given.words)
