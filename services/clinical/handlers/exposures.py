"""A run's exposure journal arrives: its key, its entries, its announcements, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import digests, dispenses, holdings, lots, moments, plans, sites
from services.clinical.domain.dispenses import Dispense, Member
from services.clinical.domain.going import Going, ended
from services.clinical.domain.holdings import Announced, Hazard, Holding
from services.clinical.domain.lots import Lot
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Plan
from services.clinical.handlers import comparators
from services.clinical.handlers.here import Here, holding_of, holding_reads, noted
from services.clinical.handlers.settle import settle
from services.clinical.views import (
    ALL_RUNS,
    COMPARATORS,
    DISPENSES,
    GOING,
    HOLDINGS,
    LOTS,
    PATIENTS,
    PLANS,
    SITES,
)
from services.kit.envelope import Event
from services.kit.ids import plan_id
from services.kit.store.kinds import Get
from services.kit.work import Work, moment_text


def on_exposure_opened(here: Here, work: Work, event: Event) -> None:
    """The key of the run's digest: what was held before it is counted now."""
    opened = cast(traceability.ExposureOpened, event.message)
    holding = noted(holding_of(here, work, opened.run), event, opened.root)
    if opened.site != here.site or holding.key:
        return
    sealed = opened.digest_key.SerializeToString()
    key = here.open_key(sealed)
    if key is None:
        work.put(HOLDINGS, here.id_of(opened.run), holdings.unopened(holding, sealed))
        return
    _count(here, work, holding, sealed, key)


def open_again(here: Here, work: Work, request: traceability.ExposureOpened) -> Message:
    """The process began anew, perhaps with the right key in its place: what did not open may open now."""
    holding = holding_of(here, work, request.run)
    key = here.open_key(holding.sealed) if holding.sealed else None
    if key is not None:
        _count(here, work, holding, holding.sealed, key)
    return request


def _count(here: Here, work: Work, holding: Holding, sealed: bytes, key: bytes) -> None:
    held = work.where(DISPENSES, "runs", holding.run).values() if holding.entries else ()
    settle(here, work, holdings.keyed(holding, sealed, _terms_held(here, holding.run, key, held)))


def _terms_held(here: Here, run: str, key: bytes, held: Iterable[Dispense]) -> list[int]:
    return [
        digests.term(key, here.site, member.pseudonym, member.lot, dispense.dispense, kind)
        for dispense in held
        for member in dispense.members
        if member.run == run
        for kind in member.sealed_kinds
    ]


def on_exposure_entered(here: Here, work: Work, event: Event) -> None:
    """One entry, as it was told before entries travelled in bulks."""
    one = cast(traceability.ExposureEntered, event.message)
    entry = traceability.ExposureEntry(
        kind=one.kind, dispense=one.dispense, lot=one.lot, pseudonym=one.pseudonym, at=one.at
    )
    told = traceability.ExposureEntriesJoined(run=one.run, site=one.site, epoch=one.epoch, entries=[entry])
    _join(here, work, event, told)


def on_entries_joined(here: Here, work: Work, event: Event) -> None:
    """Entries of the journal: members, and what became of members."""
    _join(here, work, event, cast(traceability.ExposureEntriesJoined, event.message))


def _join(here: Here, work: Work, event: Event, told: traceability.ExposureEntriesJoined) -> None:
    if told.site != here.site:
        return
    # First everything that is read, at once: a state that is not loaded stops the handler and starts it anew.
    work.load_all(
        [
            *holding_reads(here, told.run),
            *(Get(DISPENSES, entry.dispense) for entry in told.entries),
            *(Get(PATIENTS, entry.pseudonym) for entry in told.entries),
            *(Get(PLANS, plan_id(told.run, entry.pseudonym)) for entry in told.entries),
            *(Get(COMPARATORS, entry.pseudonym) for entry in told.entries),
        ]
    )
    holding = noted(holding_of(here, work, told.run), event)
    key = here.open_key(holding.key) if holding.key else None
    terms: list[int | None] = []
    members, changes = 0, []
    for entry in told.entries:
        before = work.get(DISPENSES, entry.dispense) or Dispense(entry.dispense)
        after = dispenses.entered(before, told.run, entry, moments.text_of(entry.at), not told.epoch)
        if after is None:
            continue
        work.put(DISPENSES, entry.dispense, after)
        was, now = dispenses.compared(before, told.run), dispenses.compared(after, told.run)
        holding = holdings.compared(holding, was, now)
        earlier, member = (d.member(told.run, entry.pseudonym) for d in (before, after))
        assert member is not None
        changes.append(_followed(work, member, earlier))
        if told.epoch:
            terms.append(_term(here, key, entry))
            members += entry.kind == traceability.ENTRY_KIND_MEMBER
    if changes:
        holding = holdings.entered(holding, terms, members)
        settle(here, work, holdings.replaced(holding, changes))
    moved = {after.pseudonym for before, after in changes if bool(before.live) != bool(after.live)}
    comparators.follow(here, work, sorted(moved))


def _term(here: Here, key: bytes | None, entry: traceability.ExposureEntry) -> int | None:
    """What the entry adds to the digest; None while its key is unknown."""
    if key is None:
        return None
    kind = dispenses.kind_of(entry)
    return digests.term(key, here.site, entry.pseudonym, entry.lot, entry.dispense, kind)


def _followed(work: Work, member: Member, earlier: Member | None) -> tuple[Plan, Plan]:
    """The plan of a member's patient, before and after."""
    id = plan_id(member.run, member.pseudonym)
    before = work.get(PLANS, id) or Plan(id)
    patient = work.get(PATIENTS, member.pseudonym) or Patient(member.pseudonym)
    after = plans.placed(plans.with_member(before, member, earlier), patient)
    work.put(PLANS, id, after)
    return before, after


def on_exposure_announced(here: Here, work: Work, event: Event) -> None:
    """What the journal holds now; only the newest version counts."""
    message = cast(traceability.ExposureAnnounced, event.message)
    holding = noted(holding_of(here, work, message.run), event, message.root)
    if message.version <= holding.version:
        return
    if not holding.version:  # the first that is heard of the run
        for registered in sites.again(work.get(SITES, here.site), message.sites):
            work.apply(SITES, here.site, registered)
    fresh = [lot for lot in message.lots if not holding.lot(lot).listed]
    work.load(LOTS, fresh)
    own_records = {}
    for name in fresh:
        lot = work.get(LOTS, name) or Lot(name)
        own_records[name] = lot.own_records
        work.put(LOTS, name, lots.listed(lot, message.run))
    at_site = _at_site(message, here.site)
    settle(here, work, holdings.announced(holding, message.version, at_site, own_records))


def _at_site(message: traceability.ExposureAnnounced, site: str) -> Announced | None:
    if site not in message.sites:
        return None
    told = message.sites[site]
    return Announced(told.epoch, told.n, digests.text_of(told.digest))


def on_hazard_evaluated(here: Here, work: Work, event: Event) -> None:
    """A person said how dangerous it is: patients are told now, and asked."""
    told = cast(production.HazardEvaluated, event.message)
    holding = noted(holding_of(here, work, told.run), event, told.lot)
    name = production.HazardClass.Name(told.hazard_class).removeprefix("HAZARD_CLASS_")
    hazard = Hazard(name, told.text, told.instruction, moment_text(here.now()))
    settle(here, work, holdings.evaluated(holding, hazard))


def on_run_opened(here: Here, work: Work, event: Event) -> None:
    """What the run is about: a template may be for one kind of deviation. Runs that follow it, and
    came first, may have waited for it."""
    opened = cast(loops.SafetyRunOpened, event.message)
    holding = noted(holding_of(here, work, opened.run), event, opened.lot)
    settle(here, work, holdings.is_about(holding, opened.tag, opened.follows))
    going = work.get(GOING, ALL_RUNS) or Going()
    work.load(HOLDINGS, [here.id_of(run) for run in going.runs])
    for run in going.runs:
        other = work.get(HOLDINGS, here.id_of(run))
        if other is not None and other.about and other.about.follows:
            settle(here, work, holding_of(here, work, run))


def on_loop_closed(here: Here, work: Work, event: Event) -> None:
    """The run ended: a patient's record does not concern it any more. One that a person ended
    waits for nobody; of one that closed, late answers still count."""
    closed = cast(loops.LoopClosed, event.message)
    if closed.loop not in ("", "safety"):
        return  # a run of another loop has no patients here
    work.put(GOING, ALL_RUNS, ended(work.get(GOING, ALL_RUNS) or Going(), closed.run))
    if closed.outcome in (loops.RUN_OUTCOME_CANCELLED, loops.RUN_OUTCOME_SUPERSEDED):
        held = work.get(HOLDINGS, here.id_of(closed.run)) or Holding(closed.run)
        work.put(HOLDINGS, here.id_of(closed.run), holdings.given_up(held))
