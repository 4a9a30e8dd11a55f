"""The fold: what each fact does to the graph, and to the journals that watch it.

It never blocks and never refuses a fact. From a run's watch on, what is
folded for a watched lot joins the run's journal in the same transaction;
what belongs to a sealed run names its successor. What is folded again, because
the database was set back, may be in a journal already: then the run goes over
all its lots afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.store.kinds import Get
from services.kit.units import size
from services.kit.work import Work
from services.traceability import journal
from services.traceability.domain import balance, graph, run
from services.traceability.domain import dispense as dispenses
from services.traceability.domain.balance import MASS_IMBALANCE, Balance
from services.traceability.domain.dispense import CONFLICT, OLDER_THAN_LOT, Dispense
from services.traceability.domain.graph import CYCLE, Node
from services.traceability.domain.moments import iso, when
from services.traceability.domain.run import Run, Watch
from services.traceability.outside import Outside
from services.traceability.views import (
    ALL_SITES,
    BALANCES,
    DISPENSES,
    EXPOSURES,
    NODES,
    REGISTRY,
    RUNS,
    SUSPECTS,
    Registry,
    Suspect,
)

CUT_STEP = "cut"
#: How far up a cycle is looked for: each level is a read of its own.
_ANCESTRY_LEVELS = 100
_BY_A_PERSON = (loops.RUN_OUTCOME_CANCELLED, loops.RUN_OUTCOME_SUPERSEDED)
_DESCRIPTIONS = {
    CYCLE: "records make the lot its own ancestor; correct the material record that is wrong",
    CONFLICT: "its sources name different lots, sites or patients; find out which is right",
    MASS_IMBALANCE: "more of it was used or sent than was made or received; find the record that is wrong",
    OLDER_THAN_LOT: "it was dispensed before its lot was made; correct the time that is wrong",
}


def on_material_recorded(outside: Outside, work: Work, event: Event) -> None:
    record = cast(events.MaterialRecorded, event.message)
    used = sorted({item.lot for item in record.inputs})
    before = _nodes(work, {record.lot, *used})
    after = graph.linked(before, record.lot, used, when(record.at))
    if graph.may_close_cycle(before, record.lot, used):
        above = _ancestors(work, used)
        work.hold(NODES, above)  # another edge of the same cycle may be folded now
        for lot in graph.on_cycle(above, record.lot):
            after[lot] = replace(after.get(lot) or _node(work, lot), suspect=CYCLE)
            _flag(work, CYCLE, lot)
    for node in after.values():
        _put_node(work, node)
    _weigh_material(work, event.id, record)
    if after[record.lot].made != before[record.lot].made:
        _review_ages(work, record.lot)
    fresh = [lot for lot in used if lot not in before[record.lot].inputs]
    for name in sorted({name for lot in fresh for name in before[lot].watches}):
        parents = [lot for lot in fresh if name in before[lot].watches]
        _spread(outside, work, name, record.lot, parents)


def _weigh_material(work: Work, id: str, record: events.MaterialRecorded) -> None:
    """What was made, and what of each input went into it, as far as the record says."""
    given = [item for item in record.inputs if item.HasField("quantity")]
    lots = {item.lot for item in given} | ({record.lot} if record.HasField("quantity") else set())
    work.load(BALANCES, lots)
    if record.HasField("quantity"):
        _balance(work, balance.made(_balance_of(work, record.lot), id, balance.amount_of(record.quantity)))
    for item in given:
        _balance(work, balance.used(_balance_of(work, item.lot), id, balance.amount_of(item.quantity)))


def on_shipment_recorded(work: Work, event: Event) -> None:
    """Material went from one place to another: the lot's distribution."""
    record = cast(events.ShipmentRecorded, event.message)
    _put_node(work, _node(work, record.lot))
    _balance(work, balance.shipped(_balance_of(work, record.lot), event.id, record))


def _balance_of(work: Work, lot: str) -> Balance:
    return work.get(BALANCES, lot) or Balance(lot)


def _balance(work: Work, after: Balance) -> None:
    """Keep a lot's amounts; flag them while they do not add up."""
    if work.get(BALANCES, after.lot) == after:
        return
    work.put(BALANCES, after.lot, after)
    if balance.adds_up(balance.in_common_units(after, size)):
        work.drop(SUSPECTS, _suspect_id(MASS_IMBALANCE, after.lot))
    else:
        _flag(work, MASS_IMBALANCE, after.lot)


def on_lot_started(work: Work, event: Event) -> None:
    started = cast(production.LotStarted, event.message)
    before = _node(work, started.lot)
    after = graph.exists(before, iso(started.at) if started.HasField("at") else "")
    _put_node(work, after)
    if after.made != before.made:
        _review_ages(work, started.lot)


def on_dispense_recorded(outside: Outside, work: Work, event: Event) -> None:
    record = cast(events.DispenseRecorded, event.message)
    _ask(work, record.dispense, {record.lot, *record.possible_lots})
    before = work.get(DISPENSES, record.dispense)
    after = dispenses.claimed(before, record.dispense, dispenses.claim_of(record))
    _on_dispense(outside, work, before, after)


def on_return_recorded(outside: Outside, work: Work, event: Event) -> None:
    record = cast(events.ReturnRecorded, event.message)
    _ask(work, record.dispense, {record.lot})
    before = work.get(DISPENSES, record.dispense)
    after = dispenses.returned(before, record.dispense, dispenses.return_of(record))
    _on_dispense(outside, work, before, after)


def on_dispense_corrected(outside: Outside, work: Work, event: Event) -> None:
    record = cast(events.DispenseCorrected, event.message)
    _ask(work, record.dispense, {record.lot})
    before = work.get(DISPENSES, record.dispense)
    _on_dispense(outside, work, before, dispenses.corrected(before, record.dispense, record.source))


def _ask(work: Work, dispense: str, lots: Iterable[str]) -> None:
    """Everything that a record of a dispense surely needs, at once."""
    nodes = [Get(NODES, lot) for lot in lots]
    work.load_all([Get(DISPENSES, dispense), *nodes, Get(REGISTRY, ALL_SITES)])


def _on_dispense(outside: Outside, work: Work, before: Dispense | None, dispense: Dispense) -> None:
    """A dispense as it is believed now: kept, and told to every run that watches its lots."""
    nodes = _nodes(work, dispense.lots)
    dispense = dispenses.aged(dispense, {lot: node.made for lot, node in nodes.items()})
    dispense = dispenses.placed(dispense, journal.registered(work))
    if dispense == before:
        return
    for node in nodes.values():
        _put_node(work, node)
    if dispense.waiting:  # its sites may register now
        work.put(REGISTRY, ALL_SITES, Registry(journal.registered(work)))
    older = OLDER_THAN_LOT in dispense.suspects  # when the lot was made may become known now
    work.hold(NODES, [node.lot for node in nodes.values() if older or not node.made])
    _put_dispense(work, before, dispense)
    for name in sorted({name for node in nodes.values() for name in node.watches}):
        _join(outside, work, name, [dispense])


def on_site_registered(outside: Outside, work: Work, event: Event) -> None:
    site = cast(clinical.SiteRegistered, event.message).site
    sites = journal.registered(work)
    if site in sites:
        return
    sites = graph.joined(sites, [site])
    work.put(REGISTRY, ALL_SITES, Registry(sites))
    running = {name: found for name, found in work.where(RUNS, "sealed", False).items() if not found.over}
    work.hold(RUNS, running)  # a walk may read the sites now
    concerned: dict[str, list[Dispense]] = {name: [] for name in running if work.get(EXPOSURES, name)}
    waiting = work.where(DISPENSES, "waiting", site)
    nodes = _nodes(work, {lot for dispense in waiting.values() for lot in dispense.lots})
    for id, dispense in waiting.items():
        work.put(DISPENSES, id, dispenses.placed(dispense, sites))
        for name in {name for lot in dispense.lots for name in nodes[lot].watches}:
            concerned.setdefault(name, []).append(dispense)
    for name, found in sorted(concerned.items()):
        _join(outside, work, name, found)


def on_safety_run_opened(outside: Outside, work: Work, event: Event) -> None:
    opened = cast(loops.SafetyRunOpened, event.message)
    case, held = opened.case or event.case, work.get(RUNS, opened.run)
    if held is not None:
        if work.again:  # the journal's events do not tell all of it
            work.put(RUNS, opened.run, replace(held, case=case, follows=opened.follows))
        return
    _put_node(work, graph.watched(_node(work, opened.lot), opened.run))
    work.put(RUNS, opened.run, run.opened(opened.run, case, opened.lot, opened.follows, event.trace))
    work.due(CUT_STEP, opened.run, outside.now())


def on_seal_requested(outside: Outside, work: Work, event: Event) -> None:
    request = cast(loops.SealRequested, event.message)
    found = work.get(RUNS, request.run)
    if found is None or found.over:
        return  # the run's own record stands before this one, under the same key
    work.put(RUNS, request.run, run.asking(found, request.version))
    _wake(outside, work, found)


def on_loop_closed(work: Work, event: Event) -> None:
    """A run that a person ended before its seal takes nothing more; its watches find it over."""
    closed = cast(loops.LoopClosed, event.message)
    found = work.get(RUNS, closed.run)
    if found is not None and closed.outcome in _BY_A_PERSON:
        work.put(RUNS, closed.run, run.ended(found))


# -- runs that watch ------------------------------------------------------


def _join(outside: Outside, work: Work, name: str, found: list[Dispense]) -> None:
    """Dispenses of watched lots join the run's journal; after its seal they name the successor."""
    watcher = _run(work, name)
    if _goes_over(outside, work, watcher):
        return
    if not watcher.over:
        journal.append(work, outside, watcher, found)
    elif watcher.sealed:
        journal.late(work, watcher, found)


def _spread(outside: Outside, work: Work, name: str, lot: str, parents: Iterable[str]) -> None:
    """A lot was made from watched ones: it is watched, implicated, and to be walked."""
    node = _node(work, lot)
    if name in node.watches:
        return
    watcher = _run(work, name)
    if _goes_over(outside, work, watcher):
        return
    if watcher.over:
        if watcher.sealed:
            journal.after_seal(work, watcher)
        return
    depth = 1 + min(watcher.lots[parent] for parent in parents)
    _put_node(work, graph.watched(node, name))
    journal.append(work, outside, run.watching(watcher, [Watch(lot, depth)]))
    _wake(outside, work, watcher)


def _goes_over(outside: Outside, work: Work, watcher: Run) -> bool:
    """Is this left to the run's going over all its lots? The row is written in any case: a walk that has
    not seen what is folded now conflicts with it."""
    if watcher.cancelled or not (work.again or watcher.again):
        return False
    work.put(RUNS, watcher.run, run.going_over(watcher))
    _wake(outside, work, watcher)
    return True


def _wake(outside: Outside, work: Work, before: Run) -> None:
    """Make the step of a run due that was at rest until now.

    Any other run has its step waiting, which writes its row at every poll: a
    fold that wrote it too would lose to it again and again, and the step would
    wait for the fold.
    """
    if before.at_rest:
        work.due(CUT_STEP, before.run, outside.now())


def _run(work: Work, name: str) -> Run:
    watcher = work.get(RUNS, name)
    assert watcher is not None, "a watch is set with its run"
    return watcher


# -- nodes and dispenses --------------------------------------------------


def _node(work: Work, lot: str) -> Node:
    return work.get(NODES, lot) or Node(lot)


def _nodes(work: Work, lots: Iterable[str]) -> dict[str, Node]:
    wanted = sorted(lots)
    work.load(NODES, wanted)
    return {lot: _node(work, lot) for lot in wanted}


def _put_node(work: Work, node: Node) -> None:
    if work.get(NODES, node.lot) != node:
        work.put(NODES, node.lot, node)


def _ancestors(work: Work, lots: Iterable[str]) -> dict[str, Node]:
    """The lots and everything they were made from, as far up as is looked."""
    found: dict[str, Node] = {}
    level = set(lots)
    for _ in range(_ANCESTRY_LEVELS):
        if not level:
            break
        found |= _nodes(work, level)
        level = {above for lot in level for above in found[lot].inputs} - set(found)
    return found


def _put_dispense(work: Work, before: Dispense | None, dispense: Dispense) -> None:
    work.put(DISPENSES, dispense.dispense, dispense)
    told = set(before.suspects) if before else set()
    for reason in sorted(set(dispense.suspects) - told):
        _flag(work, reason, dispense.lots[0], dispense.dispense)
    for reason in sorted(told - set(dispense.suspects)):
        work.drop(SUSPECTS, _suspect_id(reason, dispense.dispense))


def _review_ages(work: Work, lot: str) -> None:
    """A lot's making became known, or earlier: which of its dispenses are older?"""
    given = work.where(DISPENSES, "lots", lot)
    nodes = _nodes(work, {name for dispense in given.values() for name in dispense.lots})
    made = {name: node.made for name, node in nodes.items()}
    for dispense in given.values():
        after = dispenses.aged(dispense, made)
        if after != dispense:
            _put_dispense(work, dispense, after)


def _suspect_id(reason: str, subject: str) -> str:
    return f"{reason}|{subject}"


def _flag(work: Work, reason: str, lot: str, dispense: str = "") -> None:
    suspect = Suspect(reason, lot, dispense, _DESCRIPTIONS[reason])
    work.put(SUSPECTS, _suspect_id(reason, dispense or lot), suspect)
