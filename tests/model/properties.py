"""What must hold: in every state, at every seal, and where everything has come to its end.

What a journal must hold is computed from the facts in the log alone, by the
oracle of the traceability tests; what a site must hold, entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain.holdings import Holding
from services.clinical.views import DISPENSES as SITE_DISPENSES
from services.clinical.views import HOLDINGS, STATEMENTS
from services.kit.runners.letters import LETTERS
from services.loops.domain import safety
from services.traceability.domain import digest
from services.traceability.domain.entries import MEMBER, Entry
from services.traceability.domain.exposure import Exposure
from services.traceability.domain.run import Run
from services.traceability.views import ENTRIES, EXPOSURES, RUNS
from tests.model import messages
from tests.model.configurations import MARKER
from tests.model.services import OUTSIDE
from tests.model.world import Move, State, World
from tests.unit.traceability.driver import lot
from tests.unit.traceability.test_order import below, expected

#: (site, pseudonym, lot, dispense, kind): what one entry adds to a digest.
Term = tuple[str, str, str, str, str]


class Properties:
    """Says what a move or an end breaks; empty for nothing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stores: dict[int, str] = {}
        self._grown: dict[tuple[int, int], str] = {}
        self._sealing: dict[tuple[int, int], list[Run]] = {}
        self._held: dict[tuple[int, int, int], str] = {}

    # -- every move -----------------------------------------------------------

    def broken_by(self, before: State, move: Move) -> str:
        for part in move.parts:
            said = self._broken(before, part.after)
            if said:
                return said
            before = part.after
        return self._broken(before, move.after)

    def _broken(self, before: State, after: State) -> str:
        said = ""
        if after.trace != before.trace:
            said = self._store(after.trace) or self._growth(before.trace, after.trace)
            said = said or self._seals(before, after)
        if not said and after.case != before.case:
            said = self._asked(before, after)
        if not said and after.sites != before.sites:
            for number, (was, now) in enumerate(zip(before.sites, after.sites, strict=True)):
                said = said or (self._site(number, was, now) if was != now else "")
        return said

    def _store(self, store: int) -> str:
        if store not in self._stores:
            self._stores[store] = self._letters(store) or self._heads(store)
        return self._stores[store]

    def _letters(self, store: int) -> str:
        for letter in self._world.trace.db.all(store, LETTERS).values():
            if not self._world.trace.unreadable:
                return f"the fold could not process a record: {letter.description}"
        return ""

    def _heads(self, store: int) -> str:
        """An announcement says what the entries add up to."""
        db = self._world.trace.db
        entries = list(db.all(store, ENTRIES).values())
        for head in db.all(store, EXPOSURES).values():
            assert isinstance(head, Exposure)
            for site in head.sites:
                mine = [e for e in entries if (e.run, e.site, e.kind) == (head.run, site.site, MEMBER)]
                if site.n != len(mine):
                    return f"{site.site} is announced {site.n} members, and the journal has {len(mine)}"
                late = head.sealed or any(e.number > 1 for e in mine)
                if not late and site.digest != _digest(head.run, _entered(mine)):
                    return f"the digest announced to {site.site} is not that of the journal's entries"
            counted = [e for e in entries if e.run == head.run and e.open]
            explained = sum(e.explained for e in counted)
            if (head.unattributed, head.explained) != (len(counted) - explained, explained):
                return "an announcement miscounts the unattributed"
        return ""

    def _growth(self, before: int, after: int) -> str:
        key = (before, after)
        if key not in self._grown:
            self._grown[key] = self._left(before, after)
        return self._grown[key]

    def _left(self, before: int, after: int) -> str:
        """Nothing leaves a journal, and nothing joins a sealed one."""
        db = self._world.trace.db
        was, now = db.all(before, ENTRIES), db.all(after, ENTRIES)
        if not {id for id, e in was.items() if e.kind == MEMBER} <= set(now):
            return "a member left its journal"
        heads = db.all(after, EXPOSURES)
        for name, head in db.all(before, EXPOSURES).items():
            if not set(head.lots) <= set(heads[name].lots):
                return "a lot left its journal"
            if head.sealed and (head.version, head.members) != (heads[name].version, heads[name].members):
                return "something joined a sealed journal"
        return ""

    # -- seals ----------------------------------------------------------------

    def _seals(self, before: State, after: State) -> str:
        key = (before.trace, after.trace)
        if key not in self._sealing:
            was, now = (self._world.trace.db.all(store, RUNS) for store in key)
            self._sealing[key] = [run for name, run in now.items() if run.sealed and not was[name].sealed]
        for run in self._sealing[key]:
            return self._sealed_well(after, run)
        return ""

    def _sealed_well(self, state: State, run: Run) -> str:
        head = self._world.trace.db.get(state.trace, EXPOSURES, run.run)
        told = self._facts(state, {p.partition: p.offset for p in run.cut})
        lacking = self._lacking(state, run.root, told, sealed=True)
        if lacking:
            return f"a run was sealed without {lacking}, in the log below its cut"
        sites = {m.site for m in told if isinstance(m, clinical.SiteRegistered)}
        if not sites <= {site.site for site in head.sites}:
            return "a run was sealed without a site that is registered below its cut"
        if head.unattributed:
            return "a run was sealed with a dispense whose patient nobody knows or explained"
        return self._sites_hold(state, head)

    def _facts(self, state: State, ends: dict[int, int] | None = None) -> list[Message]:
        """What was said from the beginning; below these offsets, if they are given."""
        c = self._world.configuration
        told: list[Message] = [clinical.SiteRegistered(site=site, name=site) for site in c.registered]
        told += c.before
        for place, log in enumerate(state.logs):
            end = len(log) if ends is None else ends.get(place, 0)
            told += [messages.message(number) for number in log[:end] if number != MARKER]
        return told

    def _lacking(self, state: State, root: str, told: list[Message], *, sealed: bool) -> str:
        """What the facts name and the journals of the root have not; only sealed ones, if said so."""
        db = self._world.trace.db
        books = {r.run for r in db.all(state.trace, RUNS).values() if r.sealed or not sealed}
        entries = [e for e in db.all(state.trace, ENTRIES).values() if e.run in books]
        members, unattributed, mine = expected(root, told)
        sites = {m.site for m in told if isinstance(m, clinical.SiteRegistered)}
        wanted = {(id, site, name) for id, site, name in members if site in sites}
        people = wanted - {(e.dispense, e.site, e.pseudonym) for e in entries if e.kind == MEMBER}
        if people:
            return f"the members {sorted(people)}"
        later = {id for id, site, _ in members if site not in sites and not mine[id].void}
        dispenses = (unattributed | later) - {e.dispense for e in entries}
        if dispenses:
            return f"the dispenses {sorted(dispenses)}"
        edges = {
            (i.lot, m.lot) for m in told if isinstance(m, traceability.MaterialRecorded) for i in m.inputs
        }
        lots = below(root, edges) - {lot for book in books for lot in self._lots(state, book)}
        return f"the lots {sorted(lots)}" if lots else ""

    def _lots(self, state: State, run: str) -> tuple[str, ...]:
        head = self._world.trace.db.get(state.trace, EXPOSURES, run)
        return head.lots if head is not None else ()

    def _sites_hold(self, state: State, head: Exposure) -> str:
        """Every site of the run has exactly what the journal has for it."""
        for at in head.sites:
            number = self._world.configuration.sites.index(at.site)
            if _digest(head.run, self._terms(number, state.sites[number], head.run)) != at.digest:
                return f"a run was sealed, and {at.site} does not hold what the journal has for it"
        return ""

    def _site_holds(self, state: State, entry: Entry) -> bool:
        number = self._world.configuration.sites.index(entry.site)
        held = self._world.sites[number].db.get(state.sites[number], SITE_DISPENSES, entry.dispense)
        member = held.member(entry.run, entry.pseudonym) if held is not None else None
        return member is not None and member.entered

    # -- the loop ---------------------------------------------------------------

    def _asked(self, before: State, after: State) -> str:
        was = {run.run: run for run in self._world.loops.runs(before.case)}
        for run in self._world.loops.runs(after.case):
            earlier = was.get(run.run)
            if earlier is None:
                continue
            if run.asked != earlier.asked and not run.follows and _differs(run):
                return "a run asked for its seal with a difference that nobody explained"
            if run.asked != earlier.asked and not set(run.lots) <= set(run.decided):
                return "a run asked for its seal before the owner's decision on every lot"
            if run.closed and not earlier.closed and not self._closes_well(after, run):
                return "a run closed before its seal"
        return ""

    def _closes_well(self, state: State, run: safety.Run) -> bool:
        return bool(self._world.trace.db.get(state.trace, RUNS, run.run).sealed)

    # -- sites --------------------------------------------------------------------

    def _site(self, number: int, before: int, after: int) -> str:
        key = (number, before, after)
        if key not in self._held:
            self._held[key] = self._acknowledged(number, before, after)
        return self._held[key]

    def _acknowledged(self, number: int, before: int, after: int) -> str:
        """Who acknowledges holds exactly the entries that the digest adds up."""
        db, site = self._world.sites[number].db, self._world.configuration.sites[number]
        for id, said in db.all(after, STATEMENTS).items():
            earlier = db.get(before, STATEMENTS, id)
            if not said.received or (earlier is not None and earlier.received == said.received):
                continue
            told = clinical.ExposureReceived.FromString(said.received)
            holding = db.get(after, HOLDINGS, id)
            assert isinstance(holding, Holding)
            if holding.announced is None or holding.announced.digest != told.digest.hex():
                return f"{site} acknowledged what was not announced"
            terms = self._terms(number, after, told.run)
            if _digest(told.run, terms) != told.digest.hex():
                return f"{site} acknowledged entries that it does not hold"
            if told.n != sum(term[-1] == MEMBER for term in terms):
                return f"{site} acknowledged another number of members than it holds"
        return ""

    def _terms(self, number: int, store: int, run: str) -> set[Term]:
        """What a site holds of a run, entry by entry."""
        site = self._world.configuration.sites[number]
        return {
            (site, m.pseudonym, m.lot, d.dispense, kind)
            for d in self._world.sites[number].db.all(store, SITE_DISPENSES).values()
            for m in d.members
            if m.run == run
            for kind in m.sealed_kinds
        }

    # -- the end --------------------------------------------------------------------

    def broken_at_the_end(self, state: State) -> str:
        """Nothing can happen any more: is everybody found, and has every run ended or said why not?"""
        told = self._facts(state)
        lacking = self._lacking(state, lot(self._world.configuration.root), told, sealed=False)
        if lacking:
            return f"no journal ever holds {lacking}"
        db = self._world.trace.db
        known = {run.run: run for run in self._world.loops.runs(state.case)}
        for run in db.all(state.trace, RUNS).values():
            if not run.sealed and not self._says_why(known[run.run]):
                return f"a run never ends; it rests in stage {known[run.run].stage!r}, {run.phase}"
            if run.sealed and self._world.configuration.closing and not known[run.run].closed:
                return f"a sealed run never closes; it rests in stage {known[run.run].stage!r}"
        if any(name not in db.all(state.trace, RUNS) for name in known):
            return "a run that the loop opened is not known to the trace"
        for entry in db.all(state.trace, ENTRIES).values():
            if entry.kind == MEMBER and not self._site_holds(state, entry):
                return f"{entry.site} never hears of {entry.dispense}"
        return ""

    def _says_why(self, run: safety.Run) -> bool:
        """Does the run say what it waits for, and is that nothing that somebody would still do?"""
        if self._world.configuration.persons:
            return False
        return bool(run.unattributed) or any(site.only_in_trace for site in run.sites.values())


def _differs(run: safety.Run) -> bool:
    return any(site.only_in_trace or site.only_at_site for site in run.sites.values())


def _entered(entries: Iterable[Entry]) -> set[Term]:
    """The entries of members, and of the one disposition that each may have."""
    found = set()
    for e in entries:
        found.add((e.site, e.pseudonym, e.lot, e.dispense, MEMBER))
        if e.number:
            found.add((e.site, e.pseudonym, e.lot, e.dispense, f"DISPOSITION/{e.number}/{e.disposition}"))
    return found


def _digest(run: str, terms: Iterable[Term]) -> str:
    return digest.added(digest.ZERO, [digest.term(OUTSIDE.key(run, term[0]), *term) for term in terms])
