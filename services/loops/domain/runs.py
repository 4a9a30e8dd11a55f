"""The runs as people read them: one row a run, folded from the loops' own events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.loops.domain.cases import stages_of

OPEN, STALLED, CLOSED = "open", "stalled", "closed"
_SAFETY = "safety"


@dataclass(frozen=True)
class StageView:
    """A completed stage: wall seconds, and its end (ISO)."""

    name: str
    seconds: float
    ended: str


@dataclass(frozen=True)
class RunView:
    """A run. `opened` and `closed` are the events' bytes; moments are wall time, ISO.

    `lot` is the root lot of a safety run. Without `case` it is one from before there were other loops:
    then the lot is the case.
    """

    run: str
    lot: str
    opened: bytes
    began: str
    state: str = OPEN
    stages: tuple[StageView, ...] = ()
    stage: str = stages_of(_SAFETY)[0]
    waiting_for: str = ""
    closed: bytes = b""
    seconds: float = 0.0
    loop: str = _SAFETY
    case: str = ""


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


#: What opens a run of which loop.
OPENED: dict[type[Message], str] = {
    loops.SafetyRunOpened: _SAFETY,
    loops.TransferRunOpened: "transfer",
    loops.EvidenceRunOpened: "evidence",
}
Opened = loops.SafetyRunOpened | loops.TransferRunOpened | loops.EvidenceRunOpened


def opened_of(view: RunView) -> Opened:
    """What opened the run."""
    if view.loop == "transfer":
        return loops.TransferRunOpened.FromString(view.opened)
    if view.loop == "evidence":
        return loops.EvidenceRunOpened.FromString(view.opened)
    return loops.SafetyRunOpened.FromString(view.opened)


def was_given_up(view: RunView) -> bool:
    """Did the run end without what its loop promises?"""
    outcome = loops.LoopClosed.FromString(view.closed).outcome
    return outcome not in (loops.RUN_OUTCOME_UNSPECIFIED, loops.RUN_OUTCOME_CLOSED)


def outcome_word(message: loops.LoopClosed) -> str:
    """How a run ended, in a word."""
    return loops.RunOutcome.Name(message.outcome).removeprefix("RUN_OUTCOME_").lower()


def fold(view: RunView | None, message: Message, wall: datetime) -> RunView | None:
    """The row after one event; `wall` is the record's wall time."""
    if isinstance(message, Opened):
        return _opened(message, wall)
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


def _opened(message: Opened, wall: datetime) -> RunView:
    loop = OPENED[type(message)]
    return RunView(
        run=message.run,
        lot=message.lot if isinstance(message, loops.SafetyRunOpened) else "",
        opened=message.SerializeToString(),
        began=wall.isoformat(),
        stage=stages_of(loop)[0],
        loop=loop,
        case=message.case,
    )


def _stage(view: RunView, message: loops.StageCompleted) -> RunView:
    seconds = stage_seconds(message)
    ended = message.ended.ToDatetime().isoformat() + "+00:00"
    first = not view.stages
    names = stages_of(view.loop)
    following = names[min(names.index(message.stage) + 1, len(names) - 1)]
    return replace(
        view,
        began=message.began.ToDatetime().isoformat() + "+00:00" if first else view.began,
        state=OPEN,
        waiting_for="",
        stages=(*view.stages, StageView(message.stage, seconds, ended)),
        stage=following,
        seconds=view.seconds + seconds,
    )
