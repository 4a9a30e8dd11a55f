"""A run's exposure journal, through a unit of work.

Every append rewrites the journal's head and the run's own row, so that two
transactions that touch one journal never pass each other unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import Message

from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.ids import derived_id
from services.kit.work import Work
from services.traceability.domain import entries, exposure
from services.traceability.domain.dispense import Dispense, Patient
from services.traceability.domain.entries import (
    MEMBER,
    UNATTRIBUTED,
    Entry,
    Held,
    News,
    entry_id,
    member_key,
)
from services.traceability.domain.moments import iso
from services.traceability.domain.run import Run
from services.traceability.outside import Outside
from services.traceability.views import ALL_SITES, ENTRIES, EXPOSURES, LOOSE, REGISTRY, RUNS

_SITE_EVENTS = (events.ExposureOpened, events.ExposureEntriesJoined)


def registered(work: Work) -> tuple[str, ...]:
    """The sites that take part, as this transaction sees them."""
    registry = work.get(REGISTRY, ALL_SITES)
    return registry.sites if registry else ()


def append(work: Work, outside: Outside, run: Run, dispenses: Sequence[Dispense] = ()) -> None:
    """One commit of a run that goes on: its new lots, and what of the dispenses is new.

    Announces when anything changed, and a first time in any case; stores the run. Of a run that goes over
    its lots again, after its database was set back, the dispenses are all those of its lots.
    """
    head = work.get(EXPOSURES, run.run)
    sites = registered(work)
    # A run of its own trigger asks every patient anew; a successor takes what no journal has.
    earlier = _sealed_of_root(work, run) if run.follows and dispenses else []
    loose = _take_loose(work, run) if run.again else []
    counted = head is not None and head.unattributed + head.explained > 0
    news = [pair for pair in _news(work, run, dispenses, sites, earlier, counted) if any(pair[1])]
    known, lots = set(head.lots) if head else set(), run.lots
    joining = [entry for dispense, item in news for entry in _take(work, run.run, dispense, item, lots)]
    joining += loose
    growth = exposure.Growth(
        lots=[(lot, depth) for lot, depth in lots.items() if lot not in known],
        entries=sorted(joining),
        unattributed=sum(item.unattributed for _, item in news),
        explained=sum(item.explained for _, item in news),
        sites=sites,
    )
    if run.again:
        unattributed, explained = _recounted(work, run, head, dispenses)
        growth = growth._replace(unattributed=unattributed, explained=explained)
    _tell(work, run, exposure.grown(head, run.run, run.root, growth, outside))
    work.put(RUNS, run.run, replace(run, again=False))


def explain(work: Work, outside: Outside, run: Run, told: events.UnattributedExplained) -> None:
    """A person explained an unattributed dispense: said, counted, and announced."""
    id = entry_id(run.run, told.dispense, UNATTRIBUTED)
    entry = work.get(ENTRIES, id)
    assert entry is not None
    work.put(ENTRIES, id, replace(entry, explained=True))
    work.apply(EXPOSURES, run.run, told, case=run.case, run=run.run)
    growth = exposure.Growth([], [], -1, 1, registered(work))
    head = work.get(EXPOSURES, run.run)
    _tell(work, run, exposure.grown(head, run.run, run.root, growth, outside))
    work.put(RUNS, run.run, run)


def _tell(work: Work, run: Run, told: Iterable[Message]) -> None:
    for event in told:
        site = event.site if isinstance(event, _SITE_EVENTS) else ""
        work.apply(EXPOSURES, run.run, event, site=site, case=run.case, run=run.run)


# -- a database that was set back ---------------------------------------------


def keep(work: Work, told: events.ExposureEntriesJoined) -> None:
    """The entries of a bulk that the topics tell of."""
    for item in told.entries:
        id = entry_id(told.run, item.dispense, member_key(Patient(told.site, item.pseudonym)))
        held = work.get(ENTRIES, id) or entries.Entry(
            told.run, MEMBER, item.dispense, item.lot, told.site, item.pseudonym, iso(item.at)
        )
        became = exposure.disposition_of(item)
        if item.number > held.number:
            held = replace(held, disposition=became, number=item.number)
        work.put(ENTRIES, id, held)


def _take_loose(work: Work, run: Run) -> list[exposure.Joining]:
    """Entries that sites have heard of and nobody has announced: they are said once more, and counted."""
    found = []
    for id, loose in work.where(LOOSE, "run", run.run).items():
        told = events.ExposureEntriesJoined.FromString(loose.bulk)
        keep(work, told)
        found += exposure.joinings(told)
        work.drop(LOOSE, id)
    return found


def _recounted(
    work: Work, run: Run, head: exposure.Exposure | None, dispenses: Sequence[Dispense]
) -> tuple[int, int]:
    """How the counts of who is not named change, where no event tells which dispenses they count.

    An explanation that fell is on no topic: where there seem to be more than are announced, which of them
    stand is not known, and all are asked for again.
    """
    held = _unnamed(work, run, dispenses)
    said, counted = (head.explained, head.unattributed) if head else (0, 0)
    fell = sum(entry.explained for entry in held.values()) > said
    for id, entry in held.items():
        work.put(ENTRIES, id, replace(entry, explained=entry.explained and not fell))
    explained = 0 if fell else sum(entry.explained for entry in held.values())
    return len(held) - explained - counted, explained - said


def recount_sealed(work: Work, run: Run, dispenses: Sequence[Dispense]) -> None:
    """Who is not named, in a sealed journal: no more stand open, and no more explained, than are announced.

    Of those that may have been closed before the seal none keeps a successor from taking what they are about.
    """
    head = work.get(EXPOSURES, run.run)
    assert head is not None, "it is sealed"
    open_now = {d.dispense for d in dispenses if entries.unexplained(d, registered(work))}
    held = _unnamed(work, run, dispenses)
    for explained, counted in ((False, head.unattributed), (True, head.explained)):
        found = {id: entry for id, entry in held.items() if entry.explained == explained}
        stand = {id for id, entry in found.items() if entry.dispense in open_now}
        close = set() if len(found) <= counted else found.keys() - stand if len(stand) <= counted else found
        for id, entry in found.items():
            closed = replace(entry, open_in="", explained=False)
            work.put(ENTRIES, id, closed if id in close else entry)


def _unnamed(work: Work, run: Run, dispenses: Iterable[Dispense]) -> dict[str, Entry]:
    """The run's entries of dispenses that name nobody, each with what its explanation did not tell."""
    by_id = {dispense.dispense: dispense for dispense in dispenses}
    found = work.where(ENTRIES, "open_in", run.run)
    for id, entry in found.items():
        of = by_id.get(entry.dispense)
        if of is not None and not entry.lot:
            lot = next(lot for lot in of.lots if lot in run.lots)
            found[id] = entries.entry_of(run.run, UNATTRIBUTED, of, lot, Patient("", ""))
            found[id] = replace(found[id], open_in=entry.open_in, explained=entry.explained)
    return found


def late(work: Work, run: Run, dispenses: Sequence[Dispense]) -> None:
    """Dispenses of a sealed run's lots: what becomes of its members is told to their sites, outside of
    what was sealed; whatever its journal, with the earlier ones of its root, lacks names the successor."""
    news = _news(work, run, dispenses, registered(work), _sealed_of_root(work, run), False)
    for dispense, item in news:
        known = News((), _of_members(work, run.run, dispense, item), 0, 0)
        changes = list(_take(work, run.run, dispense, known, run.lots))
        for site in sorted({change.site for change in changes}):
            _tell(work, run, exposure.joined(run.run, site, changes, 0))
    if any(item.grows for _, item in news):
        after_seal(work, run)


def _of_members(work: Work, run: str, dispense: Dispense, item: News) -> tuple[tuple[Patient, str], ...]:
    return tuple(
        (patient, told)
        for patient, told in item.dispositions
        if work.get(ENTRIES, entry_id(run, dispense.dispense, member_key(patient))) is not None
    )


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
    asked = [(dispense, entries.keys_asked(dispense, sites, counted)) for dispense in dispenses]
    books = (run.run, *others)
    work.load(ENTRIES, [entry_id(b, d.dispense, key) for b in books for d, keys in asked for key in keys])
    return [(d, entries.news_of(d, sites, _held(work, run.run, others, d, keys))) for d, keys in asked]


def _held(work: Work, run: str, others: list[str], dispense: Dispense, keys: tuple[str, ...]) -> Held:
    def found(book: str) -> dict[str, Entry]:
        read = ((key, work.get(ENTRIES, entry_id(book, dispense.dispense, key))) for key in keys)
        return {key: entry for key, entry in read if entry is not None}

    own, earlier = found(run), [found(book) for book in others]
    return Held(
        members={_patient(entry): entry for entry in own.values() if entry.kind == MEMBER},
        unattributed=own.get(UNATTRIBUTED),
        taken={_patient(entry) for book in earlier for entry in book.values() if entry.kind == MEMBER},
        unattributed_before=any(UNATTRIBUTED in book and book[UNATTRIBUTED].open for book in earlier),
    )


def _patient(entry: Entry) -> Patient:
    return Patient(entry.site, entry.pseudonym)


def _take(
    work: Work, run: str, dispense: Dispense, item: News, lots: Mapping[str, int]
) -> Iterator[exposure.Joining]:
    """Keep what is new of a dispense; answers the entries that join the journal."""
    lot = next(lot for lot in dispense.lots if lot in lots)  # by which it belongs to the run
    for patient in item.members:
        entry = entries.entry_of(run, MEMBER, dispense, lot, patient)
        work.put(ENTRIES, entry_id(run, dispense.dispense, member_key(patient)), entry)
        yield _joining(entry, dispense)
    for patient, told in item.dispositions:
        id = entry_id(run, dispense.dispense, member_key(patient))
        held = work.get(ENTRIES, id)
        assert held is not None
        entry = replace(held, disposition=told, number=held.number + 1)
        work.put(ENTRIES, id, entry)
        yield _joining(entry, dispense)
    if item.unattributed or item.explained:
        id = entry_id(run, dispense.dispense, UNATTRIBUTED)
        held = work.get(ENTRIES, id) or entries.entry_of(run, UNATTRIBUTED, dispense, lot, Patient("", ""))
        work.put(ENTRIES, id, replace(held, open_in=run if item.unattributed > 0 else "", explained=False))


def _joining(entry: Entry, dispense: Dispense) -> exposure.Joining:
    possible = len(dispense.lots) > 1
    return exposure.Joining(
        entry.site,
        entry.dispense,
        entry.lot,
        entry.pseudonym,
        entry.at,
        possible,
        entry.number,
        entry.disposition,
    )
