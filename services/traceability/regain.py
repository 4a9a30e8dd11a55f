"""What stands beside a run's journal, brought back from the journal's own events.

The head of a journal is an aggregate and comes back from its topics by itself.
The run's row, its watches and its entries are stored with the journal's events
and follow from them. What was folded for a run is not reacted to once more:
the run goes over all its lots, when its service has folded everything again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.recovery import Regain
from services.kit.store.kinds import Kind
from services.kit.work import Work
from services.traceability import journal
from services.traceability.domain import graph, run
from services.traceability.domain.entries import UNATTRIBUTED, Entry, entry_id
from services.traceability.domain.graph import Node
from services.traceability.domain.run import Watch
from services.traceability.fold import CUT_STEP
from services.traceability.views import ENTRIES, EXPOSURES, LOOSE, NODES, RUNS, Loose


def of_journal(work: Work, event: Event) -> None:
    """One event of a journal."""
    match event.message:
        case events.LotImplicated() as told:
            _lot(work, event, told)
        case events.ExposureEntriesJoined() as told:
            _entries(work, event, told)
        case events.ExposureEntered() as told:
            _entries(work, event, _bulk(told))
        case events.ExposureAnnounced() as told:
            _announced(work, told)
        case events.UnattributedExplained() as told:
            _explained(work, told)
    _go_over(work, event)


REGAIN: Mapping[Kind[Any], Regain] = {EXPOSURES: of_journal}


def _lot(work: Work, event: Event, told: events.LotImplicated) -> None:
    """The run watches the lot. Its row may be lacking: the event that opens the run is folded again later."""
    held = work.get(RUNS, told.run) or run.opened(told.run, event.case, told.root, "", "")
    work.put(RUNS, told.run, run.watching(held, [Watch(told.lot, told.depth)]))
    node = work.get(NODES, told.lot) or Node(told.lot)
    work.put(NODES, told.lot, graph.watched(node, told.run))


def _bulk(told: events.ExposureEntered) -> events.ExposureEntriesJoined:
    """An entry that travelled alone."""
    entry = events.ExposureEntry(
        kind=told.kind, dispense=told.dispense, lot=told.lot, pseudonym=told.pseudonym, at=told.at
    )
    return events.ExposureEntriesJoined(run=told.run, site=told.site, epoch=told.epoch, entries=[entry])


def _entries(work: Work, event: Event, told: events.ExposureEntriesJoined) -> None:
    """They count when they are announced; what became of members after the seal never is."""
    if told.epoch:
        work.put(LOOSE, event.id, Loose(told.run, told.SerializeToString()))
    else:
        journal.keep(work, told)


def _announced(work: Work, told: events.ExposureAnnounced) -> None:
    for id, loose in work.where(LOOSE, "run", told.run).items():
        journal.keep(work, events.ExposureEntriesJoined.FromString(loose.bulk))
        work.drop(LOOSE, id)


def _explained(work: Work, told: events.UnattributedExplained) -> None:
    id = entry_id(told.run, told.dispense, UNATTRIBUTED)
    held = work.get(ENTRIES, id) or Entry(told.run, UNATTRIBUTED, told.dispense, "", "", "", "")
    work.put(ENTRIES, id, replace(held, open_in=told.run, explained=True))


def _go_over(work: Work, event: Event) -> None:
    held = work.get(RUNS, event.subject)
    if held is None:
        return
    if isinstance(event.message, events.ExposureSealed):
        held = run.answered(held, sealed=True)
    elif isinstance(event.message, events.ExposureExtended):
        held = run.has_extended(held, event.message.asked)
    work.put(RUNS, held.run, run.going_over(held))
    work.due(CUT_STEP, held.run, work.now)
