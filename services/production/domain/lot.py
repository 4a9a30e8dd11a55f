"""A lot's quality state, and what its deviations and investigations allow.

Patients depend on the transitions: what is held must not slip out, what was
released must still be holdable when a recall comes, and nothing leaves while
QA has not disposed of a deviation that touches it. Every other way is
refused, with the reason.

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

from collections.abc import Iterable
from dataclasses import replace

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services import sayings
from services.production.domain import deviation, laboratory
from services.production.domain.record import Deviation, Lot, QualityState, given, known, number_of
from services.refusals import Refusal
from services.sayings import saying

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


# -- decisions ------------------------------------------------------------


def decide_start(lot: Lot | None, asked: events.LotStarted) -> list[Message]:
    """Start a lot. One that was implicated before it was known is held at once."""
    if lot is not None and lot.started:
        raise _illegal(lot, "started")
    if lot is None:
        return [asked]
    if lot.state != "held":
        raise _illegal(lot, "started")
    return [
        asked,
        events.LotHeld(
            lot=lot.lot, reason=lot.reason, actor=PLATFORM, reason_sayings=sayings.told(lot.sayings)
        ),
    ]


def decide_complete(lot: Lot | None, asked: events.LotCompleted) -> list[Message]:
    """End the process run of a lot that is started, or was held while it ran."""
    found = known(lot)
    running = bool(found.started) and not found.completed
    if not running or found.state not in ("started", "held"):
        raise _illegal(found, "completed")
    return [asked]


def decide_hold(lot: Lot | None, reason: str, actor: str) -> list[Message]:
    found = known(lot)
    given(reason, "reason", "say why the lot is held")
    _allow(found, "held")
    return [events.LotHeld(lot=found.lot, reason=reason, actor=actor)]


def decide_release(lot: Lot | None, actor: str, touching: Iterable[Deviation] = ()) -> list[Message]:
    """Release a lot whose run is over, when QA has disposed of every deviation that touches it.

    `touching` are the deviations of other lots that it was implicated by.
    """
    found = known(lot)
    _allow(found, "released")
    if found.started and not found.completed:
        raise Refusal("RUN_NOT_COMPLETE", "the lot's process run goes on; complete it first", "lot")
    deviation.check_release((*found.deviations, *touching))
    laboratory.check_release(found)
    return [events.LotReleased(lot=found.lot, actor=actor)]


def decide_reject(lot: Lot | None, reason: str, actor: str) -> list[Message]:
    found = known(lot)
    given(reason, "reason", "say why the lot is rejected")
    _allow(found, "rejected")
    return [events.LotRejected(lot=found.lot, reason=reason, actor=actor)]


def decide_confirm(lot: Lot | None, id: str, reason: str, actor: str) -> list[Message]:
    """Judge a deviation to be real; what may still be held is held by it."""
    found = known(lot)
    confirmed = deviation.confirm(found, id, reason, actor)
    if "held" not in NEXT[found.state]:
        return [confirmed]
    held = events.LotHeld(
        lot=found.lot,
        reason=f"deviation of {confirmed.tag} confirmed: {reason}",
        actor=actor,
        reason_sayings=[saying("HELD_FOR_DEVIATION", tag=confirmed.tag, words=reason)],
    )
    return [confirmed, held]


def decide_close_investigation(
    lot: Lot | None,
    investigation: str,
    outcome: events.InvestigationOutcome,
    reason: str,
    actor: str,
) -> list[Message]:
    """Close a laboratory investigation; what may still be held is held by a result that stands."""
    found = known(lot)
    closed = laboratory.close(found, investigation, outcome, reason, actor)
    stands = closed.outcome == events.INVESTIGATION_OUTCOME_CONFIRMED
    if not stands or "held" not in NEXT[found.state]:
        return [closed]
    told = events.LotHeld(
        lot=found.lot,
        reason=f"out of specification: {reason}",
        actor=actor,
        reason_sayings=[saying("HELD_FOR_RESULT", words=reason)],
    )
    return [closed, told]


def decide_implicate(lot: Lot | None, key: str, run: str, root: str) -> list[Message]:
    """Answer a run that found the lot under watch; hold it where that is possible."""
    if lot is None or (lot.state == "held" and not lot.started):
        decision = events.IMPLICATION_DECISION_HELD_WHEN_KNOWN
        why = "the lot has no process run in this plant; it is held, also when it appears"
        return [_answered(key, run, decision, why, [saying("HELD_WHEN_KNOWN")])]
    if lot.state == "rejected":
        decision, why = events.IMPLICATION_DECISION_REJECTED, f"rejected before: {lot.reason}"
        return [_answered(key, run, decision, why, _before("REJECTED_BEFORE", lot))]
    decision = events.IMPLICATION_DECISION_HELD
    if lot.state == "held":
        return [_answered(key, run, decision, f"held before: {lot.reason}", _before("HELD_BEFORE", lot))]
    held = events.LotHeld(
        lot=key,
        reason=f"implicated by run {run} of {root}",
        actor=PLATFORM,
        reason_sayings=[saying("IMPLICATED", run=run, root=root)],
    )
    why = "held by this implication"
    return [held, _answered(key, run, decision, why, [saying("HELD_BY_IMPLICATION")])]


def _answered(
    key: str, run: str, decision: events.ImplicationDecision, why: str, told: Iterable[common.Saying]
) -> events.LotImplicationAnswered:
    return events.LotImplicationAnswered(lot=key, run=run, decision=decision, reason=why, reason_sayings=told)


def _before(code: str, lot: Lot) -> list[common.Saying]:
    """What was decided before, with the reason of then: the platform's parts, or a person's words."""
    if lot.sayings:
        return [saying(code), *sayings.told(lot.sayings)]
    return [saying(f"{code}_IN_WORDS", words=lot.reason)]


# -- rules ----------------------------------------------------------------


def _illegal(lot: Lot, to: str) -> Refusal:
    ways = ", ".join(NEXT[lot.state]) or "nothing"
    said = f"a lot that is {lot.state} cannot become {to}; from {lot.state} it can become: {ways}"
    return Refusal("ILLEGAL_TRANSITION", said, "lot")


def _allow(lot: Lot, to: QualityState) -> None:
    if to not in NEXT[lot.state]:
        raise _illegal(lot, to)


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
        case (
            events.DeviationUpdated()
            | events.DeviationInvestigationStarted()
            | events.DeviationConfirmed()
            | events.DeviationRejected()
            | events.DeviationClassified()
            | events.DeviationCapaRequired()
            | events.DeviationCapaRefused()
            | events.DeviationClosed()
        ):
            after = deviation.evolve(_there(lot), event, event.deviation)
        case events.LaboratoryInvestigationOpened() | events.RetestPassed() | events.InvestigationClosed():
            after = laboratory.evolve(_there(lot), event)
        case events.TrendReviewOpened():
            after = _there(lot)
        case events.LotCompleted():
            after = _completed(_there(lot), event)
        case events.LotHeld():
            after = replace(
                _moved(lot, "held", event, event.reason), sayings=sayings.kept(event.reason_sayings)
            )
        case events.LotReleased():
            after = _moved(lot, "released", event)
        case events.LotRejected():
            after = _moved(lot, "rejected", event, event.reason)
        case _:
            raise TypeError(f"a lot does not fold {type(event).__name__}")
    return after


def _there(lot: Lot | None) -> Lot:
    assert lot is not None, "an event of a lot that has no record"
    return lot


def _moved(
    lot: Lot | None,
    state: QualityState,
    event: events.LotHeld | events.LotReleased | events.LotRejected,
    reason: str = "",
) -> Lot:
    """Where quality brought the lot, and under whose signature."""
    return replace(
        _there(lot), state=state, reason=reason, actor=event.actor, meaning=event.meaning, sayings=()
    )


def _started(lot: Lot | None, event: events.LotStarted) -> Lot:
    before = lot or Lot(event.lot, "started", number=number_of(event.lot))
    return replace(
        before,
        state="started",
        product=event.product,
        equipment=event.equipment,
        started=_iso(event.at),
        reason="",
        sayings=(),
        transfer=event.transfer,
        transfer_version=event.transfer_version,
    )


def _completed(lot: Lot, event: events.LotCompleted) -> Lot:
    state: QualityState = "completed" if lot.state == "started" else lot.state
    return replace(lot, state=state, completed=_iso(event.at))


def _implicated(lot: Lot | None, event: events.LotImplicationAnswered) -> Lot:
    reason = f"implicated by run {event.run}"
    told = sayings.kept([saying("IMPLICATED_BY", run=event.run)])
    before = lot or Lot(event.lot, "held", reason=reason, number=number_of(event.lot), sayings=told)
    if event.run in before.runs:
        return before
    return replace(before, runs=(*before.runs, event.run))


def _detected(lot: Lot | None, event: events.DeviationDetected) -> Lot:
    number = number_of(event.lot)
    before = lot or Lot(event.lot, "started", product=event.product, equipment=event.equipment, number=number)
    opened = Deviation(event.deviation, event.SerializeToString(deterministic=True))
    return replace(before, deviations=(*before.deviations, opened))


def _iso(stamp: Timestamp) -> str:
    return stamp.ToDatetime().isoformat(timespec="microseconds") + "+00:00"
