"""A template as a hospital would write it: for a patch that may irritate the skin, over five days."""

from __future__ import annotations

from pharmaloop.clinical.v1 import events_pb2 as clinical
from tests.unit.clinical.teller import LOT

PRODUCT = LOT.rsplit("/", 1)[0]
ALT = "1742-6"


def wording(en: str) -> clinical.Wording:
    return clinical.Wording(en=en, zh=f"中文：{en}")


def template(product: str = PRODUCT, kind: str = "", hours: int = 120) -> clinical.FollowUpTemplate:
    """Four questions of each kind, a laboratory test, two visits."""
    made = clinical.FollowUpTemplate(product=product, deviation_kind=kind, duration_hours=hours)
    add = made.questions.add
    add(
        id="itch",
        text=wording("Does your skin itch?"),
        answer=clinical.ANSWER_KIND_YES_NO,
        yes_is_complaint=True,
        term="PL0101",
    )
    add(
        id="fever",
        text=wording("How high is your temperature?"),
        answer=clinical.ANSWER_KIND_NUMBER,
        unit="Cel",
        complaint_from=38.0,
        term="PL0601",
    )
    dizzy = add(
        id="dizzy",
        text=wording("How dizzy are you?"),
        answer=clinical.ANSWER_KIND_CHOICE,
        term="PL0201",
    )
    dizzy.options.add(id="not", text=wording("Not at all"))
    dizzy.options.add(id="very", text=wording("Very"), complaint=True)
    add(id="else", text=wording("Anything else?"), answer=clinical.ANSWER_KIND_WORDS)
    made.labs.add(code=ALT, text=wording("Alanine aminotransferase"))
    made.visits.add(id="first", text=wording("Come and see us"), offset_hours=min(24, hours))
    made.visits.add(id="last", text=wording("Come once more"), offset_hours=hours)
    return made


def answers(itch: bool = False, fever: float = 36.6, dizzy: str = "not") -> list[clinical.QuestionAnswer]:
    return [
        clinical.QuestionAnswer(question="itch", yes=itch),
        clinical.QuestionAnswer(question="fever", number=fever),
        clinical.QuestionAnswer(question="dizzy", choice=dizzy),
    ]
