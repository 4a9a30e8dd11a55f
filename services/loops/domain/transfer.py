"""The transfer loop as a pure state machine on the events of one case.

A case is a parameter set and a plant. Each release to the plant is a run; at
most one is open: a later version takes the place of an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.loops.domain.stages import Effect, Emitter, Happened, StageRule, Stages, later


@dataclass(frozen=True)
class Run:
    """One release to the plant. `lot` is the first lot that was made by it and tested; `calibrated` are
    the lots whose outcomes research has taken into its calibration."""

    run: str
    case: str
    set: str
    version: int
    product: str
    plant: str
    trigger: str
    boundary: str
    stage: str = "adapt"
    seq: int = 0
    clock: str = ""
    closed: bool = False
    adapted: bool = False
    proposed: bool = False
    decided: bool = False
    effective: bool = False
    lot: str = ""
    calibrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Withdrawal:
    """Research took a version back."""

    version: int
    reason: str
    actor: str
    meaning: str = ""


@dataclass(frozen=True)
class Case:
    """The runs of a parameter set at a plant, oldest first, and which versions were withdrawn."""

    runs: tuple[Run, ...] = ()
    withdrawn: tuple[Withdrawal, ...] = ()


_HOUR, _HOURS_6 = timedelta(hours=1), timedelta(hours=6)
_DAYS_30, _DAYS_60 = timedelta(days=30), timedelta(days=60)
RULES: tuple[StageRule[Run], ...] = (
    StageRule("adapt", lambda r: r.adapted, _HOUR, "the plant's twin to fit the parameters to a line"),
    StageRule("advise", lambda r: r.proposed, _HOURS_6, "the plant's twin to propose set-points"),
    StageRule("sign", lambda r: r.decided, timedelta(hours=72), "a person to decide on the proposal"),
    StageRule(
        "validate",
        lambda r: r.effective,
        _DAYS_30,
        "the recipe's validation and the assessment of its filing",
    ),
    StageRule(
        "produce", lambda r: bool(r.lot), _DAYS_60, "a first lot that is made by the recipe and tested"
    ),
    StageRule("learn", lambda r: r.lot in r.calibrated, _HOURS_6, "research to take the lot's outcome"),
)


def _outcome(run: Run) -> loops.LoopClosed:
    lots = [run.lot] if run.lot else []
    return loops.LoopClosed(set=run.set, version=run.version, plant=run.plant, lots=lots)


STAGES: Stages[Run] = Stages("transfer", RULES, _outcome)


def react(case: Case | None, event: Happened, run_id: Callable[[str], str]) -> tuple[Case, list[Effect]]:
    """The case after the event, and what it emits. `run_id` makes a run's id from its trigger."""
    case, message = case or Case(), event.message
    if isinstance(message, rnd.ParameterSetReleased):
        return _on_release(case, event, message, run_id(event.id))
    if isinstance(message, rnd.ParameterSetWithdrawn):
        return _on_withdrawal(case, event, message)
    name = str(getattr(message, "run", "")) or event.run
    calibrates = isinstance(message, rnd.PredictionCalibrated)  # it names the lot, and no run
    effects: list[Effect] = []
    runs = []
    for run in case.runs:
        after, told = _on_run_event(run, event) if run.run == name or calibrates else (run, [])
        runs.append(after)
        effects += told
    return replace(case, runs=tuple(runs)), effects


def _on_release(
    case: Case, event: Happened, message: rnd.ParameterSetReleased, run_id: str
) -> tuple[Case, list[Effect]]:
    if any(run.version >= message.version for run in case.runs):
        return case, []
    effects: list[Effect] = []
    runs = []
    for run in case.runs:
        out = Emitter(run)
        if not run.closed:
            out.change(clock=later(run, event))
            said = f"version {message.version} was released to the plant"
            STAGES.close(out, loops.RUN_OUTCOME_SUPERSEDED, reason=said, superseded_by=run_id)
        runs.append(out.run)
        effects += out.effects
    out = _opened(event, message, run_id)
    _end_if_withdrawn(case, out)
    return replace(case, runs=(*runs, out.run)), effects + out.effects


def _opened(event: Happened, message: rnd.ParameterSetReleased, run_id: str) -> Emitter[Run]:
    run = Run(
        run=run_id,
        case=event.case,
        set=message.set,
        version=message.version,
        product=message.product,
        plant=message.plant,
        trigger=event.id,
        boundary=event.wall.isoformat(),
    )
    opened = loops.TransferRunOpened(
        run=run.run,
        case=run.case,
        set=run.set,
        version=run.version,
        product=run.product,
        plant=run.plant,
        trigger=run.trigger,
    )
    return STAGES.open(run, opened, event)


def _on_withdrawal(
    case: Case, event: Happened, message: rnd.ParameterSetWithdrawn
) -> tuple[Case, list[Effect]]:
    if all(known.version != message.version for known in case.withdrawn):
        known = Withdrawal(message.version, message.reason, message.actor, message.meaning)
        case = replace(case, withdrawn=tuple(sorted((*case.withdrawn, known), key=lambda one: one.version)))
    effects: list[Effect] = []
    runs = []
    for run in case.runs:
        out = Emitter(replace(run, clock=later(run, event)) if run.version == message.version else run)
        _end_if_withdrawn(case, out)
        runs.append(out.run)
        effects += out.effects
    return replace(case, runs=tuple(runs)), effects


def _end_if_withdrawn(case: Case, out: Emitter[Run]) -> None:
    for known in case.withdrawn:
        if known.version == out.run.version and not out.run.closed:
            outcome = loops.RUN_OUTCOME_WITHDRAWN
            STAGES.close(out, outcome, reason=known.reason, actor=known.actor, meaning=known.meaning)


def _on_run_event(run: Run, event: Happened) -> tuple[Run, list[Effect]]:
    message = event.message
    if run.closed:
        return run, []
    out = Emitter(replace(_take_in(run, message), clock=later(run, event)))
    if isinstance(message, loops.RunCancelRequested):
        STAGES.cancel(out, message)
    elif isinstance(message, production.TransferRefused):
        said = "; ".join(refusal.statement for refusal in message.reasons)
        STAGES.close(out, loops.RUN_OUTCOME_REFUSED, reason=said)
    else:
        STAGES.stall(out, message)
        STAGES.advance(out, event)
    return out.run, out.effects


# -- what each event says of a run -----------------------------------------


def _take_in(run: Run, message: Message) -> Run:
    taker = _TAKERS.get(type(message))
    return taker(run, message) if taker else run


def _calibrated(run: Run, message: rnd.PredictionCalibrated) -> Run:
    return replace(run, calibrated=tuple(sorted({*run.calibrated, message.lot})))


_TAKERS: dict[type[Message], Callable[[Run, Message], Run]] = {
    production.TwinAdapted: lambda run, m: replace(run, adapted=True),
    production.OptimisationProposed: lambda run, m: replace(run, proposed=True),
    production.OptimisationDecided: lambda run, m: replace(run, decided=True),
    production.RecipeEffective: lambda run, m: replace(run, effective=True),
    production.TransferOutcomeRecorded: lambda run, m: replace(run, lot=run.lot or m.lot),  # type: ignore[attr-defined]
    rnd.PredictionCalibrated: _calibrated,  # type: ignore[dict-item]
}
