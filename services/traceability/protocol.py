"""The commands by which a run's step moves the exposure protocol on.

Each names the round it belongs to and changes nothing when the run is not
there any more, so that a step which was interrupted may submit them again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.kit.errors import Retryable
from services.kit.runners.letters import LETTERS
from services.kit.runners.notes import PARKED
from services.kit.work import NotLoaded, Work
from services.traceability import journal
from services.traceability.domain import exposure, graph, run
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.graph import Node
from services.traceability.domain.run import Place, Run, Watch
from services.traceability.outside import Outside
from services.traceability.views import DISPENSES, EXPOSURES, NODES, RUNS

#: The runner that folds facts: its watermarks say what was folded.
FOLD = "traceability.fold"
#: How far down one walk goes; deeper lots are walked in the next round.
_WALK_LEVELS = 60
#: A service brings a run back with its journal; who caught up by an earlier build has the journal alone.
_HALF_BACK = (
    "the journal of this run is sealed and its entries are not here: the database was set back, and caught "
    "up by a build that could not bring them back; put the same copy of the database back once more"
)


def round_request(name: str, round: int, **more: Any) -> Struct:
    """The request of a command of a run's round."""
    request = Struct()
    request.update({"run": name, "round": round, **more})
    return request


def note_request(watcher: Run, cut: Iterable[Place]) -> Struct:
    """The request to note a cut. `watcher` was read before the cut's offsets were."""
    places = [[place.topic, place.partition, place.offset] for place in cut]
    more = {"covers": len(watcher.watches), "asked": watcher.asked, "cut": places}
    return round_request(watcher.run, watcher.round + 1, **more)


def note_cut(work: Work, request: Struct) -> Empty:
    """Store a cut that was noted after the watches it covers were committed."""
    plain = MessageToDict(request)
    watcher = work.get(RUNS, plain["run"])
    if watcher is not None:
        cut = tuple(Place(topic, int(number), int(end)) for topic, number, end in plain["cut"])
        round, covers, asked = (int(plain[name]) for name in ("round", "covers", "asked"))
        work.put(RUNS, watcher.run, run.noted(watcher, round, covers, asked, cut))
    return Empty()


def walk(outside: Outside, work: Work, request: Struct) -> Empty:
    """The fold has passed the cut: read again every lot that is not firm, and walk down from it."""
    watcher = _at_round(work, request)
    if watcher is None or not watcher.cut_is_open:
        return Empty()
    # Read first, for whatever is read later runs this function again over all that stands above it.
    head = work.get(EXPOSURES, watcher.run)
    if head is not None and head.sealed:
        raise Retryable(_HALF_BACK)
    journal.registered(work)
    found = _descend(work, watcher)
    dispenses = _dispenses_of(work, [*watcher.not_firm, *(watch.lot for watch in found)])
    for watch in found:
        work.put(NODES, watch.lot, graph.watched(_node(work, watch.lot), watcher.run))
    journal.append(work, outside, run.walked(run.watching(watcher, found)), dispenses)
    return Empty()


def go_over(work: Work, request: Struct) -> Empty:
    """The facts of a sealed run were folded again, by a database that was set back: whatever of them its
    journal lacks names the successor."""
    plain = MessageToDict(request)
    watcher = work.get(RUNS, plain["run"])
    if watcher is None or not (watcher.sealed and watcher.again) or watcher.round != int(plain["round"]):
        return Empty()
    work.get(EXPOSURES, watcher.run)
    work.load(NODES, watcher.lots)
    dispenses = _dispenses_of(work, watcher.lots)
    journal.recount_sealed(work, watcher, dispenses)
    journal.late(work, watcher, dispenses)
    if any(child not in watcher.lots for lot in watcher.lots for child in _node(work, lot).outputs):
        journal.after_seal(work, watcher)
    work.put(RUNS, watcher.run, run.gone_over(watcher))
    return Empty()


def seal(outside: Outside, work: Work, request: Struct) -> Empty:
    """Answer the asked seal, unless a lot was found since; Retryable while the fold lacks a record."""
    watcher = _at_round(work, request)
    if watcher is None or not watcher.may_seal:
        return Empty()
    if work.where(PARKED, "runner", FOLD) or untaken(work):
        raise Retryable("a record that the fold could not take is not settled; the seal waits for it")
    journal.append(work, outside, watcher)  # a site registered at the same moment as the walk
    head = work.get(EXPOSURES, watcher.run)
    assert head is not None, "a firm root was announced"
    told = exposure.answer(head, watcher.asked)
    after = work.apply(EXPOSURES, watcher.run, told, case=watcher.case, run=watcher.run)
    work.put(RUNS, watcher.run, run.answered(watcher, after.sealed))
    return Empty()


def untaken(work: Work) -> bool:
    """Is there a letter of the fold that nobody has settled? A fact has no order, and parks no key."""
    return bool(work.where(LETTERS, "runner", FOLD, waits=True))


def _at_round(work: Work, request: Struct) -> Run | None:
    """The run, if it stands at the round that the request names."""
    plain = MessageToDict(request)
    watcher = work.get(RUNS, plain["run"])
    if watcher is None or watcher.over or watcher.round != int(plain["round"]):
        return None
    return watcher


def _node(work: Work, lot: str) -> Node:
    return work.get(NODES, lot) or Node(lot)


def _descend(work: Work, watcher: Run) -> list[Watch]:
    """Lots made from those that are not firm, and from these, that nobody watches for the run yet."""
    depths = watcher.lots
    found: dict[str, Watch] = {}
    level = list(watcher.not_firm)
    for _ in range(_WALK_LEVELS):
        work.load(NODES, level)
        below: dict[str, Watch] = {}
        for lot in sorted(level, key=lambda lot: (depths[lot], lot)):
            for child in _node(work, lot).outputs:
                if child not in depths and child not in below:
                    below[child] = Watch(child, depths[lot] + 1)
        depths |= {lot: watch.depth for lot, watch in below.items()}
        found |= below
        level = list(below)
        if not level:
            break
    work.load(NODES, level)
    return list(found.values())


def _dispenses_of(work: Work, lots: Iterable[str]) -> list[Dispense]:
    """The dispenses of the lots, asked for together: each lot's is a query of its own."""
    found: dict[str, Dispense] = {}
    lacking: set[Any] = set()
    for lot in lots:
        try:
            found |= work.where(DISPENSES, "lots", lot)
        except NotLoaded as need:
            lacking |= need.reads
    if lacking:
        raise NotLoaded(lacking)
    return [found[id] for id in sorted(found)]
