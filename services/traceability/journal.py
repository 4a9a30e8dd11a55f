"""A run's exposure journal, through a unit of work.

Every append rewrites the journal's head and the run's own row, so that two
transactions that touch one journal never pass each other unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.ids import derived_id
from services.kit.work import Work
from services.traceability.domain import entries, exposure
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.entries import MEMBER, UNATTRIBUTED, Held, News, entry_id
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
    # A run of its own trigger asks every patient anew; a successor takes what no journal has.
    earlier = _sealed_of_root(work, run) if run.follows and dispenses else []
    counted = head is not None and head.unattributed > 0
    news = [pair for pair in _news(work, run, dispenses, sites, earlier, counted) if any(pair[1])]
    known, lots = set(head.lots) if head else set(), run.lots
    growth = exposure.Growth(
        lots=[(lot, depth) for lot, depth in lots.items() if lot not in known],
        members=sorted(_member(dispense, lots) for dispense, item in news if item.member),
        unattributed=sum(item.unattributed for _, item in news),
        sites=sites,
    )
    for event in exposure.grown(head, run.run, run.root, growth, outside):
        site = event.site if isinstance(event, _SITE_EVENTS) else ""
        work.apply(EXPOSURES, run.run, event, site=site, case=run.case, run=run.run)
    for dispense, item in news:
        _enter(work, run.run, dispense, item, lots)
    work.put(RUNS, run.run, run)


def lacks(work: Work, run: Run, dispenses: Iterable[Dispense]) -> bool:
    """Does a sealed run's journal, with the earlier ones of its root, lack something of the dispenses?"""
    news = _news(work, run, list(dispenses), registered(work), _sealed_of_root(work, run), False)
    return any(item.grows for _, item in news)


def after_seal(work: Work, run: Run) -> None:
    """Something late belongs to a sealed run: its successor is named, once."""
    head = work.get(EXPOSURES, run.run)
    assert head is not None
    for event in exposure.after_seal(head, derived_id("successor", run.run)):
        work.apply(EXPOSURES, run.run, event, case=run.case, run=run.run)


def _sealed_of_root(work: Work, run: Run) -> list[str]:
    """The other sealed runs of the same root."""
    return [r.run for r in work.where(RUNS, "root", run.root).values() if r.sealed and r.run != run.run]


def _news(
    work: Work,
    run: Run,
    dispenses: Sequence[Dispense],
    sites: tuple[str, ...],
    others: list[str],
    counted: bool,
) -> list[tuple[Dispense, News]]:
    """What of each dispense is new; `counted` says that the journal holds unattributed ones."""
    asked = [(dispense, entries.kinds_asked(dispense, sites, counted)) for dispense in dispenses]
    work.load(
        ENTRIES,
        [
            entry_id(book, d.dispense, kind)
            for book in (run.run, *others)
            for d, kinds in asked
            for kind in kinds
        ],
    )
    return [(d, entries.news_of(d, sites, _held(work, run.run, others, d, kinds))) for d, kinds in asked]


def _held(work: Work, run: str, others: list[str], dispense: Dispense, kinds: tuple[str, ...]) -> Held:
    own = {kind: work.get(ENTRIES, entry_id(run, dispense.dispense, kind)) for kind in kinds}
    earlier = (work.get(ENTRIES, entry_id(other, dispense.dispense, k)) for other in others for k in kinds)
    found = tuple(entry for entry in earlier if entry is not None)
    return Held(own.get(MEMBER), own.get(UNATTRIBUTED), found)


def _lot_in(lots: Mapping[str, int], dispense: Dispense) -> str:
    """The lot by which the dispense belongs to the run."""
    return next(lot for lot in dispense.lots if lot in lots)


def _member(dispense: Dispense, lots: Mapping[str, int]) -> exposure.Member:
    lot = _lot_in(lots, dispense)
    return exposure.Member(dispense.site, dispense.dispense, lot, dispense.pseudonym, dispense.at)


def _enter(work: Work, run: str, dispense: Dispense, item: News, lots: Mapping[str, int]) -> None:
    lot = _lot_in(lots, dispense)
    if item.member:
        entry = entries.entry_of(run, MEMBER, dispense, lot)
        work.put(ENTRIES, entry_id(run, dispense.dispense, MEMBER), entry)
    if item.unattributed:
        entry = entries.entry_of(run, UNATTRIBUTED, dispense, lot)
        open_now = replace(entry, open=item.unattributed > 0)
        work.put(ENTRIES, entry_id(run, dispense.dispense, UNATTRIBUTED), open_now)
