"""The runs as people read them: one row a run, folded from the loop's own events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.loops.domain.safety import STAGES

OPEN, STALLED, CLOSED = "open", "stalled", "closed"
_NAMES = [rule.name for rule in STAGES]


@dataclass(frozen=True)
class StageView:
    """A completed stage: wall seconds, and its end (ISO)."""

    name: str
    seconds: float
    ended: str


@dataclass(frozen=True)
class RunView:
    """A run. `opened` and `closed` are the events' bytes; moments are wall time, ISO."""

    run: str
    lot: str
    opened: bytes
    began: str
    state: str = OPEN
    stages: tuple[StageView, ...] = ()
    stage: str = _NAMES[0]
    waiting_for: str = ""
    closed: bytes = b""
    seconds: float = 0.0


@dataclass(frozen=True)
class Journal:
    """What a run's exposure journal was last announced to hold: the lots at a version; and its seal."""

    version: int = 0
    lots: tuple[str, ...] = ()
    sealed: bool = False


def journal_after(journal: Journal | None, message: Message) -> Journal:
    """The journal after one event of traceability, in whatever order they come."""
    journal = journal or Journal()
    if isinstance(message, traceability.ExposureSealed):
        return replace(journal, sealed=True)
    assert isinstance(message, traceability.ExposureAnnounced)
    if message.version <= journal.version:
        return journal
    return replace(journal, version=message.version, lots=tuple(message.lots))


def was_cancelled(view: RunView) -> bool:
    """Did a person end the run?"""
    outcome = loops.LoopClosed.FromString(view.closed).outcome
    return outcome in (loops.RUN_OUTCOME_CANCELLED, loops.RUN_OUTCOME_SUPERSEDED)


def fold(view: RunView | None, message: Message, wall: datetime) -> RunView | None:
    """The row after one event; `wall` is the record's wall time."""
    if isinstance(message, loops.SafetyRunOpened):
        return RunView(message.run, message.lot, message.SerializeToString(), wall.isoformat())
    if view is None:
        return None
    if isinstance(message, loops.StageCompleted):
        return _stage(view, message)
    if isinstance(message, loops.LoopStalled):
        return replace(view, state=STALLED, waiting_for=message.waiting_for)
    if isinstance(message, loops.LoopClosed):
        return replace(view, state=CLOSED, stage="", waiting_for="", closed=message.SerializeToString())
    return view


def stage_seconds(message: loops.StageCompleted) -> float:
    """Wall time of a stage in seconds."""
    return float((message.ended.ToDatetime() - message.began.ToDatetime()).total_seconds())


def _stage(view: RunView, message: loops.StageCompleted) -> RunView:
    seconds = stage_seconds(message)
    ended = message.ended.ToDatetime().isoformat() + "+00:00"
    first = not view.stages
    following = _NAMES[min(_NAMES.index(message.stage) + 1, len(_NAMES) - 1)]
    return replace(
        view,
        began=message.began.ToDatetime().isoformat() + "+00:00" if first else view.began,
        state=OPEN,
        waiting_for="",
        stages=(*view.stages, StageView(message.stage, seconds, ended)),
        stage=following,
        seconds=view.seconds + seconds,
    )
