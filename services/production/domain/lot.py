"""A lot's record: its process run, its quality state, its deviations.

Patients depend on the transitions: what is held must not slip out, what was
released must still be holdable when a recall comes, and nothing leaves while
a deviation is unjudged or judged to be real. Every other way is refused, with
the reason.

    to:         completed   held   released   rejected
    started         x         x
    completed                 x        x          x
    held           (x)                 x          x
    released                  x                   x
    rejected

(x) A lot held while it runs may still complete its run: that is a fact beside
the quality state, and the lot stays held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.errors import Absent, Malformed, Refusal

QualityState: TypeAlias = Literal["started", "completed", "held", "released", "rejected"]
Judgement: TypeAlias = Literal["open", "confirmed", "rejected"]

#: Who holds a lot by rule.
PLATFORM = "platform"

#: The quality states that may follow each.
NEXT: dict[QualityState, tuple[QualityState, ...]] = {
    "started": ("completed", "held"),
    "completed": ("released", "held", "rejected"),
    "held": ("released", "rejected"),
    "released": ("held", "rejected"),
    "rejected": (),
}


@dataclass(frozen=True)
class Deviation:
    """A deviation of a lot; `detected` keeps its DeviationDetected as it was."""

    deviation: str
    detected: bytes
    state: Judgement = "open"
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Lot:
    """A lot as its events made it.

    `started` and `completed` are moments of its process run (ISO, UTC). A lot
    that never ran in this plant has no start: it is here because a run of the
    safety loop (`runs`) implicated it.
    """

    lot: str
    state: QualityState
    product: str = ""
    equipment: str = ""
    started: str = ""
    completed: str = ""
    reason: str = ""
    deviations: tuple[Deviation, ...] = ()
    runs: tuple[str, ...] = ()

    def deviation(self, id: str) -> Deviation | None:
        return next((found for found in self.deviations if found.deviation == id), None)


# -- decisions ------------------------------------------------------------


def decide_start(lot: Lot | None, asked: events.LotStarted) -> list[Message]:
    """Start a lot. One that was implicated before it was known is held at once."""
    if lot is not None and lot.started:
        raise _illegal(lot, "started")
    if lot is None:
        return [asked]
    if lot.state != "held":
        raise _illegal(lot, "started")
    return [asked, events.LotHeld(lot=lot.lot, reason=lot.reason, actor=PLATFORM)]


def decide_complete(lot: Lot | None, asked: events.LotCompleted) -> list[Message]:
    """End the process run of a lot that is started, or was held while it ran."""
    found = known(lot)
    running = bool(found.started) and not found.completed
    if not running or found.state not in ("started", "held"):
        raise _illegal(found, "completed")
    return [asked]


def decide_hold(lot: Lot | None, reason: str, actor: str) -> list[Message]:
    found = known(lot)
    _given(reason, "reason", "say why the lot is held")
    _allow(found, "held")
    return [events.LotHeld(lot=found.lot, reason=reason, actor=actor)]


def decide_release(lot: Lot | None, actor: str) -> list[Message]:
    """Release a lot whose run is over and whose every deviation was a false alarm."""
    found = known(lot)
    _allow(found, "released")
    if found.started and not found.completed:
        raise Refusal("RUN_NOT_COMPLETE", "the lot's process run goes on; complete it first", "lot")
    for deviation in found.deviations:
        if deviation.state == "open":
            raise Refusal("DEVIATION_OPEN", f"deviation {deviation.deviation} is open; judge it first", "lot")
        if deviation.state == "confirmed":
            raise Refusal(
                "DEVIATION_CONFIRMED",
                f"deviation {deviation.deviation} is confirmed; the lot can only be rejected",
                "lot",
            )
    return [events.LotReleased(lot=found.lot, actor=actor)]


def decide_reject(lot: Lot | None, reason: str, actor: str) -> list[Message]:
    found = known(lot)
    _given(reason, "reason", "say why the lot is rejected")
    _allow(found, "rejected")
    return [events.LotRejected(lot=found.lot, reason=reason, actor=actor)]


def decide_detect(lot: Lot | None, detected: events.DeviationDetected) -> list[Message]:
    """Take a detected deviation into the record, once."""
    if lot is not None and lot.deviation(detected.deviation) is not None:
        return []
    return [detected]


def decide_confirm(lot: Lot | None, deviation: str, reason: str, actor: str) -> list[Message]:
    """Judge a deviation to be real; what may still be held is held by it."""
    found = known(lot)
    detected = _open(found, deviation, reason, "why the deviation is real")
    confirmed = events.DeviationConfirmed(
        deviation=deviation,
        lot=found.lot,
        product=detected.product,
        tag=detected.tag,
        actor=actor,
        reason=reason,
    )
    if "held" not in NEXT[found.state]:
        return [confirmed]
    held = events.LotHeld(
        lot=found.lot, reason=f"deviation of {detected.tag} confirmed: {reason}", actor=actor
    )
    return [confirmed, held]


def decide_reject_deviation(lot: Lot | None, deviation: str, reason: str, actor: str) -> list[Message]:
    """Judge a deviation to be a false alarm."""
    found = known(lot)
    _open(found, deviation, reason, "why the deviation is a false alarm")
    return [events.DeviationRejected(deviation=deviation, lot=found.lot, actor=actor, reason=reason)]


def decide_implicate(lot: Lot | None, key: str, run: str, root: str) -> list[Message]:
    """Answer a run that found the lot under watch; hold it where that is possible."""
    reason = f"implicated by run {run} of {root}"
    if lot is None or (lot.state == "held" and not lot.started):
        decision = events.IMPLICATION_DECISION_HELD_WHEN_KNOWN
        why = "the lot has no process run in this plant; it is held, also when it appears"
        return [events.LotImplicationAnswered(lot=key, run=run, decision=decision, reason=why)]
    if lot.state == "rejected":
        decision, why = events.IMPLICATION_DECISION_REJECTED, f"rejected before: {lot.reason}"
        return [events.LotImplicationAnswered(lot=key, run=run, decision=decision, reason=why)]
    held = lot.state == "held"
    answer = events.LotImplicationAnswered(
        lot=key,
        run=run,
        decision=events.IMPLICATION_DECISION_HELD,
        reason=f"held before: {lot.reason}" if held else "held by this implication",
    )
    return [answer] if held else [events.LotHeld(lot=key, reason=reason, actor=PLATFORM), answer]


# -- rules ----------------------------------------------------------------


def known(lot: Lot | None) -> Lot:
    """The lot; Absent when there is none."""
    if lot is None:
        raise Absent("UNKNOWN_LOT", "no such lot in this plant's records; start it first", "lot")
    return lot


def _illegal(lot: Lot, to: str) -> Refusal:
    ways = ", ".join(NEXT[lot.state]) or "nothing"
    said = f"a lot that is {lot.state} cannot become {to}; from {lot.state} it can become: {ways}"
    return Refusal("ILLEGAL_TRANSITION", said, "lot")


def _allow(lot: Lot, to: QualityState) -> None:
    if to not in NEXT[lot.state]:
        raise _illegal(lot, to)


def _given(text: str, field: str, ask: str) -> None:
    if not text.strip():
        raise Malformed("REQUIRED", ask, field)


def _open(lot: Lot, deviation: str, reason: str, ask: str) -> events.DeviationDetected:
    """The deviation to judge, which must be open."""
    found = lot.deviation(deviation)
    if found is None:
        raise Absent("UNKNOWN_DEVIATION", f"the lot has no deviation {deviation!r}", "deviation")
    _given(reason, "reason", f"say {ask}")
    if found.state != "open":
        said = f"the deviation was {found.state} by {found.actor}; a judgement is not changed"
        raise Refusal("ALREADY_JUDGED", said, "deviation")
    return events.DeviationDetected.FromString(found.detected)


# -- the fold -------------------------------------------------------------


def evolve(lot: Lot | None, event: Message) -> Lot:
    """The lot after one of its own events."""
    match event:
        case events.LotStarted():
            after = _started(lot, event)
        case events.LotImplicationAnswered():
            after = _implicated(lot, event)
        case events.DeviationDetected():
            after = _detected(lot, event)
        case events.DeviationConfirmed():
            after = _judged(_there(lot), event, "confirmed")
        case events.DeviationRejected():
            after = _judged(_there(lot), event, "rejected")
        case events.LotCompleted():
            after = _completed(_there(lot), event)
        case events.LotHeld():
            after = replace(_there(lot), state="held", reason=event.reason)
        case events.LotReleased():
            after = replace(_there(lot), state="released", reason="")
        case events.LotRejected():
            after = replace(_there(lot), state="rejected", reason=event.reason)
        case _:
            raise TypeError(f"a lot does not fold {type(event).__name__}")
    return after


def _there(lot: Lot | None) -> Lot:
    assert lot is not None, "an event of a lot that has no record"
    return lot


def _started(lot: Lot | None, event: events.LotStarted) -> Lot:
    before = lot or Lot(event.lot, "started")
    return replace(
        before,
        state="started",
        product=event.product,
        equipment=event.equipment,
        started=_iso(event.at),
        reason="",
    )


def _completed(lot: Lot, event: events.LotCompleted) -> Lot:
    state: QualityState = "completed" if lot.state == "started" else lot.state
    return replace(lot, state=state, completed=_iso(event.at))


def _implicated(lot: Lot | None, event: events.LotImplicationAnswered) -> Lot:
    before = lot or Lot(event.lot, "held", reason=f"implicated by run {event.run}")
    if event.run in before.runs:
        return before
    return replace(before, runs=(*before.runs, event.run))


def _detected(lot: Lot | None, event: events.DeviationDetected) -> Lot:
    before = lot or Lot(event.lot, "started", product=event.product, equipment=event.equipment)
    deviation = Deviation(event.deviation, event.SerializeToString(deterministic=True))
    return replace(before, deviations=(*before.deviations, deviation))


def _judged(lot: Lot, event: events.DeviationConfirmed | events.DeviationRejected, state: Judgement) -> Lot:
    judged = tuple(
        replace(held, state=state, actor=event.actor, reason=event.reason)
        if held.deviation == event.deviation
        else held
        for held in lot.deviations
    )
    return replace(lot, deviations=judged)


def _iso(stamp: Timestamp) -> str:
    return stamp.ToDatetime().isoformat(timespec="microseconds") + "+00:00"
