"""What alerts say: a sentence in English, and its parts as codes and values for other languages."""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.sayings import saying


@dataclass(frozen=True)
class Told:
    """What an alert says: in English, and in parts."""

    text: str
    sayings: tuple[common.Saying, ...] = ()


def of_deviation(detected: production.DeviationDetected) -> Told:
    """What left its limits, where, and how far out it is."""
    phase = f" in phase {detected.phase}" if detected.phase else ""
    text = (
        f"{detected.tag} on {detected.equipment} left the golden run{phase}: "
        f"{detected.magnitude:.1f} standard deviations (limit {detected.limit:.1f}){_last_point(detected)}; "
        f"judge deviation {detected.deviation} of lot {detected.lot}"
    )
    return Told(text, tuple(_parts(detected)))


def _parts(detected: production.DeviationDetected) -> list[common.Saying]:
    where = {"tag": detected.tag, "equipment": detected.equipment}
    far = {"magnitude": round(detected.magnitude, 1), "limit": round(detected.limit, 1)}
    if detected.phase:
        parts = [saying("LEFT_GOLDEN_RUN_IN_PHASE", **where, phase=detected.phase, **far)]
    else:
        parts = [saying("LEFT_GOLDEN_RUN", **where, **far)]
    if detected.evidence:
        last = detected.evidence[-1]
        parts.append(saying("LAST_POINT", value=last.value, unit=detected.unit, low=last.low, high=last.high))
    return [*parts, saying("JUDGE_DEVIATION", deviation=detected.deviation, lot=detected.lot)]


def _last_point(detected: production.DeviationDetected) -> str:
    if not detected.evidence:
        return ""
    last = detected.evidence[-1]
    return f", at last {last.value:.4g} {detected.unit} where {last.low:.4g} to {last.high:.4g} are allowed"


def of_stall(stalled: loops.LoopStalled) -> Told:
    """Which loop is late, in which stage; a reader knows what a stage waits for by its name."""
    return Told(
        f"run {stalled.run} is late in stage {stalled.stage}: it waits for {stalled.waiting_for}",
        (saying("STAGE_LATE", run=stalled.run, stage=stalled.stage, case=stalled.case),),
    )


def of_missing_run(lot: str, deviation: str) -> Told:
    """A trigger without a run."""
    return Told(
        f"deviation {deviation} of lot {lot} was confirmed and no safety run was opened; "
        "check the loops service",
        (saying("NO_SAFETY_RUN", deviation=deviation, lot=lot), saying("CHECK_LOOPS")),
    )


def of_missing_successor(lot: str, follows: str, successor: str) -> Told:
    """A sealed run whose successor was not opened."""
    return Told(
        f"something came after the seal of run {follows} of lot {lot}, and its successor {successor} was not "
        "opened: patients may be missing; check the loops service",
        (saying("NO_SUCCESSOR", run=follows, lot=lot, successor=successor), saying("CHECK_LOOPS")),
    )


def of_release(released: rnd.ParameterSetReleased) -> str:
    """What was asked of the transfer loop."""
    return (
        f"version {released.version} of parameter set {released.set} was released to plant {released.plant}"
    )


def of_study(requested: exchange.StudyRequested) -> str:
    """What was asked of the evidence loop."""
    return f"study {requested.study} was requested"


def of_unanswered(asked: str, loop: str, case: str) -> Told:
    """A release or a study without a run. The case says which set and plant, or which study."""
    code = "NO_EVIDENCE_RUN" if loop == "evidence" else "NO_TRANSFER_RUN"
    return Told(
        f"{asked} and no run of the {loop} loop was opened; check the loops service",
        (saying(code, case=case), saying("CHECK_LOOPS")),
    )
