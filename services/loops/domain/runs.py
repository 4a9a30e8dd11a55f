"""The runs as people read them: one row a run, folded from the loops' own events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.loops.domain.cases import LIMITS, stages_of

OPEN, STALLED, CLOSED = "open", "stalled", "closed"
_SAFETY = "safety"


@dataclass(frozen=True)
class StageView:
    """A completed stage: wall seconds, and its end (ISO); `slo` is how long it may take, `platform` how long
    it took, both in seconds of the platform clock."""

    name: str
    seconds: float
    ended: str
    slo: float = 0.0
    platform: float = 0.0


@dataclass(frozen=True)
class RunView:
    """A run. `opened` and `closed` are the events' bytes; moments are wall time, ISO.

    `lot` is the root lot of a safety run. Without `case` it is one from before there were other loops:
    then the lot is the case. `since` and `due` are when the present stage began and has to be over, on the
    platform clock (ISO), `slo` how long it may take in seconds of it. `rank` sorts the stuck ones first.
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
    product: str = ""
    plant: str = ""
    sites: tuple[str, ...] = ()
    since: str = ""
    due: str = ""
    slo: float = 0.0
    rank: str = ""


@dataclass(frozen=True)
class Scope:
    """What other services tell of a run, or of a deviation: its plant, the sites with exposures in the run's
    journal, and the runs that came of it. Kept beside the run, for it may be told before the run is."""

    plant: str = ""
    sites: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


def exposed_sites(scope: Scope, message: traceability.ExposureAnnounced) -> Scope:
    """Members never leave a journal, so sites are only added."""
    told = {name for name, exposure in message.sites.items() if exposure.n}
    return replace(scope, sites=tuple(sorted({*scope.sites, *told})))


def plant_of(equipment: str) -> str:
    """The plant of a piece of equipment such as plant-1/dryer-1."""
    plant, separator, _ = equipment.partition("/")
    return plant if separator else ""


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


def fold(view: RunView | None, message: Message, wall: datetime, at: datetime) -> RunView | None:
    """The row after one event; `wall` is the record's wall time, `at` the event's platform time."""
    if isinstance(message, Opened):
        return _ranked(_opened(message, wall, at))
    return None if view is None else _ranked(_changed(view, message, at))


def _changed(view: RunView, message: Message, at: datetime) -> RunView:
    if isinstance(message, loops.StageCompleted):
        return _stage(view, message, at)
    if isinstance(message, loops.DeadlineSet):
        return _due(view, message, at)
    if isinstance(message, loops.LoopStalled):
        return replace(view, state=STALLED, waiting_for=message.waiting_for)
    if isinstance(message, loops.LoopClosed):
        ended = message.SerializeToString()
        return replace(view, state=CLOSED, stage="", waiting_for="", closed=ended, since="", due="", slo=0.0)
    return view


#: In which part of the list a run stands when those that are stuck come first.
_PLACES = {STALLED: "0", OPEN: "1", CLOSED: "2"}
#: Later than any time in microseconds.
_NEVER = 10**17


def _ranked(view: RunView) -> RunView:
    """With the text that sorts it among the others: stalled; open, by when its stage has to be over; ended,
    newest first. The moment does not change as time passes, so an index keeps the order."""
    if view.state == CLOSED:
        place = f"{_NEVER - round(datetime.fromisoformat(view.began).timestamp() * 1e6):018d}"
    else:
        place = view.due or "~"
    return replace(view, rank=f"{_PLACES[view.state]} {place}")


def stage_seconds(message: loops.StageCompleted) -> float:
    """Wall time of a stage in seconds."""
    return float((message.ended.ToDatetime() - message.began.ToDatetime()).total_seconds())


def _opened(message: Opened, wall: datetime, at: datetime) -> RunView:
    loop = OPENED[type(message)]
    lot = message.lot if isinstance(message, loops.SafetyRunOpened) else ""
    stage = stages_of(loop)[0]
    return RunView(
        run=message.run,
        lot=lot,
        opened=message.SerializeToString(),
        began=wall.isoformat(),
        stage=stage,
        loop=loop,
        case=message.case,
        product=lot.rsplit("/", 1)[0] if lot else message.product,
        plant=message.plant if isinstance(message, loops.TransferRunOpened) else "",
        sites=tuple(message.sites) if isinstance(message, loops.EvidenceRunOpened) else (),
        since=_text(at),
        slo=LIMITS[loop][stage],
    )


def _stage(view: RunView, message: loops.StageCompleted, at: datetime) -> RunView:
    seconds = stage_seconds(message)
    ended = message.ended.ToDatetime().isoformat() + "+00:00"
    first = not view.stages
    names = stages_of(view.loop)
    following = names[min(names.index(message.stage) + 1, len(names) - 1)]
    # A stage that was over when it began had no deadline set; then its time is that of all.
    slo = view.slo if view.stage == message.stage else LIMITS[view.loop][message.stage]
    platform = (at - datetime.fromisoformat(view.since)).total_seconds() if view.since else 0.0
    done = StageView(message.stage, seconds, ended, slo, max(0.0, platform))
    return replace(
        view,
        began=message.began.ToDatetime().isoformat() + "+00:00" if first else view.began,
        state=OPEN,
        waiting_for="",
        stages=(*view.stages, done),
        stage=following,
        seconds=view.seconds + seconds,
        since=max(view.since, _text(at)),
        due="",
        slo=LIMITS[view.loop][following],
    )


def _due(view: RunView, message: loops.DeadlineSet, at: datetime) -> RunView:
    """The stage has a deadline. Where patients are given longer than is usual, it may take as long."""
    if view.state == CLOSED:
        return view
    due = message.due.ToDatetime(tzinfo=UTC)
    usual = LIMITS[view.loop][message.stage]
    given = (due - at).total_seconds() if message.stage in _AS_LONG_AS_GIVEN else usual
    return replace(view, stage=message.stage, due=_text(due), slo=max(usual, given))


#: Stages that last as long as a hospital gives its patients.
_AS_LONG_AS_GIVEN = ("respond", "propose")


def _text(moment: datetime) -> str:
    """A moment as ISO text that sorts in time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
