"""A run's exposure journal, through a unit of work.

Every append rewrites the journal's head and the run's own row, so that two
transactions that touch one journal never pass each other unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.ids import derived_id
from services.kit.work import Work
from services.traceability.domain import entries, exposure
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.entries import KINDS, MEMBER, UNATTRIBUTED, Held, News, entry_id
from services.traceability.domain.run import Run
from services.traceability.outside import Outside
from services.traceability.views import ALL_SITES, ENTRIES, EXPOSURES, REGISTRY, RUNS

_SITE_EVENTS = (events.ExposureOpened, events.ExposureEntered)


def registered(work: Work) -> tuple[str, ...]:
    """The sites that take part, as this transaction sees them."""
    registry = work.get(REGISTRY, ALL_SITES)
    return registry.sites if registry else ()


def append(work: Work, outside: Outside, run: Run, dispenses: Sequence[Dispense] = ()) -> None:
    """One commit of a run that is not sealed: its new lots, and what of the dispenses is new.

    Announces when anything changed, and a first time in any case; stores the run.
    """
    head = work.get(EXPOSURES, run.run)
    sites = registered(work)
    news = [(dispense, item) for dispense, item in _news(work, run, dispenses, sites) if any(item)]
    known = set(head.lots) if head else set()
    growth = exposure.Growth(
        lots=[(watch.lot, watch.depth) for watch in run.watches if watch.lot not in known],
        members=sorted(_member(run, dispense) for dispense, item in news if item.member),
        unattributed=sum(item.unattributed for _, item in news),
        sites=sites,
    )
    for event in exposure.grown(head, run.run, run.root, growth, outside):
        site = event.site if isinstance(event, _SITE_EVENTS) else ""
        work.apply(EXPOSURES, run.run, event, site=site, case=run.case, run=run.run)
    for dispense, item in news:
        _enter(work, run, dispense, item)
    work.put(RUNS, run.run, run)


def lacks(work: Work, run: Run, dispenses: Iterable[Dispense]) -> bool:
    """Does a sealed run's journal, with the earlier ones of its root, lack something of the dispenses?"""
    return any(item.grows for _, item in _news(work, run, list(dispenses), registered(work)))


def after_seal(work: Work, run: Run) -> None:
    """Something late belongs to a sealed run: its successor is named, once."""
    head = work.get(EXPOSURES, run.run)
    assert head is not None
    for event in exposure.after_seal(head, derived_id("successor", run.run)):
        work.apply(EXPOSURES, run.run, event, case=run.case, run=run.run)


def _news(
    work: Work, run: Run, dispenses: Sequence[Dispense], sites: tuple[str, ...]
) -> list[tuple[Dispense, News]]:
    if not dispenses:
        return []
    others = [r.run for r in work.where(RUNS, "root", run.root).values() if r.sealed and r.run != run.run]
    books = [run.run, *others]
    work.load(ENTRIES, [entry_id(b, d.dispense, kind) for b in books for d in dispenses for kind in KINDS])
    return [(d, entries.news_of(d, sites, _held(work, run.run, others, d))) for d in dispenses]


def _held(work: Work, run: str, others: list[str], dispense: Dispense) -> Held:
    earlier = (
        work.get(ENTRIES, entry_id(other, dispense.dispense, kind)) for other in others for kind in KINDS
    )
    return Held(
        work.get(ENTRIES, entry_id(run, dispense.dispense, MEMBER)),
        work.get(ENTRIES, entry_id(run, dispense.dispense, UNATTRIBUTED)),
        tuple(entry for entry in earlier if entry is not None),
    )


def _lot_in(run: Run, dispense: Dispense) -> str:
    """The lot by which the dispense belongs to the run."""
    lots = run.lots
    return next(lot for lot in dispense.lots if lot in lots)


def _member(run: Run, dispense: Dispense) -> exposure.Member:
    lot = _lot_in(run, dispense)
    return exposure.Member(dispense.site, dispense.dispense, lot, dispense.pseudonym, dispense.at)


def _enter(work: Work, run: Run, dispense: Dispense, item: News) -> None:
    if item.member:
        _put(work, run, MEMBER, dispense)
    if item.unattributed > 0:
        _put(work, run, UNATTRIBUTED, dispense)
    elif item.unattributed < 0:
        id = entry_id(run.run, dispense.dispense, UNATTRIBUTED)
        entry = work.get(ENTRIES, id)
        assert entry is not None
        work.put(ENTRIES, id, replace(entry, open=False))


def _put(work: Work, run: Run, kind: str, dispense: Dispense) -> None:
    entry = entries.entry_of(run.run, kind, dispense, _lot_in(run, dispense))
    work.put(ENTRIES, entry_id(run.run, dispense.dispense, kind), entry)
