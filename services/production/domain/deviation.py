"""The steps of a deviation: from its detection to QA's disposition.

    to:             under        confirmed  rejected  CAPA      closed
                    investigation                     required
    open                 x           x         x
    under investigation              x         x
    confirmed                                             x        x
    CAPA required                                                  x
    rejected
    closed

A deviation is rejected when it was a false alarm. A confirmed one needs a
corrective action as soon as one is proposed for it, and is closed with that
action, or by a person who says why. Where a person refuses the action, it is
confirmed as it was before the proposal. A person classifies it after its impact
was assessed; what the product's rules propose is only proposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.record import Deviation, DeviationState, Lot, given, known
from services.refusals import Absent, Malformed, Refusal
from services.sayings import kept, saying

#: The states that may follow each.
NEXT: dict[DeviationState, tuple[DeviationState, ...]] = {
    "open": ("under_investigation", "confirmed", "rejected"),
    "under_investigation": ("confirmed", "rejected"),
    "confirmed": ("capa_required", "closed"),
    "capa_required": ("closed",),
    "rejected": (),
    "closed": (),
}
D = TypeVar("D", bound=Deviation)
_JUDGED = ("confirmed", "rejected", "capa_required", "closed")
_SEVERITIES = (events.SEVERITY_MINOR, events.SEVERITY_MAJOR, events.SEVERITY_CRITICAL)


# -- decisions ------------------------------------------------------------


def decide_detect(lot: Lot | None, detected: events.DeviationDetected) -> list[Message]:
    """Take a detected deviation into the record, once."""
    if lot is not None and lot.deviation(detected.deviation) is not None:
        return []
    return [detected]


def decide_update(lot: Lot | None, updated: events.DeviationUpdated) -> list[Message]:
    """Take in how a deviation goes on, whatever was judged of it: QA must see what it judged by."""
    found = lot.deviation(updated.deviation) if lot else None
    if found is None or found.updated == updated.SerializeToString(deterministic=True):
        return []
    return [updated]


def decide_investigate(lot: Lot | None, deviation: str, reason: str, actor: str) -> list[Message]:
    """Look into a deviation that nobody has judged."""
    found = _may(lot, deviation, "under_investigation", reason, "what is looked into")
    return [
        events.DeviationInvestigationStarted(
            lot=known(lot).lot, deviation=found.deviation, actor=actor, reason=reason
        )
    ]


def decide_reject(lot: Lot | None, deviation: str, reason: str, actor: str) -> list[Message]:
    """Judge a deviation to be a false alarm."""
    found = _may(lot, deviation, "rejected", reason, "why the deviation is a false alarm")
    return [
        events.DeviationRejected(deviation=found.deviation, lot=known(lot).lot, actor=actor, reason=reason)
    ]


def confirm(lot: Lot | None, deviation: str, reason: str, actor: str) -> events.DeviationConfirmed:
    """Judge a deviation to be real; what it does to the lot is the lot's to decide."""
    found = _may(lot, deviation, "confirmed", reason, "why the deviation is real")
    detected = events.DeviationDetected.FromString(found.detected)
    return events.DeviationConfirmed(
        deviation=deviation,
        lot=known(lot).lot,
        product=detected.product,
        tag=detected.tag,
        actor=actor,
        reason=reason,
    )


def decide_classify(
    lot: Lot | None, deviation: str, severity: events.Severity, impact: str, actor: str
) -> list[Message]:
    """Classify a deviation; again while it is not closed, for an impact may become known late."""
    found = _there(lot, deviation)
    if severity not in _SEVERITIES:
        raise Malformed("REQUIRED", "classify the deviation as minor, major or critical", "severity")
    given(impact, "impact", "say what the deviation may have done to the product and to patients")
    if found.state == "rejected" or (found.state == "closed" and found.severity):
        said = f"a deviation that is {_words(found.state)} is not classified any more"
        raise Refusal("ILLEGAL_TRANSITION", said, "deviation")
    return [
        events.DeviationClassified(
            lot=known(lot).lot, deviation=deviation, severity=severity, impact=impact, actor=actor
        )
    ]


def decide_require_capa(lot: Lot | None, deviation: str, capa: str) -> list[Message]:
    """A corrective action was proposed: a confirmed deviation waits for it. No other does."""
    found = lot.deviation(deviation) if lot else None
    if lot is None or found is None or "capa_required" not in NEXT[found.state]:
        return []
    return [events.DeviationCapaRequired(lot=lot.lot, deviation=deviation, capa=capa)]


def decide_refuse_capa(lot: Lot | None, capa: str) -> list[Message]:
    """The corrective action was refused: what waits for it waits for a person again."""
    if lot is None:
        return []
    return [
        events.DeviationCapaRefused(lot=lot.lot, deviation=found.deviation, capa=capa)
        for found in lot.deviations
        if found.capa == capa and found.state == "capa_required"
    ]


def decide_close(lot: Lot | None, deviation: str, reason: str, actor: str) -> list[Message]:
    """A person closes a confirmed deviation, which must be classified."""
    found = _may(lot, deviation, "closed", reason, "why the deviation may be closed")
    if not found.severity:
        said = "the deviation is not classified; assess its impact with ClassifyDeviation first"
        raise Refusal("NOT_CLASSIFIED", said, "deviation")
    return [events.DeviationClosed(lot=known(lot).lot, deviation=deviation, actor=actor, reason=reason)]


def decide_close_with(lot: Lot | None, capa: str, actor: str) -> list[Message]:
    """Close what the corrective action was for."""
    if lot is None:
        return []
    return [
        events.DeviationClosed(
            lot=lot.lot,
            deviation=found.deviation,
            actor=actor,
            reason=f"corrective action {capa} is closed",
            reason_sayings=[saying("CLOSED_WITH_CAPA", capa=capa)],
        )
        for found in lot.deviations
        if found.capa == capa and "closed" in NEXT[found.state]
    ]


def check_release(deviations: Iterable[Deviation]) -> None:
    """Refusal while QA has not disposed of a deviation: rejected, or closed and not critical."""
    for found in deviations:
        name = f"deviation {found.deviation}"
        if found.state in ("open", "under_investigation"):
            said = f"{name} is {_words(found.state)}; judge it first"
            raise Refusal("DEVIATION_OPEN", said, "lot")
        if found.state in ("confirmed", "capa_required"):
            said = f"{name} is {_words(found.state)}; close it, or reject the lot"
            raise Refusal("DEVIATION_CONFIRMED", said, "lot")
        if found.state == "closed" and not found.severity:
            raise Refusal("NOT_CLASSIFIED", f"{name} is not classified; assess its impact first", "lot")
        if found.state == "closed" and found.severity == events.SEVERITY_CRITICAL:
            said = f"{name} is critical; the lot can only be rejected"
            raise Refusal("DEVIATION_CRITICAL", said, "lot")


def _there(lot: Lot | None, deviation: str) -> Deviation:
    found = known(lot).deviation(deviation)
    if found is None:
        said = f"the lot has no deviation {deviation!r}; GetLot lists those that it has"
        raise Absent("UNKNOWN_DEVIATION", said, "deviation")
    return found


def _may(lot: Lot | None, deviation: str, to: DeviationState, reason: str, ask: str) -> Deviation:
    """The deviation, which may become `to`."""
    found = _there(lot, deviation)
    given(reason, "reason", f"say {ask}")
    if to in NEXT[found.state]:
        return found
    if to in ("confirmed", "rejected") and found.state in _JUDGED:
        said = f"the deviation is {_words(found.state)}, by {found.actor}; a judgement is not changed"
        raise Refusal("ALREADY_JUDGED", said, "deviation")
    ways = ", ".join(_words(state) for state in NEXT[found.state]) or "nothing"
    said = f"a deviation that is {_words(found.state)} cannot become {_words(to)}; it can become: {ways}"
    raise Refusal("ILLEGAL_TRANSITION", said, "deviation")


def _words(state: str) -> str:
    return state.replace("capa", "CAPA").replace("_", " ")


# -- the fold -------------------------------------------------------------


#: The state that a person's word leads to.
_SAID: dict[type[Message], DeviationState] = {
    events.DeviationInvestigationStarted: "under_investigation",
    events.DeviationConfirmed: "confirmed",
    events.DeviationRejected: "rejected",
    events.DeviationClosed: "closed",
}


def changed(held: D, event: Message) -> D:
    """The deviation after one of its events but the first."""
    match event:
        case events.DeviationUpdated():
            return replace(held, updated=event.SerializeToString(deterministic=True))
        case events.DeviationClassified():
            return replace(held, severity=event.severity, impact=event.impact)
        case events.DeviationCapaRequired():
            return replace(held, state="capa_required", capa=event.capa)
        case events.DeviationCapaRefused():
            return replace(held, state="confirmed", capa="")
    said: Any = event
    parts = kept(event.reason_sayings) if isinstance(event, events.DeviationClosed) else ()
    return replace(held, state=_SAID[type(event)], actor=said.actor, reason=said.reason, sayings=parts)


def evolve(lot: Lot, event: Message, deviation: str) -> Lot:
    """The lot after an event of one of its deviations."""
    after = tuple(changed(held, event) if held.deviation == deviation else held for held in lot.deviations)
    return replace(lot, deviations=after)
