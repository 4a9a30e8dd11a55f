"""What a corrective action does to a limit, in the reader's words: how it moves, or why it stays."""

from __future__ import annotations

from typing import Any

from pharmaloop.production.v1 import events_pb2 as events
from services.portal.languages import Language
from services.portal.words import WORDS

#: Digits of a limit: two that differ must not read alike.
_DIGITS = 4


def change(language: Language, before: float, after: float, kept: str = "") -> str:
    """`kept` is the contract's name of the reason why it stays; without one the sentence gives none."""
    say, limit = language.say, language.number(after, _DIGITS)
    if after < before:
        return say(
            "from %(before)s to %(after)s spreads of the golden run",
            before=language.number(before, _DIGITS),
            after=limit,
        )
    if kept not in WORDS:
        return say("stays at %(limit)s spreads of the golden run", limit=limit)
    return say("stays at %(limit)s spreads of the golden run: %(why)s", limit=limit, why=say(WORDS[kept]))


def of_proposal(language: Language, proposed: Any) -> str:
    """Of a CapaProposed; a reason that is not known here is none."""
    known = events.LimitKept.DESCRIPTOR.values_by_number.get(proposed.kept)
    return change(language, proposed.limit_before, proposed.limit_after, known.name if known else "")
