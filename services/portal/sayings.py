"""Sentences that the platform makes, said in the reader's language from their code and values.

A service tells a sentence twice: in English, and in parts with a code each. What has no parts, or a code that
is not known here, is shown as it was written and marked as English, so that a newer service is no error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

from services.kit.ids import loop_of
from services.portal.languages import ENGLISH, Language
from services.portal.running import WAITS, stage_word
from services.portal.sayings_learnt import LEARNT
from services.portal.words import N_, WORDS

#: By code. A value is written in its place: a number as the language does, a stage as its word.
SAYINGS = {
    # What an alert says.
    "LEFT_GOLDEN_RUN": N_(
        "%(tag)s on %(equipment)s left the golden run: %(magnitude)s standard deviations, "
        "the limit is %(limit)s."
    ),
    "LEFT_GOLDEN_RUN_IN_PHASE": N_(
        "%(tag)s on %(equipment)s left the golden run in phase %(phase)s: %(magnitude)s standard deviations, "
        "the limit is %(limit)s."
    ),
    "LAST_POINT": N_("At last %(value)s %(unit)s, where %(low)s to %(high)s are allowed."),
    "JUDGE_DEVIATION": N_("Judge deviation %(deviation)s of lot %(lot)s."),
    "STAGE_LATE": N_("Run %(run)s is late in stage “%(stage)s”: it waits for %(waits)s."),
    "NO_SAFETY_RUN": N_(
        "Deviation %(deviation)s of lot %(lot)s was confirmed, and no safety run was opened."
    ),
    "NO_SUCCESSOR": N_(
        "Something came after the seal of run %(run)s of lot %(lot)s, and its successor %(successor)s was "
        "not opened: patients may be missing."
    ),
    "NO_TRANSFER_RUN": N_("A version was released for %(case)s, and no run of the transfer loop was opened."),
    "NO_EVIDENCE_RUN": N_("%(case)s was requested, and no run of the evidence loop was opened."),
    "CHECK_LOOPS": N_("Check the loops service."),
    # Why a lot is held, or was held before.
    "HELD_FOR_DEVIATION": N_("Deviation of %(tag)s confirmed: %(words)s"),
    "HELD_FOR_RESULT": N_("Out of specification: %(words)s"),
    "IMPLICATED": N_("Implicated by run %(run)s of %(root)s"),
    "IMPLICATED_BY": N_("Implicated by run %(run)s"),
    "HELD_WHEN_KNOWN": N_("The lot has no process run in this plant; it is held, also when it appears."),
    "HELD_BY_IMPLICATION": N_("Held by this implication"),
    "HELD_BEFORE": N_("Held before:"),
    "HELD_BEFORE_IN_WORDS": N_("Held before: %(words)s"),
    "REJECTED_BEFORE": N_("Rejected before:"),
    "REJECTED_BEFORE_IN_WORDS": N_("Rejected before: %(words)s"),
    # What a laboratory result broke.
    "RESULT_BELOW": N_("%(test)s of %(value)s %(unit)s is below the lower limit of %(limit)s %(unit)s"),
    "RESULT_ABOVE": N_("%(test)s of %(value)s %(unit)s is above the upper limit of %(limit)s %(unit)s"),
    "RESULT_OUT_OF_TREND": N_(
        "%(test)s of %(value)s %(unit)s lies more than %(sigmas)s standard deviations of %(deviation)s from "
        "%(mean)s, the mean of %(earlier)s earlier results"
    ),
    # What became of a deviation and of its corrective action.
    "CLOSED_WITH_CAPA": N_("Corrective action %(capa)s is closed"),
    "CAPA_REQUIRED": N_("Corrective action %(capa)s"),
    "CAPA_REFUSED": N_("Corrective action %(capa)s was refused"),
    "CLASSIFIED": N_("%(word)s: %(impact)s"),
    "LIMIT_CHANGED": N_("Limit of %(tag)s from %(before)s to %(after)s spreads"),
    "LIMIT_STAYS": N_("Limit of %(tag)s stays at %(limit)s spreads"),
    # The rule that a deviation broke.
    "TWO_OF_THREE_SHIFT": N_(
        "Two of three samples left their own recent level by more than %(limit)s spreads (shift chart)"
    ),
    "TWO_OF_THREE_LEVEL": N_(
        "Two of three samples left the golden run by more than %(limit)s spreads (level chart)"
    ),
    "WE1": N_("Control chart: one point beyond 3 sigma (WE1)"),
    "WE2": N_("Control chart: two of three points beyond 2 sigma on one side (WE2)"),
    "WE3": N_("Control chart: four of five points beyond 1 sigma on one side (WE3)"),
    "WE4": N_("Control chart: eight points in a row on one side (WE4)"),
    "N1": N_("Control chart: one point beyond 3 sigma (N1)"),
    "N2": N_("Control chart: nine points in a row on one side (N2)"),
    "N3": N_("Control chart: six points in a row rising, or falling (N3)"),
    "N4": N_("Control chart: fourteen points in a row alternating (N4)"),
    "N5": N_("Control chart: two of three points beyond 2 sigma on one side (N5)"),
    "N6": N_("Control chart: four of five points beyond 1 sigma on one side (N6)"),
    "N7": N_("Control chart: fifteen points in a row within 1 sigma (N7)"),
    "N8": N_("Control chart: eight points in a row beyond 1 sigma (N8)"),
    "CUSUM_SPREADS": N_("Control chart: CUSUM beyond %(h)s spreads (k %(k)s)"),
    "CUSUM_SIGMA": N_("Control chart: CUSUM beyond %(h)s sigma (k %(k)s)"),
    "EWMA_SPREADS": N_("Control chart: EWMA beyond %(limit)s spreads (lambda %(weight)s)"),
    "EWMA_SIGMA": N_("Control chart: EWMA beyond %(limit)s sigma (lambda %(weight)s)"),
}
SAYINGS |= LEARNT
_DIGITS = 4
#: Values that are words of the portal, and not as they are written.
_WORDS = ("word", "scale")
#: A part of a sentence may have parts, so deep.
_DEEPEST = 4


def _value(language: Language, one: Any, depth: int) -> str:
    """A value as it is read. KeyError for a part that is not known here."""
    match one.WhichOneof("value"):
        case "number" if float(one.number).is_integer():
            return language.count(int(one.number))
        case "number":
            return language.number(one.number, _DIGITS)
        case "phrase" if depth < _DEEPEST:
            return language.say(SAYINGS[one.phrase.code]) % _values(language, one.phrase, depth + 1)
        case "phrase":
            raise KeyError(one.name)
    return language.say(WORDS.get(one.text, one.text)) if one.name in _WORDS else str(one.text)


def _values(language: Language, saying: Any, depth: int = 0) -> dict[str, str]:
    """The values as they are read. KeyError for a part that is not known here."""
    told = {one.name: _value(language, one, depth) for one in saying.arguments}
    if saying.code == "STAGE_LATE":
        stage = told.get("stage", "")
        loop = loop_of(told.get("case", ""))
        waits, _ = WAITS.get((loop, stage), ("", ""))
        told["stage"] = language.say(stage_word(loop, stage))
        told["waits"] = language.say(waits) if waits else "–"
    return told


def _parts(language: Language, sayings: Iterable[Any]) -> list[tuple[str, dict[str, str]]] | None:
    """Each sentence with its values; None where one is not known here, or lacks a value."""
    found = []
    for saying in sayings:
        if saying.code not in SAYINGS:
            return None
        sentence = language.say(SAYINGS[saying.code])
        try:
            values = _values(language, saying)
            sentence % values
        except KeyError:
            return None
        found.append((sentence, values))
    return found or None


def _between(language: Language) -> str:
    return " " if language.code == ENGLISH else ""


def plain(language: Language, sayings: Iterable[Any], english: str) -> str:
    """What is said, as text; `english` where it has no parts that are known here."""
    parts = _parts(language, sayings)
    if parts is None:
        return english
    return _between(language).join(sentence % values for sentence, values in parts)


def marked(language: Language, sayings: Iterable[Any], english: str) -> Markup:
    """What is said, for a page: names that stand in it turn no writing round."""
    parts = _parts(language, sayings)
    if parts is None:
        return Markup('<bdi lang="en">{}</bdi>').format(english) if english else Markup("")
    said = [
        escape(sentence) % {name: Markup("<bdi>{}</bdi>").format(value) for name, value in values.items()}
        for sentence, values in parts
    ]
    return Markup(_between(language)).join(said)


def reason(lot: Any, language: Language) -> str:
    """Why a lot is held, or a deviation is closed, as text: a person's words stay as they are."""
    return plain(language, lot.reason_sayings, lot.reason)


def why(language: Language, sayings: Iterable[Any], words: str) -> Markup:
    """A reason, for a page: the platform's sentence in the language, or a person's words as they are."""
    parts = list(sayings)
    return marked(language, parts, words) if parts else Markup("<bdi>{}</bdi>").format(words)


def rule(language: Language, detected: Any) -> str:
    """The rule that a deviation or a result broke, as text."""
    return plain(language, _of_rule(detected), detected.rule)


def marked_rule(language: Language, detected: Any) -> Markup:
    """The rule that a deviation or a result broke, for a page."""
    return marked(language, _of_rule(detected), detected.rule)


def _of_rule(detected: Any) -> list[Any]:
    return [detected.rule_saying] if detected.HasField("rule_saying") else []
